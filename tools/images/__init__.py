"""Images where neither Docker nor a registry is at hand: buildah builds, archives go into a cluster."""
