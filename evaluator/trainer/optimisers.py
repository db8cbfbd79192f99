"""The optimisers of `recipes.contract.OPTIMISERS`, one step of many tensors in place, by the kernels that
torch.optim's `fused=True` calls.

Each keeps at most two numbers a parameter; a kernel reads and writes each number once and computes no tensor
from another's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensors = list[torch.Tensor]
Update = Callable[[Tensors, Tensors, Tensors, Tensors, Tensors, float, float], None]

BETAS = (0.9, 0.999)
MOMENTUM = 0.9
EPSILON = {"adam": 1e-8, "adagrad": 1e-10}
"""As in torch.optim."""


def _adamw(
    parameters: Tensors,
    gradients: Tensors,
    first: Tensors,
    second: Tensors,
    steps: Tensors,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Loshchilov and Hutter 2019, algorithm 2: the decay is not part of the gradient."""
    torch._fused_adamw_(
        parameters, gradients, first, second, [], steps, lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1],
        weight_decay=weight_decay, eps=EPSILON["adam"], amsgrad=False, maximize=False,
    )  # fmt: skip


def _adam(
    parameters: Tensors,
    gradients: Tensors,
    first: Tensors,
    second: Tensors,
    steps: Tensors,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Kingma and Ba 2015, algorithm 1; the decay is added to the gradient."""
    torch._fused_adam_(
        parameters, gradients, first, second, [], steps, lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1],
        weight_decay=weight_decay, eps=EPSILON["adam"], amsgrad=False, maximize=False,
    )  # fmt: skip


def _sgd(
    parameters: Tensors,
    gradients: Tensors,
    first: Tensors,
    _: Tensors,
    __: Tensors,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Stochastic gradient descent with momentum.

    Sutskever et al. 2013, equations 1 and 2, with the learning rate outside the buffer.
    """
    torch._fused_sgd_(
        parameters, gradients, first, weight_decay=weight_decay, momentum=MOMENTUM, lr=learning_rate,
        dampening=0, nesterov=False, maximize=False, is_first_step=False,
    )  # fmt: skip


def _adagrad(
    parameters: Tensors,
    gradients: Tensors,
    first: Tensors,
    _: Tensors,
    steps: Tensors,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Duchi et al. 2011, figure 1, with the diagonal of G."""
    torch._fused_adagrad_(
        parameters,
        gradients,
        first,
        steps,
        lr=learning_rate,
        lr_decay=0,
        weight_decay=weight_decay,
        eps=EPSILON["adagrad"],
        maximize=False,
    )


UPDATES: dict[str, Update] = {"adamw": _adamw, "adam": _adam, "sgd": _sgd, "adagrad": _adagrad}
"""One step: parameters, gradients, the two numbers a parameter (zeros before the first step), step counters
(a float32 number each, which counts from 1), learning rate, weight decay.
"""
