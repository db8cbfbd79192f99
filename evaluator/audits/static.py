"""The static read: what a recipe's text alone gives away. It runs nothing.

It looks for long literals (a table of facts or of labels), for random generators that the trial has not
seeded, and for imports outside the contract. It is a reader, no defence: Python has countless ways to hide a
table from a reader, and what keeps one out of a recipe is that there is nothing to fill it with. The audits
that change the world see what this one can't.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from recipes.errors import RecipeError
from recipes.source import parse, validate

MAX_CHARACTERS = 120
"""Of one string or bytes literal that is no docstring."""
MAX_DIGITS = 24
MAX_ELEMENTS = 24
"""Constants in one display (list, tuple, set, dict), nested ones included.

The seeds and what the operators write stay below six.
"""
MAX_CONSTANTS = 400
"""Numbers and strings in the whole file. The largest seed has under 150."""
SEEDERS = frozenset(
    ("seed", "manual_seed", "default_rng", "RandomState", "Generator", "SeedSequence", "PCG64", "set_state")
)


class Remark(NamedTuple):
    """Something that the read found: whether it makes the recipe fail or only flags it, where, and what."""

    fails: bool
    line: int
    words: str


def read(source: str) -> list[Remark]:
    """All remarks on a recipe's text, by line; none for an honest one."""
    try:
        validate(source)
    except RecipeError as error:
        return [Remark(True, error.line or 1, str(error))]
    tree = parse(source)
    documentation = _docstrings(tree)
    found, constants = [], 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            constants += not isinstance(node.value, bool | None)
            found += _literal(node)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set | ast.Dict):
            count = sum(isinstance(one, ast.Constant) for one in ast.walk(node))
            if count > MAX_ELEMENTS:
                found.append(Remark(True, node.lineno, f"a literal of {count} constants"))
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in SEEDERS:
                found.append(
                    Remark(
                        False,
                        node.lineno,
                        f"{name}(...): random numbers that the trial's seed does not govern",
                    )
                )
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and node.attr in ("rng", "bit_generator", "state")
        ):
            found.append(
                Remark(
                    False,
                    node.lineno,
                    f"sets .{node.attr}: random numbers that the trial's seed does not govern",
                )
            )
    if constants > MAX_CONSTANTS:
        found.append(Remark(True, 1, f"{constants} constants in all"))
    return sorted(set(found), key=lambda remark: (remark.line, remark.words))


def _literal(node: ast.Constant) -> list[Remark]:
    value = node.value
    if isinstance(value, str | bytes) and len(value) > MAX_CHARACTERS:
        return [Remark(True, node.lineno, f"a literal of {len(value)} characters")]
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        return [Remark(True, node.lineno, f"a number of more than {MAX_DIGITS} digits")]
    return []


def _docstrings(tree: ast.Module) -> set[int]:
    """The identities of the nodes that are docstrings."""
    owners = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    firsts = [node.body[0] for node in owners if node.body]
    return {
        id(one.value)
        for one in firsts
        if isinstance(one, ast.Expr)
        and isinstance(one.value, ast.Constant)
        and isinstance(one.value.value, str)
    }
