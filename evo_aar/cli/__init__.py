"""The `evo-aar` command. Each command lives in a module of its own; this one gathers them and turns errors into one line."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

app = typer.Typer(
    name="evo-aar",
    help="Evolutionary search over weak-to-strong training recipes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)


def _register() -> None:
    # Each module defines its command on import; none of them imports torch, transformers or MLflow before it is called.
    from evo_aar.cli import evolve

    for module in (evolve,):
        module.register(app)


def main() -> None:
    """Entry point: exit status 2 for what the user can mend, 130 for Ctrl-C, a traceback for our own faults alone."""
    from evaluator.errors import EvaluatorError
    from evo_aar.errors import UsageError
    from population.errors import PopulationError
    from recipes.errors import RecipeError

    _register()
    try:
        app()
    except (UsageError, EvaluatorError, PopulationError, RecipeError) as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {error}", highlight=False, markup=True)
        sys.exit(2)
