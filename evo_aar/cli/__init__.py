"""The `evo-aar` command.

Each command lives in a module of its own; this one gathers them and turns errors into one line.
"""

from __future__ import annotations

import functools
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

app = typer.Typer(
    name="evo-aar",
    help="Evolutionary search over weak-to-strong training recipes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"evo-aar {metadata.version('evo-aar')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Evolutionary search over weak-to-strong training recipes."""


@functools.cache
def _register() -> None:
    # Each module defines its command on import; none of them imports torch, transformers or MLflow before it
    # is called.
    from evo_aar.cli import (
        audit,
        baselines,
        doctor,
        evaluate,
        evolve,
        export,
        new_recipe,
        propose,
        report,
        review,
        status,
        testbed,
        ui,
    )

    for module in (
        evolve,
        propose,
        status,
        ui,
        audit,
        review,
        report,
        export,
        evaluate,
        baselines,
        testbed,
        new_recipe,
        doctor,
    ):
        module.register(app)


def main() -> None:
    """Entry point: exit status 2 for what the user can mend, 130 for Ctrl-C, a traceback for our own faults
    alone.
    """
    from evaluator.errors import EvaluatorError
    from evo_aar.errors import UsageError
    from population.errors import PopulationError
    from recipes.errors import RecipeError

    _register()
    try:
        app()
    except (UsageError, EvaluatorError, PopulationError, RecipeError) as error:
        line = Text.assemble(("error:", "bold red"), f" {error}")  # as it is: a message may hold [brackets]
        Console(stderr=True, soft_wrap=True).print(line, highlight=False)
        sys.exit(2)
