"""Which phase of a search asked for a trial: what decides may depend on these trials, and on no others.

A phase (a generation, the finals) that was interrupted leaves trials on record that it would have come to
later, or never. So a phase decides on what committed phases asked for and on what it asks for itself, in its
own order.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from population.database import Database


class TrialKey(NamedTuple):
    """What identifies a trial."""

    source_hash: str
    testbed: str
    seed: int
    fidelity: float


class Asked:
    """The trials that committed phases asked for, each under the first phase that did."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def commit(self, phase: str, keys: Iterable[TrialKey]) -> None:
        """`phase` ends, having asked for these trials.

        To be called in the transaction that commits the phase.
        """
        with self._database.transaction():
            known = self.all()
            for key in dict.fromkeys(keys):
                if key not in known:
                    self._database.append("asked", {**key._asdict(), "phase": phase})

    def all(self) -> dict[TrialKey, str]:
        """By trial, the phase."""
        sql = "SELECT source_hash, testbed, seed, fidelity, phase FROM asked ORDER BY seq"
        return {TrialKey(*row[:4]): row[4] for row in map(tuple, self._database.query(sql))}
