"""Pieces of the Markdown descriptions that MLflow shows on a run's page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from population.fitness import Fitness


def escaped(text: str) -> str:
    """`text` on one line, with nothing that Markdown, HTML or a table would read as its own."""
    text = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def bullet(name: str, text: str) -> str:
    return f"* **{name}**: {text}"


def code(text: str, language: str = "") -> str:
    """A block of code, fenced by more backticks than it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; MLflow puts no space between columns, so the cells bring some."""
    lines = [f"| {' | '.join(f'{cell}&nbsp;&nbsp;' for cell in cells)} |" for cells in (columns, *rows)]
    lines.insert(1, "|" + " --- |" * len(columns))
    return "\n".join(lines)


def measured(fitness: Fitness | None) -> str:
    """Mean PGR, its standard error and the number of trials."""
    if fitness is None:
        return "none"
    error = (
        ""
        if fitness.standard_error is None
        else f"\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}{fitness.standard_error:.3f}"
    )
    return f"{fitness.mean:.3f}{error} ({fitness.trials} trial{'s' if fitness.trials > 1 else ''})"
