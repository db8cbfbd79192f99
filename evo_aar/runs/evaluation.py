"""Recipes evaluated outside of a search: what `evaluate`, `baselines` and `export` have in common."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluator.evaluator import Evaluator
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.trial import TrialRequest
from evo_aar.errors import UsageError
from evo_aar.machine.places import cache_folder
from evo_aar.machine.testbeds import prepared, warnings
from evo_aar.search.settings import require_student
from evo_aar.search.trials import on_record
from evo_aar.views import tables
from population.fitness import Fitness
from population.trial import FAILED, OK, Trial
from recipes.errors import RecipeError
from recipes.source import RecipeFile, validate


@dataclass(frozen=True)
class Setup:
    """On what, and with what, recipes are evaluated; the options that the commands share.

    `level`: of the sandbox; None for the best that this machine has.
    """

    testbed: str
    strong: str | None = None
    weak: str | None = None
    student: str | None = None
    workers: int = 1
    device: str = "cpu"
    cpu_seconds: int = Limits.cpu_seconds
    level: Level | None = None

    @contextmanager
    def evaluator(self, console: Console) -> Iterator[Evaluator]:
        """An evaluator whose hidden states and baselines are there, both computed, with progress, where they
        aren't cached.

        Raises `UsageError` or `EvaluatorError`. Its spool is temporary: every trial is run.
        """
        require_student(self.student)
        if self.cpu_seconds < 1:
            raise UsageError(f"--cpu-seconds {self.cpu_seconds}: give 1 or more.")
        with tables.progress(console) as bar:
            task = bar.add_task(f"testbed {self.testbed}", total=None)
            path = prepared(
                self.testbed,
                strong=self.strong,
                weak=self.weak,
                progress=lambda what, done, total: bar.update(
                    task, description=what, completed=done, total=total or None
                ),
            )
            for line in warnings(path):
                console.print(tables.plain(f"{self.testbed}: {line}"))
            with tempfile.TemporaryDirectory(prefix="evo-aar-spool-") as spool:
                evaluator = Evaluator(
                    path,
                    cache=cache_folder(),
                    spool=Path(spool),
                    workers=self.workers,
                    kind=self.student,
                    device=self.device,
                    limits=Limits(cpu_seconds=self.cpu_seconds),
                    level=self.level,
                )
                bar.update(task, description="hidden states")
                evaluator.warm_up(lambda done, total: bar.update(task, completed=done, total=total))
                bar.update(task, description="baselines", total=None)
                evaluator.baselines  # noqa: B018 - trained here, where the bar says so
                bar.stop()
                yield evaluator


def read_recipe(path: Path) -> RecipeFile:
    """The recipe in a file.

    Raises `UsageError` where it can't be read or breaks the contract's static rules.
    """
    try:
        return validate(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file. Begin one with `evo-aar new-recipe {path}`.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    except RecipeError as error:
        raise UsageError(f"{path}: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}). Name a recipe file.") from None


def run_trials(
    evaluator: Evaluator, sources: Sequence[str], seeds: Sequence[int], console: Console
) -> dict[str, list[Trial]]:
    """Every source's trials, in the order of the seeds, with a progress bar."""
    requests = [TrialRequest(source, seed) for source in dict.fromkeys(sources) for seed in seeds]
    found: dict[tuple[str, int], Trial] = {}
    with tables.progress(console) as bar:
        for result in bar.track(evaluator.evaluate(requests), total=len(requests), description="trials"):
            found[result.request.source, result.request.seed] = on_record(
                result, evaluator.testbed.content_hash
            )
    return {source: [found[source, seed] for seed in seeds] for source in sources}


def fitness_json(trials: Sequence[Trial]) -> dict | None:
    """Mean PGR with its standard error; None where a trial failed."""
    fitness = Fitness.of(trials)
    if fitness is None:
        return None
    return {"mean": fitness.mean, "standard_error": fitness.standard_error, "seeds": fitness.trials}


def trial_json(trial: Trial, history: bool = False) -> dict:
    """A trial for machines. A failed one has a reason and no score."""
    names = ("accuracy", "pgr", "tokens", "seconds", "reason", "message")
    return {
        "seed": trial.seed,
        "status": OK if trial.ok else FAILED,
        **{name: getattr(trial, name, None) for name in names},
        **({"history": _finite(trial.history)} if history else {}),
    }


def _finite(value: Any) -> Any:
    """JSON knows no NaN: a diverged loss becomes null."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
