"""What a search has on record beside its trials, typed: what a generation left, how an individual came about.

The store keeps both as JSON (`Generation.summary`, `Individual.detail`); here alone that JSON is written and
read. What drives later generations is told apart by type from what reports look at: `GenerationState` and
`BirthState` decide who is born and what operators are told, `GenerationFigures` and `BirthStory` decide
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from population.behaviour import Diversity
from population.individual import Individual
from population.island import Generation


@dataclass(frozen=True)
class Tally:
    """What an arm has done: births that it was asked for, PGR gained over the better parent, dollars spent.

    A loss counts as a gain of 0.
    """

    births: int = 0
    gain: float = 0.0
    usd: float = 0.0

    def plus(self, gain: float, usd: float) -> Tally:
        return Tally(self.births + 1, self.gain + max(0.0, gain), self.usd + usd)


@dataclass(frozen=True)
class Try:
    """A trial of an operator's own that it was told of: the recipe's source hash, its seeds, its fidelity."""

    source_hash: str
    seeds: tuple[int, ...]
    fidelity: float

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Try:
        return cls(values["source_hash"], tuple(values["seeds"]), values["fidelity"])

    def to_json(self) -> dict[str, Any]:
        return {"source_hash": self.source_hash, "seeds": list(self.seeds), "fidelity": self.fidelity}


@dataclass(frozen=True)
class EmptyPlace:
    """A place in a generation for which its operator made no child.

    `arm`: the key of operator and model (`allocation.Arm`); `usd`: what the attempt has cost.
    """

    island: int
    child: int
    arm: str
    reason: str
    usd: float
    tries: tuple[Try, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmptyPlace:
        return cls(**{**values, "tries": tuple(map(Try.from_json, values["tries"]))})

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "tries": [one.to_json() for one in self.tries]}


@dataclass(frozen=True)
class GenerationState:
    """What later generations depend on.

    `best`: each island's best individual, for stagnation; `near`: the generation's children that behave
    nearly as a parent, with that parent; `tallies`: of every arm, over all generations so far; `empty`:
    places without a child, whose tries count as questions.
    """

    best: Mapping[int, str | None] = field(default_factory=dict)
    near: Mapping[str, str] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    empty: tuple[EmptyPlace, ...] = ()


@dataclass(frozen=True)
class IslandFigures:
    """An island after a generation, for people: PGR of its best and mean PGR, what was born there and how."""

    direction: str = ""
    best_pgr: float | None = None
    best_se: float | None = None
    mean_pgr: float | None = None
    born: int = 0
    failed: int = 0
    duplicates: int = 0
    unborn: int = 0


@dataclass(frozen=True)
class GenerationFigures:
    """A generation for people; nothing in the search reads it.

    `best`: of all islands; `probabilities`: of every arm, as the generation left them; `baselines`:
    accuracies by name (weak, ceiling, majority); `also`: by testbed and individual, PGR on testbeds that
    nothing is selected on, None where a trial failed.
    """

    islands: Mapping[int, IslandFigures] = field(default_factory=dict)
    best: str | None = None
    best_pgr: float | None = None
    best_se: float | None = None
    diversity: Diversity | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)
    also: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class GenerationRecord:
    """All that a generation leaves beside islands, fates and migrations."""

    state: GenerationState = GenerationState()
    figures: GenerationFigures = GenerationFigures()

    @classmethod
    def of(cls, generation: Generation) -> GenerationRecord:
        """What `generation` has on record. A summary that lacks a part stands for an empty one."""
        values = generation.summary
        islands = {int(number): dict(facts) for number, facts in values.get("islands", {}).items()}
        best = {number: facts.pop("best", None) for number, facts in islands.items()}
        arms = values.get("allocation", {})
        diversity = values.get("diversity")
        return cls(
            GenerationState(
                best=best,
                near=values.get("near", {}),
                tallies={key: Tally(one["births"], one["gain"], one["usd"]) for key, one in arms.items()},
                empty=tuple(map(EmptyPlace.from_json, values.get("unborn", ()))),
            ),
            GenerationFigures(
                islands={number: IslandFigures(**facts) for number, facts in islands.items()},
                best=values.get("best"),
                best_pgr=values.get("best_pgr"),
                best_se=values.get("best_se"),
                diversity=Diversity(**diversity) if diversity else None,
                probabilities={key: one["probability"] for key, one in arms.items()},
                baselines=values.get("baselines", {}),
                also=values.get("also", {}),
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """For `Generation.summary`."""
        state, figures = self.state, self.figures
        return {
            "islands": {
                str(number): {"best": state.best.get(number), **asdict(own)}
                for number, own in figures.islands.items()
            },
            "best": figures.best,
            "best_pgr": figures.best_pgr,
            "best_se": figures.best_se,
            "diversity": None if figures.diversity is None else asdict(figures.diversity),
            "unborn": [one.to_json() for one in state.empty],
            "near": dict(state.near),
            "allocation": {
                key: {**asdict(tally), "probability": figures.probabilities.get(key, 0.0)}
                for key, tally in sorted(state.tallies.items())
            },
            "baselines": dict(figures.baselines),
            "also": {testbed: dict(scores) for testbed, scores in figures.also.items()},
        }


@dataclass(frozen=True)
class BirthState:
    """What later generations depend on: which arm a birth is credited to, its dollars, its tries' questions.

    `tries` is None for operators that try nothing.
    """

    arm: str = ""
    usd: float = 0.0
    tries: tuple[Try, ...] | None = None


@dataclass(frozen=True)
class BirthStory:
    """How an individual came about, for people; nothing in the search reads it.

    `direction`: its island's; `verb`: what the operator did; `kinds`, `changes`: the edits, by kind and in
    plain words; `repairs`: how often it was mended; `notes`: JSON of the operator's own (reasons, model,
    prompt, turns).
    """

    direction: str = ""
    verb: str = ""
    kinds: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    repairs: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BirthRecord:
    """All that an individual has on record about its birth."""

    state: BirthState = BirthState()
    story: BirthStory = BirthStory()

    @classmethod
    def of(cls, individual: Individual) -> BirthRecord:
        values = dict(individual.detail)
        tries = values.pop("tries", None)
        state = BirthState(
            arm=values.pop("arm", ""),
            usd=values.pop("usd", 0.0),
            tries=None if tries is None else tuple(map(Try.from_json, tries)),
        )
        story = BirthStory(
            direction=values.pop("direction", ""),
            verb=values.pop("verb", ""),
            kinds=_texts(values.pop("kinds", ())),
            changes=_texts(values.pop("changes", ())),
            parents=_texts(values.pop("parents", ())),
            repairs=values.pop("repairs", 0),
            notes=values,
        )
        return cls(state, story)

    def to_json(self) -> dict[str, Any]:
        """For `Individual.detail`; of a seed recipe, which no operator made, its direction alone."""
        state, story = self.state, self.story
        if not story.verb:
            return {"direction": story.direction}
        made = {
            **story.notes,
            "verb": story.verb,
            "kinds": list(story.kinds),
            "changes": list(story.changes),
            "parents": list(story.parents),
            "direction": story.direction,
            "repairs": story.repairs,
            "arm": state.arm,
        }
        if state.tries is not None:
            made["tries"] = [one.to_json() for one in state.tries]
        if state.usd:
            made["usd"] = state.usd
        return made


def direction_of(individual: Individual) -> str:
    """The direction of the island where an individual was born; "" where it has none on record."""
    return BirthRecord.of(individual).story.direction


def _texts(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, list | tuple) else ()
