"""The journal of one child's conversation: each reply is on record, with what it cost, before it is used; on
record, it is never asked for again.

Tools' results are journalled too: what an agent did in the sandbox is repeated neither when a search resumes,
so a replayed conversation is the same to the letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from evo_aar.agents.meter import Meter
from evo_aar.agents.prices import Price, Usage
from evo_aar.agents.provider import Lost, Provider, Rejected, Reply
from evo_aar.errors import SearchStopped
from population.jsontext import digest, plain
from population.store import Store
from population.tables.replies import Turn

TOOLS = "tools"
"""Marks the operator of a row that holds tools' results, not a model's reply."""


class Journal:
    """Replies and results under (individual, operator, attempt, turn).

    `account`: whose expenses these are, for the ledger.
    """

    def __init__(
        self,
        store: Store,
        provider: Provider,
        meter: Meter,
        price: Price,
        *,
        individual: str,
        verb: str,
        attempt: int,
        account: Mapping,
    ) -> None:
        self._store = store
        self._provider = provider
        self._meter = meter
        self._price = price
        self._name = (individual, verb, attempt)
        self._account = {**account, "individual": individual, "operator": f"agent {verb}"}

    def reply(self, turn: int, request: Mapping[str, Any], asked: list) -> dict:
        """The model's reply: {"content", "stop_reason", "model", "usage", "usd", "seconds", "asked"}, or
        {"rejected": why, ...} where it was refused.

        `asked`: what the request says beyond the previous one, kept for whoever reads the journal.
        """
        place = self._turn(turn)
        request_hash = digest(request)
        known = self._store.replies.get(place, request_hash)
        if known is not None:
            return known
        with self._meter.call(request, self._price):
            try:
                reply = self._provider.call(request, self._lost)
            except Rejected as error:
                if turn == 0:  # a server that serves no first request at all is to be seen to
                    raise SearchStopped(f"the model's server answers {error}") from None
                found = {"rejected": str(error), "usd": 0.0, "asked": plain(asked)}
                self._store.replies.record(place, request_hash, found)
                return found
            found = self._journalled(reply, asked)
            with self._store.transaction():
                self._store.replies.record(place, request_hash, found)
                self._pay(reply.usage, {"model": reply.model, "turn": turn})
        return dict(plain(found))

    def results(self, turn: int, calls: list[dict], run: Callable[[], dict]) -> tuple[dict, bool]:
        """What the tools of a turn gave (JSON), and whether that was on record already: `run` runs them where
        it wasn't.
        """
        place = self._turn(turn, TOOLS)
        known = self._store.replies.get(place, digest(calls))
        if known is not None:
            return known, True
        found = run()
        self._store.replies.record(place, digest(calls), found)
        return dict(plain(found)), False

    def _turn(self, number: int, kind: str = "") -> Turn:
        individual, verb, attempt = self._name
        return Turn(individual, f"{verb} {kind}".strip(), attempt, number)

    def _journalled(self, reply: Reply, asked: list) -> dict:
        return {
            "content": reply.content,
            "stop_reason": reply.stop_reason,
            "model": reply.model,
            "usage": asdict(reply.usage),
            "usd": self._price.usd(reply.usage),
            "seconds": round(reply.seconds, 3),
            "asked": plain(asked),
        }

    def _lost(self, lost: Lost) -> None:
        """A stream that broke off is paid for as far as it came, and of no use."""
        with self._store.transaction():
            self._pay(lost.usage, {"lost": lost.reason})

    def _pay(self, usage: Usage, detail: dict) -> None:
        self._store.ledger.add("tokens", usage.total, detail={**asdict(usage), **detail}, **self._account)
        self._store.ledger.add("usd", self._price.usd(usage), detail=detail, **self._account)
