"""AdamW, one set of tensors after another in place. Loshchilov and Hutter 2019, algorithm 2."""

from __future__ import annotations

from collections.abc import Sequence

import torch

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def update(
    parameters: Sequence[torch.Tensor],
    gradients: Sequence[torch.Tensor],
    first_moments: Sequence[torch.Tensor],
    second_moments: Sequence[torch.Tensor],
    steps: Sequence[torch.Tensor],
    learning_rate: float,
    weight_decay: float,
) -> None:
    """One step of every tensor, and no memory but theirs. `steps`: a float32 number each, which counts from 1.

    `torch.optim.AdamW(fused=True)` calls the same kernel; it reads and writes each number once.
    """
    torch._fused_adamw_(
        parameters, gradients, first_moments, second_moments, [], steps, lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1],
        weight_decay=weight_decay, eps=EPSILON, amsgrad=False, maximize=False,
    )  # fmt: skip
