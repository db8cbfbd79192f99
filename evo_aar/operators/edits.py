"""Edits of one top-level part of a recipe through libcst, which keep its comments and layout."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import libcst as cst

from evo_aar.operators.genome import Inapplicable, local_names

TRAINING_CALLS = ("finetune", "probe")
LONGEST_LINE = 120


@functools.lru_cache(maxsize=128)
def parse_part(code: str) -> cst.Module:
    return cst.parse_module(code)


def assign(code: str, literal: str) -> str:
    """`NAME = old` with `literal` as its value."""
    module = parse_part(code)
    line, statement = _assignment(module)
    statement = statement.with_changes(value=cst.parse_expression(literal))
    return module.with_changes(body=[*module.body[:-1], line.with_changes(body=[statement])]).code.rstrip(
        "\n"
    )


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


@dataclass(frozen=True)
class TrainingCall:
    """A `task.finetune(...)` or `task.probe(...)` call: the text of its keyword arguments by name, and its
    own.
    """

    keywords: Mapping[str, str]
    text: str


@functools.lru_cache(maxsize=4_096)
def training_calls(code: str) -> tuple[TrainingCall, ...]:
    """The training calls of a part, in order, but for those that unpack arguments."""
    if not any(f".{name}(" in code for name in TRAINING_CALLS):
        return ()
    module = parse_part(code)
    collector = _TrainingCalls()
    module.visit(collector)
    return tuple(
        TrainingCall(
            {
                argument.keyword.value: module.code_for_node(argument.value)
                for argument in call.args
                if argument.keyword
            },
            module.code_for_node(call),
        )
        for call in collector.calls
    )


def _is_training_call(node: cst.Call) -> bool:
    of_task = isinstance(node.func, cst.Attribute) and node.func.attr.value in TRAINING_CALLS
    return of_task and all(argument.star == "" for argument in node.args)


class _TrainingCalls(cst.CSTVisitor):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[cst.Call] = []

    def visit_Call(self, node: cst.Call) -> None:
        if _is_training_call(node):
            self.calls.append(node)


def set_keywords(code: str, index: int, values: Mapping[str, str | None]) -> str:
    """The code with keywords of the `index`-th of its `training_calls` set to expressions (text), or dropped
    where None.
    """
    if "\n" not in training_calls(code)[index].text:
        short = parse_part(code).visit(_KeywordSetter(index, values, laid_out=False)).code
        if max(len(line) for line in short.splitlines()) <= LONGEST_LINE:
            return short
    return parse_part(code).visit(_KeywordSetter(index, values, laid_out=True)).code


class _KeywordSetter(cst.CSTTransformer):
    """Rewrites one training call, on one line or (`laid_out`) with an argument a line."""

    def __init__(self, index: int, values: Mapping[str, str | None], *, laid_out: bool) -> None:
        super().__init__()
        self._index, self._values, self._laid_out, self._count = index, values, laid_out, 0
        self._chosen: cst.Call | None = None

    def visit_Call(self, node: cst.Call) -> None:
        if _is_training_call(node):
            if self._count == self._index:
                self._chosen = node
            self._count += 1

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        if original_node is not self._chosen:
            return updated_node
        texts, waiting = [], dict(self._values)
        module = cst.Module([])
        for argument in updated_node.args:
            name = argument.keyword.value if argument.keyword else None
            value = waiting.pop(name) if name in waiting else module.code_for_node(argument.value)
            if value is not None:
                texts.append(f"{name}={value}" if name else value)
        texts.extend(f"{name}={value}" for name, value in waiting.items() if value is not None)
        call = cst.ensure_type(cst.parse_expression(f"f({', '.join(texts)})"), cst.Call)
        if not self._laid_out:
            return updated_node.with_changes(args=call.args, whitespace_before_args=cst.SimpleWhitespace(""))
        inner = cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace("    "))
        outer = cst.ParenthesizedWhitespace(indent=True, last_line=cst.SimpleWhitespace(""))
        arguments = [argument.with_changes(comma=cst.Comma(whitespace_after=inner)) for argument in call.args]
        arguments[-1] = arguments[-1].with_changes(comma=cst.Comma(whitespace_after=outer))
        return updated_node.with_changes(args=arguments, whitespace_before_args=inner)


def drop_unused_local(code: str, name: str) -> str:
    """The function's code without its assignment to a local name that nothing reads any more."""
    module = parse_part(code)
    counter = _Reads(name)
    module.visit(counter)
    return module.visit(_AssignmentRemover(name)).code if counter.count == 0 else code


class _Reads(cst.CSTVisitor):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name, self.count = name, 0

    def visit_Name(self, node: cst.Name) -> None:
        self.count += node.value == self._name

    def visit_AssignTarget(self, node: cst.AssignTarget) -> bool:
        return not isinstance(node.target, cst.Name)

    def visit_Arg_keyword(self, node: cst.Arg) -> None:
        self.count -= node.keyword is not None and node.keyword.value == self._name


class _AssignmentRemover(cst.CSTTransformer):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.RemovalSentinel:
        first = updated_node.body[0]
        targets = first.targets if isinstance(first, cst.Assign) and len(updated_node.body) == 1 else ()
        found = (
            len(targets) == 1
            and isinstance(targets[0].target, cst.Name)
            and targets[0].target.value == self._name
        )
        return cst.RemoveFromParent() if found else updated_node


def value_text(code: str) -> str:
    """The text of the value of `NAME = value`."""
    value = _assignment(parse_part(code))[1].value
    return cst.Module([]).code_for_node(value) if value is not None else ""


def _assignment(module: cst.Module) -> tuple[cst.SimpleStatementLine, cst.Assign | cst.AnnAssign]:
    """A constant's line, and the statement in it."""
    line = module.body[-1]
    statement = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    if not isinstance(line, cst.SimpleStatementLine) or not isinstance(statement, cst.Assign | cst.AnnAssign):
        raise Inapplicable("it is no constant")
    return line, statement
