"""Limits on money, tokens and hours that hold with calls in flight: each call reserves the most that it can
cost before it is made.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from evo_aar.agents.prices import Price
from evo_aar.errors import SearchStopped
from population.store import Store

BYTES_PER_TOKEN = 2
"""Fewer than tokens of English and code have, so that a prompt's tokens are overestimated.

What counts in the end is what the reply says.
"""
OVERHEAD_TOKENS = 1_000


class Meter:
    """Counts what is spent, from the store's ledger, and what calls in flight may yet spend. Safe to use from
    several threads.

    `max_usd`, `max_tokens`: of language models, over the whole search, earlier sessions included; `deadline`:
    of `time.monotonic`.
    """

    def __init__(
        self,
        store: Store,
        *,
        max_usd: float | None = None,
        max_tokens: int | None = None,
        deadline: float | None = None,
    ) -> None:
        self._store = store
        self._limits = {"usd": max_usd, "tokens": max_tokens}
        self._deadline = deadline
        self._in_flight = {"usd": 0.0, "tokens": 0.0}
        self._calls = 0
        self._changed = threading.Condition()
        self._stopped: SearchStopped | None = None

    @property
    def calls(self) -> int:
        """Calls in flight."""
        return self._calls

    def stop(self, why: SearchStopped) -> None:
        """Let no further call begin: whoever asks is told `why`."""
        with self._changed:
            self._stopped = self._stopped or why
            self._changed.notify_all()

    @contextmanager
    def call(self, request: Mapping, price: Price) -> Iterator[None]:
        """Around a call, until what it has cost is on the ledger. Waits for calls in flight where the rest
        depends on what they cost.

        Raises `SearchStopped` where the limit leaves no room for it.
        """
        prompt = len(json.dumps(request, ensure_ascii=False).encode()) // BYTES_PER_TOKEN + OVERHEAD_TOKENS
        needed = {"usd": price.most(prompt, request["max_tokens"]), "tokens": prompt + request["max_tokens"]}
        self._reserve(needed)
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                for kind, amount in needed.items():
                    self._in_flight[kind] -= amount
                self._changed.notify_all()

    def _reserve(self, needed: Mapping[str, float]) -> None:
        with self._changed:
            while True:
                if (
                    self._stopped is None
                    and self._deadline is not None
                    and time.monotonic() >= self._deadline
                ):
                    self._stopped = SearchStopped("--max-hours is reached", within_budget=True)
                if self._stopped is not None:
                    raise self._stopped
                over = self._over(needed)
                if over is None:
                    break
                if not self._calls:
                    self._stopped = SearchStopped(over, within_budget=True)
                    self._changed.notify_all()
                    raise self._stopped
                self._changed.wait()
            self._calls += 1
            for kind, amount in needed.items():
                self._in_flight[kind] += amount

    def _over(self, needed: Mapping[str, float]) -> str | None:
        for kind, limit in self._limits.items():
            if limit is None:
                continue
            spent = self._store.ledger.total(kind)
            if spent + self._in_flight[kind] + needed[kind] > limit:
                return (
                    f"--max-{kind} {limit:g} would be passed: {spent:,.4g} are spent, and the next call could"
                    f" cost {needed[kind]:,.4g}"
                )
        return None
