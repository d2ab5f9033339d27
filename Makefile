# Each target does its own set-up: the first one to run makes .venv from requirements.lock.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PEERS := $(VENV)/peers-installed
STREAMS := .venv-streams
STREAMS_STAMP := $(STREAMS)/installed
RESOLVE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate
# Two workers: one for all that needs real servers and mostly waits for them, one for what computes.
TESTS := -m pytest tests --numprocesses 2 --dist loadscope --no-loadscope-reorder
# Once for both workers, and for every process that they start.
WARM := $(BIN)/callgauge warmup
INSTALL := -m pip install --quiet --require-hashes --only-binary :all: -r
# The first interpreter that is new enough; `make PYTHON=/path/to/python3` decides otherwise.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$python"; break; }; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-full soak bench bench-smoke bench-leadtime lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv: $(STAMP) ## make the environment: every package by its hash, callgauge itself editable

# The stamp comes last, so that an interrupted installation is done again.
$(STAMP): requirements.lock
	@test -n "$(PYTHON)" || { echo "callgauge needs Python 3.11 or newer, and found none: install one, or say" \
		"make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python $(INSTALL) requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-index --no-build-isolation --editable .
	@touch $@

# What the benchmarks compare with. They run without these too, and say what is missing.
$(PEERS): $(STAMP) bench/requirements.lock
	$(BIN)/python $(INSTALL) bench/requirements.lock
	@touch $@

.venv-streams: $(STREAMS_STAMP) ## make the environment of other stream processors, for the benchmarks alone

$(STREAMS_STAMP): $(STAMP) bench/streams/requirements.lock
	$(BIN)/python -m venv --clear $(STREAMS)
	$(STREAMS)/bin/python $(INSTALL) bench/streams/requirements.lock
	@touch $@

demo: $(STAMP) ## show the engine at work on a recorded go-live; no server needed, ends by itself
	$(BIN)/callgauge demo

test: $(STAMP) ## every test but the long ones, at most 12 minutes
	$(WARM)
	$(BIN)/python $(TESTS) -m "not full and not soak"

test-full: $(STAMP) ## every test but the soak
	$(WARM)
	$(BIN)/python $(TESTS) -m "not soak"

soak: $(STAMP) ## hours of faults and load
	$(BIN)/python -m pytest tests -m soak

bench: $(PEERS) $(STREAMS_STAMP) ## every benchmark, full size, against what others would use
	$(BIN)/python -m bench

bench-smoke: $(STAMP) ## the budgets, each beside what is measured here, in about five minutes
	$(BIN)/python -m bench.smoke

bench-leadtime: $(STAMP) ## how long before the first decline the alerts come, against other rules
	$(BIN)/python -m bench.leadtime --out bench/results/leadtime.md

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## rewrite the sources as `lint` wants them
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: ## resolve the lock files anew: names, versions and hashes, no addresses (needs uv)
	@command -v uv >/dev/null || { echo "make lock needs uv (python3 -m pip install uv)" >&2; exit 1; }
	$(RESOLVE) --upgrade --extra dev pyproject.toml -o requirements.lock
	$(RESOLVE) --upgrade --extra bench -c requirements.lock pyproject.toml -o bench/requirements.lock
	$(RESOLVE) --upgrade bench/streams/requirements.txt -o bench/streams/requirements.lock

clean: ## remove the environment, the caches and the servers of the integration tests
	rm -rf $(VENV) $(STREAMS) .servers .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
