"""What a kind of student has to offer the trainer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

Parameters = dict[str, torch.Tensor]
"""One slot's parameters by name, or K slots' stacked along a new first dimension."""

LogitGradient = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
"""Given logits [K, B, 2] and hidden states [K, B, d], the gradient of each slot's mean loss with respect to
them (None: zero).
"""


class StudentModel(Protocol):
    """A structure of student. K slots of one structure run as one batch on stacked parameters.

    Slot k's numbers never depend on the other slots: no operation reduces over the slot dimension, and in
    float32 on a CPU with one thread they are bit-identical to those of the slot alone.
    """

    @property
    def kind(self) -> str:
        """The name of its kind, as `evaluator.kinds` has it."""

    @property
    def key(self) -> Hashable:
        """Slots whose models have equal keys run fused."""

    @property
    def tokens_per_row(self) -> int:
        """What a row of a batch counts as in the budget of a fused step; 1 for a head, whose rows are one
        state each.
        """

    @property
    def bytes_per_row(self) -> int:
        """Memory that a step takes for a row of its batch, about, besides the parameters'."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """One slot's parameters' shapes by name."""

    def initial_parameters(self, seed: int) -> Parameters:
        """One slot's fresh parameters, drawn with a generator of this seed."""

    def logits(self, parameters: Parameters, split: str, rows: torch.Tensor) -> torch.Tensor:
        """[K, B, 2] logits of stacked parameters on `rows` [K, B] of a split, without gradient."""

    def forward(self, parameters: Parameters, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [K, B, 2] and what the last linear layer reads, [K, B, d], on `rows` of the training pool,
        without gradient.
        """

    def gradients(
        self, parameters: Parameters, rows: torch.Tensor, logit_gradient: LogitGradient
    ) -> Parameters:
        """Forward on `rows` [K, B] of the training pool, ask `logit_gradient` once, backward: stacked
        gradients by name.
        """

    def save(self, parameters: Parameters, folder: Path, number: int) -> dict[str, Any]:
        """Write one slot's parameters to files of `folder`, and say in JSON what its kind needs to read them
        back (`evaluator.kinds.StudentKind.saved_logits`). `number`: no other student of this kind in the
        folder has it.
        """


@runtime_checkable
class StatefulModel(Protocol):
    """A model whose training changes the strong model's states, so that a student has hidden states of its
    own.
    """

    def hidden(self, parameters: Parameters, split: str, rows: torch.Tensor, layer: int) -> torch.Tensor:
        """[n, d] float32, on the host: pooled states of a layer (numbered as in `StrongModel`) for one slot's
        parameters and `rows` [n] of a split under template 0; a pair's are a difference.
        """
