"""The two fixed points of PGR: the weak model's accuracy and the ceiling's, means over many seeds, cached by
content.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from evaluator.errors import TestbedError
from evaluator.grader import Grader
from evaluator.testbeds.prepared import Testbed
from evaluator.worker import WorkerSettings, train_ceilings
from evaluator.workers import workers_executor

SEEDS = 16


@dataclass(frozen=True)
class Baselines:
    """Accuracies on one split, the fitness split unless said otherwise.

    `weak` and `ceiling` list them by seed.
    """

    weak: tuple[float, ...]
    ceiling: tuple[float, ...]
    majority: float

    @property
    def weak_accuracy(self) -> float:
        return float(np.mean(self.weak))

    @property
    def ceiling_accuracy(self) -> float:
        return float(np.mean(self.ceiling))

    @property
    def gap(self) -> float:
        return self.ceiling_accuracy - self.weak_accuracy

    def pgr(self, transfer_accuracy: float) -> float:
        """Performance gap recovered, Burns et al. 2023, section 3."""
        return (transfer_accuracy - self.weak_accuracy) / self.gap


def standard_error(values: tuple[float, ...]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def load_or_train(settings: WorkerSettings, grader: Grader, testbed: Testbed, workers: int) -> Baselines:
    """The cached baselines of this testbed and kind of student on the grader's split, or new ones.

    Raises `TestbedError` where the ceiling is not above the weak accuracy: PGR is undefined there.
    """
    path = _path(settings, grader, testbed, ".json")
    try:
        facts = json.loads(path.read_text())
        found = Baselines(tuple(facts["weak"]), tuple(facts["ceiling"]), facts["majority"])
    except FileNotFoundError:
        found = _train(settings, grader, testbed, workers)
        _write(path, lambda file: file.write(json.dumps(asdict(found)).encode()))
    if found.gap <= 0:
        raise TestbedError(
            f"{testbed.name}: the ceiling ({found.ceiling_accuracy:.3f}) is not above the weak accuracy"
            f" ({found.weak_accuracy:.3f}), so PGR is undefined. Choose a stronger strong model or a weaker"
            " weak one."
        )
    return found


def ceiling_probabilities(
    settings: WorkerSettings, grader: Grader, testbed: Testbed, workers: int
) -> np.ndarray:
    """[seeds, m] P(class 1) on the grader's split by each ceiling, trained again where the cache lacks it."""
    path = _path(settings, grader, testbed, "-ceilings.npy")
    if not path.exists():
        _train(settings, grader, testbed, workers)
    return np.load(path)


def _train(settings: WorkerSettings, grader: Grader, testbed: Testbed, workers: int) -> Baselines:
    labels = grader.ceiling_targets()
    shares = [list(range(SEEDS))[start::workers] for start in range(min(workers, SEEDS))]
    executor = workers_executor(workers)
    futures = [executor.submit(train_ceilings, settings, labels, share, grader.split) for share in shares]
    predictions = {
        seed: one
        for share, future in zip(shares, futures, strict=True)
        for seed, one in zip(share, future.result(), strict=True)
    }
    path = _path(settings, grader, testbed, "-ceilings.npy")
    _write(path, lambda file: np.save(file, np.stack([predictions[seed][:, 1] for seed in range(SEEDS)])))
    ceiling = tuple(grader.score(predictions[seed]) for seed in range(SEEDS))
    return Baselines(tuple(grader.weak_accuracies()), ceiling, grader.majority())


def _path(settings: WorkerSettings, grader: Grader, testbed: Testbed, ending: str) -> Path:
    split = "" if grader.split == "fitness" else f"-{grader.split}"
    return settings.cache / "baselines" / f"{testbed.content_hash}-{settings.kind}{split}{ending}"


def _write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        fill(file)
    temporary.rename(path)
