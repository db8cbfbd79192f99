"""The runs of the islands and of the search itself: metrics by generation, tables of who lives there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from evo_aar.search.record import GenerationRecord
from evo_aar.tracking.individuals import Life
from evo_aar.tracking.record import (
    FINISHED,
    NOTE_LENGTH,
    RUNNING,
    SEARCH,
    Link,
    Point,
    RunRecord,
    island_key,
    named,
    points,
)
from evo_aar.views.markdown import bullet, escaped, measured, table
from population.behaviour import behaviour, distance
from population.fitness import Fitness
from population.island import Generation

_NOT_VERSIONS = ("testbed_hash", "id")


def varied(lives: Sequence[Life]) -> float | None:
    """The mean behavioural distance over all pairs of an island's inhabitants; None without a pair."""
    # Of the search's seeds alone, which all have from the beginning: so the figure for a past generation
    # never changes.
    known = [found for life in lives if (found := behaviour(life.scores.search)) is not None]
    pairs = [distance(a, b) for number, a in enumerate(known) for b in known[:number]]
    return sum(pairs) / len(pairs) if pairs else None


def island_points(generation: Generation, diversity: Mapping[int, float | None]) -> dict[int, list[Point]]:
    """What a generation adds to the islands' runs: the same names on each, so that they overlay
    on one chart.
    """
    figures = GenerationRecord.of(generation).figures.islands
    names = ("best_pgr", "best_se", "mean_pgr", "born", "failed", "duplicates", "unborn")
    return {
        island.number: points(
            generation.number,
            {
                **{name: getattr(figures.get(island.number), name, None) for name in names},
                "diversity": diversity.get(island.number),
                "inhabitants": len(island.population),
            },
        )
        for island in generation.islands
    }


def search_points(
    generation: Generation, diversity: Mapping[int, float | None], spent: Mapping[str, float]
) -> list[Point]:
    """What a generation adds to the search's run: a section of charts for each kind of figure, a chart for
    each island.
    """
    record = GenerationRecord.of(generation)
    figures = record.figures
    values: dict[str, float | None] = {"best_pgr": figures.best_pgr, "best_se": figures.best_se}
    for number, facts in figures.islands.items():
        for section, name in (
            ("best", "best_pgr"),
            ("mean", "mean_pgr"),
            ("failures", "failed"),
            ("duplicates", "duplicates"),
        ):
            values[f"{section}/island_{number}"] = getattr(facts, name)
    for number, value in diversity.items():
        values[f"diversity/island_{number}"] = value
    for name, value in asdict(figures.diversity).items() if figures.diversity else ():
        values[f"diversity/{name}"] = value
    for arm, tally in record.state.tallies.items():
        for name, value in asdict(tally).items():
            values[f"allocation_{name}/{named(arm)}"] = value
        values[f"allocation_probability/{named(arm)}"] = figures.probabilities.get(arm)
    for name, value in figures.baselines.items():
        values[f"baselines/{name}_accuracy"] = value
    for testbed, scores in figures.also.items():
        known = [score for score in scores.values() if score is not None]
        values[f"also/{named(testbed)}"] = max(known) if known else None
    values |= {f"spent/{kind}": amount for kind, amount in spent.items()}
    return points(generation.number, values)


def island_name(generation: Generation, number: int) -> str:
    return f"island {number} {_direction(generation, number)}".strip()


def island_record(
    number: int, generation: Generation, made: Sequence[Point], lives: Sequence[Life], ended: bool, link: Link
) -> RunRecord:
    """The run of island `number`, nested in the search's; `lives` are its inhabitants, best first."""
    direction = _direction(generation, number)
    best = GenerationRecord.of(generation).state.best.get(number)
    lines = [f"**Island {number}** {escaped(direction)} after generation {generation.number}", ""]
    lines.append(_inhabitants(lives, link) if lives else "Nobody lives here.")
    return RunRecord(
        key=island_key(number),
        kind="island",
        name=island_name(generation, number),
        parent=SEARCH,
        params={"island": str(number), "direction": direction},
        points=tuple(made),
        tags={"island": str(number), "best": best or ""},
        note="\n".join(lines)[:NOTE_LENGTH],
        status=FINISHED if ended else RUNNING,
    )


def search_record(
    *,
    name: str,
    settings: Mapping,
    facts: Mapping,
    sandbox: str,
    generation: Generation,
    made: Sequence[Point],
    baselines: Mapping[str, Fitness],
    best: Sequence[Life],
    final: Sequence[tuple[str, str | None, Fitness | None]],
    artifacts: Mapping[str, str],
    ended: bool,
    link: Link,
) -> RunRecord:
    """The run of the search.

    `best` are the best individuals of the islands; `final` rows of the final table: role, id, fitness.
    """
    number = generation.number
    made = list(made)
    for baseline, fitness in baselines.items():
        made += points(
            number, {f"baseline/{baseline}": fitness.mean, f"baseline/{baseline}_se": fitness.standard_error}
        )
    for role, _, reached in final:
        if reached:
            made += points(
                number,
                {f"final/{named(role)}": fitness.mean, f"final/{named(role)}_se": fitness.standard_error},
            )
    lines = [
        (
            "Evolutionary search over weak-to-strong training recipes on"
            f" **{escaped(str(settings.get('testbed', '')))}**"
        ),
        "",
    ]
    lines.append(
        bullet(
            "state",
            "ended" if ended else f"generation {number} of {settings.get('generations', '?')} is on record",
        )
    )
    lines.append(bullet("sandbox", sandbox))
    lines.append(
        bullet("genealogy", "`lineage.html` among this run's artifacts; `pgr.svg` is PGR by generation")
    )
    if final:
        lines += ["", "On seeds that nothing was selected on:", ""]
        rows = [
            [role, f"[{one}]({link(one)})" if one else "", measured(fitness)] for role, one, fitness in final
        ]
        lines.append(table(["recipe", "individual", "PGR"], rows))
    if best:
        lines += ["", "The best of each island:", "", _inhabitants(best, link)]
    return RunRecord(
        key=SEARCH,
        kind="search",
        name=name,
        params={key: _shown(value) for key, value in settings.items() if value is not None},
        points=tuple(made),
        tags={
            "best": GenerationRecord.of(generation).figures.best or "",
            **{
                f"version.{package}": str(version)
                for package, version in facts.items()
                if package not in _NOT_VERSIONS
            },
            "sandbox": sandbox,
            "testbed_hash": str(facts.get("testbed_hash", "")),
        },
        note="\n".join(lines)[:NOTE_LENGTH],
        artifacts=artifacts,
        status=FINISHED if ended else RUNNING,
    )


def _direction(generation: Generation, number: int) -> str:
    figures = GenerationRecord.of(generation).figures.islands.get(number)
    return figures.direction if figures else ""


def _inhabitants(lives: Sequence[Life], link: Link) -> str:
    rows = [
        [
            f"[{life.individual.id}]({link(life.individual.id)})",
            measured(life.scores.fitness),
            escaped(life.individual.idea),
        ]
        for life in lives
    ]
    return table(["individual", "PGR", "idea"], rows)


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
