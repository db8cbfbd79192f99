"""A trial: one recipe, one seed, one fidelity. What is asked of the evaluator, and what comes back."""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from recipes.source import source_hash

SCORE, SEALED, SMOKE, EXPLORE = "score", "sealed", "smoke", "explore"
SMOKE_ROWS = 32


@dataclass(frozen=True)
class TrialRequest:
    """`fidelity` is the fraction of the training pool that the recipe is given.

    `purpose`: SCORE, to be graded on the fitness split; SEALED, on the sealed one, for a search's report
    alone; SMOKE, on 32 rows with random labels, to see whether the recipe holds together; EXPLORE, on the
    training pool, for what it prints. SMOKE and EXPLORE have no predictions, and are asked for with
    `Evaluator.run_ungraded`.
    """

    source: str
    seed: int
    fidelity: float = 1.0
    purpose: str = SCORE

    @property
    def source_hash(self) -> str:
        return source_hash(self.source)

    @property
    def split(self) -> str:
        """The split that the trial is graded on."""
        return "sealed" if self.purpose == SEALED else "fitness"

    def key(self, testbed_hash: str) -> str:
        """Names the trial on a testbed by content."""
        facts = [
            self.source_hash,
            self.seed,
            self.fidelity,
            testbed_hash,
            *([SEALED] if self.purpose == SEALED else []),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended in the trainer, before the grader has seen it.

    A failure has a `reason` (one word) and a `message`, and no predictions. `fitness` [m, 2], on the split
    that the trial is graded on, and `pool` [n] (P of class 1) are the student's probabilities; `history`
    lists every training's logged steps; `tokens` were trained and forwarded; `seconds` is the trial's share
    of its worker's wall-clock time; `output` is the beginning of what the recipe printed.
    """

    reason: str | None = None
    message: str | None = None
    fitness: np.ndarray | None = None
    pool: np.ndarray | None = None
    tokens: int = 0
    seconds: float = 0.0
    members: int = 1
    history: list[dict] = field(default_factory=list)
    output: str = ""

    @property
    def ok(self) -> bool:
        return self.reason is None

    def save(self, path: Path) -> None:
        """Write atomically: the file is whole, on disk, or not there."""
        facts = {k: v for k, v in asdict(self).items() if k not in ("fitness", "pool")}
        arrays = {
            name: getattr(self, name) for name in ("fitness", "pool") if getattr(self, name) is not None
        }
        buffer = io.BytesIO()
        np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    @classmethod
    def load(cls, path: Path) -> Outcome:
        with np.load(path, allow_pickle=False) as file:
            facts = json.loads(file["facts"].tobytes())
            return cls(**facts, **{name: file[name] for name in ("fitness", "pool") if name in file.files})
