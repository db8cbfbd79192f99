"""`evo-aar ui`: MLflow's interface on the runs of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Runs


def ui(
    runs: Runs = Path("runs"),
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="The port on this machine (127.0.0.1 alone).")
    ] = 5000,
) -> None:
    """Look at the searches of a folder in MLflow: runs, charts, recipes, genealogies. Ctrl-C ends it."""
    from evo_aar.tracking.server import TrackingServer
    from evo_aar.views import tables

    console = tables.notices()
    with TrackingServer(runs, port) as server:
        try:
            with console.status("starting MLflow (some seconds)"):
                server.wait_until_ready()
            out = tables.output()
            for name, link in server.searches():
                out.print(tables.plain(f"{name}  {link}"), soft_wrap=True)
            out.print(tables.plain(f"all  {server.link}"), soft_wrap=True)
            console.print("Ctrl-C ends it.")
            server.wait()
        except KeyboardInterrupt:
            pass
    console.print("stopped")


def register(app: typer.Typer) -> None:
    app.command()(ui)
