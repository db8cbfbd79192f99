"""Heads on cached hidden states of the frozen strong model: linear, or with one hidden layer. Backward is
written out by hand.

A head costs a few matrix products a step, so what there is to gain is overhead: K heads are K batches of one
`bmm`.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from evaluator.hidden_states import HiddenStates
from evaluator.trainer.model import LogitGradient, Parameters


class Features:
    """What heads read: concatenated hidden states by split, standardised with the training pool's statistics
    or as they are.

    `mean` and `scale` are what is subtracted and divided by: [d] float32, or 0 and 1.
    """

    def __init__(
        self, states: HiddenStates, layers: tuple[int, ...], standardise: bool, device: torch.device
    ) -> None:
        self._states = states
        self.layers = layers
        self._device = device
        self._by_split: dict[str, torch.Tensor] = {}
        raw = self._read("train")
        self.mean = raw.mean(0, dtype=np.float64).astype(np.float32) if standardise else np.float32(0)
        # A coordinate that never varies carries nothing: it becomes zero, not infinite.
        self.scale = (
            np.maximum(raw.std(0, dtype=np.float64), 1e-6).astype(np.float32)
            if standardise
            else np.float32(1)
        )

    def _read(self, split: str) -> np.ndarray:
        return np.concatenate([self._states.get(split, layer) for layer in self.layers], axis=1)

    def of(self, split: str) -> torch.Tensor:
        """[n, d] float32."""
        if split not in self._by_split:
            values = (self._read(split) - self.mean) / self.scale
            self._by_split[split] = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(
                self._device
            )
        return self._by_split[split]

    @property
    def width(self) -> int:
        return self.of("train").shape[1]


class HeadModel:
    """A `StudentModel`.

    Parameters: `weight_2` [h, 2], `bias_2` [2] and, with a hidden layer, `weight_1` [d, h], `bias_1` [h].
    """

    kind = "head"

    def __init__(self, features: Features, hidden_size: int, key: tuple) -> None:
        self.key: Hashable = ("head", *key, hidden_size)
        self.features = features
        self._hidden_size = hidden_size

    tokens_per_row = 1

    @property
    def bytes_per_row(self) -> int:
        return 4 * (2 * self.features.width + 4 * self._hidden_size + 16)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        width, size = self.features.width, self._hidden_size
        if not size:
            return {"weight_2": (width, 2), "bias_2": (2,)}
        return {"weight_1": (width, size), "bias_1": (size,), "weight_2": (size, 2), "bias_2": (2,)}

    def initial_parameters(self, seed: int) -> Parameters:
        generator = torch.Generator().manual_seed(seed)
        device, shapes = self.features.of("train").device, self.shapes()
        if not self._hidden_size:  # a linear head is convex: it starts at zero
            return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}
        parameters = {}
        for name, shape in shapes.items():
            bound = 1 / math.sqrt(self.features.width if name.endswith("_1") else self._hidden_size)
            parameters[name] = (torch.rand(*shape, generator=generator) * (2 * bound) - bound).to(device)
        return parameters

    def _outputs(
        self, parameters: Parameters, split: str, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inputs [K, B, d], what the last layer reads [K, B, h] and logits [K, B, 2]."""
        features = self.features.of(split)
        inputs = features.index_select(0, rows.reshape(-1)).view(*rows.shape, -1)
        hidden = inputs
        if self._hidden_size:
            hidden = torch.baddbmm(parameters["bias_1"][:, None], inputs, parameters["weight_1"]).relu_()
        # The library multiplies by a matrix of two columns several times faster where these, and not its
        # rows, lie together.
        columns = parameters["weight_2"].mT.contiguous().mT
        return inputs, hidden, torch.bmm(hidden, columns).add_(parameters["bias_2"][:, None])

    def logits(self, parameters: Parameters, split: str, rows: torch.Tensor) -> torch.Tensor:
        return self._outputs(parameters, split, rows)[2]

    def forward(self, parameters: Parameters, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, hidden, logits = self._outputs(parameters, "train", rows)
        return logits, hidden

    def gradients(
        self, parameters: Parameters, rows: torch.Tensor, logit_gradient: LogitGradient
    ) -> Parameters:
        inputs, hidden, logits = self._outputs(parameters, "train", rows)
        d_logits, d_hidden = logit_gradient(logits, hidden)
        gradients = {"weight_2": torch.bmm(d_logits.mT, hidden).mT, "bias_2": d_logits.sum(1)}
        if self._hidden_size:
            back = torch.bmm(d_logits, parameters["weight_2"].mT)
            if d_hidden is not None:
                back.add_(d_hidden)
            back = torch.ops.aten.threshold_backward(back, hidden, 0)  # zero where the hidden unit is
            gradients["weight_1"] = torch.bmm(inputs.mT, back)
            gradients["bias_1"] = back.sum(1)
        return gradients

    def save(self, parameters: Parameters, folder: Path, number: int) -> dict[str, Any]:
        """head-NUMBER.safetensors: `mean`, `scale` [d] of what is read, and the parameters."""
        name = f"head-{number}.safetensors"
        features = self.features
        tensors = {key: value.detach().cpu().contiguous() for key, value in parameters.items()}
        for key, statistic in (("mean", features.mean), ("scale", features.scale)):
            values = np.broadcast_to(statistic, (features.width,))
            tensors[key] = torch.from_numpy(np.array(values, np.float32))
        save_file(tensors, folder / name, metadata={"format": "pt"})
        return {"file": name, "layers": list(features.layers)}
