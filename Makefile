# The project's commands; `make help` lists them. `make run` and `make test` need no prior setup.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
export PYTHON
SOURCES := sidecar tests bench
IMAGE ?= auth-sidecar
FUZZ_SECONDS ?= 60
PROCESSES ?= 2
# Tests of one module run in one process, in their order, because they share servers.
PYTEST = $(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=loadscope --no-loadscope-reorder
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' sidecar/__init__.py)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=/path/to/python3.11 selects the Python for a new environment"

.PHONY: run
run: $(VENV)/.run ## Start the demo: the sidecar in front of a small application; ARGS="--port 8000"
	@exec $(BIN)/sidecar demo $(ARGS)

.PHONY: test
test: $(VENV)/.dev servers lint types unit ## Run everything that CI checks: servers, lint, types, tests

.PHONY: lint
lint: $(VENV)/.dev ## Check style and formatting
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/ruff format --check --quiet $(SOURCES)

.PHONY: format
format: $(VENV)/.dev ## Fix style and formatting automatically
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

.PHONY: types
types: $(VENV)/.dev ## Check types
	$(BIN)/mypy $(SOURCES)

.PHONY: unit
unit: $(VENV)/.dev ## Run the tests with coverage; ARGS="tests/wire -x" selects some
	$(PYTEST) --cov --cov-report=term $(ARGS)

.PHONY: compiled
compiled: $(VENV)/.dev ## Compile the hot path into build/compiled (needs a C compiler)
	scripts/compile build/compiled

.PHONY: unit-compiled
unit-compiled: compiled servers ## Run the tests of the hot path with the compiled modules; 4 minutes
	$(PYTEST) -o pythonpath="build/compiled ." tests/test_compiled.py tests/wire tests/auth tests/proxy \
		tests/sessions/memory tests/telemetry tests/vectors $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev servers ## Check that no proxy cuts what takes longer than a minute; 2 minutes
	$(BIN)/python -m pytest tests/contract/soak.py $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.fuzz ## Search for inputs that violate an invariant; FUZZ_SECONDS=600 ARGS="head token"
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(ARGS)

.PHONY: bench
bench: $(VENV)/.dev servers ## Compare the sidecar with other proxies; ARGS="--help" lists the options
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-compiled
bench-compiled: compiled servers ## Do the same with the compiled modules
	PYTHONSAFEPATH=1 PYTHONPATH="$(CURDIR)/build/compiled:$(CURDIR)" $(BIN)/python -m bench $(ARGS)

.PHONY: bench-checks
bench-checks: $(VENV)/.dev servers ## Check memory, long bodies, 100,000 requests, shared sessions, restarts; 15 minutes
	$(BIN)/python -m bench checks $(ARGS)

.PHONY: servers
servers: ## Install the servers that tests and benchmarks use (Debian, as root)
	@scripts/install-test-servers

.PHONY: lock
lock: ## Update the lock files from pyproject.toml; ARGS=--upgrade takes the newest versions
	scripts/lock $(ARGS)

.PHONY: image
image: ## Build the container image
	@builder=$$(command -v docker || command -v podman || true); \
	if [[ -z $$builder ]]; then echo "building the image requires docker or podman" >&2; exit 1; fi; \
	set -x; "$$builder" build --tag "$(IMAGE):$(VERSION)" .

.PHONY: clean
clean: ## Remove everything that these commands generate
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis htmlcov
	rm -rf .coverage .coverage.* *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment is rebuilt only when one of the files that define it changes.
$(VENV)/.run: requirements.lock requirements-build.lock pyproject.toml scripts/make-venv
	@scripts/make-venv $(VENV)
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	@echo "installing the test dependencies"
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev requirements-fuzz.lock
	@echo "installing the fuzzing engine"
	@$(BIN)/python -m pip --quiet --disable-pip-version-check install --require-hashes -r requirements-fuzz.lock \
		|| echo "no wheel for this platform: fuzzing continues without coverage guidance" >&2
	@touch $@
