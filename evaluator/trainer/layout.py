"""Where a structure's parameters lie in one flat row of numbers, so that K slots' are one matrix and an
update is one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evaluator.trainer.model import Parameters

# float32 numbers: every parameter begins on a cache line, in every row, so that products take the same path
ALIGNMENT = 16


@dataclass(frozen=True)
class ParameterLayout:
    """`names`, `shapes` and `starts` of the parameters within a row of `width` numbers; what lies between
    them is zero and stays zero.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    starts: tuple[int, ...]
    width: int

    @classmethod
    def of(cls, parameters: Parameters) -> ParameterLayout:
        """The layout of one slot's parameters."""
        starts, end = [], 0
        for value in parameters.values():
            starts.append(end)
            end += -(-value.numel() // ALIGNMENT) * ALIGNMENT
        return cls(tuple(parameters), tuple(value.shape for value in parameters.values()), tuple(starts), end)

    def views(self, rows: torch.Tensor) -> Parameters:
        """[..., width] as parameters by name, [..., *shape], sharing the memory."""
        leading = rows.shape[:-1]
        return {
            name: rows[..., start : start + shape.numel()].view(*leading, *shape)
            for name, shape, start in zip(self.names, self.shapes, self.starts, strict=True)
        }
