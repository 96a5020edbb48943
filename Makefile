# The two commands for a newcomer are `make demo` and `make test`; `make` alone says what else there is.

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 2
ARGS ?=
SECONDS ?= 60
SEED ?= 1

VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: demo test check bench bench-peers matrix coverage front fuzz torture autobahn clients clean help browser redis

demo: $(VENV)/.demo  ## serve the example applications on http://127.0.0.1:8000 (PORT=9000 moves them)
	@$(BIN)/python scripts/demo.py $(PORT)

test: browser redis $(VENV)/.develop  ## install what the tests need and run all of them (ARGS="-k chat" for some)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

check: $(VENV)/.develop  ## lint, formatting, types, layers and exports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_exports.py

bench: $(VENV)/.develop  ## measure Hubbub beside what else is installed (ARGS="fanout1 echo --rounds 5" for some)
	$(BIN)/python -m benchmarks $(ARGS)

bench-peers: $(VENV)/.develop  ## install what the benchmarks measure beside Hubbub
	$(BIN)/python -m benchmarks --setup

matrix: browser redis  ## run the tests on every Python from 3.11 on that this machine has
	@WORKERS=$(WORKERS) scripts/matrix.sh $(ARGS)

coverage: browser redis $(VENV)/.develop  ## run the tests and report the lines and branches that none of them reaches
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

front: $(VENV)/.develop  ## write the client of the chat's page anew, and compile the page
	$(BIN)/python scripts/front.py

fuzz: $(VENV)/.fuzz  ## look for what breaks the wire layer, for SECONDS=60 in all
	$(BIN)/python -m fuzz --seconds $(SECONDS) $(ARGS)

torture: redis $(VENV)/.develop  ## publish while workers, Redis and the network fail, and look for losses (SEED=1)
	$(BIN)/python -m torture --seed $(SEED) $(ARGS)

autobahn: $(VENV)/.develop  ## run the Autobahn testsuite, which needs Python 2.7 (PYTHON2=/path/to/python2.7)
	$(BIN)/python -m conformance $(if $(PYTHON2),--python2 $(PYTHON2)) $(ARGS)

clients: browser $(VENV)/.develop  ## try websockets, ws (which needs Node.js with npm) and Chromium on hubbub run
	$(BIN)/python -m conformance.clients $(ARGS)

clean:  ## remove the environments, caches and everything built
	rm -rf .venv .venv-3.* build dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter for a new environment (make clean first); WORKERS=4 the test processes."

# An environment is for one purpose, demo or develop, and is renewed when what goes into it has changed.
$(VENV)/.demo $(VENV)/.develop: $(VENV)/.%: pyproject.toml requirements-dev.txt constraints.txt scripts/environment.sh
	@PYTHON=$(PYTHON) scripts/environment.sh $(VENV) $*
$(VENV)/.develop: tests/node/package.json

$(VENV)/.fuzz: $(VENV)/.develop fuzz/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement fuzz/requirements.txt
	@touch $@

browser:
	@scripts/system-packages.sh browser

redis:
	@scripts/system-packages.sh redis
