"""The sandbox's levels: what each is made of."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How well recipes are confined on a machine, the best first."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"

    @property
    def bubblewrap(self) -> bool:
        """Namespaces: recipes see a file system of their own, no network, and no process but the server and
        its recipes.
        """
        return self in (Level.A, Level.C)

    @property
    def landlock(self) -> bool:
        """Each recipe reads what is allowed and writes in its own scratch folder only."""
        return self in (Level.A, Level.B)

    @property
    def seccomp(self) -> bool:
        """No process, thread, program or socket can be made, and nobody else signalled."""
        return self is not Level.D

    @property
    def one_server_each(self) -> bool:
        """Without Landlock, recipes of one server could reach into one another's scratch folders."""
        return self is Level.C

    @property
    def words(self) -> str:
        """What it is made of, for people."""
        return {
            Level.A: "bubblewrap, Landlock and seccomp",
            Level.B: "Landlock and seccomp, no namespaces",
            Level.C: "bubblewrap and seccomp, no Landlock; one server for each trial",
            Level.D: "no sandbox: results are untrusted",
        }[self]


def worst(levels: list[Level]) -> Level | None:
    """The weakest of several levels; None for none."""
    return max(levels, default=None)
