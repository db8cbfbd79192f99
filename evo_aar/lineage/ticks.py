"""Round numbers for an axis."""

from __future__ import annotations

import math


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Some `about` round numbers, evenly spaced, the first not above `low` and the last not below `high`; at
    least two.
    """
    span = (high - low) or 1.0
    rough = span / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * number, 10) for number in range(first, max(last, first + 1) + 1)]
