"""Topologies of migration: along which routes the islands' elites travel.

A topology is an object with a name, `register`ed; the setting `topology` of a search names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from evaluator import plugins
from evo_aar.errors import UsageError
from population.migration import Route, ring


class Topology(Protocol):
    """Routes between islands. `name` is what the setting says."""

    @property
    def name(self) -> str: ...

    def routes(self, islands: Sequence[int], stream: np.random.Generator) -> list[Route]:
        """From island to island, in the order in which elites arrive.

        `stream` belongs to this migration alone, so that a topology may draw its routes.
        """
        ...


class Ring:
    """Each island sends to the next one; the last one to the first."""

    name = "ring"

    def routes(self, islands: Sequence[int], stream: np.random.Generator) -> list[Route]:
        return ring(islands)


_TOPOLOGIES: dict[str, Topology] = {}


def register(topology: Topology) -> None:
    """Make a topology known under its name."""
    _TOPOLOGIES[topology.name] = topology


def topology_named(name: str) -> Topology:
    """Raises `UsageError` where no such topology is registered."""
    plugins.load()
    try:
        return _TOPOLOGIES[name]
    except KeyError:
        raise UsageError(
            f"--topology {name}: unknown. Topologies: {', '.join(sorted(_TOPOLOGIES))}."
        ) from None


register(Ring())
