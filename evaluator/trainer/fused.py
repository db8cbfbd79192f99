"""A fused batch: slots of one structure whose state is one tensor, run in one forward, one backward and one
optimiser update.

The stacked state lives as long as the membership does. What each slot does next is laid out for a window of
steps, so that a step of all slots costs the interpreter little more than a step of one. No operation crosses
slots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from evaluator.trainer.losses import NamedLosses
from evaluator.trainer.optimisers import UPDATES
from evaluator.trainer.slot import Slot, Step

WINDOW = 64  # steps


class FusedBatch:
    """Resident slots; `len` of them. Raises what `StudentModel.gradients` raises, and then has not moved."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        slots = list(slots)
        self._take(slots, torch.stack([slot.state for slot in slots], 1))

    def _take(self, slots: list[Slot], state: torch.Tensor) -> None:
        """Own these slots, whose stacked state is [3, K, width]."""
        self.slots = slots
        self._state = state
        self._layout = slots[0].layout
        self._device = state.device
        self._model = slots[0].training.model
        self._views = self._layout.views(state[0])
        self._rows = [list(part.unbind(0)) for part in state]
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
        self._begins: list[int] = []
        self._ends = [0] * len(slots)
        self._index: torch.Tensor | None = (
            None  # where all slots' next steps lie in the window, while they go in step
        )

    def _losses_of(self, slots: Sequence[Slot]) -> NamedLosses:
        return NamedLosses(
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
        parts = []
        for start in range(0, len(self.slots), size):
            part = object.__new__(FusedBatch)
            part._take(self.slots[start : start + size], self._state[:, start : start + size])
            parts.append(part)
        return parts

    def _fill_window(self) -> None:
        length = max(min(WINDOW, slot.training.steps - slot.step) for slot in self.slots)
        first = self.slots[0]
        self._window_rows = first.rows.new_zeros(len(self.slots), length, *first.rows.shape[1:])
        self._window_examples = first.examples.new_zeros(len(self.slots), length, *first.examples.shape[1:])
        self._begins = [index * length - slot.step for index, slot in enumerate(self.slots)]
        self._ends = [slot.step + length for slot in self.slots]
        for index, slot in enumerate(self.slots):
            some = slot.rows[slot.step : slot.step + length]
            self._window_rows[index, : len(some)] = some
            self._window_examples[index, : len(some)] = slot.examples[slot.step : slot.step + length]
        self._window_rows = self._window_rows.flatten(0, 1)
        self._window_examples = self._window_examples.flatten(0, 1)
        self._index = None

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
            slope = (
                self._losses_for(active).slopes(seen["margin"], targets, self._progress(active)).mul_(shares)
            )
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
            slot.step += 1
            slot.gradient, slot.asked = None, False
        if self._index is not None:
            self._index.add_(1)

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
            slot = self.slots[index]
            slot.asked = True
            slot.ask_gradient(slot, {"logits": logits[place], "hidden": hidden[place]})

    def _next(self, some: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """What these slots read at their next step: rows [k, B], examples [k, 2, B]."""
        if any(self.slots[index].step >= self._ends[index] for index in some):
            self._fill_window()
        index = self._index if some is self._all else None
        if index is None:
            index = torch.tensor(
                [self._begins[index] + self.slots[index].step for index in some], device=self._device
            )
        self._index = index if some is self._all else None
        return self._window_rows.index_select(0, index), self._window_examples.index_select(0, index)

    def _stacked(self, some: list[int]) -> dict[str, torch.Tensor]:
        return self._views if some is self._all else self._layout.views(self._state[0, some])

    def _losses_for(self, some: list[int]) -> NamedLosses:
        return self._losses if some is self._all else self._losses_of([self.slots[index] for index in some])

    def _progress(self, some: list[int]) -> torch.Tensor | None:
        if not self._losses.need_progress:
            return None
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
                first = slots[0].training
                update = UPDATES[first.optimiser]
                update(
                    self._rows[0],
                    self._gradient_rows,
                    *self._rows[1:],
                    self._step_rows,
                    rates[0],
                    first.weight_decay,
                )
                return
        else:
            torch._foreach_add_([self._step_rows[index] for index in active], 1.0)
        together: dict[tuple[str, float, float], list[tuple[int, int]]] = {}
        for place, (index, slot) in enumerate(zip(active, slots, strict=True)):
            together.setdefault(
                (slot.training.optimiser, rates[place], slot.training.weight_decay), []
            ).append((place, index))
        for (optimiser, *rate), pairs in together.items():
            state = [[part[index] for _, index in pairs] for part in (*self._rows, self._step_rows)]
            UPDATES[optimiser](
                state[0], [self._gradient_rows[place] for place, _ in pairs], *state[1:], *rate
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
        losses = self._losses_for(active).values(margin, targets, self._progress(active)).mul_(shares)
        for place in logged:
            slot = slots[place]
            agreement = ((margin[place] > 0) == (targets[place] > 0.5)).float().mean().item()
            norm = self._gradient_rows[place].square().sum().sqrt().item()
            slot.history.append(Step(slot.step, losses[place].sum().item(), norm, agreement))
