"""The LoRA student: low-rank adapters on the top blocks of the frozen strong model and a linear head on its
last state.

Adapters sit on every linear layer of the trained blocks, with PEFT's initialisation and scale: A uniform
within 1 / sqrt(in), B zero, alpha = 2 r. The head starts at zero and reads the pooled last state (after the
model's final norm) standardised as the untouched model's and scaled to a fixed norm: before the first step
the student is the linear probe of the deepest layer.

K slots run in one forward and backward over the one model. Slot k's numbers depend on its own rows alone: it
is padded to its own longest row's bucket, slots of other lengths run apart, and no operation crosses slots.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluator.errors import EvaluatorError
from evaluator.trainer import peft_format
from evaluator.trainer.adapters import Factors
from evaluator.trainer.layout import ALIGNMENT
from evaluator.trainer.model import LogitGradient, Parameters
from evaluator.trainer.tokens import TokenisedSplit
from evaluator.trainer.trunk import Trunk

ALPHA_PER_RANK = 2
# Padded tokens of a forward without gradient: of one slot, and of all slots of one fused pass.
PASS_TOKENS = {"cpu": 1024, "cuda": 16384}
FUSED_TOKENS = {"cpu": 4096, "cuda": 65536}


class LoraModel:
    """A `StudentModel`. Parameters: `<layer>.lora_A` [r, in], `<layer>.lora_B` [out, r], `head.weight` [d,
    2], `head.bias` [2].

    `trainable_layers`: how many of the top blocks carry adapters; None for all. Hidden states are what the
    head reads. Raises EvaluatorError for a rank below 1 or more blocks than there are.
    """

    kind = "lora"

    def __init__(self, trunk: Trunk, rank: int, trainable_layers: int | None) -> None:
        layers = trunk.depth if trainable_layers is None else trainable_layers
        if rank < 1:
            raise EvaluatorError(f"LoRA rank {rank} is not at least 1.")
        if not 1 <= layers <= trunk.depth:
            name = trunk.strong.description.name
            raise EvaluatorError(
                f"{name} has {trunk.depth} blocks: trainable_layers is 1 to {trunk.depth}, or None for all,"
                f" not {layers}."
            )
        self.key: Hashable = ("lora", rank, layers)
        self.trunk, self.rank = trunk, rank
        self.scale = float(ALPHA_PER_RANK)
        self._first_block = trunk.depth - layers
        self._shapes = trunk.adaptable(self._first_block)
        if not self._shapes:
            raise EvaluatorError(
                f"{trunk.strong.description.name} has no linear layers in its blocks to put adapters on. Use"
                " head students with it."
            )
        # Products round by where their operands begin within a cache line, so every slot's must begin on one.
        # Empty directions see to it.
        step = math.lcm(
            4, ALIGNMENT // math.gcd(ALIGNMENT, *(size for shape in self._shapes.values() for size in shape))
        )
        self._empty = -rank % step
        self._device = trunk.strong.device
        self._kind = self._device.type if self._device.type in PASS_TOKENS else "cpu"

    @cached_property
    def tokens_per_row(self) -> int:
        split = self.trunk.split("train")
        return split.texts_per_row * split.padded_length(
            np.argsort(split.lengths.max(1))[: len(split.lengths) // 2 + 1]
        )

    @cached_property
    def bytes_per_row(self) -> int:
        # Each adapted layer keeps what it reads, gives and multiplies in between; attention and norms keep
        # about as much again.
        return (
            2 * 4 * self.tokens_per_row * sum(inputs + outputs for inputs, outputs in self._shapes.values())
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        made: dict[str, tuple[int, ...]] = {}
        for name, (inputs, outputs) in self._shapes.items():
            made |= {f"{name}.lora_A": (self.rank, inputs), f"{name}.lora_B": (outputs, self.rank)}
        return made | {"head.weight": (self.trunk.strong.hidden_size, 2), "head.bias": (2,)}

    def initial_parameters(self, seed: int) -> Parameters:
        generator = torch.Generator().manual_seed(seed)
        parameters: Parameters = {}
        for name, shape in self.shapes().items():
            if name.endswith(".lora_A"):
                parameters[name] = (
                    (torch.rand(shape, generator=generator) * 2 - 1) / math.sqrt(shape[1])
                ).to(self._device)
            else:
                parameters[name] = torch.zeros(shape, device=self._device)
        return parameters

    @torch.no_grad()
    def logits(self, parameters: Parameters, split: str, rows: torch.Tensor) -> torch.Tensor:
        tokenised = self.trunk.split(split)
        logits = torch.empty(*rows.shape, 2, device=self._device)
        for columns in self._columns(tokenised, rows):
            some = rows.gather(1, columns)
            for slots, length in self._passes(tokenised, some, FUSED_TOKENS[self._kind]):
                chosen = self._select(parameters, slots, len(rows))
                head_inputs = self._head_inputs(chosen, tokenised, some[slots], length)
                logits[slots[:, None], columns[slots]] = self._head(chosen, head_inputs)
        return logits

    @torch.no_grad()
    def forward(self, parameters: Parameters, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokenised = self.trunk.split("train")
        logits = torch.empty(*rows.shape, 2, device=self._device)
        hidden = torch.empty(*rows.shape, self.trunk.strong.hidden_size, device=self._device)
        for slots, length in self._passes(tokenised, rows):
            chosen = self._select(parameters, slots, len(rows))
            hidden[slots] = self._head_inputs(chosen, tokenised, rows[slots], length)
            logits[slots] = self._head(chosen, hidden[slots])
        return logits, hidden

    def gradients(
        self, parameters: Parameters, rows: torch.Tensor, logit_gradient: LogitGradient
    ) -> Parameters:
        tokenised = self.trunk.split("train")
        logits = torch.empty(*rows.shape, 2, device=self._device)
        hidden = torch.empty(*rows.shape, self.trunk.strong.hidden_size, device=self._device)
        passes = []
        for slots, length in self._passes(tokenised, rows):
            leaves = {
                name: value.requires_grad_()
                for name, value in self._select(parameters, slots, len(rows)).items()
            }
            head_inputs = self._head_inputs(leaves, tokenised, rows[slots], length)
            outputs = self._head(leaves, head_inputs)
            logits[slots], hidden[slots] = outputs.detach(), head_inputs.detach()
            passes.append((slots, leaves, outputs, head_inputs))
        d_logits, d_hidden = logit_gradient(logits, hidden)
        gradients = {name: torch.empty_like(value) for name, value in parameters.items()}
        while passes:
            slots, leaves, outputs, head_inputs = passes.pop()
            ends, given = [outputs], [d_logits[slots]]
            if d_hidden is not None:
                ends, given = [outputs, head_inputs], [d_logits[slots], d_hidden[slots]]
            for name, gradient in zip(
                leaves, torch.autograd.grad(ends, list(leaves.values()), given), strict=True
            ):
                gradients[name][slots] = gradient
        return gradients

    @torch.no_grad()
    def hidden(
        self,
        parameters: Parameters,
        split: str,
        rows: torch.Tensor,
        layer: int,
        template: int = 0,
        swap: bool = False,
    ) -> torch.Tensor:
        """[n, d] float32, on the host: pooled states of a layer (numbered as in `StrongModel`) for one slot's
        parameters and `rows` [n]; a pair's are a difference.
        """
        tokenised = self.trunk.split(split, template, swap)
        stacked = {name: value[None] for name, value in parameters.items()}
        states = torch.empty(len(rows), self.trunk.strong.hidden_size, device=self._device)
        for columns in self._columns(tokenised, rows[None]):
            some = rows[columns]
            length = tokenised.padded_length(some.cpu().numpy())
            states[columns[0]] = self.trunk.hidden(
                tokenised, some, length, self._factors(stacked), self.scale, layer
            )[0].float()
        return states.cpu()

    def save(self, parameters: Parameters, folder: Path, number: int) -> dict[str, Any]:
        """adapter-NUMBER/, as `save_peft` writes it."""
        name = f"adapter-{number}"
        self.save_peft(parameters, folder / name)
        return {"folder": name}

    def save_peft(self, parameters: Parameters, folder: Path | str) -> None:
        """Write one slot's parameters as a PEFT adapter of the strong model, the head beside it: see
        `peft_format`.
        """
        mean, scale = self.trunk.standardisation()
        weight = (parameters["head.weight"] / scale[:, None]).t()
        peft_format.save(
            Path(folder),
            base=self.trunk.strong.description.name,
            causal=self.trunk.strong.causal,
            transposed=self.trunk.transposed,
            rank=self.rank,
            alpha=ALPHA_PER_RANK * self.rank,
            factors={
                self.trunk.full_name(name): (parameters[f"{name}.lora_A"], parameters[f"{name}.lora_B"])
                for name in self._shapes
            },
            head=(weight, parameters["head.bias"] - weight @ mean),
        )

    def _columns(self, split: TokenisedSplit, rows: torch.Tensor) -> Iterator[torch.Tensor]:
        """[K, b] positions into `rows`, each slot's by length, a pass at a time; a slot's cuts depend on its
        own rows alone.
        """
        lengths = split.lengths.max(1)
        order = torch.from_numpy(np.argsort(lengths[rows.cpu().numpy()], axis=1, kind="stable")).to(
            rows.device
        )
        size = max(1, PASS_TOKENS[self._kind] // (split.texts_per_row * int(lengths.max())))
        return iter(order.split(size, dim=1))

    def _passes(
        self, split: TokenisedSplit, rows: torch.Tensor, tokens: int | None = None
    ) -> Iterator[tuple[torch.Tensor, int]]:
        """Slots that run together, as indices, and their common length; at most `tokens` at once, where that
        is given.

        transformers drops a mask that masks nothing, so slots without any padding run apart from those with
        some.
        """
        host = rows.cpu().numpy()
        together: dict[tuple[int, bool], list[int]] = {}
        for slot, own in enumerate(host):
            length = split.padded_length(own)
            together.setdefault((length, int(split.lengths[own].min()) == length), []).append(slot)
        for (length, _), slots in together.items():
            most = (
                len(slots)
                if tokens is None
                else max(1, tokens // (split.texts_per_row * host.shape[1] * length))
            )
            for start in range(0, len(slots), most):
                yield torch.tensor(slots[start : start + most], device=rows.device), length

    def _select(self, parameters: Parameters, slots: torch.Tensor, count: int) -> Parameters:
        whole = len(slots) == count
        return {
            name: value.detach() if whole else value.detach()[slots] for name, value in parameters.items()
        }

    def _factors(self, parameters: Parameters) -> dict[str, Factors]:
        factors = {}
        for name in self._shapes:
            down, up = parameters[f"{name}.lora_A"], parameters[f"{name}.lora_B"]
            if self._empty:
                down, up = (
                    torch.nn.functional.pad(down, (0, 0, 0, self._empty)),
                    torch.nn.functional.pad(up, (0, self._empty)),
                )
            factors[name] = Factors(down, up)
        return factors

    def _head_inputs(
        self, parameters: Parameters, split: TokenisedSplit, rows: torch.Tensor, length: int
    ) -> torch.Tensor:
        mean, scale = self.trunk.standardisation()
        pooled = self.trunk.pooled(
            split, rows, length, self._factors(parameters), self.scale, self._first_block
        )
        return (pooled - mean) / scale

    def _head(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        return torch.baddbmm(parameters["head.bias"][:, None], inputs, parameters["head.weight"])
