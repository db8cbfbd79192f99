"""`evo-aar export`: one individual out of a search, as a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Device, Run, Runs, Unsandboxed


def export(
    run: Run,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The folder to write; new or empty.", show_default=False)
    ],
    best: Annotated[
        bool, typer.Option("--best", help="The crowned individual or, before the end, the best so far.")
    ] = False,
    individual: Annotated[
        str | None, typer.Option(help="An individual's id, such as g002-i3-c01.", show_default=False)
    ] = None,
    runs: Runs = Path("runs"),
    device: Device = "cpu",
    unsandboxed: Unsandboxed = False,
) -> None:
    """Export a recipe with its trained students, a card, its lineage and its metrics.

    The students are trained again, with the search's seeds. On the kind of machine that the search ran on
    they are the same to the last bit; where they aren't, the card says so.
    """
    from evo_aar.errors import UsageError
    from evo_aar.export import bundle
    from evo_aar.machine.sandbox import level_for
    from evo_aar.runs.standing import opened
    from evo_aar.views import tables

    if best == (individual is not None):
        raise UsageError("export: give either --best or --individual ID.")
    with opened(runs, run) as (store, settings):
        chosen = bundle.best(store) if individual is None else store.individuals.get(individual)
        level = level_for(written_here=settings.operator != "agents", unsandboxed=unsandboxed)
        same = bundle.export(
            store, settings, chosen, output, device=device, level=level, console=tables.notices()
        )
        if not same:
            tables.notices().print(
                "the students differ from the search's in their last digits: the device or a version is"
                " another one"
            )
        tables.output().print(tables.plain(f"exported {chosen.id} ({chosen.idea}) to {output}"))


def register(app: typer.Typer) -> None:
    app.command()(export)
