"""Small populations for the tests of the store."""

import os
import subprocess
import sys

import numpy as np
from repository import HELPERS, ROOT

from population.individual import Individual
from population.island import Generation, Island
from population.store import Store
from population.tables.replies import Turn
from population.trial import FailedTrial, SuccessfulTrial

TURN = Turn("g001-i0-c00", "mutation", 0, 0)


def an_individual(generation=0, island=0, child=0, **fields):
    fields = {"source": "async def recipe(task): ...\n", "source_hash": "5eed", "operator": "seed", **fields}
    return Individual.born(generation=generation, island=island, child=child, **fields)


def a_trial(seed=0, pgr=0.5, **fields):
    fields = {"source_hash": "5eed", "testbed": "mini", "fidelity": 1.0, "accuracy": 0.75, **fields}
    return SuccessfulTrial(seed=seed, pgr=pgr, **fields)


def a_failure(seed=0, reason="timeout", **fields):
    fields = {"source_hash": "5eed", "testbed": "mini", "fidelity": 1.0, **fields}
    return FailedTrial(seed=seed, reason=reason, **fields)


def a_pool(rows=8, seed=0):
    return np.random.default_rng(seed).random(rows)


def python(program, *arguments, **options):
    """`program` in a Python of its own that finds the packages."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def reopened(store):
    store.close()
    return Store.open(store.path)


def with_two(store):
    for island in (0, 1):
        store.individuals.add(an_individual(0, island, source_hash=f"5eed{island}"))
    return store


def generation_zero(**changes):
    islands = (
        Island(0, ("g000-i0-c00",), ("g000-i0-c00",)),
        Island(1, ("g000-i1-c00",)),
    )
    return Generation(**{"number": 0, "islands": islands, "summary": {"best": 0.5}, **changes})
