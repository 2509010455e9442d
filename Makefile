# Frontdesk. `make` lists what can be made; the first use of any target sets up .venv.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# Test processes; a file's tests stay together, idle processes take over files that wait.
JOBS ?= 4
# What `make image` builds; `--load` gives it to the current cluster.
IMAGES ?= frontdesk

.DEFAULT_GOAL := help
.PHONY: help setup run test test-chart test-cluster lint fmt protos docs image bench chaos lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything that is locked (needs Python 3.11+ only)

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make $(MAKECMDGOALS) PYTHON=python3.x"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

run: $(READY) ## run everything here, with a simulated platform, accounts and buyers
	@$(BIN)/frontdesk up --demo

test: $(READY) ## run the tests
	@$(BIN)/pytest -n $(JOBS) --dist worksteal

test-chart: $(READY) ## check charts/frontdesk; the first time fetches what it needs, with Go
	@PYTHONPATH=tools:tests $(BIN)/python -m chart

test-cluster: $(READY) ## install the chart on the current cluster, break it and prove it (FRONTDESK_IMAGE_LOADER, _NODE_SHELL, _INGRESS)
	@cd tools && ../$(BIN)/python -m images frontdesk nats-server postgres otel-collector --tag test --load
	@cd tools && ../$(BIN)/python -m images frontdesk --tag test-next --load
	@$(BIN)/python tests/cluster/run.py --image localhost/frontdesk:test

lint: $(READY) ## check format, types, layers, house rules, locks, protos, generated files
	@$(BIN)/python tools/lint.py

fmt: $(READY) ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --quiet --fix-only services/frontdesk tests tools
	@$(BIN)/ruff format --quiet services/frontdesk tests tools

protos: $(READY) ## generate the Python code of protos/
	@$(BIN)/python tools/protos.py

docs: $(READY) ## generate docs/configuration.md and the chart's table of values
	@$(BIN)/python tools/config_docs.py
	@$(BIN)/python tools/chart/values_docs.py

image: $(READY) ## build the image with buildah (IMAGES="frontdesk nats-server postgres --load" for a test cluster)
	@cd tools && ../$(BIN)/python -m images $(IMAGES)

bench: $(READY) ## measure; one JSON line each
	@for bench in tools/bench/*.py; do $(BIN)/python $$bench || exit 1; done

chaos: $(READY) ## break things under load; one JSON line a fault
	@$(BIN)/python tools/chaos/run.py

lock: $(READY) ## write the locks anew (UPGRADE=--upgrade takes the newest versions)
	@$(BIN)/python tools/lock.py $(UPGRADE)

clean: ## remove .venv and what tools left; ./data stays
	@rm -rf .venv .mypy_cache .ruff_cache .import_linter_cache .hypothesis .bench dist
	@find services tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
