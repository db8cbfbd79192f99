"""The trainer: one strong model, one testbed, and every training in flight as a slot of some fused group."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
import torch

from evaluator.hidden_states import HiddenStates
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.group import Group
from evaluator.trainer.head import Features, HeadModel
from evaluator.trainer.model import StudentModel
from evaluator.trainer.slot import Slot, Training
from evaluator.trainer.students import Student


class Trainer:
    """Trains and runs students on one testbed. Holds inputs and weak labels; the only labels that it ever sees are targets.

    `step` advances every group by one fused step; a slot's result does not depend on what else is resident.
    """

    def __init__(self, testbed: Testbed, *, cache: Path, device: str = "cpu") -> None:
        torch.set_num_threads(1)  # rounding must not depend on how many cores there are
        torch.set_flush_denormal(True)
        self.testbed = testbed
        self.device = torch.device(device)
        self.states = HiddenStates(testbed, cache, device)
        self._features: dict[tuple, Features] = {}
        self._models: dict[Hashable, StudentModel] = {}
        self._groups: dict[tuple, Group] = {}

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose hidden states are on offer, by their number in the strong model, deepest last."""
        return self.states.layers

    def head(self, layers: tuple[int, ...], hidden_size: int, standardise: bool) -> StudentModel:
        """The head model on these layers (numbers as in `layers`)."""
        key = (layers, standardise)
        if key not in self._features:
            self._features[key] = Features(self.states, layers, standardise, self.device)
        if (*key, hidden_size) not in self._models:
            self._models[(*key, hidden_size)] = HeadModel(self._features[key], hidden_size, key)
        return self._models[(*key, hidden_size)]

    def default(self, kind: str) -> StudentModel:
        """The testbed profile's student of this kind."""
        profile = self.testbed.profile
        if kind == "head":
            return self.head(tuple(self.states.resolve(layer) for layer in profile.head_layers), profile.hidden_size, True)
        if "lora" not in self._models:
            from evaluator.trainer.lora import LoraModel
            from evaluator.trainer.trunk import Trunk

            self._models["lora"] = LoraModel(Trunk(self.states.strong, self.testbed), profile.rank, profile.trainable_layers)
        return self._models["lora"]

    def submit(
        self,
        training: Training,
        on_done: Callable[[Slot], None],
        ask_gradient: Callable[[Slot, dict], None] | None = None,
    ) -> Slot:
        """Admit a training. `on_done` is called from within `step` once it has ended."""
        slot = Slot(training, on_done, ask_gradient)
        self._groups.setdefault(slot.key, Group()).slots.append(slot)
        return slot

    @property
    def busy(self) -> bool:
        return any(group.busy for group in self._groups.values())

    def step(self) -> None:
        """One fused step of every group."""
        ended: list[Slot] = []
        for key, group in list(self._groups.items()):
            ended += group.step()
            if not group.slots:
                del self._groups[key]
        for slot in ended:
            slot.on_done(slot)

    def probabilities(self, student: Student, split: str) -> np.ndarray:
        """[n, 2] float32 on a split of the testbed."""
        return student.probabilities(split, self.testbed.sizes[split], self.states.prior)
