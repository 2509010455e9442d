#!/bin/sh
# `frontdesk` of the dev image: a service runs from a copy that Skaffold may write to, also where the root file
# system is read-only, and starts again when a file of it changes. Provision runs once, as it is.
if [ "${1:-}" = provision ]; then
    exec /app/bin/frontdesk "$@"
fi
[ -d /tmp/app ] || cp -r /app /tmp/app
export PYTHONPATH=/tmp/app
exec python3 /opt/frontdesk/dev/reload.py /tmp/app/frontdesk /app/bin/frontdesk "$@"
