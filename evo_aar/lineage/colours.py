"""Colours: PGR on a scale that is even to the eye and readable to the colour-blind, and a hue for each
island.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Viridis (Smith and van der Walt, 2015) in nine steps, dark to bright.
_VIRIDIS = ("#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#fde725")
# Okabe and Ito (2008), less their yellow, which is faint on white, and with two more.
_ISLANDS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7f7f7f", "#6a3d9a", "#8c6d31")
NO_SCORE = "#ffffff"


def island_colour(number: int) -> str:
    return _ISLANDS[number % len(_ISLANDS)]


@dataclass(frozen=True)
class Scale:
    """PGR from `low` (dark) to `high` (bright); what lies beyond has the end's colour."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Scale:
        """From the lower decile, so that a single disaster doesn't take all contrast from the rest, to the
        best.
        """
        known = sorted(values)
        if not known:
            return cls(0.0, 1.0)
        low, high = known[len(known) // 10], known[-1]
        return cls(low, high) if high > low else cls(low - 0.5, high + 0.5)

    def colour(self, value: float | None) -> str:
        if value is None:
            return NO_SCORE
        place = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0) * (len(_VIRIDIS) - 1)
        lower = min(int(place), len(_VIRIDIS) - 2)
        return _mixed(_VIRIDIS[lower], _VIRIDIS[lower + 1], place - lower)

    def stops(self) -> list[tuple[float, str]]:
        """Offsets in [0, 1] and colours, for a gradient."""
        return [(number / (len(_VIRIDIS) - 1), colour) for number, colour in enumerate(_VIRIDIS)]


def _mixed(a: str, b: str, share: float) -> str:
    channels = (round(int(a[i : i + 2], 16) * (1 - share) + int(b[i : i + 2], 16) * share) for i in (1, 3, 5))
    return "#" + "".join(f"{channel:02x}" for channel in channels)
