"""Small populations for the tests of the store."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import population
from population.individual import Individual, Trial

ROOT = Path(population.__file__).parents[1]


def an_individual(generation=0, island=0, child=0, **fields):
    fields = {"source": "async def recipe(task): ...\n", "source_hash": "5eed", "operator": "seed", **fields}
    return Individual.born(generation=generation, island=island, child=child, **fields)


def a_trial(seed=0, pgr=0.5, **fields):
    fields = {"source_hash": "5eed", "testbed": "mini", "fidelity": 1.0, "accuracy": 0.75, **fields}
    return Trial(seed=seed, status="ok", pgr=pgr, **fields)


def a_failure(seed=0, reason="timeout", **fields):
    fields = {"source_hash": "5eed", "testbed": "mini", "fidelity": 1.0, **fields}
    return Trial(seed=seed, status="failed", reason=reason, **fields)


def a_pool(rows=8, seed=0):
    return np.random.default_rng(seed).random(rows)


def python(program, *arguments, **options):
    """`program` in a Python of its own that finds the packages."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
