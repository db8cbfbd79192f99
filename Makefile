# make evolve   set everything up in .venv and run the main job: nine islands on mini/math
# make test     set everything up in .venv, lint, and run all tests
# make lint     ruff, mypy, and whether the contract's reference is what the contract says
# make quick    the tests that are not marked slow: under a minute together
# PYTHON, VENV and CONSTRAINTS can be given: make test PYTHON=python3.12 VENV=/tmp/venv CONSTRAINTS=

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: evolve test lint quick setup

evolve: setup
	$(BIN)/evo-aar evolve --islands 9

test: lint
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m recipes.reference --check

quick: setup
	$(PYTEST) -m "not slow"

setup: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[film,test]"
	touch $(READY)
