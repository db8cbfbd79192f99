"""A training in flight: everything that is its own, so that neighbours can't touch it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from evaluator.trainer.model import Parameters, StudentModel

LOGGED_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, fully specified: no default is left open, and every array was checked.

    `rows` [m] int64 into the training pool; `targets` [m, 2] and `weights` [m] float32 aligned with them; `order` [m] positions or
    None; `loss` a named loss, or None where the recipe's process gives the gradients.
    """

    model: StudentModel
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    order: np.ndarray | None
    loss: str | None
    loss_options: dict[str, float]
    learning_rate: float
    weight_decay: float
    schedule: str
    epochs: float
    batch_size: int
    seed: int
    start: Parameters | None

    @property
    def batch(self) -> int:
        return min(self.batch_size, len(self.rows))

    @property
    def steps(self) -> int:
        """Optimiser steps: enough full batches to see every row `epochs` times, at least one."""
        return max(1, math.ceil(self.epochs * len(self.rows) / self.batch))

    def positions(self) -> np.ndarray:
        """[steps, batch] positions into `rows`. Epochs follow one another without a short last batch."""
        count, needed = len(self.rows), self.steps * self.batch
        epochs = math.ceil(needed / count)
        if self.order is not None:
            sequence = np.tile(self.order, epochs)
        else:
            rng = np.random.default_rng(self.seed)
            sequence = np.concatenate([rng.permutation(count) for _ in range(epochs)])
        return sequence[:needed].reshape(self.steps, self.batch)


def learning_rate_factor(schedule: str, progress: float) -> float:
    """The schedule's factor at `progress` in [0, 1)."""
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0


@dataclass
class Step:
    """One logged step, as recipes and charts get it."""

    step: int
    loss: float
    gradient_norm: float
    agreement: float


@dataclass(eq=False)
class Slot:
    """A training's state: parameters, AdamW moments, step counter, data order, history.

    `ask_gradient(slot, batch)` is called where the recipe's own loss is needed; the slot's next step waits in `gradient`
    until the answer is there.
    """

    training: Training
    on_done: Callable[[Slot], None]
    ask_gradient: Callable[[Slot, dict], None] | None = None
    parameters: Parameters = field(init=False)
    first_moment: Parameters = field(init=False)
    second_moment: Parameters = field(init=False)
    step: int = 0
    gradient: tuple[torch.Tensor, torch.Tensor | None] | None = None
    asked: bool = False
    cancelled: bool = False
    history: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        training = self.training
        fresh = training.start if training.start is not None else training.model.initial_parameters(training.seed)
        self.parameters = {name: value.clone() for name, value in fresh.items()}
        self.first_moment = {name: torch.zeros_like(value) for name, value in fresh.items()}
        self.second_moment = {name: torch.zeros_like(value) for name, value in fresh.items()}
        device = next(iter(fresh.values())).device
        positions = training.positions()
        self.rows = torch.from_numpy(training.rows[positions]).to(device)
        self.targets = torch.from_numpy(training.targets[positions]).to(device)
        self.weights = torch.from_numpy(training.weights[positions]).to(device)
        factors = [learning_rate_factor(training.schedule, step / training.steps) for step in range(training.steps)]
        self.learning_rates = torch.tensor(factors, dtype=torch.float64).mul_(training.learning_rate).float().to(device)
        self.log_every = max(1, training.steps // LOGGED_STEPS)

    @property
    def progress(self) -> float:
        return self.step / self.training.steps

    @property
    def done(self) -> bool:
        return self.step >= self.training.steps

    @property
    def key(self) -> tuple:
        """Slots with equal keys run fused: one structure, one batch size, and the recipe's own losses apart from named ones."""
        return (self.training.model.key, self.training.batch, self.training.loss is None)
