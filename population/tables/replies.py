"""The journal of operators' replies: what was paid for is never asked again."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from population.database import Database
from population.errors import StoreConflict
from population.jsontext import canonical


class Turn(NamedTuple):
    """One question of an operator: for which individual, in which attempt at it, which turn of the
    conversation (from 0).
    """

    individual: str
    operator: str
    attempt: int
    turn: int


class Replies:
    """Replies under their turn, each with its request's hash (`population.jsontext.digest` of the request
    makes one).
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, turn: Turn, request_hash: str, reply: Any) -> bool:
        """Journal a reply (JSON) before it is used; False where the same one is there.

        Raises StoreConflict where the turn has another request or reply.
        """
        row = {**turn._asdict(), "request_hash": request_hash, "reply": canonical(reply)}
        return self._database.append_once("replies", row, _name(turn))

    def get(self, turn: Turn, request_hash: str) -> Any | None:
        """The reply journalled under `turn`; None where there is none yet.

        Raises StoreConflict where it answered another request: the search that is being replayed asks
        something else now.
        """
        where = "individual = ? AND operator = ? AND attempt = ? AND turn = ?"
        rows = self._database.select("replies", where, tuple(turn))
        if not rows:
            return None
        if rows[0]["request_hash"] != request_hash:
            raise StoreConflict(
                f"{self._database.path}: {_name(turn)} answers another request ({rows[0]['request_hash']},"
                f" now {request_hash}). Resume with the version, settings and data that wrote the store, or"
                " start a new one."
            )
        return json.loads(rows[0]["reply"])

    def of(self, individual: str) -> list[tuple[Turn, Any, str]]:
        """All that is journalled for an individual, in the order in which it came, with the time of its
        record (UTC, ISO 8601).
        """
        rows = self._database.select("replies", "individual = ?", (individual,))
        return [
            (Turn(*(row[name] for name in Turn._fields)), json.loads(row["reply"]), row["at"]) for row in rows
        ]

    def __len__(self) -> int:
        return self._database.query("SELECT COUNT(*) FROM replies")[0][0]


def _name(turn: Turn) -> str:
    return f"the reply to {turn.operator} for {turn.individual}, attempt {turn.attempt}, turn {turn.turn},"
