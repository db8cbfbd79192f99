"""One trial's trainings in flight: handed to the trainer, asked about where the loss is the recipe's own, and
answered as they end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from evaluator import requests
from evaluator.bench import Bench
from evaluator.requests import ProtocolBreach, Refused, words
from evaluator.trainer.group import history
from evaluator.trainer.slot import Slot
from evaluator.trainer.students import Trained
from evaluator.trainer.submission import Submission
from recipes.contract import MAX_IN_FLIGHT
from recipes.wire import Message


@dataclass(frozen=True)
class _Question:
    """A gradient that a recipe was asked for, `since` when in monotonic seconds; `width`: of the hidden
    states.
    """

    slot: Slot
    since: float
    width: int


class Trainings:
    """`fail(reason, message)` ends the trial. `history`: of the trainings that have ended."""

    def __init__(self, bench: Bench, fail: Callable[[str, str], None]) -> None:
        self._bench = bench
        self._fail = fail
        self._in_flight: dict[int, Submission] = {}
        self._questions: dict[int, _Question] = {}
        self.history: list[dict[str, Any]] = []

    @property
    def asked_since(self) -> float | None:
        """Since when the trainer has waited longest for a gradient of the recipe's own loss, in monotonic
        seconds.
        """
        return min((question.since for question in self._questions.values()), default=None)

    def forget_after(self, delivered: int) -> None:
        """Keep the history of the trainings that the recipe knows of, those up to request `delivered`: which
        others had ended by now is a matter of timing.
        """
        known = (one for one in self.history if one["request"] <= delivered)
        self.history = sorted(known, key=lambda one: one["request"])

    def cancel(self) -> None:
        """Give up what is in flight."""
        for submission in self._in_flight.values():
            submission.cancel()
        self._in_flight.clear()
        self._questions.clear()

    def train(self, message: Message) -> None:
        """Begin a training. Raises `Refused`, `OverBudget`."""
        bench = self._bench
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            raise Refused(f"{MAX_IN_FLIGHT} trainings in flight at once are the most")
        model = bench.model(message.fields)
        training = requests.training(
            message,
            model=model,
            start=bench.shelf.optional(message.fields.get("start")),
            size=len(bench.pool),
            defaults=bench.trainer.testbed.profile.hyperparameters(model.kind),
            seed=bench.seed(message.number),
        )
        tokens = training.steps * training.batch * float(bench.tokens[training.rows].mean())
        bench.budget.charge_training(model.kind, tokens)
        ask = None if training.loss is not None else partial(self._ask, message.number, training.rows)
        self._in_flight[message.number] = bench.trainer.submit(
            replace(training, rows=bench.pool[training.rows]),
            partial(self._ended, message.number),
            ask,
            bench.request.source_hash,
        )

    def _ended(self, number: int, submission: Submission) -> None:
        del self._in_flight[number]
        if submission.error:
            self._fail("memory", submission.error)
            return
        model = submission.training.model
        self._bench.shelf.keep(number, Trained(model, submission.parameters))
        steps = history(submission)
        self.history.append({"request": number, "student": model.kind, "steps": steps})
        fields = {"history": steps, "budget": self._bench.budget.left}
        self._bench.send(Message("trained", number, fields))

    def _ask(self, number: int, rows: np.ndarray, slot: Slot, seen: dict[str, torch.Tensor]) -> None:
        """`rows` [m]: the training's rows as the recipe counts them."""
        positions = slot.positions[slot.step]
        arrays = {
            "rows": rows[positions],
            "logits": seen["logits"].float().cpu().numpy(),
            "hidden": seen["hidden"].float().cpu().numpy(),
            "targets": slot.training.targets[positions],
            "weights": slot.training.weights[positions],
        }
        self._questions[number] = _Question(slot, time.monotonic(), seen["hidden"].shape[-1])
        self._bench.send(Message("loss", number, {"progress": slot.progress}, arrays))

    def gradient(self, message: Message) -> None:
        """The answer to a `loss`. Raises `ProtocolBreach` where none was asked for."""
        question = self._questions.pop(message.number, None)
        if question is None:
            raise ProtocolBreach("a gradient that nobody asked for")
        batch = question.slot.training.batch
        logits = message.arrays.get("logits", np.zeros(0))
        hidden = message.arrays.get("hidden")
        try:
            logits = requests.float_array(logits, (batch, 2), "the loss's gradient")
            if hidden is not None:
                shape = (batch, question.width)
                hidden = requests.float_array(hidden, shape, "the loss's gradient of the hidden states")
        except Refused as error:
            self._fail("invalid_request", words(error))
            return
        question.slot.give(logits, hidden)
