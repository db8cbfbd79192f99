"""The named losses of K slots as one: each slot's own, with its own options, in one call per loss.

`recipes.losses` defines them; nothing here knows any of them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recipes.losses import NAMED, PROGRESS, Formula, NamedLoss

Progress = Callable[[], Tensor]
"""The slots' progress [K, 1], computed only where a loss reads it."""


@dataclass(frozen=True)
class _Part:
    """The slots of one loss: `places` among all slots, None for all; `options` [k, 1] by name."""

    loss: NamedLoss
    places: Tensor | None
    options: dict[str, Tensor]

    def apply(self, formula: Formula, margin: Tensor, target: Tensor, progress: Progress) -> Tensor:
        """[k, B] of the slots concerned, from all slots' margins and targets."""
        places, read = self.places, self.options
        if self.loss.reads_progress:
            now = progress()
            read = {**read, PROGRESS: now if places is None else now[places]}
        if places is None:
            return formula(margin, target, read)
        return formula(margin[places], target[places], read)


class FusedLosses:
    """The losses of K slots, by each slot's name and options.

    `names`: None where a slot's loss is the recipe's own; it has no slope here.
    """

    def __init__(
        self, names: Sequence[str | None], options: Sequence[dict[str, float]], device: torch.device
    ) -> None:
        slots: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            if name is not None:
                slots.setdefault(name, []).append(index)
        self._parts = [
            _Part(
                loss=NAMED[name],
                places=None if len(some) == len(names) else torch.tensor(some, device=device),
                options={
                    option: torch.tensor([[options[index][option]] for index in some], device=device)
                    for option in options[some[0]]
                },
            )
            for name, some in slots.items()
        ]

    def slopes(self, margin: Tensor, target: Tensor, progress: Progress) -> Tensor:
        """[K, B] derivatives of each example's loss by its margin; NaN in slots whose loss is their own."""
        return self._applied(lambda loss: loss.slope, margin, target, progress)

    def values(self, margin: Tensor, target: Tensor, progress: Progress) -> Tensor:
        """[K, B] losses; NaN in slots whose loss is the recipe's own."""
        return self._applied(lambda loss: loss.value, margin, target, progress)

    def _applied(
        self,
        formula_of: Callable[[NamedLoss], Formula],
        margin: Tensor,
        target: Tensor,
        progress: Progress,
    ) -> Tensor:
        if len(self._parts) == 1 and self._parts[0].places is None:
            return self._parts[0].apply(formula_of(self._parts[0].loss), margin, target, progress)
        made = torch.full_like(margin, float("nan"))
        for part in self._parts:
            made[part.places] = part.apply(formula_of(part.loss), margin, target, progress)
        return made
