"""The named losses, for K slots at once, as values and as slopes written out by hand.

With two classes a loss depends on the logits through their difference alone, the margin z = logit of class 1
- logit of class 0, and p = P(class 1) = 1 / (1 + exp(-z)). A function takes `margin` [K, B], `target` [K, B]
(the target's P of class 1, t), `progress` [K, 1] in [0, 1) and its options as [K, 1] tensors by name, and
returns [K, B]: each example's loss, or its derivative by z. The gradient by the logits is (-slope, slope).
Nothing in them crosses slots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Options = dict[str, Tensor]
Function = Callable[[Tensor, Tensor, Tensor, Options], Tensor]


class Loss(NamedTuple):
    """A loss of each example, and its slope by the margin."""

    value: Function
    slope: Function


def probability(margin: Tensor) -> Tensor:
    """1 / (1 + exp(-z)).

    Not `sigmoid`, which rounds otherwise in the remainder of a vectorised loop: its place would depend on K.
    """
    return margin.neg().exp_().add_(1).reciprocal_()


def _log_probabilities(margin: Tensor) -> tuple[Tensor, Tensor]:
    """log P of class 0 and of class 1."""
    rest = margin.abs().neg_().exp_().log1p_()
    return -(margin.clamp_min(0) + rest), margin.clamp_max(0) - rest


def cross_entropy(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """-sum_c t_c log p_c."""
    zero, one = _log_probabilities(margin)
    return -(target * one + (1 - target) * zero)


def _cross_entropy_slope(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    return probability(margin).sub_(target)


def _confident_target(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    strength = options["strength"] * (progress / options["warmup"].clamp_min(1e-9)).clamp(max=1.0)
    own = (margin > margin.median(dim=-1, keepdim=True).values).to(margin.dtype)
    return (1 - strength) * target + strength * own


def log_confidence(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """(1 - a) CE(p, t) + a CE(p, p hardened at the batch's median), `a` rising linearly to `strength` over
    `warmup` of the steps.

    The auxiliary confidence loss of Burns et al. 2023, "Weak-to-Strong Generalization", section 4.3 and
    appendix A.4. As cross-entropy is linear in its target, it is that of a mixed one.
    """
    return cross_entropy(margin, _confident_target(margin, target, progress, options), progress, {})


def _log_confidence_slope(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    return _cross_entropy_slope(margin, _confident_target(margin, target, progress, options), progress, {})


def _clamped_log_odds(target: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - target).clamp(1e-3, 1 - 1e-3).log(), target.clamp(1e-3, 1 - 1e-3).log()


def reverse_kl(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """KL(p || t) = sum_c p_c (log p_c - log t_c): mode seeking. Targets are kept off 0 by 1e-3.

    Gu et al. 2024, "MiniLLM", eq. 2.
    """
    (zero, one), (target_zero, target_one), p = (
        _log_probabilities(margin),
        _clamped_log_odds(target),
        probability(margin),
    )
    return p * (one - target_one) + (1 - p) * (zero - target_zero)


def _reverse_kl_slope(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    target_zero, target_one = _clamped_log_odds(target)
    p = probability(margin)
    return p * (1 - p) * (margin - (target_one - target_zero))


def _inside(margin: Tensor, options: Options) -> Tensor:
    confidence = probability(margin.abs())
    return (confidence >= options["low"]) & (confidence <= options["high"])


def confidence_window(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """Cross-entropy on examples whose largest predicted probability lies in [`low`, `high`]; the others have
    no loss at this step.
    """
    return cross_entropy(margin, target, progress, {}) * _inside(margin, options)


def _confidence_window_slope(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    return _cross_entropy_slope(margin, target, progress, {}) * _inside(margin, options)


def _floored_logs(target: Tensor) -> tuple[Tensor, Tensor]:
    return ((1 - target).clamp_min(1e-9).log().clamp_min(-4.0), target.clamp_min(1e-9).log().clamp_min(-4.0))


def symmetric_cross_entropy(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """`alpha` CE(p, t) + `beta` CE(t, p) with log 0 := -4.

    Wang et al. 2019, "Symmetric Cross Entropy for Robust Learning", eq. 7.
    """
    p, (zero, one) = probability(margin), _floored_logs(target)
    return options["alpha"] * cross_entropy(margin, target, progress, {}) - options["beta"] * (
        p * one + (1 - p) * zero
    )


def _symmetric_cross_entropy_slope(
    margin: Tensor, target: Tensor, progress: Tensor, options: Options
) -> Tensor:
    p, (zero, one) = probability(margin), _floored_logs(target)
    return options["alpha"] * (p - target) - options["beta"] * (p * (1 - p) * (one - zero))


def generalised_cross_entropy(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """sum_c t_c (1 - p_c^q) / q.

    Zhang and Sabuncu 2018, "Generalized Cross Entropy Loss", eq. 6; q -> 0 is cross-entropy.
    """
    q, (zero, one) = options["q"].clamp_min(1e-3), _log_probabilities(margin)
    return (target * (1 - (q * one).exp()) + (1 - target) * (1 - (q * zero).exp())) / q


def _generalised_cross_entropy_slope(
    margin: Tensor, target: Tensor, progress: Tensor, options: Options
) -> Tensor:
    q, (zero, one) = options["q"].clamp_min(1e-3), _log_probabilities(margin)
    p = probability(margin)
    return (1 - target) * (q * zero).exp() * p - target * (q * one).exp() * (1 - p)


def mean_squared(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    """sum_c (p_c - t_c)^2, the Brier score."""
    return 2 * (probability(margin) - target).square()


def _mean_squared_slope(margin: Tensor, target: Tensor, progress: Tensor, options: Options) -> Tensor:
    p = probability(margin)
    return 4 * (p - target) * (p * (1 - p))


NAMED: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, _cross_entropy_slope),
    "log_confidence": Loss(log_confidence, _log_confidence_slope),
    "reverse_kl": Loss(reverse_kl, _reverse_kl_slope),
    "confidence_window": Loss(confidence_window, _confidence_window_slope),
    "symmetric_cross_entropy": Loss(symmetric_cross_entropy, _symmetric_cross_entropy_slope),
    "generalised_cross_entropy": Loss(generalised_cross_entropy, _generalised_cross_entropy_slope),
    "mean_squared": Loss(mean_squared, _mean_squared_slope),
}


class NamedLosses:
    """The losses of K slots with their options, by name and by each slot's options."""

    def __init__(
        self, names: list[str | None], options: list[dict[str, float]], device: torch.device
    ) -> None:
        """`names`: None where a slot's loss is the recipe's own; it has no slope here."""
        places: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            if name is not None:
                places.setdefault(name, []).append(index)
        self._parts = []
        self.need_progress = "log_confidence" in places
        """Whether the functions read `progress`; None will do where they don't."""
        for name, some in places.items():
            columns = {
                key: torch.tensor([[options[index][key]] for index in some], device=device)
                for key in options[some[0]]
            }
            whole = len(some) == len(names)
            self._parts.append((NAMED[name], None if whole else torch.tensor(some, device=device), columns))

    def slopes(self, margin: Tensor, target: Tensor, progress: Tensor | None) -> Tensor:
        """[K, B] derivatives of each example's loss by its margin."""
        return self._apply("slope", margin, target, progress)

    def values(self, margin: Tensor, target: Tensor, progress: Tensor | None) -> Tensor:
        """[K, B] losses; NaN in slots whose loss is the recipe's own."""
        return self._apply("value", margin, target, progress)

    def _apply(self, which: str, margin: Tensor, target: Tensor, progress: Tensor | None) -> Tensor:
        made = None
        for loss, some, options in self._parts:
            function = getattr(loss, which)
            if some is None:
                return function(margin, target, progress, options)
            made = torch.full_like(margin, float("nan")) if made is None else made
            made[some] = function(
                margin[some], target[some], None if progress is None else progress[some], options
            )
        return torch.full_like(margin, float("nan")) if made is None else made
