"""Low-rank adapters of K slots on one frozen model: attached for the length of a `with`, leaving the model as
it was.

Hu et al. 2021, "LoRA", section 4.1: y = W x + (alpha / r) B A x. Activations are laid out slot by slot, so
that a layer's input is K equal parts and slot k's factors meet part k alone, by batched matrix product.

On a CPU the frozen product is batched too, the one weight repeated by a stride of zero: a plain product of
all rows at once rounds by their number, a batched one by the rows of one slot. It costs the same. On a GPU
one plain product is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from evaluator.errors import EvaluatorError


@dataclass(frozen=True)
class Factors:
    """One layer's factors of K slots: `down` [K, r, in] (LoRA's A) and `up` [K, out, r] (B)."""

    down: torch.Tensor
    up: torch.Tensor


@dataclass(frozen=True)
class Frozen:
    """A frozen linear layer: `weight` [out, in], in the precision of its products, and `bias`
    [out] or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """[K, n, in] -> [K, n, out]."""
        if inputs.device.type != "cpu":
            return functional.linear(inputs, self.weight, self.bias)
        weight = self.weight.t().expand(len(inputs), -1, -1)
        return torch.bmm(inputs, weight) if self.bias is None else torch.baddbmm(self.bias, inputs, weight)

    def backward(self, gradient: torch.Tensor) -> torch.Tensor:
        """[K, n, out] -> [K, n, in]."""
        if gradient.device.type != "cpu":
            return gradient @ self.weight
        return torch.bmm(gradient, self.weight.expand(len(gradient), -1, -1))


LinearLayer: TypeAlias = nn.Linear | Conv1D


def linear_layers(module: nn.Module) -> dict[str, LinearLayer]:
    """The linear layers below a module by name; GPT-2's Conv1D is one, transposed."""
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | Conv1D)}


def shape(layer: LinearLayer) -> tuple[int, int]:
    """(in, out) of a linear layer."""
    rows, columns = layer.weight.shape
    return (rows, columns) if isinstance(layer, Conv1D) else (columns, rows)


def freeze(layer: LinearLayer, dtype: torch.dtype) -> Frozen:
    weight = layer.weight.t() if isinstance(layer, Conv1D) else layer.weight
    return Frozen(weight.detach().to(dtype), None if layer.bias is None else layer.bias.detach().to(dtype))


class _Adapted(torch.autograd.Function):
    """W x + scale * B A x with the four products of its backward; the frozen weight gets no gradient."""

    @staticmethod
    def forward(
        ctx: Any, inputs: torch.Tensor, down: torch.Tensor, up: torch.Tensor, frozen: Frozen, scale: float
    ) -> torch.Tensor:
        dtype = frozen.weight.dtype
        inputs_, down_, up_ = inputs.to(dtype), down.to(dtype), up.to(dtype)
        low = torch.bmm(inputs_, down_.mT).mul_(scale)
        ctx.save_for_backward(inputs_, down_, up_, low)
        ctx.frozen, ctx.scale, ctx.dtypes = frozen, scale, (inputs.dtype, down.dtype, up.dtype)
        return frozen(inputs_).baddbmm_(low, up_.mT)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs, down, up, low = ctx.saved_tensors
        d_low = torch.bmm(gradient, up).mul_(ctx.scale)
        d_inputs = None
        if ctx.needs_input_grad[0]:
            d_inputs = ctx.frozen.backward(gradient).baddbmm_(d_low, down).to(ctx.dtypes[0])
        d_down, d_up = torch.bmm(d_low.mT, inputs), torch.bmm(gradient.mT, low)
        return d_inputs, d_down.to(ctx.dtypes[1]), d_up.to(ctx.dtypes[2]), None, None


def _forward(
    name: str, frozen: Frozen, factors: Factors | None, slots: int, scale: float, sizes: tuple[int, int]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) not in sizes:
            raise EvaluatorError(
                f"layer {name} got {len(inputs)} rows where {sizes[0]} texts or {sizes[1]} tokens were due:"
                " the strong model doesn't keep its inputs in order there (experts, or shared positions), so"
                " LoRA students can't use it. Use head students with it."
            )
        parts = inputs.reshape(slots, -1, inputs.shape[-1])
        if factors is None:
            out = frozen(parts.to(frozen.weight.dtype))
        else:
            out = _Adapted.apply(parts, factors.down, factors.up, frozen, scale)
        return out.view(*inputs.shape[:-1], -1)

    return forward


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """Call these functions in place of the modules' own `forward` while the context lasts.

    Not for several threads at once.
    """
    own = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module, former in own.items():
            if former is None:
                vars(module).pop("forward", None)
            else:
                vars(module)["forward"] = former


def adapted_forwards(
    layers: Mapping[str, tuple[LinearLayer, Frozen]],
    factors: Mapping[str, Factors],
    slots: int,
    scale: float,
    tokens: torch.Tensor,
) -> dict[nn.Module, Callable]:
    """The forward of every linear layer for `slots` slots whose `tokens` [texts, length] are read, with
    factors where there are any.
    """
    sizes = (len(tokens), tokens.numel())
    return {
        module: _forward(name, frozen, factors.get(name), slots, scale, sizes)
        for name, (module, frozen) in layers.items()
    }
