"""`evo-aar status` and `evo-aar runs`: how far searches have come.

Both only read, also beside a search that runs.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evo_aar.cli.options import Json, Run, Runs

if TYPE_CHECKING:
    from evo_aar.search.settings import SearchSettings
    from population.store import Store

SPENT = {
    "trainer_tokens": "tokens trained and forwarded",
    "compute_seconds": "seconds of trials",
    "grader_questions": "questions to the grader",
    "sealed_openings": "openings of the sealed split",
    "tokens": "tokens of language models",
    "usd": "US dollars",
}


def status(run: Run, runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """Show a run: its state, islands, best recipe, what it has spent, and how to go on with it."""
    from evo_aar.runs.standing import opened

    with opened(runs, run) as (store, settings):
        facts = _facts(store, settings, run, runs)
        if as_json:
            print(json.dumps(facts, indent=1))
            return
        _show(facts)
        if facts["state"] == "finished":
            _show_finals(store)


def list_runs(runs: Runs = Path("runs"), as_json: Json = False) -> None:
    """List the runs of a folder with their state and best recipe."""
    from evo_aar.runs.standing import names
    from evo_aar.views import tables

    rows = [_row(runs, name) for name in names(runs)]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(f"no runs in {runs}; begin one with: evo-aar evolve")
        return
    made = tables.table(
        f"Runs in {runs}",
        "run",
        "state",
        "testbed",
        "generation",
        "trials",
        "best PGR ± SE",
        "best recipe's idea",
        right=("trials", "best PGR ± SE"),
    )
    for row in rows:
        best = row.get("best") or {}
        made.add_row(
            row["run"],
            tables.plain(row["state"]),
            tables.plain(row.get("testbed", tables.NOTHING)),
            f"{row['generation']} of {row['generations']}" if "generation" in row else tables.NOTHING,
            f"{row.get('trials', 0):,}",
            tables.plus_minus(best.get("pgr"), best.get("standard_error")),
            tables.plain(best.get("idea", "")),
        )
    tables.output().print(made)


def _row(runs: Path, name: str) -> dict:
    from evo_aar.errors import UsageError
    from evo_aar.runs.standing import opened
    from population.errors import PopulationError

    try:
        with opened(runs, name) as (store, settings):
            facts = _facts(store, settings, name, runs)
    except (PopulationError, UsageError) as error:  # one damaged run must not hide the others
        return {"run": name, "state": f"unreadable: {error}"}
    return {
        key: facts[key] for key in ("run", "state", "testbed", "generation", "generations", "trials", "best")
    }


def _facts(store: Store, settings: SearchSettings, run: str, runs: Path) -> dict:
    from evo_aar.machine.sandbox import described, level_of
    from evo_aar.runs.standing import Standing, how_to_resume
    from evo_aar.search.record import GenerationFigures, GenerationRecord
    from evo_aar.views.expenses import by

    standing = Standing.of(store, settings)
    last = store.generations.last()
    figures = GenerationRecord.of(last).figures if last else GenerationFigures()
    best: dict[str, object] | None = None
    if figures.best is not None:
        individual = store.individuals.get(figures.best)
        best = {"individual": individual.id, "idea": individual.idea, "operator": individual.operator}
        best |= {"pgr": figures.best_pgr, "standard_error": figures.best_se}
    return {
        "run": run,
        "state": standing.state,
        "testbed": settings.testbed,
        "testbed_hash": store.facts.get("testbed_hash"),
        "sandbox": described(level_of(store)),
        "versions": [dict(one.versions) for one in store.stints.all()],
        "generation": standing.generations - 1 if standing.generations else None,
        "generations": settings.generations,
        "individuals": standing.individuals,
        "trials": standing.trials,
        "best": best,
        "islands": _islands(store),
        "spent": standing.spent,
        "language_models": {
            column: by(store, column).to_dict("records")
            for column in ("operator", "model", "island", "generation")
        },
        "settings": settings.to_json(),
        "resume": how_to_resume(runs, run) if standing.state == "stopped" else None,
    }


def _islands(store: Store) -> dict[str, dict]:
    """The islands as the last generation left them; born, failed, duplicates and unborn over
    all generations.
    """
    from dataclasses import asdict

    from evo_aar.search.record import GenerationRecord

    records = [GenerationRecord.of(generation) for generation in store.generations.all()]
    sums = ("born", "failed", "duplicates", "unborn")
    return {
        str(island): {"best": records[-1].state.best[island], **asdict(own)}
        | {name: sum(getattr(one.figures.islands[island], name) for one in records) for name in sums}
        for island, own in (records[-1].figures.islands.items() if records else ())
    }


def _show(facts: dict) -> None:
    from evo_aar.runs.versions import changes
    from evo_aar.views import tables

    console = tables.output()
    reached = (
        "none on record yet"
        if facts["generation"] is None
        else f"{facts['generation']} of {facts['generations']} on record"
    )
    rows = [
        ("state", facts["state"]),
        ("testbed", f"{facts['testbed']} ({facts['testbed_hash']})"),
        ("sandbox", facts["sandbox"]),
        ("generation", reached),
        ("born", f"{facts['individuals']:,} individuals, {facts['trials']:,} trials"),
    ]
    rows += [
        (words, f"{facts['spent'][kind]:,.2f}".removesuffix(".00"))
        for kind, words in SPENT.items()
        if facts["spent"][kind]
    ]
    stints = facts["versions"]
    for before, now in itertools.pairwise(stints):
        if changed := changes(before, now):
            rows.append(("went on with", "; ".join(changed)))
    if facts["resume"]:
        rows.append(("go on with", facts["resume"]))
    console.print(tables.facts(f"run {facts['run']}", rows))
    if facts["islands"]:
        columns = ("", "direction", "best", "PGR ± SE", "mean PGR", "born", "failed", "duplicates", "unborn")
        made = tables.table(
            "Islands (PGR on the fitness split, which the search selects on)",
            *columns,
            right=("", *columns[3:]),
        )
        for island, own in facts["islands"].items():
            counts = (str(own[name]) for name in ("born", "failed", "duplicates", "unborn"))
            score = tables.plus_minus(own["best_pgr"], own["best_se"])
            made.add_row(
                island,
                own["direction"],
                own["best"] or tables.NOTHING,
                score,
                tables.number(own["mean_pgr"]),
                *counts,
            )
        console.print(made)
    if rows := facts["language_models"]["operator"]:
        headings = ("operator", "calls", "read", "written", "from the cache", "USD")
        made = tables.table(
            "Language models (--json has them by model, island and generation too)",
            *headings,
            right=headings[1:],
        )
        for row in rows:
            read = row["input"] + row["cache_write"] + row["cache_read"]
            sums = (
                f"{row['calls']:,}",
                f"{read:,}",
                f"{row['output']:,}",
                f"{row['hit_rate']:.0%}",
                f"{row['usd']:.2f}",
            )
            made.add_row(row["operator"], *sums)
        console.print(made)
    if best := facts["best"]:
        score = tables.plus_minus(best["pgr"], best["standard_error"])
        console.print(
            tables.facts(
                "Best recipe",
                [("individual", best["individual"]), ("PGR ± SE", score), ("idea", best["idea"])],
            )
        )


def _show_finals(store: Store) -> None:
    from evo_aar.views.progress import finals_table
    from evo_aar.views.tables import output

    output().print(finals_table(store, store.facts["testbed_hash"]))


def register(app: typer.Typer) -> None:
    app.command()(status)
    app.command("runs")(list_runs)
