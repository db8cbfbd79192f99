"""`evo-aar doctor`: is everything here that the engine needs, and how to get what isn't."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Runs


def doctor(
    runs: Runs = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check Python, packages, torch, folders, disk and the sandbox that recipes run in.

    Exit status: 0 if everything necessary is here, 1 if not.
    """
    import json
    from dataclasses import asdict

    from evo_aar.machine.checks import all_checks
    from evo_aar.views import tables

    checks = list(all_checks(runs))
    if as_json:
        print(json.dumps([asdict(one) for one in checks], indent=1))
    else:
        made = tables.table("evo-aar doctor", "", "what", "found", "remedy")
        for one in checks:
            sign = (
                "[green]ok[/]" if one.ok else "[bold red]missing[/]" if one.necessary else "[yellow]note[/]"
            )
            made.add_row(sign, one.what, tables.plain(one.found), tables.plain(one.remedy))
        tables.output().print(made)
    if not all(one.ok for one in checks if one.necessary):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    app.command()(doctor)
