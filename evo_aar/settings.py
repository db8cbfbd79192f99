"""What a search depends on. Stored once, when it is created; a resumed search has no settings of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from evo_aar.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that the outcome of a search is a function of, given its testbed.

    `population`: how many individuals live on an island; `children`: how many are born there in a generation; `seeds`: trials per
    recipe; `race`: whether children that are behind are spared the rest of their trials; `migrate_every`: generations between migrations, 0 for none; `final_seeds`: fresh seeds on which the finalists are
    compared; `also`: testbeds on which each generation's elites are evaluated too, logged and never selected on.
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
    seed: int = 0
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, low in (
            ("islands", 1),
            ("population", 1),
            ("children", 1),
            ("generations", 0),
            ("seeds", 1),
            ("migrate_every", 0),
            ("final_seeds", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < low:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {low} or more.")
        if self.student not in (None, "head", "lora"):
            raise UsageError(f"--student {self.student}: head or lora.")

    def to_json(self) -> dict:
        return {**asdict(self), "also": list(self.also)}

    @classmethod
    def from_json(cls, values: dict) -> SearchSettings:
        known = {field.name for field in fields(cls)}
        return cls(**{name: tuple(value) if name == "also" else value for name, value in values.items() if name in known})
