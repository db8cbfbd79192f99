"""Options that several commands have in common."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

Testbed = Annotated[
    str, typer.Option(help="mini/chat, mini/math, mini/code, real/film, or a folder of jsonl files.")
]
Student = Annotated[
    str | None,
    typer.Option(
        help="A kind of student: head, lora, or a plugin's; default: the testbed's.", show_default=False
    ),
]
Strong = Annotated[
    str | None,
    typer.Option(
        help="With a folder of files: the model to fine-tune, by hub name or local folder.",
        show_default=False,
    ),
]
Weak = Annotated[
    str | None,
    typer.Option(
        help="With a folder of files: the weak teacher, a model or 'tfidf' (the default).", show_default=False
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1, help="Worker processes, each a whole trainer; default: one per core.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="Where trainers run: cpu or cuda.")]
CpuSeconds = Annotated[int, typer.Option(min=1, help="Processor time that one trial of a recipe may use.")]
Unsandboxed = Annotated[
    bool,
    typer.Option("--unsandboxed", help="Run recipes without the sandbox; marks every result as untrusted."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Run = Annotated[str, typer.Argument(help="The run's name.", metavar="RUN", show_default=False)]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all runs.", envvar="EVO_AAR_RUNS")]
Price = Annotated[
    list[str],
    typer.Option(
        help=(
            "A model's price, dollars a million tokens: MODEL=INPUT/OUTPUT, or"
            " MODEL=INPUT/OUTPUT/CACHE_WRITE/CACHE_READ."
        )
    ),
]
Prices = Annotated[
    Path | None,
    typer.Option(help="A JSON file of prices, in place of the shipped table.", show_default=False),
]


def spread(**groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose keyword arguments `groups` are dataclasses of options: on the command line it has their
    fields as options of its own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = inspect.signature(command).parameters.values()
        parameters = [one.replace(annotation=hints[one.name]) for one in own if one.name not in groups]
        names: dict[str, list[str]] = {}
        for group, kind in groups.items():
            hints = get_type_hints(kind, vars(sys.modules[kind.__module__]), include_extras=True)
            names[group] = [one.name for one in fields(kind)]
            parameters += [
                inspect.Parameter(
                    one.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if one.default is MISSING else one.default,
                    annotation=hints[one.name],
                )
                for one in fields(kind)
            ]

        @wraps(command)
        def spread_out(**given: Any) -> None:
            made = {
                group: kind(**{name: given.pop(name) for name in names[group]})
                for group, kind in groups.items()
            }
            command(**given, **made)

        spread_out.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        spread_out.__annotations__ = {one.name: one.annotation for one in parameters}
        return spread_out

    return decorate
