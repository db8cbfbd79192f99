"""`evo-aar new-recipe`: a recipe file to begin from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipes.source import DIRECTIONS

STARTER = '''"""Train on the half of each class that the weak model is surest of.

Direction: {direction}

The direction's brief, for you to replace:

{brief}

The first line above is the recipe's idea, in one sentence. What a recipe may ask for: recipes/contract.py.
"""

import numpy as np

# Upper-case constants are what the offline operator tunes.
KEEP = 0.5
EPOCHS = 20.0


async def initial_targets(task):
    """What is believed of the labels at first, [n, 2] float32: rows are (P(class 0), P(class 1))."""
    return task.weak_labels


async def select(task, targets):
    """The rows to train on: integers below task.size."""
    label, confidence = targets.argmax(axis=1), targets.max(axis=1)
    of_class = [np.flatnonzero(label == one) for one in (0, 1)]
    ranked = [rows[np.argsort(-confidence[rows])] for rows in of_class]
    return np.concatenate([rows[: max(1, int(KEEP * len(rows)))] for rows in ranked])


async def fit(task, targets, rows):
    """Train and return the student. Targets are class numbers [m] or probabilities [m, 2],
    aligned with `rows`.
    """
    return await task.finetune(targets[rows].argmax(axis=1), rows, epochs=EPOCHS)


async def recipe(task):
    targets = await initial_targets(task)
    # Any number of stages `targets = await NAME(task, targets)` may follow here; each returns [n, 2].
    rows = await select(task, targets)
    return await fit(task, targets, rows)
'''


def new_recipe(
    path: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    direction: Annotated[
        str, typer.Option(help=f"The research direction that it follows: {', '.join(DIRECTIONS)}.")
    ] = "data_reweighting",
) -> None:
    """Write a commented recipe to begin from. It passes the static checks and can be evaluated as it is."""
    from evo_aar.errors import UsageError
    from recipes import directions
    from recipes.source import validate

    if direction not in DIRECTIONS:
        raise UsageError(
            f"--direction {direction}: no such direction. Choose one of {', '.join(DIRECTIONS)}."
        )
    source = STARTER.format(direction=direction, brief=directions.direction(direction).brief)
    validate(source)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(source)
    except FileExistsError:
        raise UsageError(f"{path} exists already. Choose another name; nothing was changed.") from None
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror}). Choose a folder that exists and can be written to."
        ) from None
    typer.echo(f"wrote {path}; try it with: evo-aar evaluate {path}")


def register(app: typer.Typer) -> None:
    app.command("new-recipe")(new_recipe)
