"""Recipe files as text: the static side of the recipe contract, and what makes two files the same recipe.

`validate` gives whoever wrote a recipe a clear error before anything is run. It is a courtesy and no defence:
Python offers countless ways around an import list, and what keeps a recipe from the labels is the sandbox it
runs in.

Two files that differ only in comments, blank lines, formatting or docstrings are the same recipe: they have
the same `normalised_source` and `source_hash`, and one of them is never evaluated.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import re
from dataclasses import dataclass

from recipes.errors import RecipeError

DIRECTIONS = (
    "unsupervised_elicitation",
    "data_reweighting",
    "weak_to_strong_elicitation",
    "label_posterior",
    "distillation",
    "simplicity_bias",
    "epiplexity",
    "evolution_strategies",
    "interpretability",
)
ALLOWED_MODULES = frozenset(
    (
        "__future__",
        "asyncio",
        "collections",
        "dataclasses",
        "functools",
        "itertools",
        "math",
        "numpy",
        "torch",
        "typing",
        "recipes.contract",
    )
)
MAX_BYTES = 32_768

_DIRECTION_LINE = re.compile(r"^[ \t]*Direction:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class RecipeFile:
    """A recipe file that meets the static contract."""

    source: str
    idea: str
    direction: str | None


@functools.lru_cache(maxsize=8)
def parse(source: str) -> ast.Module:
    """The syntax tree of a recipe file, shared between callers: not to be changed.

    `RecipeError` if it is too large or isn't Python.
    """
    try:
        size = len(source.encode())
    except UnicodeEncodeError as error:
        raise RecipeError("the file is not valid Unicode text", remedy="save it as UTF-8") from error
    if size > MAX_BYTES:
        raise RecipeError(f"the file has {size:,} bytes", remedy=f"a recipe has at most {MAX_BYTES:,}")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise RecipeError(
            f"not Python: {error.msg}", line=error.lineno, remedy="correct the syntax"
        ) from error
    except ValueError as error:
        raise RecipeError(f"not Python: {error}", remedy="correct the syntax") from error
    except (RecursionError, MemoryError) as error:
        raise RecipeError(
            "the expressions are nested too deeply", remedy="name the intermediate results"
        ) from error


@functools.lru_cache(maxsize=1_024)
def validate(source: str) -> RecipeFile:
    """Check a recipe file against the static rules of the contract.

    The rules: Python of at most `MAX_BYTES`; a module docstring whose first line is the idea; a `Direction:`
    line, if there is one, that names a direction (baselines have none); exactly one top-level `async def
    recipe(task)`; no top-level name bound by two definitions; imports from `ALLOWED_MODULES` only.

    Raises:
        RecipeError: naming the first rule that is broken, its line and the remedy.
    """
    tree = parse(source)
    idea, direction = _idea(tree), _direction(tree)
    _check_imports(_statements(source, tree))
    _check_definitions(tree)
    _check_entry_point(tree)
    return RecipeFile(source, idea, direction)


def idea(source: str) -> str:
    """The idea of a recipe: the first line of its docstring."""
    return _idea(parse(source))


def direction(source: str) -> str | None:
    """The research direction a recipe names, or None where it names none (a baseline)."""
    return _direction(parse(source))


def normalised_source(source: str) -> str:
    """A recipe's code with its formatting normalised and without comments and docstrings."""
    return "".join(statement.normalised + "\n" for _, statement in _statements(source, parse(source)))


@functools.lru_cache(maxsize=4_096)
def source_hash(source: str) -> str:
    """The identity of a recipe: 16 hexadecimal digits of the SHA-256 of its normalised source."""
    return hashlib.sha256(normalised_source(source).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class _Statement:
    """What the checks need of a top-level statement: its normal form, and the modules it imports with their
    lines.
    """

    normalised: str
    imports: tuple[tuple[int, str], ...]


def _statements(source: str, tree: ast.Module) -> list[tuple[int, _Statement]]:
    """The first line and the digest of every top-level statement but the module's docstring.

    Children repeat most of their parents' statements word for word, so digests are cached by the statement's
    text.
    """
    body = tree.body[1:] if ast.get_docstring(tree, clean=False) is not None else tree.body
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts = [
        min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))]) for node in body
    ]
    ends = [tree.body[0].end_lineno if len(body) < len(tree.body) else 0, *(node.end_lineno for node in body)]
    shared = [*(start <= before for start, before in zip(starts, ends, strict=False)), False]
    found = []
    for index, (start, node) in enumerate(zip(starts, body, strict=True)):
        # A statement that shares a line with another has no text of its own.
        own_lines = not shared[index] and not shared[index + 1]
        found.append(
            (start, _digest(node, "\n".join(lines[start - 1 : node.end_lineno]) if own_lines else None))
        )
    return found


def _digest(node: ast.stmt, text: str | None) -> _Statement:
    if text is not None:
        try:
            return _digest_text(text)
        except SyntaxError:
            pass  # such as a line that ends in a backslash: digest the node itself
    return _digest_tree(ast.Module([copy.deepcopy(node)], []), node.lineno)


@functools.lru_cache(maxsize=16_384)
def _digest_text(text: str) -> _Statement:
    return _digest_tree(ast.parse(text), 1)


def _digest_tree(tree: ast.Module, first_line: int) -> _Statement:
    imports: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
        elif isinstance(node, ast.Import):
            imports.extend((node.lineno - first_line, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [
                f"{module}.{alias.name}" if module == "recipes" or alias.name == "*" else module
                for alias in node.names
            ]
            imports.extend((node.lineno - first_line, name) for name in names)
    try:
        return _Statement(ast.unparse(tree), tuple(imports))
    except RecursionError as error:
        raise RecipeError(
            "the expressions are nested too deeply", remedy="name the intermediate results"
        ) from error
    except ValueError as error:  # an integer literal beyond the interpreter's digit limit
        raise RecipeError(f"a literal cannot be written out: {error}", remedy="compute it instead") from error


def _drop_docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    if ast.get_docstring(node, clean=False) is not None:
        del node.body[0]
    if not node.body:
        node.body.append(ast.Pass())


def _idea(tree: ast.Module) -> str:
    docstring = ast.get_docstring(tree) or ""
    first = docstring.split("\n", 1)[0].strip()
    if not first:
        raise RecipeError(
            "the recipe states no idea",
            line=1,
            remedy="begin the file with a docstring whose first line is the idea",
        )
    return first


def _direction(tree: ast.Module) -> str | None:
    found = _DIRECTION_LINE.findall(ast.get_docstring(tree) or "")
    if not found:
        return None
    known = f"name one of {', '.join(DIRECTIONS)}"
    if len(found) > 1:
        raise RecipeError(f"the docstring has {len(found)} Direction lines", line=1, remedy="keep one")
    if found[0] not in DIRECTIONS:
        raise RecipeError(f"unknown direction {found[0]!r}", line=1, remedy=known)
    return found[0]


def _check_imports(statements: list[tuple[int, _Statement]]) -> None:
    for start, statement in statements:
        for offset, module in statement.imports:
            line = start + offset
            if module.startswith("."):
                raise RecipeError("relative import", line=line, remedy="a recipe is one file on its own")
            if module.endswith(".*"):
                raise RecipeError(
                    f"import * from {module[:-2]}", line=line, remedy="import the names you use"
                )
            if module not in ALLOWED_MODULES and module.split(".")[0] not in ALLOWED_MODULES:
                raise RecipeError(
                    f"import of {module}",
                    line=line,
                    remedy=f"a recipe may import {', '.join(sorted(ALLOWED_MODULES))}",
                )


def _check_definitions(tree: ast.Module) -> None:
    """Refuse a function or class whose name the top level binds twice: only one of the two would ever be
    meant.
    """
    seen: dict[str, int] = {}
    for node in tree.body:
        names = [node.name] if isinstance(node, (*_FUNCTIONS, ast.ClassDef)) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            if name in seen:
                raise RecipeError(
                    f"{name} is defined twice",
                    line=node.lineno,
                    remedy=f"the first is on line {seen[name]}: drop one",
                )
            seen[name] = node.lineno


def _check_entry_point(tree: ast.Module) -> None:
    entries = [node for node in tree.body if isinstance(node, _FUNCTIONS) and node.name == "recipe"]
    if not entries:
        raise RecipeError(
            "there is no recipe function", remedy="define `async def recipe(task):` at the top level"
        )
    entry = entries[0]
    if not isinstance(entry, ast.AsyncFunctionDef):
        raise RecipeError(
            "recipe is not asynchronous", line=entry.lineno, remedy="write `async def recipe(task):`"
        )
    arguments = entry.args
    others = (
        arguments.posonlyargs
        or arguments.kwonlyargs
        or arguments.vararg
        or arguments.kwarg
        or arguments.defaults
    )
    if others or [argument.arg for argument in arguments.args] != ["task"]:
        raise RecipeError(
            "recipe takes other arguments than the task",
            line=entry.lineno,
            remedy="write `async def recipe(task):`",
        )
    if entry.decorator_list:
        raise RecipeError("recipe is decorated", line=entry.lineno, remedy="leave the decorator out")
