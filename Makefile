# The two commands for a newcomer are `make demo` and `make test`; `make` alone says what else there is.

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: demo test check bench matrix coverage clean help browser

demo: $(VENV)/.demo  ## serve the example applications on http://127.0.0.1:8000 (PORT=9000 moves them)
	@$(BIN)/python scripts/demo.py $(PORT)

test: browser $(VENV)/.develop  ## install what the tests need and run all of them (ARGS="-k chat" for some)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.develop  ## lint, formatting, types, layers and exports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_exports.py

bench: $(VENV)/.develop  ## run the benchmarks
	$(BIN)/python -m benchmarks $(ARGS)

matrix: browser  ## run the tests on every Python from 3.11 on that this machine has
	@WORKERS=$(WORKERS) scripts/matrix.sh $(ARGS)

coverage: browser $(VENV)/.develop  ## run the tests and report the lines and branches that none of them reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

clean:  ## remove the environments, caches and everything built
	rm -rf .venv .venv-3.* build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter for a new environment (make clean first); WORKERS=4 the test processes."

# An environment is for one purpose, demo or develop, and is renewed when what goes into it has changed.
$(VENV)/.demo $(VENV)/.develop: $(VENV)/.%: pyproject.toml requirements-dev.txt constraints.txt scripts/environment.sh
	@PYTHON=$(PYTHON) scripts/environment.sh $(VENV) $*

browser:
	@scripts/system-packages.sh browser
