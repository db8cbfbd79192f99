"""AdamW on stacked parameters: K slots, each with its own step, learning rate and weight decay. Loshchilov and Hutter 2019, algorithm 2."""

from __future__ import annotations

import torch

from evaluator.trainer.model import Parameters

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def update(
    parameters: Parameters,
    gradients: Parameters,
    first_moment: Parameters,
    second_moment: Parameters,
    steps: torch.Tensor,
    learning_rates: torch.Tensor,
    weight_decays: torch.Tensor,
) -> None:
    """One step in place. `steps` [K] counts from 1, float32, as `learning_rates` [K] and `weight_decays` [K]."""
    beta_1, beta_2 = BETAS
    correction_1 = 1 - beta_1**steps
    root_correction_2 = (1 - beta_2**steps).sqrt()
    for name, parameter in parameters.items():
        shape = (-1,) + (1,) * (parameter.dim() - 1)
        gradient = gradients[name]
        first_moment[name].lerp_(gradient, 1 - beta_1)
        second_moment[name].mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        denominator = second_moment[name].sqrt().div_(root_correction_2.view(shape)).add_(EPSILON)
        parameter.mul_((1 - learning_rates * weight_decays).view(shape))
        parameter.sub_(first_moment[name].div(denominator).mul_((learning_rates / correction_1).view(shape)))
