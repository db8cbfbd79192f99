"""What workers did, for people to look at: how full fused steps were, and where their time went.

No outcome depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

PARTS = ("training", "answering", "starting", "waiting")
"""A worker's time: fused steps; reading and answering other requests; starting recipes' processes; nothing to
do until a recipe asks.
"""


@dataclass
class Work:
    """`steps`: fused steps; `slots` in them all told; `mixed`: steps with slots of more than one recipe;
    `seconds` by part.
    """

    steps: int = 0
    slots: int = 0
    mixed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    def count(self, slots: int, owners: int) -> None:
        """A fused step of this many slots, which train for this many recipes."""
        self.steps += 1
        self.slots += slots
        self.mixed += owners > 1

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """What happens inside is time of that part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start

    def add(self, other: Work) -> None:
        self.steps += other.steps
        self.slots += other.slots
        self.mixed += other.mixed
        for part, seconds in other.seconds.items():
            self.seconds[part] += seconds

    def __str__(self) -> str:
        if not self.steps:
            return "nothing was trained"
        return (
            f"{self.steps:,} fused steps of {self.slots / self.steps:.1f} slots on average; "
            f"{self.mixed / self.steps:.0%} held slots of more than one recipe"
        )
