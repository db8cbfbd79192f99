"""What a run shall look like in MLflow, as plain data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from population.jsontext import digest

Link = Callable[[str], str]
"""From a run's key to a place in MLflow's user interface, for Markdown."""

# Tags by which a run is found again. LOGGED is written last: a run that has its record's digest (and its
# parent's) there is whole.
IDENTITY, KEY, KIND, LOGGED, TRACED = "search", "key", "kind", "logged", "traces"
SEARCH = "search"
RUNNING, FINISHED, FAILED, KILLED = "RUNNING", "FINISHED", "FAILED", "KILLED"
NOTE_LENGTH = 7_500
"""MLflow cuts a tag at 8,000 characters."""


def island_key(number: int) -> str:
    return f"island-{number}"


class Point(NamedTuple):
    """One value of a metric."""

    key: str
    step: int
    value: float


@dataclass(frozen=True)
class Span:
    """One step of a conversation: a reply of a model or a call of a tool. Times are Unix nanoseconds."""

    name: str
    kind: str
    began: int
    ended: int
    inputs: Any
    outputs: Any
    attributes: Mapping[str, Any] = field(default_factory=dict)
    failed: bool = False


@dataclass(frozen=True)
class Trace:
    """One call of an operator, whole: `name` is unique within its run."""

    name: str
    spans: tuple[Span, ...]
    inputs: Any
    outputs: Any
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One run, whole.

    `key` identifies it within its search: "search", "island-3", or an individual's id; `parent` is the key of
    the run that it is nested in; `artifacts` are texts by file name; `status` is that of MLflow; `seconds`
    the duration that an ended run shows, None for that of its own tracking; `traces` are linked to it.
    """

    key: str
    kind: str
    name: str
    parent: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    status: str = RUNNING
    seconds: float | None = None
    traces: tuple[Trace, ...] = ()

    @property
    def digest(self) -> str:
        """Equal for records that would be logged alike; the status, which MLflow tells by
        itself, left out.
        """
        return digest([self.params, self.points, self.tags, self.note, self.artifacts])


def points(step: int, values: Mapping[str, float | None]) -> list[Point]:
    """The values that are numbers, as points of one step. What is unknown is no point: it isn't 0."""
    return [Point(key, step, float(value)) for key, value in values.items() if is_number(value)]


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)


def named(text: str) -> str:
    """`text` as a part of a metric's name, which has no other characters than these."""
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-. ") else "_" for letter in text
    )
