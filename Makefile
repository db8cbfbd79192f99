# make evolve   set everything up in .venv and run the main job: nine islands on mini/math
# make test     set everything up in .venv and run the tests
# PYTHON, VENV and CONSTRAINTS can be given: make test PYTHON=python3.12 VENV=/tmp/venv CONSTRAINTS=

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: evolve test setup

evolve: setup
	$(BIN)/evo-aar evolve --islands 9

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m recipes.reference --check
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

setup: $(READY)

$(READY): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[film,test]"
	touch $(READY)
