# Needs Python 3.11 or later and make; everything else goes into .venv.

VENV := .venv
BIN := $(VENV)/bin
RUN_DEPS := $(VENV)/.installed
DEV_DEPS := $(VENV)/.installed-dev
BENCH_DEPS := $(VENV)/.installed-bench
N ?= 100000

# The first interpreter that is new enough; `make PYTHON=/path/to/python3 ...` overrides it.
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(IS_NEW_ENOUGH)' 2>/dev/null && echo "$$python" && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench fuzz vectors proto docs proxies clean soak

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

demo: $(RUN_DEPS) ## the main job, end to end: mint, narrow, verify, revoke
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(DEV_DEPS) ## every test; ARGS='-k name' picks some
	$(BIN)/pytest -n auto -rs $(ARGS)

check: $(DEV_DEPS) ## lint, types, import contracts, generated files, build
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_repository.py
	$(BIN)/python -m build --no-isolation --outdir build/dist

format: $(DEV_DEPS) ## apply the formatter and the safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_DEPS) ## time this project beside biscuit-python
	$(BIN)/python -m benchmarks.run

fuzz: $(DEV_DEPS) ## N random cases against biscuit-python (N=100000), and tokens that are alike
	$(BIN)/python -m tests.differential.fuzz $(N)
	$(BIN)/python -m tests.differential.fuzz $$(($(N) / 10)) --relatives

soak: $(DEV_DEPS) ## kill a store's writer 200 times, for each store, and a server 50 times; follow 100,000 ids on each; crowd the sidecar
	CAP_KILLS=200 CAP_FEED=100000 $(BIN)/pytest -q tests/store/test_crashes.py tests/store/test_feed.py
	CAP_SOAK=1 $(BIN)/pytest -q tests/sidecar/test_faults.py tests/sidecar/test_lifecycle.py

vectors: $(DEV_DEPS) ## write spec/vectors again
	$(BIN)/python -m spec.generate

proto: $(DEV_DEPS) ## write what is made of schema.proto and extauthz.proto
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. \
		capability/wire/schema.proto capability/sidecar/extauthz.proto
	$(BIN)/python -c 'from capability.wire.schema_pb2 import DESCRIPTOR as of; \
		open("capability/wire/schema.binpb", "wb").write(of.serialized_pb)'

docs: $(DEV_DEPS) ## write what is generated in docs/
	$(BIN)/python -m docs.generate

proxies: $(DEV_DEPS) ## run each proxy and write the table of docs/proxies.md
	$(BIN)/python -m docs.proxies

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# A stamp is older than pyproject.toml when the dependencies may have changed.
$(RUN_DEPS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(DEV_DEPS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(RUN_DEPS) $@

$(BENCH_DEPS): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $(RUN_DEPS) $(DEV_DEPS) $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or later found" >&2; \
		echo "hint: install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@"$(PYTHON)" -c '$(IS_NEW_ENOUGH)' || { echo "error: $(PYTHON) is not Python 3.11 or later" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) cannot make a virtual environment" >&2; \
		echo "hint: on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
