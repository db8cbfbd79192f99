"""Edits of one top-level part of a recipe through libcst, which keep its comments and layout."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import libcst as cst

from evo_aar.operators.genome import Inapplicable, local_names

TRAINING_CALLS = ("finetune", "probe")


@functools.lru_cache(maxsize=2_048)
def parse_part(code: str) -> cst.Module:
    return cst.parse_module(code)


def assign(code: str, literal: str) -> str:
    """`NAME = old` with `literal` as its value."""
    module = parse_part(code)
    line = module.body[-1]
    statement = line.body[0].with_changes(value=cst.parse_expression(literal))
    return module.with_changes(body=[*module.body[:-1], line.with_changes(body=[statement])]).code.rstrip("\n")


def rename(code: str, names: Mapping[str, str]) -> str:
    """The code with module-level names renamed; `Inapplicable` where one of them is also a local name."""
    if not names:
        return code
    if local_names(code) & (names.keys() | set(names.values())):
        raise Inapplicable("a name to change is also a local name")
    return parse_part(code).visit(_Renamer(names)).code


class _Renamer(cst.CSTTransformer):
    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__()
        self._names = names

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:
        return updated_node.with_changes(value=self._names.get(updated_node.value, updated_node.value))

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:
        return updated_node.with_changes(keyword=original_node.keyword)


def training_calls(code: str) -> list[cst.Call]:
    """The `task.finetune(...)` and `task.probe(...)` calls of a part, in order, without those that unpack keywords."""
    collector = _TrainingCalls()
    parse_part(code).visit(collector)
    return collector.calls


class _TrainingCalls(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        of_task = isinstance(node.func, cst.Attribute) and node.func.attr.value in TRAINING_CALLS
        if of_task and all(argument.star == "" for argument in node.args):
            self.calls.append(node)


def keyword(call: cst.Call, name: str) -> cst.BaseExpression | None:
    """The expression a call passes by that keyword, or None."""
    return next((argument.value for argument in call.args if argument.keyword and argument.keyword.value == name), None)


def set_keywords(code: str, call: cst.Call, values: Mapping[str, str | None]) -> str:
    """The code with keywords of one of its `training_calls` set to expressions (text), or dropped where None."""
    arguments = []
    waiting = dict(values)
    for argument in call.args:
        name = argument.keyword.value if argument.keyword else None
        if name not in waiting:
            arguments.append(argument)
            continue
        value = waiting.pop(name)
        if value is not None:
            arguments.append(argument.with_changes(value=cst.parse_expression(value)))
    for name, value in waiting.items():
        if value is not None:
            equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
            arguments.append(cst.Arg(cst.parse_expression(value), keyword=cst.Name(name), equal=equal))
    if arguments:
        spaced = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
        arguments = [
            argument if isinstance(argument.comma, cst.Comma) else argument.with_changes(comma=spaced)
            for argument in arguments[:-1]
        ] + [arguments[-1] if arguments[-1] is call.args[-1] else arguments[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)]
    return parse_part(code).deep_replace(call, call.with_changes(args=arguments)).code


def value_text(code: str) -> str:
    """The text of the value of `NAME = value`."""
    return cst.Module([]).code_for_node(parse_part(code).body[-1].body[0].value)
