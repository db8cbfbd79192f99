"""The body of `recipe` read as a pipeline: where stages can be put, and which line calls which function.

    targets = ...                                 a start: any top-level assignment to targets
    targets = await NAME(task, targets)           a stage
    rows = await NAME(task, targets)              the selection (or any other assignment to rows)
    return await NAME(task, targets, rows)        the fit

A recipe of another shape is a pipeline with fewer lines, or none.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import libcst as cst

from evo_aar.operators.edits import parse_part
from evo_aar.operators.genome import Inapplicable

STAGE = ("task", "targets")
FIT = ("task", "targets", "rows")


@dataclass(frozen=True)
class Line:
    """A line of the pipeline: its place in the body, its role, and the function that it awaits ("" for
    another expression).
    """

    index: int
    role: str
    function: str


@functools.lru_cache(maxsize=2_048)
def pipeline(code: str) -> tuple[Line, ...]:
    """The pipeline lines of a `recipe` function's code. Roles: "start", "stage", "select", "fit"."""
    lines = []
    for index, statement in enumerate(_body(code)):
        if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
            continue
        inner = statement.body[0]
        if isinstance(inner, cst.Return) and inner.value is not None:
            name = _awaited(inner.value, FIT)
            if name:
                lines.append(Line(index, "fit", name))
        elif (
            isinstance(inner, cst.Assign)
            and len(inner.targets) == 1
            and isinstance(inner.targets[0].target, cst.Name)
        ):
            target, name = inner.targets[0].target.value, _awaited(inner.value, STAGE)
            if target == "targets":
                lines.append(Line(index, "stage" if name else "start", name))
            elif target == "rows":
                lines.append(Line(index, "select", name))
    return tuple(lines)


def insert(code: str, index: int, statement: str) -> str:
    """The function's code with a statement put at a place in its body."""
    body = _body(code)
    body.insert(index, cst.parse_statement(statement))
    return _with_body(code, body)


def replace(code: str, index: int, statement: str) -> str:
    """The function's code with another statement at that place; comments above the line stay, one beside it
    goes.
    """
    body = _body(code)
    body[index] = cst.parse_statement(statement).with_changes(leading_lines=body[index].leading_lines)
    return _with_body(code, body)


def remove(code: str, index: int) -> str:
    """The function's code without the statement at that place."""
    body = _body(code)
    del body[index]
    return _with_body(code, body)


def stage_line(name: str) -> str:
    return f"targets = await {name}(task, targets)\n"


def select_line(name: str) -> str:
    return f"rows = await {name}(task, targets)\n"


def fit_line(name: str) -> str:
    return f"return await {name}(task, targets, rows)\n"


Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement


def _function(code: str) -> cst.FunctionDef:
    function = parse_part(code).body[-1]
    if not isinstance(function, cst.FunctionDef):
        raise Inapplicable("it is no function")
    return function


def _body(code: str) -> list[Statement]:
    block = _function(code).body
    if not isinstance(block, cst.IndentedBlock):
        raise Inapplicable("the function's body stands on its first line")
    return [one for one in block.body if isinstance(one, cst.SimpleStatementLine | cst.BaseCompoundStatement)]


def _with_body(code: str, body: list[Statement]) -> str:
    module = parse_part(code)
    function = _function(code)
    function = function.with_changes(body=function.body.with_changes(body=body))
    return module.with_changes(body=[*module.body[:-1], function]).code.rstrip("\n")


def _awaited(value: cst.BaseExpression, arguments: tuple[str, ...]) -> str:
    """NAME where the value is `await NAME(*arguments)`, "" where it isn't."""
    if (
        not isinstance(value, cst.Await)
        or not isinstance(value.expression, cst.Call)
        or not isinstance(value.expression.func, cst.Name)
    ):
        return ""
    given = value.expression.args
    names = [argument.value.value for argument in given if isinstance(argument.value, cst.Name)]
    plain = all(argument.keyword is None and argument.star == "" for argument in given)
    if not plain or len(names) < len(given) or tuple(names) != arguments:
        return ""
    return value.expression.func.value
