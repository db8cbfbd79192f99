"""When a search was worked on, with what, and how well its recipes were confined. No part of its outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from population.database import Database
from population.jsontext import canonical


@dataclass(frozen=True)
class Stint:
    """A time that a process took the search up.

    `versions`: by package, of what decides numbers; `at`: UTC.
    """

    sandbox: str
    versions: Mapping[str, str] = field(default_factory=dict)
    at: str = ""


class Stints:
    """In the order in which they were begun."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, sandbox: str, versions: Mapping[str, str]) -> None:
        """A process takes the search up, and runs recipes at this level of the sandbox."""
        self._database.append("stints", {"sandbox": str(sandbox), "versions": canonical(dict(versions))})

    def all(self) -> list[Stint]:
        return [
            Stint(row["sandbox"], json.loads(row["versions"]), row["at"])
            for row in self._database.select("stints")
        ]
