"""`evo-aar review`: a person's word on the finalists."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo_aar.cli.options import Run, Runs

if TYPE_CHECKING:
    from rich.console import Console

    from evo_aar.search.settings import SearchSettings
    from population.individual import Individual
    from population.store import Store

CHANGED_LINES = 40


def review(
    run: Run,
    individual: Annotated[
        list[str], typer.Option(help="Whom to review; default: the search's finalists.", show_default=False)
    ] = [],  # noqa: B006 - typer copies it
    verdict: Annotated[
        str | None,
        typer.Option(
            help="approve, doubt or reject, for all of them; default: asked for.", show_default=False
        ),
    ] = None,
    remarks: Annotated[
        str | None, typer.Option(help="Remarks; default: asked for.", show_default=False)
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Who reviews; default: asked for.", show_default=False)
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Walk through the finalists (idea, how they came about, how they did, what audits found), and put a
    person's word on record.

    What is stored stays: a later review of the same individual stands beside the earlier one. Reports and
    exports say who reviewed and when, or that nobody did.
    """
    from evo_aar.errors import UsageError
    from evo_aar.report.opening import finalists
    from evo_aar.runs.standing import opened
    from evo_aar.views import tables
    from population.tables.integrity import REVIEW_VERDICTS, Review

    if verdict is not None and verdict not in REVIEW_VERDICTS:
        raise UsageError(f"--verdict {verdict}: {', '.join(REVIEW_VERDICTS[:-1])} or {REVIEW_VERDICTS[-1]}.")
    console = tables.output()
    with opened(runs, run, writable=True) as (store, settings):
        chosen = [store.individuals.get(one) for one in individual] or finalists(store)
        who = reviewer or typer.prompt("Your name", default=getpass.getuser())
        for number, one in enumerate(chosen, 1):
            _tell(console, store, settings, one, f"{number} of {len(chosen)}")
            said = verdict
            while said not in REVIEW_VERDICTS:
                said = typer.prompt(f"Your verdict on {one.id} ({', '.join(REVIEW_VERDICTS)})").strip()
            words = (
                remarks if remarks is not None else typer.prompt("Remarks", default="", show_default=False)
            )
            store.reviews.add(Review(one.id, who, said, words))
            console.print(tables.plain(f"on record: {one.id} {said}, by {who}"))


def _tell(console: Console, store: Store, settings: SearchSettings, one: Individual, place: str) -> None:
    from evo_aar.export.ancestry import ancestry
    from evo_aar.search.seeds import final_seeds, search_seeds
    from evo_aar.views import tables
    from population.fitness import Fitness

    testbed = store.facts["testbed_hash"]
    trials = store.trials.of(one.source_hash, testbed, 1.0)

    def fitness(seeds: list[int]) -> str:
        found = Fitness.of([trial for trial in trials if trial.seed in seeds])
        return tables.plus_minus(found.mean, found.standard_error) if found else "not tried"

    fates = "; ".join(
        f"{fate.kind} in generation {fate.generation}" + (f" ({fate.reason})" if fate.reason else "")
        for fate in store.generations.fates(individual=one.id)
    )
    rows = [
        ("idea", one.idea),
        ("operator", one.operator),
        ("PGR, search's seeds", fitness(search_seeds(settings.seed, settings.seeds))),
        ("PGR, final seeds", fitness(final_seeds(settings.seed, settings.final_seeds))),
        ("fates", fates or tables.NOTHING),
    ]
    rows += [
        (f"reviewed by {old.reviewer}", f"{old.at}: {old.verdict} {old.remarks}")
        for old in store.reviews.of(one.id)
    ]
    console.print(tables.facts(f"{one.id}, {place}", rows))
    lineage = ancestry(store, one, testbed, search_seeds(settings.seed, settings.seeds))
    made = tables.table(
        "How it came about, the youngest first", "individual", "parents", "operator", "PGR ± SE", "idea"
    )
    for ancestor in lineage:
        born, score = ancestor.individual, ancestor.fitness
        shown = tables.plus_minus(score.mean, score.standard_error) if score else "failed or not tried"
        made.add_row(
            born.id, ", ".join(born.parents) or tables.NOTHING, born.operator, shown, tables.plain(born.idea)
        )
    console.print(made)
    if lineage[0].diff:
        lines = lineage[0].diff.splitlines()
        more = (
            [f"... {len(lines) - CHANGED_LINES} more lines; `evo-aar export` writes all of it"]
            if len(lines) > CHANGED_LINES
            else []
        )
        console.print(
            tables.plain("\n".join(["What it changed of its first parent:", *lines[:CHANGED_LINES], *more]))
        )
    for trial in trials[:1]:
        for training in trial.history[-1:]:
            curves = {name: [step[name] for step in training["steps"]] for name in ("loss", "agreement")}
            told = ", ".join(f"{name} {tables.curve(values)}" for name, values in curves.items())
            console.print(tables.plain(f"Its last training with seed {trial.seed}: {told}"))
    audits = store.audits.of(one.source_hash, testbed)
    if audits:
        console.print(tables.audits_table(audits))
    else:
        console.print(tables.plain(f"Not audited: evo-aar audit {store.path.parent.name} {one.id}"))


def register(app: typer.Typer) -> None:
    app.command()(review)
