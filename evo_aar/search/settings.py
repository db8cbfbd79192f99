"""What a search depends on. Stored once, when it is created; a resumed search has no settings of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from evaluator import kinds
from evo_aar.errors import UsageError
from evo_aar.search.allocation import ALLOCATIONS

OPERATORS = ("offline", "agents")


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that the outcome of a search is a function of, given its testbed.

    `population`: how many individuals live on an island; `children`: how many are born there in a generation;
    `seeds`: trials per recipe; `race`: whether children that are behind are spared the rest of their trials;
    `migrate_every`: generations between migrations, 0 for none; `final_seeds`: fresh seeds on which the
    finalists are compared; `audit_seeds`: trials in each world in which who is to be crowned is audited, 0
    for no audits; `also`: testbeds on which each generation's elites are evaluated too, logged and never
    selected on.

    `operator`: who makes children, one of OPERATORS; `allocation`: how births are dealt out to operators and
    models. For agents: `models` by name, `prices` in dollars a million tokens by model (see
    `evo_aar.agents.prices`), `tries`: low-fidelity trials that an island's agents may spend in a
    generation, `turns`: replies of a model for one child, `reply_tokens`: the longest reply.
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
        if self.student is not None and self.student not in kinds.names():
            raise UsageError(f"--student {self.student}: {' or '.join(kinds.names())}.")
        if self.operator not in OPERATORS:
            raise UsageError(f"--operator {self.operator}: {' or '.join(OPERATORS)}.")
        if self.allocation not in ALLOCATIONS:
            raise UsageError(f"--allocation {self.allocation}: {' or '.join(ALLOCATIONS)}.")

    def to_json(self) -> dict:
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict) -> SearchSettings:
        known = {field.name for field in fields(cls)}
        return cls(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
                if name in known
            }
        )
