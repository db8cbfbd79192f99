"""Heads on cached hidden states of the frozen strong model: linear, or with one hidden layer. Backward is written out by hand.

A head costs a few matrix products a step, so what there is to gain is overhead: K heads are K batches of one `bmm`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from evaluator.hidden_states import HiddenStates
from evaluator.trainer.model import LogitGradient, Parameters


class Features:
    """What heads read: concatenated hidden states by split, standardised with the training pool's statistics or as they are.

    `mean` and `scale` are what is subtracted and divided by: [d] float32, or 0 and 1.
    """

    def __init__(self, states: HiddenStates, layers: tuple[int, ...], standardise: bool, device: torch.device) -> None:
        self._states = states
        self.layers = layers
        self._device = device
        self._by_split: dict[str, torch.Tensor] = {}
        raw = self._read("train")
        self.mean = raw.mean(0, dtype=np.float64).astype(np.float32) if standardise else np.float32(0)
        # A coordinate that never varies carries nothing: it becomes zero, not infinite.
        self.scale = np.maximum(raw.std(0, dtype=np.float64), 1e-6).astype(np.float32) if standardise else np.float32(1)

    def _read(self, split: str) -> np.ndarray:
        return np.concatenate([self._states.get(split, layer) for layer in self.layers], axis=1)

    def of(self, split: str) -> torch.Tensor:
        """[n, d] float32."""
        if split not in self._by_split:
            values = (self._read(split) - self.mean) / self.scale
            self._by_split[split] = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self._device)
        return self._by_split[split]

    @property
    def width(self) -> int:
        return self.of("train").shape[1]


class HeadModel:
    """A `StudentModel`. Parameters: `weight_2` [h, 2], `bias_2` [2] and, with a hidden layer, `weight_1` [d, h], `bias_1` [h]."""

    kind = "head"

    def __init__(self, features: Features, hidden_size: int, key: tuple) -> None:
        self.key = ("head", *key, hidden_size)
        self.features = features
        self._hidden_size = hidden_size

    def initial_parameters(self, seed: int) -> Parameters:
        generator = torch.Generator().manual_seed(seed)
        width, device = self.features.width, self.features.of("train").device

        def uniform(fan_in: int, *shape: int) -> torch.Tensor:
            bound = 1 / math.sqrt(fan_in)
            return (torch.rand(*shape, generator=generator) * (2 * bound) - bound).to(device)

        if not self._hidden_size:  # a linear head is convex: it starts at zero
            return {"weight_2": torch.zeros(width, 2, device=device), "bias_2": torch.zeros(2, device=device)}
        size = self._hidden_size
        return {
            "weight_1": uniform(width, width, size),
            "bias_1": uniform(width, size),
            "weight_2": uniform(size, size, 2),
            "bias_2": uniform(size, 2),
        }

    def _hidden(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        if not self._hidden_size:
            return inputs
        return torch.baddbmm(parameters["bias_1"][:, None], inputs, parameters["weight_1"]).relu_()

    def logits(self, parameters: Parameters, split: str, rows: torch.Tensor) -> torch.Tensor:
        hidden = self._hidden(parameters, self.features.of(split)[rows])
        return torch.baddbmm(parameters["bias_2"][:, None], hidden, parameters["weight_2"])

    def gradients(self, parameters: Parameters, rows: torch.Tensor, logit_gradient: LogitGradient) -> Parameters:
        inputs = self.features.of("train")[rows]
        hidden = self._hidden(parameters, inputs)
        logits = torch.baddbmm(parameters["bias_2"][:, None], hidden, parameters["weight_2"])
        d_logits, d_hidden = logit_gradient(logits, hidden)
        gradients = {"weight_2": torch.bmm(hidden.transpose(1, 2), d_logits), "bias_2": d_logits.sum(1)}
        if self._hidden_size:
            back = torch.bmm(d_logits, parameters["weight_2"].transpose(1, 2))
            back = (back if d_hidden is None else back + d_hidden) * (hidden > 0)
            gradients["weight_1"] = torch.bmm(inputs.transpose(1, 2), back)
            gradients["bias_1"] = back.sum(1)
        return gradients
