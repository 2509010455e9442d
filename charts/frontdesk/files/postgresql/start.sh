#!/bin/sh
# Make the cluster of databases when there is none, then become the server. Works in the official image and in any
# that has Debian's package.
set -eu

for folder in /usr/lib/postgresql/*/bin; do
  if [ -d "$folder" ]; then PATH="$folder:$PATH"; fi
done
export PATH

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Beside, and moved when it is whole: a pod that dies here leaves nothing half made.
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username=postgres --pwfile=/etc/postgresql/secret/admin \
    --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  echo "CREATE DATABASE \"$DATABASE\";" | postgres --single -j -D "$PGDATA.new" postgres
  mv "$PGDATA.new" "$PGDATA"
fi

found=$(cat "$PGDATA/PG_VERSION")
here=$(postgres --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
if [ "$found" != "$here" ]; then
  echo "the data is PostgreSQL $found's and this is $here: dump with $found and restore, or set postgresql.image.tag" >&2
  exit 1
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp \
  -c hba_file=/etc/postgresql/pg_hba.conf "$@"
