"""The checks of charts/frontdesk; `python -m chart` with tools/ on the path, or `make test-chart`."""
