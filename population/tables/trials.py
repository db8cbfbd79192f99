"""The record of trials: what was tried once is never tried again."""

from __future__ import annotations

import json
import sqlite3

import numpy as np

from population.database import Database
from population.jsontext import canonical
from population.trial import FAILED, OK, FailedTrial, SuccessfulTrial, Trial

_ORDER = "source_hash, testbed, fidelity, seed"
_POOL_DTYPE = np.dtype("<f2")


class Trials:
    """All trials, unique on (source hash, testbed, seed, fidelity).

    Lists are in the order of source, testbed, fidelity, seed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, trial: Trial) -> bool:
        """Put a trial on record; False where it is there with the same outcome (its seconds may differ: the
        first ones stay).

        Raises StoreConflict where it is there with another outcome.
        """
        row = {
            "source_hash": trial.source_hash,
            "testbed": trial.testbed,
            "seed": trial.seed,
            "fidelity": trial.fidelity,
            "status": OK if trial.ok else FAILED,
            "reason": None if trial.ok else trial.reason,
            "message": None if trial.ok else trial.message,
            "accuracy": trial.accuracy if trial.ok else None,
            "pgr": trial.pgr if trial.ok else None,
            "members": trial.members if trial.ok else 1,
            "tokens": trial.tokens,
            "seconds": trial.seconds,
            "history": canonical(trial.history),
            "pool": trial.pool.astype(_POOL_DTYPE).tobytes() if trial.ok and trial.pool is not None else None,
        }
        return self._database.append_once("trials", row, trial.name, ignored=("seconds",))

    def get(self, source_hash: str, testbed: str, seed: int, fidelity: float) -> Trial | None:
        """The trial under this key, or None where it has not been run."""
        where = "source_hash = ? AND testbed = ? AND seed = ? AND fidelity = ?"
        rows = self._database.select("trials", where, (source_hash, testbed, int(seed), float(fidelity)))
        return _trial(rows[0]) if rows else None

    def of(self, source_hash: str, testbed: str | None = None, fidelity: float | None = None) -> list[Trial]:
        """The trials of one recipe, on one testbed and at one fidelity where these are given."""
        where = "source_hash = ?1 AND (?2 IS NULL OR testbed = ?2) AND (?3 IS NULL OR fidelity = ?3)"
        return [
            _trial(row)
            for row in self._database.select("trials", where, (source_hash, testbed, fidelity), _ORDER)
        ]

    def all(self) -> list[Trial]:
        return [_trial(row) for row in self._database.select("trials", order=_ORDER)]

    def __len__(self) -> int:
        return self._database.query("SELECT COUNT(*) FROM trials")[0][0]


def _trial(row: sqlite3.Row) -> Trial:
    common = {name: row[name] for name in ("source_hash", "testbed", "seed", "fidelity", "tokens", "seconds")}
    common["history"] = json.loads(row["history"])
    if row["status"] == FAILED:
        return FailedTrial(reason=row["reason"], message=row["message"], **common)
    return SuccessfulTrial(
        accuracy=row["accuracy"],
        pgr=row["pgr"],
        members=row["members"],
        pool=None if row["pool"] is None else np.frombuffer(row["pool"], _POOL_DTYPE),
        **common,
    )
