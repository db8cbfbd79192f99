"""`evo-aar report`: the finalists and the baselines on the sealed split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo_aar.cli.options import Device, Run, Runs, Unsandboxed, Workers
from evo_aar.machine.places import default_workers

if TYPE_CHECKING:
    from population.store import Store


def report(
    run: Run,
    individual: Annotated[
        list[str],
        typer.Option(
            help="A finalist's id, up to three times; default: those of the search.", show_default=False
        ),
    ] = [],  # noqa: B006 - typer copies it
    seeds: Annotated[
        int, typer.Option(min=2, max=999, help="Fresh seeds that each recipe is trained with.")
    ] = 8,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Open the sealed split once more; it is counted, and its figures are exploratory."
        ),
    ] = False,
    runs: Runs = Path("runs"),
    workers: Workers = None,
    device: Device = "cpu",
    unsandboxed: Unsandboxed = False,
) -> None:
    """Open the sealed split, once, for at most three finalists and the baselines, and write the report.

    The short list is frozen on the ledger before anything of the split is read, each recipe is trained anew,
    and the result is written to the run's folder (report/opening-N) and to MLflow. An opening that was
    interrupted goes on where it stopped. Without --again, a report that is there is written and shown again,
    and nothing is opened.
    """
    from evo_aar import report as reports
    from evo_aar.errors import UsageError
    from evo_aar.machine.places import run_folder
    from evo_aar.machine.sandbox import level_for
    from evo_aar.runs import sealed
    from evo_aar.runs.evaluators import Workplace
    from evo_aar.runs.standing import opened
    from evo_aar.tracking.tracker import Tracker
    from evo_aar.views import tables

    with opened(runs, run) as (store, settings):
        openings = store.openings.all()
        if openings and not again and reports.is_complete(store, openings[-1]):
            if individual:
                raise UsageError(
                    "report: the sealed split has been opened. Other finalists need another opening: --again."
                )
            _show(store, run_folder(runs, run))
            return
    console = tables.notices()
    with opened(runs, run, writable=True) as (store, settings):
        openings = store.openings.all()
        current = openings[-1] if openings and not reports.is_complete(store, openings[-1]) else None
        if current is not None and individual:
            raise UsageError(
                f"report: opening {current.number} was interrupted; finish it first, without --individual."
            )
        rows = [] if current else reports.shortlist(store, individual)
        level = level_for(written_here=settings.operator != "agents", unsandboxed=unsandboxed)
        place = Workplace(run_folder(runs, run) / "spool", workers or default_workers(), device, level)
        sealed.run(store, settings, place, current, rows, seeds=seeds, console=console)
        _show(store, run_folder(runs, run))
        Tracker(runs, store, run, warn=lambda line: console.print(tables.plain(line))).finish()


def _show(store: Store, folder: Path) -> None:
    from evo_aar import report as reports
    from evo_aar.views import tables

    figured = [reports.figures(store, one) for one in store.openings.all()]
    found = [figures for figures in figured if figures is not None]
    for figures in found:
        reports.write(figures, reports.report_folder(folder, figures.opening.number))
    last = found[-1]
    mark = " (exploratory: not the first opening)" if last.opening.exploratory else ""
    made = tables.table(
        f"Sealed split, opening {last.opening.number}{mark}",
        "recipe",
        "individual",
        "PGR ± SE",
        "less vanilla, paired",
        "less best seed recipe, paired",
        right=("PGR ± SE", "less vanilla, paired", "less best seed recipe, paired"),
        caption=f"weak {tables.number(last.weak.mean)}, ceiling {tables.number(last.ceiling.mean)}; "
        f"{len(last.opening.facts['seeds'])} seeds",
    )
    for line in last.lines:
        shown = (
            tables.plain(f"failed: {line.failure}")
            if line.pgr is None
            else tables.plus_minus(line.pgr.mean, line.pgr.standard_error)
        )
        differences = (
            tables.NOTHING if one is None else tables.plus_minus(one.mean, one.standard_error)
            for one in (line.over_vanilla, line.over_seed)
        )
        made.add_row(line.role, line.individual or tables.NOTHING, shown, *differences)
    tables.output().print(made)
    tables.output().print(tables.plain(f"written to {reports.report_folder(folder, last.opening.number)}"))


def register(app: typer.Typer) -> None:
    app.command()(report)
