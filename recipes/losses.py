"""The named losses, as values and as slopes written out by hand. One definition and one `register` make a
loss: the contract's list, the check of requests, the trainer and CONTRACT.md follow from it.

With two classes a loss depends on the logits through their difference alone, the margin z = logit of class 1
- logit of class 0, and p = P(class 1) = 1 / (1 + exp(-z)). A formula takes `margin` [K, B], `target` [K, B]
(the target's P of class 1, t) and what it reads besides as [K, 1] tensors by name: its options, and
"progress" in [0, 1) where it says so. It returns [K, B]: each example's loss, or its derivative by z. The
gradient by the logits is (-slope, slope). Nothing in a formula crosses slots, the K trainings of one batch.

A recipe's process loads this file for the names and options; torch is not imported for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PROGRESS = "progress"

Read = Mapping[str, "Tensor"]
"""What a formula reads besides margins and targets, [K, 1] each, by name."""
Formula = Callable[["Tensor", "Tensor", Read], "Tensor"]


@dataclass(frozen=True, kw_only=True)
class NamedLoss:
    """A loss that a recipe can ask for by its name.

    `words`: what it is, for CONTRACT.md. `value`, `slope`: each example's loss, and its derivative by the
    margin. `options`: their defaults by name. `reads_progress`: whether its formulas read "progress", the
    share of the training's steps that are done, 0 at the first.
    """

    name: str
    words: str
    value: Formula
    slope: Formula
    options: Mapping[str, float] = field(default_factory=dict)
    reads_progress: bool = False


NAMED: dict[str, NamedLoss] = {}
"""The registered losses by name. `register` is what adds to it."""
LOSSES: dict[str, Mapping[str, float]] = {}
"""The named losses and their options' defaults; `recipes.losses` holds the formulas and their sources."""


def register(loss: NamedLoss) -> NamedLoss:
    """Make a loss known under its name; the loss, for the caller to keep.

    Raises ValueError where another has the name, or where "progress" is an option's name.
    """
    if loss.name in NAMED:
        raise ValueError(f"there is a loss {loss.name!r} already: give this one another name")
    if PROGRESS in loss.options:
        raise ValueError(f"loss {loss.name!r}: {PROGRESS!r} is what reads_progress gives, and no option")
    NAMED[loss.name] = loss
    LOSSES[loss.name] = loss.options
    return loss


def unregister(name: str) -> None:
    """Take a loss back, for another of its name. Raises KeyError where there is none."""
    del NAMED[name], LOSSES[name]


def probability(margin: Tensor) -> Tensor:
    """1 / (1 + exp(-z)).

    Not `sigmoid`, which rounds otherwise in the remainder of a vectorised loop: its place would depend on K.
    """
    return margin.neg().exp_().add_(1).reciprocal_()


def _log_probabilities(margin: Tensor) -> tuple[Tensor, Tensor]:
    """log P of class 0 and of class 1."""
    rest = margin.abs().neg_().exp_().log1p_()
    return -(margin.clamp_min(0) + rest), margin.clamp_max(0) - rest


def cross_entropy(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """-sum_c t_c log p_c."""
    zero, one = _log_probabilities(margin)
    return -(target * one + (1 - target) * zero)


def _cross_entropy_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    return probability(margin).sub_(target)


register(
    NamedLoss(
        name="cross_entropy",
        words="- sum t log p.",
        value=cross_entropy,
        slope=_cross_entropy_slope,
    )
)


def _confident_target(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    strength = read["strength"] * (read["progress"] / read["warmup"].clamp_min(1e-9)).clamp(max=1.0)
    own = (margin > margin.median(dim=-1, keepdim=True).values).to(margin.dtype)
    return (1 - strength) * target + strength * own


def log_confidence(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """(1 - a) CE(p, t) + a CE(p, p hardened at the batch's median), `a` rising linearly to `strength` over
    `warmup` of the steps.

    The auxiliary confidence loss of Burns et al. 2023, "Weak-to-Strong Generalization", section 4.3 and
    appendix A.4. As cross-entropy is linear in its target, it is that of a mixed one.
    """
    return cross_entropy(margin, _confident_target(margin, target, read), {})


def _log_confidence_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    return _cross_entropy_slope(margin, _confident_target(margin, target, read), {})


register(
    NamedLoss(
        name="log_confidence",
        words=(
            "(1 - a) cross-entropy + a cross-entropy with the student's own answers, hardened at the "
            "batch's median; a rises to `strength` over the first `warmup` of the steps (Burns et al. "
            "2023)."
        ),
        value=log_confidence,
        slope=_log_confidence_slope,
        options={"strength": 0.5, "warmup": 0.2},
        reads_progress=True,
    )
)


def _clamped_log_odds(target: Tensor) -> tuple[Tensor, Tensor]:
    return (1 - target).clamp(1e-3, 1 - 1e-3).log(), target.clamp(1e-3, 1 - 1e-3).log()


def reverse_kl(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """KL(p || t) = sum_c p_c (log p_c - log t_c): mode seeking. Targets are kept off 0 by 1e-3.

    Gu et al. 2024, "MiniLLM", eq. 2.
    """
    (zero, one), (target_zero, target_one), p = (
        _log_probabilities(margin),
        _clamped_log_odds(target),
        probability(margin),
    )
    return p * (one - target_one) + (1 - p) * (zero - target_zero)


def _reverse_kl_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    target_zero, target_one = _clamped_log_odds(target)
    p = probability(margin)
    return p * (1 - p) * (margin - (target_one - target_zero))


register(
    NamedLoss(
        name="reverse_kl",
        words=(
            "KL(p, t), the other way round: settles on a mode of soft targets instead of covering them "
            "(Gu et al. 2024). Of use with soft targets only."
        ),
        value=reverse_kl,
        slope=_reverse_kl_slope,
    )
)


def _inside(margin: Tensor, read: Read) -> Tensor:
    confidence = probability(margin.abs())
    return (confidence >= read["low"]) & (confidence <= read["high"])


def confidence_window(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """Cross-entropy on examples whose largest predicted probability lies in [`low`, `high`]; the others have
    no loss at this step.
    """
    return cross_entropy(margin, target, {}) * _inside(margin, read)


def _confidence_window_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    return _cross_entropy_slope(margin, target, {}) * _inside(margin, read)


register(
    NamedLoss(
        name="confidence_window",
        words=(
            "Cross-entropy on rows whose largest predicted probability lies in [`low`, `high`], nothing "
            "on the others."
        ),
        value=confidence_window,
        slope=_confidence_window_slope,
        options={"low": 0.0, "high": 0.95},
    )
)


def _floored_logs(target: Tensor) -> tuple[Tensor, Tensor]:
    return ((1 - target).clamp_min(1e-9).log().clamp_min(-4.0), target.clamp_min(1e-9).log().clamp_min(-4.0))


def symmetric_cross_entropy(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """`alpha` CE(p, t) + `beta` CE(t, p) with log 0 := -4.

    Wang et al. 2019, "Symmetric Cross Entropy for Robust Learning", eq. 7.
    """
    p, (zero, one) = probability(margin), _floored_logs(target)
    return read["alpha"] * cross_entropy(margin, target, {}) - read["beta"] * (p * one + (1 - p) * zero)


def _symmetric_cross_entropy_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    p, (zero, one) = probability(margin), _floored_logs(target)
    return read["alpha"] * (p - target) - read["beta"] * (p * (1 - p) * (one - zero))


register(
    NamedLoss(
        name="symmetric_cross_entropy",
        words=(
            "`alpha` cross-entropy + `beta` reverse cross-entropy (Wang et al. 2019): robust to wrong labels."
        ),
        value=symmetric_cross_entropy,
        slope=_symmetric_cross_entropy_slope,
        options={"alpha": 1.0, "beta": 1.0},
    )
)


def generalised_cross_entropy(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """sum_c t_c (1 - p_c^q) / q.

    Zhang and Sabuncu 2018, "Generalized Cross Entropy Loss", eq. 6; q -> 0 is cross-entropy.
    """
    q, (zero, one) = read["q"].clamp_min(1e-3), _log_probabilities(margin)
    return (target * (1 - (q * one).exp()) + (1 - target) * (1 - (q * zero).exp())) / q


def _generalised_cross_entropy_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    q, (zero, one) = read["q"].clamp_min(1e-3), _log_probabilities(margin)
    p = probability(margin)
    return (1 - target) * (q * zero).exp() * p - target * (q * one).exp() * (1 - p)


register(
    NamedLoss(
        name="generalised_cross_entropy",
        words=(
            "(1 - p^q) / q: cross-entropy as q goes to 0, mean absolute error at 1 (Zhang and Sabuncu 2018)."
        ),
        value=generalised_cross_entropy,
        slope=_generalised_cross_entropy_slope,
        options={"q": 0.7},
    )
)


def mean_squared(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    """sum_c (p_c - t_c)^2, the Brier score."""
    return 2 * (probability(margin) - target).square()


def _mean_squared_slope(margin: Tensor, target: Tensor, read: Read) -> Tensor:
    p = probability(margin)
    return 4 * (p - target) * (p * (1 - p))


register(
    NamedLoss(
        name="mean_squared",
        words="sum (p - t)^2, the Brier score.",
        value=mean_squared,
        slope=_mean_squared_slope,
    )
)
