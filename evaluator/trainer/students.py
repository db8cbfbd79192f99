"""Students as the trainer holds them, and what they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import numpy as np
import torch

from evaluator.trainer.model import Parameters, StudentModel

PREDICTION_BATCH = 4096

Prior = Callable[[str, int, bool], np.ndarray]
"""Zero-shot probabilities [n, 2] of a split, by template and swap."""


class Student(Protocol):
    """Whatever answers for the rows of a split."""

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        """[size, 2] float32: P(class 0), P(class 1) of each row."""


@dataclass(frozen=True)
class Trained:
    """A model with parameters of its own."""

    model: StudentModel
    parameters: Parameters

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        stacked = {name: value[None] for name, value in self.parameters.items()}
        device = next(iter(stacked.values())).device
        rows = torch.arange(size, device=device)[None]
        logits = [self.model.logits(stacked, split, part)[0] for part in rows.split(PREDICTION_BATCH, dim=1)]
        return torch.cat(logits).softmax(-1).float().cpu().numpy()


@dataclass(frozen=True)
class Untrained:
    """The strong model's zero-shot answers."""

    template: int
    swap: bool

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        return prior(split, self.template, self.swap)


@dataclass(frozen=True)
class Shifted:
    """Another student with `bias` added to its logit of class 1."""

    base: Student
    bias: float

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        first, second = self.base.probabilities(split, size, prior).astype(np.float64).clip(1e-12, 1).T
        one = 1 / (1 + np.exp(-(np.log(second) - np.log(first) + self.bias)))
        return np.stack([1 - one, one], 1).astype(np.float32)


@dataclass(frozen=True)
class Ensemble:
    """The weighted mean of its members' probabilities."""

    members: tuple[Student, ...]
    weights: tuple[float, ...]

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        mixed = [
            weight * member.probabilities(split, size, prior).astype(np.float64)
            for weight, member in zip(self.weights, self.members, strict=True)
        ]
        return (reduce(np.add, mixed) / sum(self.weights)).astype(np.float32)
