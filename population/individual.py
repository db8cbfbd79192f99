"""Who was born: individuals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from population.errors import PopulationError
from population.jsontext import plain, printable


def individual_id(generation: int, island: int, child: int) -> str:
    """The id of the `child`-th individual born on `island` in `generation`: "g002-i3-c01"."""
    return f"g{generation:03d}-i{island}-c{child:02d}"


@dataclass(frozen=True)
class Individual:
    """One recipe as it was born: where, when, from whom and by which operator. Add it once its source is
    final.

    `source_hash` identifies the recipe (its normalised source); `parents` are ids, the first the one that was
    edited; `idea` is the recipe's own first line; `detail` is JSON: prompt, model, attempts, whatever the
    operator records but times, for a search that is run again bears the same individuals.
    """

    id: str
    island: int
    generation: int
    child: int
    source: str
    source_hash: str
    operator: str
    parents: tuple[str, ...] = ()
    idea: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("island", "generation", "child"):
            _set(self, name, int(getattr(self, name)))
        expected = individual_id(self.generation, self.island, self.child)
        if self.id != expected:
            raise PopulationError(
                f"individual {self.id!r} must be called {expected!r}. Build it with Individual.born."
            )
        if printable(self.source) != self.source:
            raise PopulationError(
                f"individual {self.id}: its source is not UTF-8 text. Refuse such a source before birth."
            )
        _set(self, "parents", tuple(self.parents))
        _set(self, "idea", printable(self.idea))
        _set(self, "detail", plain(self.detail))

    @classmethod
    def born(cls, *, generation: int, island: int, child: int, **fields: Any) -> Individual:
        """An individual with the id that its generation, island and child index give it."""
        identity = individual_id(generation, island, child)
        return cls(id=identity, generation=generation, island=island, child=child, **fields)

    @property
    def rank(self) -> tuple[int, int, int]:
        """(generation, island, child): the order of birth, which does not depend on who finished first."""
        return self.generation, self.island, self.child


def _set(instance: object, name: str, value: Any) -> None:
    object.__setattr__(instance, name, value)
