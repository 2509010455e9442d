#!/bin/sh
# Stop now, in order: SIGTERM alone would wait until the last client has gone.
for folder in /usr/lib/postgresql/*/bin; do
  if [ -d "$folder" ]; then PATH="$folder:$PATH"; fi
done
exec pg_ctl -D "$PGDATA" -m fast -w -t 50 stop
