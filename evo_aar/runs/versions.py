"""Which versions a search is worked on with: numbers may depend on them, so a change is on record."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import evo_aar

PACKAGES = ("evo-aar", "torch", "transformers", "numpy", "deap", "joblib", "libcst", "anthropic")
"""Whose versions a run has on record."""
CODE = "evo-aar code"
"""A hash of this project's own modules stands under this name: a development version has no other."""
DECISIVE = ("evo-aar", CODE, "torch", "numpy", "libcst", "deap", "python")
"""What trainings, children or selection depend on."""
ROOMS = ("evo_aar", "evaluator", "population", "recipes")


def versions() -> dict[str, str]:
    """By package, with Python and the project's own code."""
    found = {package: metadata.version(package) for package in PACKAGES}
    return {**found, CODE: code_hash(), "python": sys.version.split()[0]}


def decisive(found: Mapping[str, str]) -> dict[str, str]:
    """The versions that numbers depend on."""
    return {name: found[name] for name in DECISIVE if name in found}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is another version than it was, in words. What was not on record then is no change."""
    return [
        f"{name} {now[name]} (was {before[name]})"
        for name in DECISIVE
        if name in before and name in now and now[name] != before[name]
    ]


@functools.cache
def code_hash() -> str:
    """12 hexadecimal digits over the modules of the four packages."""
    digest = hashlib.sha256()
    root = Path(evo_aar.__file__).parent.parent
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
