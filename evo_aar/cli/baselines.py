"""`evo-aar baselines`: what a testbed's PGR is measured against."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from evo_aar.cli.options import Device, Json, Strong, Student, Testbed, Weak, Workers
from evo_aar.machine.places import default_workers


def baselines(
    testbed: Testbed = "mini/math",
    seeds: Annotated[int, typer.Option(min=1, help="Trials of each baseline recipe.")] = 3,
    student: Student = None,
    workers: Workers = None,
    strong: Strong = None,
    weak: Weak = None,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Show a testbed's weak, ceiling and majority accuracy and the PGR of the baseline recipes.

    Computed once and cached: the weak model's and the ceiling's accuracies. A baseline that the testbed can't
    offer (zero-shot answers, where the strong model is an encoder) is named as failed; the exit status is 0
    all the same.
    """
    from evo_aar.cli import trial_tables
    from evo_aar.runs import evaluation
    from evo_aar.views import tables
    from population.fitness import Fitness
    from recipes.directions import baseline_sources
    from recipes.source import idea

    setup = evaluation.Setup(testbed, strong, weak, student, workers or default_workers(), device)
    sources = baseline_sources()
    with setup.evaluator(tables.notices()) as evaluator:
        found = evaluation.run_trials(evaluator, list(sources.values()), range(seeds), tables.notices())
        trials = {name: found[source] for name, source in sources.items()}
        if as_json:
            own = {
                name: {
                    "pgr": evaluation.fitness_json(ones),
                    "trials": [evaluation.trial_json(one) for one in ones],
                }
                for name, ones in trials.items()
            }
            print(json.dumps(trial_tables.testbed_json(evaluator) | {"recipes": own}, indent=1))
            return
        facts = trial_tables.testbed_json(evaluator)
    made = tables.facts(
        f"{facts['testbed']} ({facts['testbed_hash']}), student {facts['student']}: accuracy on the fitness"
        " split",
        [
            ("weak model", tables.plus_minus(facts["weak_accuracy"], facts["weak_standard_error"])),
            (
                f"ceiling, {facts['ceiling_seeds']} seeds",
                tables.plus_minus(facts["ceiling_accuracy"], facts["ceiling_standard_error"]),
            ),
            ("gap (ceiling - weak)", tables.number(facts["gap"])),
            ("majority class", tables.number(facts["majority_accuracy"])),
        ],
    )
    recipes = tables.table(
        f"Baseline recipes, {seeds} seeds", "recipe", "PGR ± SE", "idea", right=("PGR ± SE",)
    )
    for name, ones in trials.items():
        fitness = Fitness.of(ones)
        failure = next((one.message for one in ones if not one.ok), "")
        score = (
            tables.plus_minus(fitness.mean, fitness.standard_error)
            if fitness
            else tables.plain(f"failed: {failure}")
        )
        recipes.add_row(name, score, tables.plain(idea(sources[name])))
    tables.output().print(made, recipes)


def register(app: typer.Typer) -> None:
    app.command()(baselines)
