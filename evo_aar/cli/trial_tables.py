"""What `evaluate` and `baselines` print of trials and of the testbed that they were run on."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from evaluator.baselines import standard_error
from evaluator.evaluator import Evaluator
from evo_aar.machine.sandbox import described
from evo_aar.views import tables
from population.fitness import Fitness
from population.trial import Trial
from recipes.source import RecipeFile

MOST_TRAININGS = 12


def testbed_json(evaluator: Evaluator) -> dict:
    """The testbed and the fixed points of its PGR, for machines."""
    base = evaluator.baselines
    return {
        "testbed": evaluator.testbed.name,
        "testbed_hash": evaluator.testbed.content_hash,
        "student": evaluator.kind,
        "sandbox": evaluator.settings.level,
        "split": "fitness",
        "weak_accuracy": base.weak_accuracy,
        "weak_standard_error": standard_error(base.weak),
        "ceiling_accuracy": base.ceiling_accuracy,
        "ceiling_standard_error": standard_error(base.ceiling),
        "ceiling_seeds": len(base.ceiling),
        "majority_accuracy": base.majority,
        "gap": base.gap,
    }


def fixed_points(evaluator: Evaluator) -> str:
    """Weak, ceiling and majority accuracy in one line."""
    base = evaluator.baselines
    return (
        f"weak {base.weak_accuracy:.3f}, ceiling {base.ceiling_accuracy:.3f} ±"
        f" {standard_error(base.ceiling):.3f} (SE over {len(base.ceiling)} seeds), gap {base.gap:.3f},"
        f" majority {base.majority:.3f}"
    )


def show(console: Console, file: RecipeFile, trials: Sequence[Trial], evaluator: Evaluator) -> None:
    """An evaluated recipe: its PGR, a row per seed, its trainings."""
    console.print(tables.plain(file.idea), style="bold")
    console.print(
        tables.plain(f"{evaluator.testbed.name} ({evaluator.testbed.content_hash}), student {evaluator.kind}")
    )
    console.print(tables.plain(f"sandbox: {described(evaluator.settings.level)}"))
    console.print(fixed_points(evaluator))
    console.print(_trials_table(trials))
    if any(trial.history for trial in trials):
        console.print(_trainings_table(trials))
    console.print(_verdict(trials), style="bold")


def _trials_table(trials: Sequence[Trial]) -> Table:
    made = tables.table(
        "Trials (fitness split)",
        "seed",
        "accuracy",
        "PGR",
        "tokens",
        "seconds",
        "outcome",
        right=("seed", "accuracy", "PGR", "tokens", "seconds"),
    )
    for trial in trials:
        outcome = "ok" if trial.ok else f"{trial.reason}: {trial.message}"
        figures = (
            tables.number(trial.accuracy if trial.ok else None),
            tables.number(trial.pgr if trial.ok else None),
            f"{trial.tokens:,}",
            f"{trial.seconds:.1f}",
        )
        made.add_row(str(trial.seed), *figures, tables.plain(outcome))
    return made


def _trainings_table(trials: Sequence[Trial]) -> Table:
    rows = [
        (trial, place, one) for trial in trials for place, one in enumerate(trial.history, 1) if one["steps"]
    ]
    shown = (
        rows
        if len(rows) <= MOST_TRAININGS
        else [row for row in rows if row[1] == len(row[0].history)][:MOST_TRAININGS]
    )
    caption = (
        None
        if len(shown) == len(rows)
        else f"{len(shown)} of {len(rows)} trainings, each seed's last; --json has all"
    )
    made = tables.table(
        "Trainings (first, course, last)",
        "seed",
        "training",
        "student",
        "loss",
        "gradient norm",
        "agreement",
        right=("seed",),
        caption=caption,
    )
    for trial, place, training in shown:
        curves = [
            tables.curve([step[name] for step in training["steps"]])
            for name in ("loss", "gradient_norm", "agreement")
        ]
        made.add_row(str(trial.seed), f"{place} of {len(trial.history)}", training["student"], *curves)
    return made


def _verdict(trials: Sequence[Trial]) -> str:
    fitness = Fitness.of(trials)
    if fitness is None:
        failed = sum(not trial.ok for trial in trials)
        return f"no fitness: {failed} of {len(trials)} trials failed"
    seeds = f"{fitness.trials} seeds" if fitness.trials > 1 else "one seed, so without a standard error"
    return f"PGR {tables.plus_minus(fitness.mean, fitness.standard_error)} over {seeds} (fitness split)"
