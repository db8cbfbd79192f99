"""What a search depends on. Stored once, when it is created; a resumed search has no settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from evaluator import kinds
from evo_aar.errors import UsageError
from evo_aar.search.allocation import ALLOCATIONS

OPERATORS = ("offline", "agents")
_ADDED = "added"


def _added(default: Any) -> Any:
    """A setting of a later version, whose default is what earlier versions did.

    With its default it is left out of the store, so that a search has one record in every version.
    """
    return field(default=default, metadata={_ADDED: True})


def require_student(student: str | None) -> None:
    """Raises `UsageError` for a kind of student that nobody registered; None is the testbed's own."""
    if student is not None and student not in kinds.names():
        raise UsageError(f"--student {student}: give {' or '.join(kinds.names())}.")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that the outcome of a search is a function of, given its testbed.

    `population`: how many individuals live on an island; `children`: how many are born there in a generation;
    `seeds`: trials per recipe; `race`: whether children that are behind are spared the rest of their trials;
    `migrate_every`: generations between migrations, 0 for none; `final_seeds`: fresh seeds on which the
    finalists are compared; `audit_seeds`: trials in each world in which who is to be crowned is audited, 0
    for no audits; `also`: testbeds on which each generation's elites are evaluated too, logged and never
    selected on.

    `selection`: the scheme by which individuals breed and live (`evo_aar.search.selection`); `topology`:
    along which routes elites migrate (`evo_aar.search.topologies`). `operator`: who makes children, one of
    OPERATORS; `allocation`: how births are dealt out to operators and models. For agents: `models` by name,
    `prices` in dollars a million tokens by model (see `evo_aar.agents.prices`), `tries`: low-fidelity trials
    that an island's agents may spend in a generation, `turns`: replies of a model for one child,
    `reply_tokens`: the longest reply.
    """

    testbed: str
    strong: str | None = None
    weak: str | None = None
    student: str | None = None
    islands: int = 9
    population: int = 4
    children: int = 4
    generations: int = 3
    seeds: int = 3
    race: bool = True
    migrate_every: int = 2
    final_seeds: int = 8
    audit_seeds: int = 3
    seed: int = 0
    also: tuple[str, ...] = ()
    operator: str = "offline"
    allocation: str = "bandit"
    selection: str = _added("lower-bound")
    topology: str = _added("ring")
    models: tuple[str, ...] = ()
    prices: dict[str, dict[str, float]] = field(default_factory=dict)
    tries: int = 8
    turns: int = 24
    reply_tokens: int = 16_000

    def __post_init__(self) -> None:
        for name, low in (
            ("islands", 1),
            ("population", 1),
            ("children", 1),
            ("generations", 0),
            ("seeds", 1),
            ("migrate_every", 0),
            ("final_seeds", 1),
            ("audit_seeds", 0),
            ("seed", 0),
            ("tries", 0),
            ("turns", 1),
            ("reply_tokens", 256),
        ):
            if getattr(self, name) < low:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {low} or more.")
        if self.audit_seeds == 1:
            raise UsageError("--audit-seeds 1: a standard error takes 2 or more; 0 turns audits off.")
        require_student(self.student)
        if self.operator not in OPERATORS:
            raise UsageError(f"--operator {self.operator}: {' or '.join(OPERATORS)}.")
        if self.allocation not in ALLOCATIONS:
            raise UsageError(f"--allocation {self.allocation}: {' or '.join(ALLOCATIONS)}.")

    def to_json(self) -> dict[str, Any]:
        """For the store. What later versions added is left out where it has its default."""
        made = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if not (one.metadata.get(_ADDED) and value == one.default):
                made[one.name] = list(value) if isinstance(value, tuple) else value
        return made

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SearchSettings:
        """The settings that a store holds.

        Raises `UsageError` for a setting that this version doesn't know: without it, this would be another
        search.
        """
        unknown = sorted(set(values) - {one.name for one in fields(cls)})
        if unknown:
            raise UsageError(
                f"this search was begun with settings that this version of evo-aar doesn't know:"
                f" {', '.join(unknown)}. Use the version that began it."
            )
        made: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**made)
