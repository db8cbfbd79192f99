"""How figures, texts and tables look on a terminal, the same in every command."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 160
BARS = "▁▂▃▄▅▆▇█"
NOTHING = "—"


def output() -> Console:
    """Where results go: standard output, wide enough for every table where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def notices() -> Console:
    """Where progress and remarks go: standard error, so that results can be piped."""
    return Console(stderr=True, highlight=False)


def progress(console: Console) -> Progress:
    """A progress bar with an estimate of the rest.

    It leaves no trace when it ends, and isn't there where nobody watches.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        TextColumn("rest about"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def plain(text: object) -> Text:
    """A text that others wrote, as it is: no markup, and no control characters that a terminal would act
    upon.
    """
    return Text("".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in str(text)))


def number(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def plus_minus(mean: float | None, error: float | None, digits: int = 3) -> str:
    """A mean with its standard error, where it has one."""
    known = mean is not None and error is not None and math.isfinite(error)
    return number(mean, digits) + (f" ± {error:.{digits}f}" if known else "")


def sparkline(values: Sequence[float | None]) -> str:
    """A curve in one line of text, scaled to its own range; a space where a value is unknown."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)

    def bar(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return " "
        return BARS[min(len(BARS) - 1, int((value - low) / span * len(BARS))) if span else 0]

    return "".join(bar(value) for value in values)


def curve(values: Sequence[float | None]) -> str:
    """A sparkline between its first and last value."""
    ends = [number(values[place]) for place in (0, -1)] if values else [NOTHING, NOTHING]
    return f"{ends[0]} {sparkline(values)} {ends[1]}"


def table(title: str, *columns: str, right: Sequence[str] = (), caption: str | None = None) -> Table:
    """An empty table; the columns named in `right` are aligned to the right."""
    made = Table(
        title=Text(title), title_justify="left", caption=caption and Text(caption), caption_justify="left"
    )
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made


def facts(title: str, rows: Sequence[tuple[str, object]]) -> Group:
    """A titled table of names and values."""
    made = Table(show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value if isinstance(value, Text) else plain(value))
    return Group(Text(title, style="italic"), made)  # a table's own title would be as narrow as the table


def audits_table(audits: Sequence) -> Table:
    """Audits of one recipe: verdict, what was found, p after Holm's correction."""
    made = table("Audits", "audit", "verdict", "what it found", "p (Holm)", right=("p (Holm)",))
    for one in audits:
        made.add_row(one.audit, one.verdict, plain(one.words), number(one.p))
    return made
