# Every command a person needs; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo test check reference bench lock clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.base ## make .venv with the base install (no torch)

$(VENV)/.base: pyproject.toml requirements/base.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hepar needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes -r requirements/base.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

setup-test: $(VENV)/.test

$(VENV)/.test: $(VENV)/.base requirements/test.txt
	$(PIP) --require-hashes --no-deps -r requirements/test.txt
	@touch $@

demo: setup ## run the main job on the built-in cohort; prints the path of report.html
	$(BIN)/hepar demo

test: setup-test ## run all tests (installs the extra [train], with torch, first)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: setup-test ## formatting, lint, types and import contracts
	$(BIN)/ruff format --check src tests tools
	$(BIN)/ruff check src tests tools
	$(BIN)/mypy
	$(BIN)/lint-imports

reference: setup-test ## write docs/reference anew from options, settings and registries
	$(BIN)/python tools/reference.py

bench: setup-test ## measure speed and memory; writes docs/benchmarks.md
	$(BIN)/python tools/bench.py

lock: ## resolve requirements/*.txt anew (needs uv)
	uv pip compile --universal --generate-hashes --no-annotate --python-version 3.11 pyproject.toml requirements/build.in -o requirements/base.txt
	uv pip compile --universal --generate-hashes --no-annotate --python-version 3.11 pyproject.toml requirements/build.in --extra train --extra pdf --extra histology --group test --group check --override requirements/overrides.in -c requirements/base.txt -c requirements/caps.in -o requirements/test.txt

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
