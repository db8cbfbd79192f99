"""A training in flight: everything that is its own, so that neighbours can't touch it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from evaluator.trainer.layout import ParameterLayout
from evaluator.trainer.model import Parameters, StudentModel

LOGGED_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training, fully specified: no default is left open, and every array was checked.

    `rows` [m] int64 into the training pool; `targets` [m, 2] and `weights` [m] float32 aligned with them;
    `order` [m] positions or None; `clip_norm` infinite for none; `loss` a named loss, or None where the
    recipe's process gives the gradients; `optimiser` one of `recipes.contract.OPTIMISERS`.
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
    clip_norm: float = math.inf
    optimiser: str = "adamw"

    @cached_property
    def key(self) -> tuple:
        """Trainings with equal keys may run fused: one structure, one batch size."""
        return (self.model.key, self.batch)

    @cached_property
    def batch(self) -> int:
        return min(self.batch_size, len(self.rows))

    @cached_property
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


AskGradient = Callable[["Slot", dict[str, torch.Tensor]], None]
"""Asks a recipe for the gradient of its own loss at a slot's next step, given "logits" [B, 2] and "hidden"
[B, d].
"""


class Slot:
    """A training that is resident: parameters, the optimiser's two numbers a parameter, step counter, data
    order, history.

    Making one takes the memory that it needs, and raises what torch raises where there is none.

    `owner` is whom it trains for: the recipe. `ask_gradient` is called where the recipe's own loss is needed;
    the slot's next step waits until the answer is given. `state` [3, width] is parameters and those numbers;
    a fused batch keeps it while the slot is part of one. `error` says why it can't be trained: not even its
    own step has room in memory.
    """

    def __init__(
        self, training: Training, ask_gradient: AskGradient | None = None, owner: Hashable = None
    ) -> None:
        self.training = training
        self.ask_gradient = ask_gradient
        self.owner = owner
        self.step = 0
        self.gradient: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.asked = False
        self.cancelled = False
        self.error: str | None = None
        self.history: list[Step] = []
        fresh = (
            training.start if training.start is not None else training.model.initial_parameters(training.seed)
        )
        self.layout = ParameterLayout.of(fresh)
        device = next(iter(fresh.values())).device
        self.state = torch.zeros(3, self.layout.width, device=device)
        for name, view in self.layout.views(self.state[0]).items():
            view.copy_(fresh[name])
        self.positions = positions = training.positions()
        self.rows = torch.from_numpy(training.rows[positions]).to(device)
        """[steps, batch] into the training pool."""
        weights = training.weights / np.float32(training.batch)
        examples = np.stack([training.targets[:, 1], weights.astype(np.float32)], axis=0)
        self.examples = torch.from_numpy(examples[:, positions].transpose(1, 0, 2).copy()).to(device)
        """[steps, 2, batch]: each example's target P of class 1, and its share in the mean loss."""
        self.learning_rates = [
            training.learning_rate * learning_rate_factor(training.schedule, step / training.steps)
            for step in range(training.steps)
        ]
        self.logged_steps = frozenset(
            [*range(0, training.steps, max(1, training.steps // LOGGED_STEPS)), training.steps - 1]
        )

    @property
    def parameters(self) -> Parameters:
        """By name, views of `state`."""
        return self.layout.views(self.state[0])

    @property
    def progress(self) -> float:
        """From 0 at the first step towards 1."""
        return self.step / self.training.steps

    @property
    def done(self) -> bool:
        return self.step >= self.training.steps

    @property
    def ready(self) -> bool:
        """Whether its next step waits for nobody."""
        return self.ask_gradient is None or self.gradient is not None

    @property
    def unasked(self) -> bool:
        """Whether the recipe has yet to be asked for the next step's gradient."""
        return self.ask_gradient is not None and self.gradient is None and not self.asked

    def ask(self, seen: dict[str, torch.Tensor]) -> None:
        """Ask the recipe for the next step's gradient."""
        if self.ask_gradient is not None:
            self.asked = True
            self.ask_gradient(self, seen)

    def give(self, logits: np.ndarray, hidden: np.ndarray | None) -> None:
        """The recipe's answer: the gradient by the logits [B, 2] and by the hidden states [B, d], float32."""
        device = self.state.device
        self.gradient = (
            torch.from_numpy(logits).to(device),
            None if hidden is None else torch.from_numpy(hidden).to(device),
        )

    def advanced(self) -> None:
        """Count a step that was taken."""
        self.step += 1
        self.gradient, self.asked = None, False
