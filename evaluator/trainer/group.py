"""Slots of one structure, run fused: one forward and backward, one optimiser update for all of them at once.

The stacked tensors live as long as the membership does. When a slot comes or goes, the stack is written back and built anew, so
a slot that ends frees its place at once and another takes it.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from evaluator.trainer import adamw, losses
from evaluator.trainer.model import Parameters
from evaluator.trainer.slot import Slot, Step

STATES = ("parameters", "first_moment", "second_moment")


def _stack(slots: list[Slot], state: str) -> Parameters:
    return {name: torch.stack([getattr(slot, state)[name] for slot in slots]) for name in getattr(slots[0], state)}


class Group:
    """All resident slots of one key."""

    def __init__(self) -> None:
        self.slots: list[Slot] = []
        self._members: list[Slot] = []
        self._stacked: dict[str, Parameters] = {}

    def step(self) -> list[Slot]:
        """One fused step of every slot that is ready; those that ended. A slot whose own loss is awaited is asked for and skipped."""
        self.slots = [slot for slot in self.slots if not slot.cancelled]
        ready = [slot for slot in self.slots if slot.ask_gradient is None or slot.gradient is not None]
        waiting = [slot for slot in self.slots if slot.ask_gradient is not None and slot.gradient is None and not slot.asked]
        if ready:
            self._join(ready)
            self._advance(ready)
        if waiting:
            self._ask(waiting)
        ended = [slot for slot in ready if slot.done]
        if ended:
            self._write_back()
            self.slots = [slot for slot in self.slots if not slot.done]
        return ended

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do before an answer from outside arrives."""
        return any(slot.ask_gradient is None or slot.gradient is not None or not slot.asked for slot in self.slots)

    def _join(self, slots: list[Slot]) -> None:
        if slots == self._members:
            return
        self._write_back()
        self._members = list(slots)
        self._stacked = {state: _stack(slots, state) for state in STATES}

    def _write_back(self) -> None:
        for index, slot in enumerate(self._members):
            for state in STATES:
                setattr(slot, state, {name: value[index].clone() for name, value in self._stacked[state].items()})
        self._members = []

    def _advance(self, slots: list[Slot]) -> None:
        parameters = self._stacked["parameters"]
        rows = torch.stack([slot.rows[slot.step] for slot in slots])
        seen: dict[str, torch.Tensor] = {}

        def logit_gradient(logits: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            if slots[0].ask_gradient is None:
                seen["loss"], gradient = self._named_losses(slots, logits)
                seen["logits"] = logits
                return gradient, None
            seen["logits"] = logits
            given = [slot.gradient for slot in slots]
            d_hidden = None
            if any(one[1] is not None for one in given):
                d_hidden = torch.stack([torch.zeros_like(hidden[0]) if one[1] is None else one[1] for one in given])
            return torch.stack([one[0] for one in given]), d_hidden

        model = slots[0].training.model
        gradients = model.gradients(parameters, rows, logit_gradient)
        self._log(slots, gradients, seen)
        device = rows.device
        adamw.update(
            parameters,
            gradients,
            self._stacked["first_moment"],
            self._stacked["second_moment"],
            torch.tensor([slot.step + 1.0 for slot in slots], device=device),
            torch.stack([slot.learning_rates[slot.step] for slot in slots]),
            torch.tensor([slot.training.weight_decay for slot in slots], device=device),
        )
        for slot in slots:
            slot.step += 1
            slot.gradient, slot.asked = None, False

    def _named_losses(self, slots: list[Slot], logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        by_name: dict[str, list[int]] = {}
        for index, slot in enumerate(slots):
            by_name.setdefault(slot.training.loss, []).append(index)
        targets = torch.stack([slot.targets[slot.step] for slot in slots])
        weights = torch.stack([slot.weights[slot.step] for slot in slots])
        loss, gradient = logits.new_empty(len(slots)), torch.empty_like(logits)
        for name, indices in by_name.items():
            some = [slots[index] for index in indices]
            options = {
                option: logits.new_tensor([slot.training.loss_options[option] for slot in some])[:, None]
                for option in some[0].training.loss_options
            }
            progress = logits.new_tensor([slot.progress for slot in some])[:, None]
            loss[indices], gradient[indices] = losses.with_gradient(
                name, logits[indices], targets[indices], weights[indices], progress, options
            )
        return loss, gradient

    def _log(self, slots: list[Slot], gradients: Parameters, seen: dict[str, torch.Tensor]) -> None:
        logged = [
            index for index, slot in enumerate(slots) if slot.step % slot.log_every == 0 or slot.step == slot.training.steps - 1
        ]
        for index in logged:
            slot = slots[index]
            targets = slot.targets[slot.step]
            agreement = (seen["logits"][index].argmax(-1) == targets.argmax(-1)).float().mean().item()
            norm = torch.stack([value[index].square().sum() for value in gradients.values()]).sum().sqrt().item()
            loss = seen["loss"][index].item() if "loss" in seen else float("nan")
            slot.history.append(Step(slot.step, loss, norm, agreement))

    def _ask(self, slots: list[Slot]) -> None:
        """Forward alone, then ask the recipe's process. The forward is repeated, identically, once its gradient is there."""
        for slot in slots:
            stacked = {name: value[None] for name, value in self._current(slot).items()}
            kept: dict[str, torch.Tensor] = {}

            def keep(logits: torch.Tensor, hidden: torch.Tensor, kept: dict = kept) -> tuple[torch.Tensor, None]:
                kept.update(logits=logits[0], hidden=hidden[0])
                return torch.zeros_like(logits), None

            slot.training.model.gradients(stacked, slot.rows[slot.step][None], keep)
            slot.asked = True
            slot.ask_gradient(slot, kept)

    def _current(self, slot: Slot) -> Parameters:
        if slot in self._members:
            index = self._members.index(slot)
            return {name: value[index] for name, value in self._stacked["parameters"].items()}
        return slot.parameters


def history(slot: Slot) -> list[dict]:
    """The slot's logged steps as plain dicts; a loss that the recipe computed itself is unknown here, and None."""
    return [{**asdict(step), "loss": step.loss if step.loss == step.loss else None} for step in slot.history]
