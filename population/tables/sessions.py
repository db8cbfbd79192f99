"""When a search was worked on, and how well its recipes were confined then. No part of its outcome."""

from __future__ import annotations

from population.database import Database


class Sessions:
    """One row for each time that a process took the search up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, sandbox: str) -> None:
        """A process takes the search up, and runs recipes at this level of the sandbox."""
        self._database.append("sessions", {"sandbox": str(sandbox)})

    def sandboxes(self) -> list[str]:
        """The level of every session, in their order."""
        return [row["sandbox"] for row in self._database.select("sessions")]
