"""The registered kinds of student."""

from __future__ import annotations

from evaluator import plugins
from evaluator.errors import EvaluatorError
from evaluator.kinds.kind import StudentKind

_KINDS: dict[str, StudentKind] = {}


def register(kind: StudentKind) -> None:
    """Make a kind of student known. Raises ValueError where another has its name."""
    if kind.name in _KINDS:
        raise ValueError(f"there is a kind of student {kind.name!r} already: give this one another name")
    _KINDS[kind.name] = kind


def unregister(name: str) -> None:
    """Take a kind back, for another of its name. Raises KeyError where there is none."""
    del _KINDS[name]


def names() -> tuple[str, ...]:
    """The registered kinds' names, in the order of their registration."""
    plugins.load()
    return tuple(_KINDS)


def kind(name: str) -> StudentKind:
    """The kind of this name. Raises EvaluatorError, naming the known ones."""
    plugins.load()
    if name not in _KINDS:
        raise EvaluatorError(f"no kind of student {name!r}. Choose one of {', '.join(_KINDS)}.")
    return _KINDS[name]
