"""The trainer: one strong model, one testbed, and every training in flight as a slot of some fused group."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evaluator import kinds
from evaluator.hidden_states import HiddenStates
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer import memory
from evaluator.trainer.fusion import Fusion
from evaluator.trainer.group import Group
from evaluator.trainer.head import Features, HeadModel
from evaluator.trainer.model import StudentModel
from evaluator.trainer.slot import AskGradient, Slot, Training
from evaluator.trainer.students import Student
from evaluator.trainer.submission import Submission
from evaluator.work import Work


@dataclass(frozen=True)
class _Resident:
    """Whose slot it is, and what it takes in memory."""

    submission: Submission
    bytes: int


class Trainer:
    """Trains and runs students on one testbed. Holds inputs and weak labels; the only labels that it ever
    sees are targets.

    `step` gives every group a turn; a slot's result does not depend on what else is resident.
    `tokens_per_step`: the budget of a fused step; None for the one that is tuned for this machine, 1 for no
    fusing. `memory_bytes`: what all resident slots may take together; None for a share of what is free.
    Neither changes any number.
    """

    def __init__(
        self,
        testbed: Testbed,
        *,
        cache: Path,
        device: str = "cpu",
        tokens_per_step: int | None = None,
        memory_bytes: int | None = None,
    ) -> None:
        torch.set_num_threads(1)  # rounding must not depend on how many cores there are
        torch.set_flush_denormal(True)
        self.testbed = testbed
        self.device = torch.device(device)
        self.states = HiddenStates(testbed, cache, device)
        self._features: dict[tuple, Features] = {}
        self._heads: dict[tuple, HeadModel] = {}
        self._defaults: dict[str, StudentModel] = {}
        self._groups: dict[tuple, Group] = {}
        self._fusion = Fusion(cache, self.device, tokens_per_step)
        self._memory_bytes = memory_bytes
        self._waiting: deque[Submission] = deque()
        self._resident: dict[Slot, _Resident] = {}
        self._refused: list[Submission] = []
        self.work = Work()

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose hidden states are on offer, by their number in the strong model, deepest last."""
        return self.states.layers

    def head(self, layers: tuple[int, ...], hidden_size: int, standardise: bool) -> HeadModel:
        """The head model on these layers (numbers as in `layers`)."""
        key = (layers, standardise)
        if key not in self._features:
            self._features[key] = Features(self.states, layers, standardise, self.device)
        whole = (*key, hidden_size)
        if whole not in self._heads:
            self._heads[whole] = HeadModel(self._features[key], hidden_size, key)
        return self._heads[whole]

    def default(self, kind: str) -> StudentModel:
        """The testbed profile's student of this kind. Raises EvaluatorError where there is no such kind."""
        if kind not in self._defaults:
            self._defaults[kind] = kinds.kind(kind).model(self)
        return self._defaults[kind]

    def submit(
        self,
        training: Training,
        on_done: Callable[[Submission], None] = lambda submission: None,
        ask_gradient: AskGradient | None = None,
        owner: Hashable = None,
    ) -> Submission:
        """Admit a training as soon as its slot has room.

        `on_done` is called from within `step` once it has ended, or has an `error`.
        """
        submission = Submission(training, on_done, ask_gradient, owner)
        self._waiting.append(submission)
        self._admit()
        return submission

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do before an answer from outside arrives."""
        return bool(self._refused) or any(group.busy for group in self._groups.values())

    def step(self) -> None:
        """One fused step of every group."""
        ended, self._refused = self._refused, []
        slots = []
        for key, group in list(self._groups.items()):
            slots += group.step()
            if not group.slots:
                del self._groups[key]
        for slot in slots:
            resident = self._resident.pop(slot, None)
            if resident is not None:
                ended.append(resident.submission)
        if ended or self._waiting:
            self._admit()
        for submission in ended:
            if not submission.cancelled:  # by the end of one of the same recipe's, a moment ago
                submission.on_done(submission)

    def _admit(self) -> None:
        """Make those resident that have room, in the order of their arrival; one always has."""
        for slot in [slot for slot in self._resident if slot.cancelled]:
            del self._resident[slot]
        while self._waiting:
            submission = self._waiting[0]
            if not submission.cancelled:
                training = submission.training
                if self._memory_bytes is None:
                    self._memory_bytes = int(memory.SHARE[self.device.type] * memory.free_bytes(self.device))
                cost = memory.slot_bytes(training) + memory.step_bytes(training)
                taken = sum(resident.bytes for resident in self._resident.values())
                if self._resident and taken + cost > self._memory_bytes:
                    return
                try:
                    slot = submission.begin()
                    self._resident[slot] = _Resident(submission, cost)
                    self._group(training).add(slot)
                except (RuntimeError, MemoryError) as error:
                    if not memory.is_exhausted(error):
                        raise
                    submission.refuse(memory.too_large(training))
                    self._refused.append(submission)
            self._waiting.popleft()

    def _group(self, training: Training) -> Group:
        if training.key not in self._groups:
            self._groups[training.key] = Group(
                lambda resident: self._fusion.most(training, resident), self._count
            )
        return self._groups[training.key]

    def _count(self, slots: Sequence[Slot]) -> None:
        self.work.count(len(slots), len({slot.owner for slot in slots}))

    def probabilities(self, student: Student, split: str) -> np.ndarray:
        """[n, 2] float32 on a split of the testbed."""
        return student.probabilities(split, self.testbed.sizes[split], self.states.prior)
