"""`evo-aar evaluate`: what one recipe is worth on one testbed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import CpuSeconds, Device, Json, Strong, Student, Testbed, Unsandboxed, Weak, Workers
from evo_aar.machine.places import default_workers


def evaluate(
    recipe: Annotated[Path, typer.Argument(help="A recipe file.", metavar="RECIPE.py", show_default=False)],
    testbed: Testbed = "mini/math",
    seeds: Annotated[int, typer.Option(min=1, help="How many trials.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="The first trial's seed; the others follow it.")] = 0,
    student: Student = None,
    workers: Workers = None,
    strong: Strong = None,
    weak: Weak = None,
    device: Device = "cpu",
    cpu_seconds: CpuSeconds = 120,
    unsandboxed: Unsandboxed = False,
    as_json: Json = False,
) -> None:
    """Evaluate a recipe: PGR ± standard error on the fitness split, a row per seed, and how its trainings
    went.

    Exit status: 0 if every trial succeeded, 1 if one failed (a recipe that fails on a seed has no fitness), 2
    if the recipe file, an option or the testbed can't be used.
    """
    from evo_aar.cli import trial_tables
    from evo_aar.machine.sandbox import is_ours, level_for
    from evo_aar.runs import evaluation
    from evo_aar.views import tables

    file = evaluation.read_recipe(recipe)
    level = level_for(written_here=is_ours(file.source), unsandboxed=unsandboxed)
    setup = evaluation.Setup(
        testbed, strong, weak, student, workers or default_workers(), device, cpu_seconds, level
    )
    with setup.evaluator(tables.notices()) as evaluator:
        wanted = range(first_seed, first_seed + seeds)
        trials = evaluation.run_trials(evaluator, [file.source], wanted, tables.notices())[file.source]
        if as_json:
            facts: dict[str, object] = {
                "recipe": str(recipe),
                "idea": file.idea,
                "direction": file.direction,
                "source_hash": trials[0].source_hash,
            }
            facts |= trial_tables.testbed_json(evaluator)
            facts |= {
                "pgr": evaluation.fitness_json(trials),
                "trials": [evaluation.trial_json(one, history=True) for one in trials],
            }
            print(json.dumps(facts, indent=1))
        else:
            trial_tables.show(tables.output(), file, trials, evaluator)
    if not all(trial.ok for trial in trials):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(evaluate)
