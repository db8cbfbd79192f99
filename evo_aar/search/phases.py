"""The phases of a search: each generation, then the finals.

What a phase decides is a function of how it began.
"""

from __future__ import annotations

FINALS = "finals"


def generation_phase(number: int) -> str:
    """The name of a generation's phase."""
    return f"generation {number}"


def is_by(phase: str, generation: int) -> bool:
    """Whether a phase has ended by the end of a generation."""
    return phase != FINALS and int(phase.removeprefix("generation ")) <= generation
