"""A recipe's own training loop, step by step: one set of parameters, moved by the recipe's orders."""

from __future__ import annotations

import numpy as np
import torch

from evaluator.requests import Refused, float_array
from evaluator.trainer.model import Parameters, StudentModel
from evaluator.trainer.optimisers import UPDATES

FORWARD_ROWS = 1 << 16


class OpenSession:
    """Parameters with AdamW moments, and the rows of the last forward, which `backward` repeats."""

    def __init__(self, model: StudentModel, parameters: Parameters, pool: np.ndarray) -> None:
        self.model = model
        self.parameters = {name: value.clone() for name, value in parameters.items()}
        self._pool = pool
        self._moments = [[torch.zeros_like(value) for value in parameters.values()] for _ in range(2)]
        self._gradients: Parameters | None = None
        self._rows: np.ndarray | None = None
        self._steps = 0

    @property
    def last_rows(self) -> np.ndarray:
        if self._rows is None:
            raise Refused("call forward, with the session's own parameters, before backward")
        return self._rows

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def _stacked(self) -> Parameters:
        return {name: value[None] for name, value in self.parameters.items()}

    def _checked(self, arrays: dict[str, np.ndarray], *, sets: int | None) -> Parameters:
        if set(arrays) != set(self.parameters):
            raise Refused(f"a parameter set has the names {sorted(self.parameters)}, got {sorted(arrays)}")
        first = () if sets is None else (sets,)
        return {
            name: torch.from_numpy(
                float_array(array, (*first, *self.parameters[name].shape), f"parameter {name}")
            ).to(self._device)
            for name, array in arrays.items()
        }

    def forward(self, rows: np.ndarray, given: dict[str, np.ndarray] | None, sets: int) -> np.ndarray:
        """[b, 2] logits of the session's parameters, or [K, b, 2] of the given ones."""
        pool_rows = torch.from_numpy(self._pool[rows]).to(self._device)
        if given is None:
            self._rows = rows
            return self.model.logits(self._stacked(), "train", pool_rows[None])[0].float().cpu().numpy()
        stacked = self._checked(given, sets=sets)
        some = max(1, FORWARD_ROWS // len(rows))
        parts = [
            self.model.logits(
                {name: value[at : at + some] for name, value in stacked.items()},
                "train",
                pool_rows.expand(min(some, sets - at), -1),
            )
            for at in range(0, sets, some)
        ]
        return torch.cat(parts).float().cpu().numpy()

    def backward(self, gradients: np.ndarray) -> dict[str, np.ndarray]:
        rows = torch.from_numpy(self._pool[self.last_rows]).to(self._device)
        given = torch.from_numpy(gradients).to(self._device)[None]
        self._gradients = self.model.gradients(
            self._stacked(), rows[None], lambda logits, hidden: (given, None)
        )
        return {name: value[0].float().cpu().numpy() for name, value in self._gradients.items()}

    def step(self, learning_rate: float, weight_decay: float) -> None:
        if self._gradients is None:
            raise Refused("call backward before step")
        self._steps += 1
        parameters = {
            name: value.clone() for name, value in self.parameters.items()
        }  # a student may hold the old ones
        gradients = [self._gradients[name][0].contiguous() for name in parameters]
        steps = [torch.tensor(float(self._steps), device=self._device) for _ in parameters]
        UPDATES["adamw"](
            list(parameters.values()), gradients, *self._moments, steps, learning_rate, weight_decay
        )
        self.parameters = parameters
        self._gradients = None

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: value.float().cpu().numpy() for name, value in self.parameters.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        self.parameters = self._checked(arrays, sets=None)
