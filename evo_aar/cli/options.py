"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Testbed = Annotated[
    str, typer.Option(help="mini/chat, mini/math, mini/code, real/film, or a folder of jsonl files.")
]
Student = Annotated[
    str | None, typer.Option(help="head or lora; default: the testbed's.", show_default=False)
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
