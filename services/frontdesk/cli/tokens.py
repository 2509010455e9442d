"""`frontdesk token`: signed by a local installation's key, or by that of a release in Kubernetes.

A release's private key lies in a Secret, in no pod and on no disk. Whoever may read that Secret may mint; the
key is held in memory for as long as it takes to sign.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated

import typer

from frontdesk.cli.client import DATA, Data, errors
from frontdesk.cli.cluster import TIMEOUT_S, Refused, Where, connected
from frontdesk.cli.local import ORGANIZATION, Local
from frontdesk.kit.config import environment
from frontdesk.kit.errors import FailedPrecondition, FrontdeskError
from frontdesk.kit.tokens import Role, mint

CHART = "frontdesk"
PRIVATE_KEY = "jwt-private.pem"
# The chart writes them on the Secret, so that one right to read one thing is enough.
ISSUER = "frontdesk.io/jwt-issuer"
AUDIENCE = "frontdesk.io/jwt-audience"
OPERATOR = "frontdesk.io/operator-organization"
DEFAULTS = {ISSUER: "frontdesk", AUDIENCE: "frontdesk", OPERATOR: "default"}
# By HTTP status: what the API server's refusal means to whoever mints.
ADVICE = {
    401: "your kubeconfig's credential is not accepted, so {} can't be read",
    403: "you may not read {}: minting takes the right to `get` it",
    404: "there is no such thing as {}: are --release and --namespace right? `helm list -A` has both",
}


def secret_name(release: str) -> str:
    """The Secret with the keys of a release, by the chart's rule for names (without `fullnameOverride`)."""
    full = release if CHART in release else f"{release}-{CHART}"
    return f"{full[:40].removesuffix('-')}-jwt"


@dataclass(frozen=True, slots=True)
class ReleaseKey:
    """A release's private key, and what its services accept."""

    private_key: str = field(repr=False)
    issuer: str
    audience: str
    operator: str


def read_key(where: Where, secret: str) -> ReleaseKey:
    """Ask the cluster for the Secret; raises FailedPrecondition with what to do, Refused, Unavailable."""
    place = f"the Secret {secret}"
    try:
        with connected(where) as cluster:
            place += f" in the namespace {cluster.namespace}"
            found = cluster.api.read_namespaced_secret(secret, cluster.namespace, _request_timeout=TIMEOUT_S)
    except Refused as error:
        if (advice := ADVICE.get(error.status)) is None:
            raise
        raise FailedPrecondition(advice.format(place)) from error
    try:
        key = base64.b64decode((found.data or {})[PRIVATE_KEY], validate=True).decode()
    except KeyError:
        raise FailedPrecondition(
            f"{place} has no {PRIVATE_KEY}: its release was given public keys only. Mint with the private "
            "key that belongs to them, in a folder that --data names"
        ) from None
    except (binascii.Error, UnicodeDecodeError):
        raise FailedPrecondition(f"{place} has a {PRIVATE_KEY} that is no PEM") from None
    said = {**DEFAULTS, **(found.metadata.annotations or {})}
    return ReleaseKey(key, said[ISSUER], said[AUDIENCE], said[OPERATOR])


def token(
    role: Annotated[Role, typer.Option("--role", help="What it may do.")] = Role.owner,
    subject: Annotated[str, typer.Option("--subject", help="Who it is for.")] = "owner",
    organization: Annotated[
        str, typer.Option("--organization", help="Whose data; the installation's own operator by default.")
    ] = "",
    minutes: Annotated[int, typer.Option("--minutes", min=1, max=1440, help="How long it lives.")] = 60,
    data: Data = DATA,
    release: Annotated[str, typer.Option("--release", help="A Helm release, in place of --data.")] = "",
    secret: Annotated[
        str, typer.Option("--secret", help="Its Secret, where the release's name does not tell it.")
    ] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Of the release; the context's by default.")
    ] = "",
    kubeconfig: Annotated[
        str, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="kubectl's by default.")
    ] = "",
    context: Annotated[str, typer.Option("--context", help="Of the kubeconfig; the current one.")] = "",
) -> None:
    """Print a token for the doors of a local installation, or of a release in Kubernetes."""
    lifetime_s = minutes * 60
    try:
        if release or secret:
            in_cluster = bool(environment().get("KUBERNETES_SERVICE_HOST"))
            where = Where(kubeconfig, context, namespace, in_cluster)
            key = read_key(where, secret or secret_name(release))
            text = mint(
                key.private_key,
                subject=subject,
                organization_id=organization or key.operator,
                role=role,
                ttl_s=lifetime_s,
                issuer=key.issuer,
                audience=key.audience,
            )
        else:
            text = Local(data).token(
                subject=subject,
                role=role,
                organization_id=organization or ORGANIZATION,
                ttl_s=lifetime_s,
            )
    except FrontdeskError as error:
        errors.print(error.message, highlight=False, markup=False)
        raise typer.Exit(1) from error
    typer.echo(text)
