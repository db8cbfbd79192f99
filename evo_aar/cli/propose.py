"""`evo-aar propose`: what an agent would be sent for its next child, and about what that would cost.

Nothing is sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.evolve import MODELS
from evo_aar.cli.options import Price, Prices, Runs


def propose(
    island: Annotated[int, typer.Option(min=0, help="The island whose agent it is.", show_default=False)],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(
            help="A run, as its last generation left it; default: a new search's seed.", show_default=False
        ),
    ] = None,
    verb: Annotated[str, typer.Option(help="mutation, crossover or draft.")] = "mutation",
    model: Annotated[str, typer.Option(help="The model that would be asked.")] = MODELS[0],
    price: Price = [],  # noqa: B006 - typer copies it
    prices: Prices = None,
    runs: Runs = Path("runs"),
) -> None:
    """Print what an agent of an island would be sent, its tools, and an estimate of the price of a child."""
    from evo_aar.agents import prices as table
    from evo_aar.errors import UsageError
    from evo_aar.runs.preview import VERBS, estimate, preview
    from evo_aar.views.tables import output, plain

    if not dry_run:
        raise UsageError(
            "propose sends nothing: add --dry-run to see what would be sent. Children are made by evo-aar"
            " evolve --operator agents."
        )
    if verb not in VERBS:
        raise UsageError(f"--verb {verb}: {', '.join(VERBS)}.")
    cost = table.Price.of(table.price_table([model], prices, price)[model])
    opening = preview(runs, run, island, verb, model)
    console = output()
    for title, text in (
        ("system, the same for all islands", opening.system[0]),
        ("system, the island's", opening.system[1]),
        ("task", opening.task),
    ):
        console.rule(title)
        console.print(plain(text), soft_wrap=True)
    console.rule("tools")
    for tool in opening.tools:
        console.print(
            plain(f"{tool['name']}({', '.join(tool['input_schema']['properties'])}): {tool['description']}"),
            soft_wrap=True,
        )
    console.rule(f"price, by the table of {table.shipped_date()} where nothing else was given")
    for line in estimate(opening, cost):
        console.print(plain(line), soft_wrap=True)


def register(app: typer.Typer) -> None:
    app.command()(propose)
