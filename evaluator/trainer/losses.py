"""The named losses, for K slots at once.

Each takes `logits` [K, B, 2], `targets` [K, B, 2] (rows that sum to 1), `progress` [K, 1] in [0, 1) and its options as [K, 1]
tensors by name, and returns the loss of each example, [K, B]. Nothing in them crosses slots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

Options = dict[str, Tensor]


def cross_entropy(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """-sum_c t_c log p_c."""
    return -(targets * log_softmax(logits, -1)).sum(-1)


def log_confidence(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """(1 - a) CE(p, t) + a CE(p, p hardened at the batch's median), `a` rising linearly to `strength` over `warmup` of the steps.

    The auxiliary confidence loss of Burns et al. 2023, "Weak-to-Strong Generalization", section 4.3 and appendix A.4.
    """
    strength = options["strength"] * (progress / options["warmup"].clamp_min(1e-9)).clamp(max=1.0)
    margin = (logits[..., 1] - logits[..., 0]).detach()
    own = (margin > margin.median(dim=-1, keepdim=True).values).to(logits.dtype)
    hardened = torch.stack([1 - own, own], -1)
    none: Options = {}
    return (1 - strength) * cross_entropy(logits, targets, progress, none) + strength * cross_entropy(
        logits, hardened, progress, none
    )


def reverse_kl(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """KL(p || t) = sum_c p_c (log p_c - log t_c): mode seeking. Targets are kept off 0 by 1e-3. Gu et al. 2024, "MiniLLM", eq. 2."""
    log_p = log_softmax(logits, -1)
    return (log_p.exp() * (log_p - targets.clamp(1e-3, 1 - 1e-3).log())).sum(-1)


def confidence_window(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """Cross-entropy on examples whose largest predicted probability lies in [`low`, `high`]; the others have no loss at this step."""
    confidence = log_softmax(logits, -1).detach().exp().amax(-1)
    inside = (confidence >= options["low"]) & (confidence <= options["high"])
    return cross_entropy(logits, targets, progress, {}) * inside


def symmetric_cross_entropy(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """`alpha` CE(p, t) + `beta` CE(t, p) with log 0 := -4. Wang et al. 2019, "Symmetric Cross Entropy for Robust Learning", eq. 7."""
    log_p = log_softmax(logits, -1)
    reverse = -(log_p.exp() * targets.clamp_min(1e-9).log().clamp_min(-4.0)).sum(-1)
    return options["alpha"] * cross_entropy(logits, targets, progress, {}) + options["beta"] * reverse


def generalised_cross_entropy(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """sum_c t_c (1 - p_c^q) / q. Zhang and Sabuncu 2018, "Generalized Cross Entropy Loss", eq. 6; q -> 0 is cross-entropy."""
    q = options["q"].clamp_min(1e-3)[..., None]
    return (targets * (1 - (q * log_softmax(logits, -1)).exp()) / q).sum(-1)


def mean_squared(logits: Tensor, targets: Tensor, progress: Tensor, options: Options) -> Tensor:
    """sum_c (p_c - t_c)^2, the Brier score."""
    return (log_softmax(logits, -1).exp() - targets).square().sum(-1)


NAMED: dict[str, Callable[[Tensor, Tensor, Tensor, Options], Tensor]] = {
    function.__name__: function
    for function in (
        cross_entropy,
        log_confidence,
        reverse_kl,
        confidence_window,
        symmetric_cross_entropy,
        generalised_cross_entropy,
        mean_squared,
    )
}


def with_gradient(
    name: str, logits: Tensor, targets: Tensor, weights: Tensor, progress: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """Each slot's weighted mean loss [K], and its gradient with respect to the logits [K, B, 2]."""
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        loss = (NAMED[name](leaf, targets, progress, options) * weights).mean(-1)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    return loss.detach(), gradient
