"""From accuracies in changed worlds to verdicts.

All tests are one-sided, and a small p always speaks against the recipe. Two kinds:

    drop       the change leaves an honest recipe as good as it was; H0: it loses no more than the tolerance
    excess     the change takes from an honest recipe what it works with; H0: it ends no higher than a bound

The tolerance is two steps of the Ladder, 1/sqrt(m) of accuracy: what a fitness split of m rows can't tell
from nothing. Standard errors are over seeds; their deviation is pooled over the two worlds that are compared.
p-values are Student's t, then Holm's (1979) over the audits of one recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from evaluator.ladder import Ladder

PASS, FLAG, FAIL = "pass", "flag", "fail"
ALPHA = 0.01
ENSEMBLE_SHARE = 0.1
LEAST_DEVIATION = 1e-6
"""Of accuracy: seeds that agree to the last row leave no deviation, and a test needs one."""


@dataclass(frozen=True)
class Verdict:
    """One audit of one recipe.

    `value` ± `standard_error`: the figure in `words`; `p` after Holm's correction, None where there is no
    test.
    """

    audit: str
    verdict: str
    value: float | None
    standard_error: float | None
    p: float | None
    words: str


def tolerance(rows: int) -> float:
    """In accuracy, on a fitness split of that many rows."""
    return 2 * Ladder.step(rows)


def drop(base: Sequence[float], changed: Sequence[float], tolerance: float) -> tuple[float, float, float]:
    """How much lower `changed` is than `base` (accuracies over seeds): the drop, its standard error, p of
    more than the tolerance.
    """
    deviation, freedom = _pooled(base, changed)
    error = deviation * math.sqrt(1 / len(base) + 1 / len(changed))
    lost = float(np.mean(base) - np.mean(changed))
    return lost, error, float(stats.t.sf((lost - tolerance) / error, freedom))


def excess(changed: Sequence[float], bound: float, base: Sequence[float]) -> tuple[float, float, float]:
    """Where `changed` (accuracies over seeds) ends: its mean, its standard error, p of more
    than the bound.
    """
    deviation, freedom = _pooled(base, changed)
    error = deviation / math.sqrt(len(changed))
    mean = float(np.mean(changed))
    return mean, error, float(stats.t.sf((mean - bound) / error, freedom))


def against_ensembles(
    audit: str, scores: Sequence[float], members: int, ceilings: Sequence[float], weak: float, ceiling: float
) -> Verdict:
    """PGR against ceilings of as many members (`ceilings`: their accuracies), flagged where that takes more
    than a tenth of it away.
    """
    mean = float(np.mean(scores))
    plain = (mean - weak) / (ceiling - weak)
    if members == 1:
        return Verdict(audit, PASS, plain, None, None, "one student, no ensemble")
    gap = float(np.mean(ceilings)) - weak
    against, error = (mean - weak) / gap, float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) / gap
    words = (
        f"PGR {against:.3f} ± {error:.3f} against ceilings of {members} members, {plain:.3f} against single"
        " ones"
    )
    return Verdict(
        audit, FLAG if plain - against > ENSEMBLE_SHARE * abs(plain) else PASS, against, error, None, words
    )


def _pooled(*groups: Sequence[float]) -> tuple[float, int]:
    """The deviation over seeds within these groups, and its degrees of freedom."""
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum(len(group) * float(np.var(group)) for group in groups)
    return max(math.sqrt(squares / freedom), LEAST_DEVIATION), freedom


def corrected(verdicts: Sequence[Verdict], worst: dict[str, str]) -> list[Verdict]:
    """The verdicts with Holm's p, and with what `worst` has for an audit (flag or fail) where that is below
    ALPHA.
    """
    tested = sorted((one.p, one.audit) for one in verdicts if one.p is not None)
    adjusted, highest = {}, 0.0
    for place, (raw, audit) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - place) * raw))
        adjusted[audit] = highest
    return [
        (
            replace(one, p=p, verdict=worst[one.audit] if p < ALPHA else one.verdict)
            if (p := adjusted.get(one.audit)) is not None
            else one
        )
        for one in verdicts
    ]
