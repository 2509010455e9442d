#!/bin/sh
for folder in /usr/lib/postgresql/*/bin; do
  if [ -d "$folder" ]; then PATH="$folder:$PATH"; fi
done
exec pg_isready --quiet --host=/tmp --username=postgres --dbname="$DATABASE"
