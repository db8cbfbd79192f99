"""Which rows of the fitness split each graded trial got right: ground truth in disguise, kept for the Ladder
alone.

It lies in a table of its own, so that nobody who reads trials holds it by accident, and a search that is
resumed asks the grader nothing again.
"""

from __future__ import annotations

import numpy as np

from population.database import Database
from population.trial import Trial

_KEY = "source_hash = ? AND testbed = ? AND seed = ? AND fidelity = ?"


class Correctness:
    """One row a graded trial, under the trial's own key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, trial: Trial, correct: np.ndarray) -> bool:
        """Keep what a trial got right, [m] bool; False where the same is on record.

        Raises StoreConflict where something else is.
        """
        row = {name: getattr(trial, name) for name in ("source_hash", "testbed", "seed", "fidelity")}
        row |= {"size": len(correct), "bits": np.packbits(np.asarray(correct, bool)).tobytes()}
        return self._database.append_once("correctness", row, f"what the {trial.name} got right")

    def of(self, source_hash: str, testbed: str, seed: int, fidelity: float = 1.0) -> np.ndarray | None:
        """[m] bool; None where that trial was not graded."""
        rows = self._database.select("correctness", _KEY, (source_hash, testbed, int(seed), float(fidelity)))
        if not rows:
            return None
        return np.unpackbits(np.frombuffer(rows[0]["bits"], np.uint8), count=rows[0]["size"]).astype(bool)
