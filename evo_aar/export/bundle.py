"""Writes an individual's folder:

    README.md              the card: idea, figures, lineage, settings, versions, how to run it
    recipe.py              the recipe as it was born
    metrics.json           every figure of the card, and each trial
    students/seed-N/       the student of each of the search's seeds, trained again (`evaluator.trainer.save`)
    lineage/ID.py, .diff   each ancestor, and what it changed of its first parent

The folder appears whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import numpy as np
from rich.console import Console

from evaluator.baselines import standard_error
from evaluator.evaluator import Evaluator, Result
from evaluator.sandbox.levels import Level
from evaluator.trial import TrialRequest
from evo_aar.errors import UsageError
from evo_aar.export.ancestry import Ancestor, ancestry, fitness_on
from evo_aar.export.card import card
from evo_aar.machine.sandbox import described, level_of
from evo_aar.runs.evaluation import Setup
from evo_aar.runs.evaluators import require_same_testbed
from evo_aar.runs.versions import PACKAGES
from evo_aar.search.audits import Auditor, failures, quarantined
from evo_aar.search.finals import crowned
from evo_aar.search.record import GenerationRecord, direction_of
from evo_aar.search.seeds import final_seeds, fresh_seeds, search_seeds
from evo_aar.search.settings import SearchSettings
from evo_aar.search.trials import Candidate, TrialRunner
from evo_aar.views import tables
from population.fitness import Fitness
from population.individual import Individual
from population.store import Store
from population.tables.integrity import Audit
from population.trial import SuccessfulTrial, Trial, first_failure, successful
from recipes.directions import baseline_sources
from recipes.source import source_hash

FORMAT = 1
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


def best(store: Store) -> Individual:
    """The crowned individual, or, before a search's end, the best of its last generation.

    Raises `UsageError` where there is none, or it has been quarantined.
    """
    individual = crowned(store)
    if individual is None:
        last = store.generations.last()
        found = GenerationRecord.of(last).figures.best if last else None
        if found is None:
            raise UsageError(
                f"{store.path.parent.name} has no recipe with a fitness yet. Resume the search, or name an"
                " --individual."
            )
        individual = store.individuals.get(found)
    barred = quarantined(store)
    reason = barred.get(individual.id) or barred.get(individual.source_hash)
    if reason:
        raise UsageError(
            f"{individual.id} is quarantined ({reason}): it is not exported as the best. Name an"
            " --individual."
        )
    return individual


def export(
    store: Store,
    settings: SearchSettings,
    individual: Individual,
    output: Path,
    *,
    device: str = "cpu",
    level: Level | None = None,
    console: Console,
) -> bool:
    """Train the individual's students again and write its folder. Returns whether every trial came out as the
    search has it on record.

    `level`: of the sandbox that it is trained in; None for the best that this machine has.
    Raises `UsageError` where the individual has no student, or `output` has something in it already or can't
    be written.
    """
    seeds = search_seeds(settings.seed, settings.seeds)
    testbed = store.facts["testbed_hash"]
    tried = [trial for trial in store.trials.of(individual.source_hash, testbed, 1.0) if trial.seed in seeds]
    recorded = _require_students(individual, tried, seeds)
    setup = Setup(
        settings.testbed, settings.strong, settings.weak, settings.student, device=device, level=level
    )
    with _draft(output) as draft, setup.evaluator(console) as evaluator:
        require_same_testbed(store, evaluator)
        results = _trained_again(evaluator, individual.source, seeds, draft / "students", console)
        again = {
            result.request.seed: _is_same(result, trial)
            for trial in recorded
            for result in results
            if result.request.seed == trial.seed
        }
        lineage = ancestry(store, individual, testbed, seeds)
        audits = _audited(store, settings, individual, evaluator, console)
        metrics = _metrics(store, settings, individual, evaluator, recorded, again) | _judged(
            store, individual, audits
        )
        (draft / "recipe.py").write_text(individual.source, encoding="utf-8")
        (draft / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        (draft / "README.md").write_text(card(metrics, lineage), encoding="utf-8")
        _write_lineage(draft / "lineage", lineage)
    return all(again.values())


def _require_students(
    individual: Individual, recorded: Sequence[Trial], seeds: Sequence[int]
) -> list[SuccessfulTrial]:
    failed = first_failure(recorded)
    if failed is not None:
        raise UsageError(
            f"{individual.id} failed ({failed.reason}: {failed.message}): it has no student. Export another"
            " one."
        )
    if len(recorded) < len(seeds):
        raise UsageError(
            f"{individual.id} has been tried on {len(recorded)} of {len(seeds)} seeds. Resume the search"
            " first."
        )
    return successful(recorded)


def _trained_again(
    evaluator: Evaluator, source: str, seeds: Sequence[int], folder: Path, console: Console
) -> list[Result]:
    folder.mkdir()
    with tables.progress(console) as bar:
        results = evaluator.evaluate([TrialRequest(source, seed) for seed in seeds], folder)
        found = list(bar.track(results, total=len(seeds), description="training the students again"))
    failed = next((result for result in found if not result.outcome.ok), None)
    if failed is not None:
        raise UsageError(
            f"seed {failed.request.seed}, which succeeded in the search, failed now ({failed.outcome.reason}:"
            f" {failed.outcome.message}). Export with the versions that the search ran with."
        )
    return found


def _audited(
    store: Store, settings: SearchSettings, individual: Individual, evaluator: Evaluator, console: Console
) -> list[Audit]:
    """The individual's audits: those on record or, where it has none, made now.

    Of a search without audits there are none.
    """
    found = store.audits.of(individual.source_hash, evaluator.testbed.content_hash)
    if found or not settings.audit_seeds:
        return found
    with tempfile.TemporaryDirectory(prefix="evo-aar-audit-") as folder, tables.progress(console) as bar:
        task = bar.add_task("audits", total=None)
        with Store.create(Path(folder) / "search.sqlite", store.settings, store.facts) as scratch:
            auditor = Auditor(
                scratch,
                TrialRunner(scratch, evaluator),
                chosen_on=search_seeds(settings.seed, settings.seeds),
                seeds=fresh_seeds(settings.seed, settings.audit_seeds),
                say=lambda words: bar.update(task, description=words),
            )
            return auditor.audit(Candidate(individual.source, individual.source_hash))


def _judged(store: Store, individual: Individual, audits: Sequence[Audit]) -> dict:
    """What audits and people said of an individual, for metrics.json."""
    reason = quarantined(store).get(individual.id) or failures(audits)
    names = ("audit", "verdict", "value", "standard_error", "p", "words")
    return {
        "set_apart": reason or None,
        "flags": [fate.reason for fate in store.generations.fates(individual=individual.id, kind="flagged")],
        "audits": [{name: getattr(audit, name) for name in names} for audit in audits],
        "reviews": [
            {name: getattr(review, name) for name in ("reviewer", "verdict", "remarks", "at")}
            for review in store.reviews.of(individual.id)
        ],
    }


def _is_same(result: Result, trial: SuccessfulTrial) -> bool:
    """Whether a student that was trained again is the search's: the same predictions on all of the pool, and
    the same accuracy.
    """
    pool = result.outcome.pool
    if pool is None or trial.pool is None:
        return False
    return result.accuracy == trial.accuracy and np.array_equal(pool.astype(np.float16), trial.pool)


def _metrics(
    store: Store,
    settings: SearchSettings,
    individual: Individual,
    evaluator: Evaluator,
    recorded: Sequence[SuccessfulTrial],
    again: dict[int, bool],
) -> dict:
    seeds, final = (
        search_seeds(settings.seed, settings.seeds),
        final_seeds(settings.seed, settings.final_seeds),
    )
    testbed, base = evaluator.testbed, evaluator.baselines

    def fitness(digest: str, wanted: Sequence[int]) -> dict | None:
        found = fitness_on(store, digest, testbed.content_hash, wanted)
        return _as_json(found, wanted) if found else None

    vanilla = source_hash(baseline_sources()["vanilla"])
    return {
        "format": FORMAT,
        "individual": individual.id,
        "run": store.path.parent.name,
        "idea": individual.idea,
        "direction": direction_of(individual) or None,
        "operator": individual.operator,
        "source_hash": individual.source_hash,
        "testbed": testbed.name,
        "testbed_hash": testbed.content_hash,
        "strong_model": testbed.strong,
        "kind": testbed.kind,
        "student": evaluator.kind,
        "split": "fitness",
        "sandbox": described(level_of(store)),
        "sandbox_of_this_export": described(evaluator.settings.level),
        "pgr": fitness(individual.source_hash, seeds),
        "final_pgr": fitness(individual.source_hash, final),
        "vanilla_pgr": fitness(vanilla, seeds),
        "vanilla_final_pgr": fitness(vanilla, final),
        "baselines": {
            "weak_accuracy": base.weak_accuracy,
            "ceiling_accuracy": base.ceiling_accuracy,
            "ceiling_standard_error": standard_error(base.ceiling),
            "ceiling_seeds": len(base.ceiling),
            "majority_accuracy": base.majority,
            "gap": base.gap,
        },
        "trials": [
            {
                "seed": trial.seed,
                "accuracy": trial.accuracy,
                "pgr": trial.pgr,
                "tokens": trial.tokens,
                "same_again": again[trial.seed],
            }
            for trial in recorded
        ],
        "spent_by_the_search": store.ledger.totals(),
        "settings": settings.to_json(),
        "versions": {
            name: {"search": store.facts[name], "export": metadata.version(name)}
            for name in PACKAGES
            if name in store.facts
        },
        "python": store.facts.get("python"),
    }


def _as_json(fitness: Fitness, seeds: Sequence[int]) -> dict:
    return {"mean": fitness.mean, "standard_error": fitness.standard_error, "seeds": list(seeds)}


def _write_lineage(folder: Path, lineage: Sequence[Ancestor]) -> None:
    folder.mkdir()
    for one in lineage:
        (folder / f"{one.individual.id}.py").write_text(one.individual.source, encoding="utf-8")
        if one.diff:
            (folder / f"{one.individual.id}.diff").write_text(one.diff, encoding="utf-8")


@contextmanager
def _draft(output: Path) -> Iterator[Path]:
    """A folder beside `output` that becomes it when the block ends well, and is removed when it doesn't."""
    output = output.absolute()
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
        raise UsageError(
            f"-o {output}: exists already. Name a folder that is new or empty; nothing was changed."
        )
    draft = output.with_name(f".{output.name}.{os.getpid()}.draft")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(output, error) from None
    try:
        yield draft
        draft.rename(output)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise _unwritable(output, error) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unwritable(output: Path, error: OSError) -> UsageError:
    return UsageError(
        f"-o {output}: can't be written ({error.strerror}). Choose a folder with space that you can write to."
    )
