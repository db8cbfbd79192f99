"""`evo-aar evolve` and `evo-aar resume`: one search, begun or continued."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Device, Run, Runs, Strong, Student, Weak
from evo_aar.places import default_workers
from evo_aar.settings import SearchSettings

DEFAULTS = SearchSettings(testbed="mini/math")
CORES = default_workers()
Workers = Annotated[int, typer.Option(help="Worker processes, each a whole trainer.")]
MaxTrials = Annotated[
    int | None, typer.Option(min=1, help="Stop cleanly before the generation that would begin past this many trials.")
]
MaxQuestions = Annotated[
    int | None,
    typer.Option(min=1, help="Stop cleanly before the generation that would begin past this many questions to the grader."),
]
MaxHours = Annotated[float | None, typer.Option(help="Stop cleanly before the generation that would begin past this many hours.")]


def evolve(
    islands: Annotated[int, typer.Option(help="Islands, each seeded with one of the nine directions.")] = DEFAULTS.islands,
    testbed: Annotated[
        str, typer.Option(help="mini/chat, mini/math, mini/code, real/film, or a folder of jsonl files.")
    ] = DEFAULTS.testbed,
    population: Annotated[int, typer.Option(help="Individuals that live on an island.")] = DEFAULTS.population,
    children: Annotated[int, typer.Option(help="Births on an island in a generation.")] = DEFAULTS.children,
    generations: Annotated[int, typer.Option(help="Generations after the seed recipes.")] = DEFAULTS.generations,
    seeds: Annotated[int, typer.Option(help="Trials of a recipe, paired by seed across recipes.")] = DEFAULTS.seeds,
    race: Annotated[
        bool, typer.Option(help="Spare children the rest of their seeds once every incumbent of a full island is ahead of them.")
    ] = DEFAULTS.race,
    final_seeds: Annotated[int, typer.Option(help="Fresh seeds on which the finalists are compared.")] = DEFAULTS.final_seeds,
    migrate_every: Annotated[
        int, typer.Option(help="Generations between migrations on the ring; 0 for none.")
    ] = DEFAULTS.migrate_every,
    seed: Annotated[int, typer.Option(help="The search's own seed.")] = DEFAULTS.seed,
    student: Student = None,
    strong: Strong = None,
    weak: Weak = None,
    also: Annotated[
        str, typer.Option(help="Testbeds, by comma, on which each generation's elites are evaluated too; never selected on.")
    ] = "",
    run: Annotated[str | None, typer.Option(help="The run's name; default: the testbed's and a number.")] = None,
    runs: Runs = Path("runs"),
    workers: Workers = CORES,
    max_trials: MaxTrials = None,
    max_questions: MaxQuestions = None,
    max_hours: MaxHours = None,
    device: Device = "cpu",
) -> None:
    """Evolve training recipes on islands, and compare the best with the seed recipes and with vanilla fine-tuning."""
    from evo_aar.session import SearchSession
    from evo_aar.tables import output

    settings = SearchSettings(
        testbed=testbed, strong=strong, weak=weak, student=student, islands=islands, population=population, children=children,
        generations=generations, seeds=seeds, race=race, migrate_every=migrate_every, final_seeds=final_seeds, seed=seed,
        also=tuple(name for name in also.split(",") if name),
    )  # fmt: skip
    with SearchSession.create(settings, runs=runs, name=run, workers=workers, device=device, console=output()) as session:
        session.run(max_trials=max_trials, max_questions=max_questions, max_hours=max_hours)


def resume(
    run: Run,
    runs: Runs = Path("runs"),
    workers: Workers = CORES,
    max_trials: MaxTrials = None,
    max_questions: MaxQuestions = None,
    max_hours: MaxHours = None,
    device: Device = "cpu",
) -> None:
    """Continue a search from its store, wherever it was interrupted."""
    from evo_aar.session import SearchSession
    from evo_aar.tables import output

    with SearchSession.resume(run, runs=runs, workers=workers, device=device, console=output()) as session:
        session.run(max_trials=max_trials, max_questions=max_questions, max_hours=max_hours)


def register(app: typer.Typer) -> None:
    app.command()(evolve)
    app.command()(resume)
