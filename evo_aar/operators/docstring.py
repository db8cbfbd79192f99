"""The docstring of a child: one readable sentence that says what changed, however many generations came
before.
"""

from __future__ import annotations

import re

LONGEST_IDEA = 120
LONGEST_CHANGE = 110
_MARK = "; now "
_DIRECTION = re.compile(r"^[ \t]*Direction:.*$", re.MULTILINE)


def base_idea(docstring: str, longest: int = LONGEST_IDEA) -> str:
    """The idea that a recipe's line began with, without what its own operator added, at most `longest`
    characters.
    """
    first = docstring.split("\n", 1)[0].strip()
    return _shorten(first.split(_MARK, 1)[0].rstrip(" ."), longest)


def child_docstring(parent: str, changes: list[str], direction: str | None) -> str:
    """The parent's docstring with a new first line, and the child's direction."""
    change = _shorten(", ".join(changes), LONGEST_CHANGE)
    rest = parent.split("\n", 1)[1].strip("\n") if "\n" in parent else ""
    rest = _DIRECTION.sub("", rest).strip()
    lines = f"{base_idea(parent)}{_MARK}{change}."
    if direction:
        lines += f"\n\nDirection: {direction}"
    return f"{lines}\n\n{rest}" if rest else lines


def _shorten(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return text[: longest - 3].rsplit(" ", 1)[0].rstrip(",;. ") + "..."
