# Everyday commands. `make setup` first; PYTHON picks the interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup test quick lint format docs figures benchmarks reliability picture zoo ci clean

help: ## list these commands
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## a virtual environment with all that developing needs
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -e '.[dev]'

test: ## the whole test suite
	$(BIN)/pytest

quick: ## the tests that take less than a second or two each
	$(BIN)/pytest -m 'not slow'

lint: ## format, lint, types, floors
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: ## set the code in form
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: ## build the documentation into docs/_build
	$(BIN)/sphinx-build -W --keep-going docs docs/_build

figures: ## measure what docs/performance.md quotes (about five minutes)
	taskset -c 0 $(BIN)/python -m benchmarks.figures

benchmarks: ## deeptaxi beside its peers (about 20 minutes; see benchmarks/README.md)
	$(BIN)/python -m benchmarks

reliability: ## what a run survives (two and a half hours; `python -m tests.reliability --short` takes five minutes)
	$(BIN)/python -m tests.reliability

picture: ## draw the README's picture
	$(BIN)/python docs/picture.py

zoo: ## make the agents of models/ anew (three minutes)
	$(BIN)/python -m benchmarks.zoo

ci: ## what decides whether a change lands
	bash .ci/run

clean: ## remove what was made, runs and logs excepted
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
