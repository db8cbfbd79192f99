"""`evo-aar audit`: one recipe in changed worlds."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Device, Run, Runs, Unsandboxed, Workers
from evo_aar.machine.places import default_workers


def audit(
    run: Run,
    recipe: Annotated[
        str,
        typer.Argument(
            help="An individual's id, or a recipe file.", metavar="INDIVIDUAL|RECIPE.py", show_default=False
        ),
    ],
    seeds: Annotated[int, typer.Option(min=2, help="Trials in each world.")] = 3,
    runs: Runs = Path("runs"),
    workers: Workers = None,
    device: Device = "cpu",
    unsandboxed: Unsandboxed = False,
) -> None:
    """Audit a recipe on a run's testbed: does it win by what it claims to do?

    An individual's audits go on the run's record, and one that fails is quarantined: never crowned, exported
    as the best, or taken for a finalist; whoever descends from it is flagged. A recipe file is audited and
    leaves no trace. Exit status: 1 if an audit fails.
    """
    from evo_aar.machine.places import run_folder
    from evo_aar.machine.sandbox import is_ours, level_for
    from evo_aar.runs.evaluation import read_recipe
    from evo_aar.runs.evaluators import Workplace, evaluator_of
    from evo_aar.runs.standing import opened
    from evo_aar.runs.versions import decisive, versions
    from evo_aar.search.audits import FAIL, Auditor, failures, quarantine, quarantined
    from evo_aar.search.seeds import fresh_seeds, search_seeds
    from evo_aar.search.trials import Candidate, TrialRunner
    from evo_aar.views import tables
    from population.store import Store
    from recipes.source import source_hash

    with ExitStack() as stack:
        own = recipe.endswith(".py")
        store, settings = stack.enter_context(opened(runs, run, writable=not own))
        folder = run_folder(runs, run)
        if own:
            source = read_recipe(Path(recipe)).source
            candidate, record = Candidate(source, source_hash(source)), store
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evo-aar-audit-")))
            record = stack.enter_context(Store.create(folder / "search.sqlite", store.settings, store.facts))
        else:
            one = store.individuals.get(recipe)
            candidate, record = Candidate(one.source, one.source_hash, one.island, one.generation), store
        level = level_for(
            written_here=is_ours(candidate.source) if own else settings.operator != "agents",
            unsandboxed=unsandboxed,
        )
        bar = stack.enter_context(tables.progress(tables.notices()))
        task = bar.add_task("audit", total=None)
        evaluator = stack.enter_context(
            evaluator_of(
                store, settings, Workplace(folder / "spool", workers or default_workers(), device, level)
            )
        )
        record.stints.begin(level, decisive(versions()))
        evaluator.warm_up(
            lambda done, total: bar.update(task, description="hidden states", completed=done, total=total)
        )
        auditor = Auditor(
            record,
            TrialRunner(record, evaluator),
            chosen_on=search_seeds(settings.seed, settings.seeds),
            seeds=fresh_seeds(settings.seed, seeds),
            say=lambda words: bar.update(task, description=words),
        )
        found = auditor.audit(candidate)
        reason = failures(found)
        last = store.generations.last()
        if reason and not own and last is not None and one.id not in quarantined(store):
            quarantine(store, one.id, last.number, reason)
        bar.stop()
        tables.output().print(tables.audits_table(found))
        if reason:
            tables.output().print(
                tables.plain(f"failed: {reason}" if own else f"{one.id} is quarantined: {reason}")
            )
    if any(each.verdict == FAIL for each in found):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(audit)
