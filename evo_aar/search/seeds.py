"""Which seeds a search tries recipes on, by purpose. The same purpose has the same seeds for every recipe, so
that trials are paired; no two purposes of a search, and no two searches, share a seed.
"""

from __future__ import annotations

FRESH, FINAL, SEALED, TRY = 1_000, 100_000, 300_000, 999_999
SPAN = 1_000_000


def search_seeds(seed: int, count: int) -> list[int]:
    """Seeds that every recipe of a search is tried on, so that trials are paired."""
    return [seed * SPAN + k for k in range(count)]


def fresh_seeds(seed: int, count: int) -> list[int]:
    """Seeds on which an elite is tried again before it migrates or is crowned."""
    return [seed * SPAN + FRESH + k for k in range(count)]


def final_seeds(seed: int, count: int) -> list[int]:
    """Seeds that nothing was selected on."""
    return [seed * SPAN + FINAL + k for k in range(count)]


def sealed_seeds(seed: int, opening: int, count: int) -> list[int]:
    """Seeds for the `opening`-th opening of the sealed split, which nothing was tried on before."""
    return [seed * SPAN + SEALED + opening * FRESH + k for k in range(count)]


def try_seed(seed: int) -> int:
    """The seed of operators' own trials, which decide nothing."""
    return seed * SPAN + TRY
