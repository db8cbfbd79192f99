"""A fused batch: slots of one structure whose state is one tensor, run in one forward, one backward and one
optimiser update.

The stacked state lives as long as the membership does. What each slot does next is laid out for a window of
steps, so that a step of all slots costs the interpreter little more than a step of one. No operation crosses
slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evaluator.trainer.losses import FusedLosses
from evaluator.trainer.optimisers import UPDATES
from evaluator.trainer.slot import Slot, Step

WINDOW = 64  # steps


@dataclass
class _Window:
    """What every slot reads at its next steps, up to `WINDOW` of them.

    `rows` [K * length, B], `examples` [K * length, 2, B], slot by slot; `begins`: where a slot's step 0 would
    lie in them; `ends`: the step from which on a slot needs another window. `index`: where all slots' next
    steps lie, while they go in step.
    """

    rows: torch.Tensor
    examples: torch.Tensor
    begins: list[int]
    ends: list[int]
    index: torch.Tensor | None = None

    @classmethod
    def of(cls, slots: Sequence[Slot]) -> _Window:
        length = max(min(WINDOW, slot.training.steps - slot.step) for slot in slots)
        first = slots[0]
        rows = first.rows.new_zeros(len(slots), length, *first.rows.shape[1:])
        examples = first.examples.new_zeros(len(slots), length, *first.examples.shape[1:])
        for index, slot in enumerate(slots):
            some = slot.rows[slot.step : slot.step + length]
            rows[index, : len(some)] = some
            examples[index, : len(some)] = slot.examples[slot.step : slot.step + length]
        return cls(
            rows.flatten(0, 1),
            examples.flatten(0, 1),
            [index * length - slot.step for index, slot in enumerate(slots)],
            [slot.step + length for slot in slots],
        )


class FusedBatch:
    """Resident slots; `len` of them. Raises what `StudentModel.gradients` raises, and then has not moved.

    `state` [3, K, width]: the slots' own, stacked, where somebody has that already.
    """

    def __init__(self, slots: Sequence[Slot], state: torch.Tensor | None = None) -> None:
        self._take(list(slots), torch.stack([slot.state for slot in slots], 1) if state is None else state)

    def _take(self, slots: list[Slot], state: torch.Tensor) -> None:
        """Own these slots, whose stacked state is [3, K, width]."""
        self.slots = slots
        self._state = state
        self._layout = slots[0].layout
        self._device = state.device
        self._model = slots[0].training.model
        self._views = self._layout.views(state[0])
        self._parameters, self._first, self._second = (list(part.unbind(0)) for part in state)
        self._gradients = torch.zeros_like(state[0])
        self._gradient_rows = list(self._gradients.unbind(0))
        self._gradient_views = list(self._layout.views(self._gradients).values())
        self._steps = torch.tensor([float(slot.step) for slot in slots], device=self._device)
        self._step_rows = list(self._steps.unbind(0))
        self._totals = torch.tensor([[float(slot.training.steps)] for slot in slots], device=self._device)
        self._losses = self._losses_of(slots)
        self._own_losses = any(slot.ask_gradient is not None for slot in slots)
        self._clips = any(slot.training.clip_norm < math.inf for slot in slots)
        self._alike = len({(slot.training.optimiser, slot.training.weight_decay) for slot in slots}) == 1
        self._all = list(range(len(slots)))
        self._window: _Window | None = None

    def _losses_of(self, slots: Sequence[Slot]) -> FusedLosses:
        return FusedLosses(
            [slot.training.loss for slot in slots],
            [slot.training.loss_options for slot in slots],
            self._device,
        )

    def __len__(self) -> int:
        return len(self.slots)

    # ---- membership

    def join(self, slots: Sequence[Slot]) -> None:
        """Take slots in."""
        added = torch.stack([slot.state for slot in slots], 1)
        self._take([*self.slots, *slots], torch.cat([self._state, added], 1))

    def leave(self, gone: Sequence[Slot]) -> None:
        """Let slots go; each takes its state along."""
        kept = [index for index, slot in enumerate(self.slots) if slot not in gone]
        for index, slot in enumerate(self.slots):
            if slot in gone:
                slot.state = self._state[:, index].clone()
        if kept:
            self._take([self.slots[index] for index in kept], self._state[:, kept])
        else:
            self.slots = []

    def split(self, size: int) -> list[FusedBatch]:
        """The slots in batches of at most `size`, on the memory that they have now.

        This one is no more to be used.
        """
        return [
            FusedBatch(self.slots[start : start + size], self._state[:, start : start + size])
            for start in range(0, len(self.slots), size)
        ]

    # ---- steps

    def advance(self) -> None:
        """One step of every slot that is ready.

        A slot that awaits its recipe's gradient stays where it is.
        """
        active = (
            [index for index, slot in enumerate(self.slots) if slot.ready] if self._own_losses else self._all
        )
        if not active:
            return
        rows, examples = self._next(active)
        targets, shares = examples[:, 0], examples[:, 1]
        slots = self.slots if active is self._all else [self.slots[index] for index in active]
        seen: dict[str, torch.Tensor] = {}

        def logit_gradient(
            logits: torch.Tensor, hidden: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            seen["margin"] = logits[..., 1] - logits[..., 0]
            losses = self._losses_for(active)
            slope = losses.slopes(seen["margin"], targets, lambda: self._progress(active)).mul_(shares)
            return self._with_given(slots, torch.stack([-slope, slope], -1), hidden)

        found = self._model.gradients(self._stacked(active), rows, logit_gradient)
        views = self._gradient_views
        if active is not self._all:
            views = [view[: len(active)] for view in views]
        torch._foreach_copy_(views, [found[name] for name in self._layout.names])
        self._log(active, slots, seen["margin"], targets, shares)
        if self._clips:
            self._clip(slots)
        self._update(active, slots)
        for slot in slots:
            slot.advanced()
        if self._window is not None and self._window.index is not None:
            self._window.index.add_(1)

    def ask(self) -> None:
        """Forward of the slots whose recipe has yet to be asked for its gradient, as one batch; then ask.

        The forward is repeated, identically, once the gradient is there.
        """
        if not self._own_losses:
            return
        unasked = [index for index, slot in enumerate(self.slots) if slot.unasked and not slot.cancelled]
        if not unasked:
            return
        rows, _ = self._next(unasked)
        logits, hidden = self._model.forward(self._stacked(unasked), rows)
        for place, index in enumerate(unasked):
            self.slots[index].ask({"logits": logits[place], "hidden": hidden[place]})

    def _next(self, some: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """What these slots read at their next step: rows [k, B], examples [k, 2, B]."""
        window = self._window
        if window is None or any(self.slots[index].step >= window.ends[index] for index in some):
            window = self._window = _Window.of(self.slots)
        index = window.index if some is self._all else None
        if index is None:
            index = torch.tensor(
                [window.begins[index] + self.slots[index].step for index in some], device=self._device
            )
        window.index = index if some is self._all else None
        return window.rows.index_select(0, index), window.examples.index_select(0, index)

    def _stacked(self, some: list[int]) -> dict[str, torch.Tensor]:
        return self._views if some is self._all else self._layout.views(self._state[0, some])

    def _losses_for(self, some: list[int]) -> FusedLosses:
        return self._losses if some is self._all else self._losses_of([self.slots[index] for index in some])

    def _progress(self, some: list[int]) -> torch.Tensor:
        """[k, 1], from 0 at a slot's first step towards 1."""
        steps = torch.tensor([[float(self.slots[index].step)] for index in some], device=self._device)
        return steps.div_(self._totals if some is self._all else self._totals[some])

    def _with_given(
        self, slots: Sequence[Slot], gradient: torch.Tensor, hidden: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The gradients with those of recipes' own losses in their places."""
        if not self._own_losses:
            return gradient, None
        d_hidden = None
        for place, slot in enumerate(slots):
            if slot.gradient is None:
                continue
            gradient[place] = slot.gradient[0]
            if slot.gradient[1] is not None:
                d_hidden = torch.zeros_like(hidden) if d_hidden is None else d_hidden
                d_hidden[place] = slot.gradient[1]
        return gradient, d_hidden

    def _clip(self, slots: Sequence[Slot]) -> None:
        """Each slot's gradient to its own norm at most. Pascanu et al. 2013, algorithm 1."""
        for row, slot in zip(self._gradient_rows, slots, strict=False):
            if slot.training.clip_norm < math.inf:
                norm = row.square().sum().sqrt().item()
                if norm > slot.training.clip_norm:
                    row.mul_(slot.training.clip_norm / norm)

    def _update(self, active: list[int], slots: Sequence[Slot]) -> None:
        """In one call for all slots that have optimiser, learning rate and weight decay in common."""
        rates = [slot.learning_rates[slot.step] for slot in slots]
        if active is self._all:
            self._steps.add_(1.0)
            if self._alike and rates.count(rates[0]) == len(rates):
                training = slots[0].training
                UPDATES[training.optimiser](
                    self._parameters,
                    self._gradient_rows,
                    self._first,
                    self._second,
                    self._step_rows,
                    rates[0],
                    training.weight_decay,
                )
                return
        else:
            torch._foreach_add_([self._step_rows[index] for index in active], 1.0)
        together: dict[tuple[str, float, float], list[tuple[int, int]]] = {}
        for place, (index, slot) in enumerate(zip(active, slots, strict=True)):
            alike = (slot.training.optimiser, rates[place], slot.training.weight_decay)
            together.setdefault(alike, []).append((place, index))
        for (optimiser, rate, weight_decay), pairs in together.items():
            UPDATES[optimiser](
                [self._parameters[index] for _, index in pairs],
                [self._gradient_rows[place] for place, _ in pairs],
                [self._first[index] for _, index in pairs],
                [self._second[index] for _, index in pairs],
                [self._step_rows[index] for _, index in pairs],
                rate,
                weight_decay,
            )

    def _log(
        self,
        active: list[int],
        slots: Sequence[Slot],
        margin: torch.Tensor,
        targets: torch.Tensor,
        shares: torch.Tensor,
    ) -> None:
        logged = [place for place, slot in enumerate(slots) if slot.step in slot.logged_steps]
        if not logged:
            return
        values = self._losses_for(active).values(margin, targets, lambda: self._progress(active))
        losses = values.mul_(shares)
        for place in logged:
            slot = slots[place]
            agreement = ((margin[place] > 0) == (targets[place] > 0.5)).float().mean().item()
            norm = self._gradient_rows[place].square().sum().sqrt().item()
            slot.history.append(Step(slot.step, losses[place].sum().item(), norm, agreement))
