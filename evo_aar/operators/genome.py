"""A recipe file as a list of named top-level parts, which operators exchange.

The parts keep their own text, comments included; what a part uses of the others comes from Python's symbol
tables. The rest of the package edits single parts (through libcst, in `edits`), and `Genome.render` puts the
file together again with the imports it needs, uniform blank lines and nothing that `recipe` doesn't use.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import symtable
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from recipes import source as recipe_source

ENTRY = "recipe"
BUILTINS = frozenset(dir(builtins)) | {"__name__", "__doc__"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Inapplicable(Exception):
    """This edit has nothing to work on in this recipe; another may."""


@dataclass(frozen=True)
class Import:
    """One name bound by an import: `import module as alias`, or `from module import name as alias`."""

    module: str
    name: str | None = None
    alias: str | None = None

    @property
    def binding(self) -> str:
        return self.alias or self.name or self.module.split(".")[0]

    def render(self) -> str:
        text = f"from {self.module} import {self.name}" if self.name else f"import {self.module}"
        return f"{text} as {self.alias}" if self.alias else text


@dataclass(frozen=True)
class Part:
    """A top-level statement: a definition (function or class), a constant (`NAME = ...`) or any other.

    `code` holds the statement and the comments above it. `spaced` says that a blank line precedes it in a run
    of constants.
    """

    kind: Literal["constant", "definition", "other"]
    name: str  # "" for other statements
    code: str
    spaced: bool = False

    @property
    def uses(self) -> frozenset[str]:
        return global_names(self.code)

    @property
    def value(self) -> Any:
        """The value of a constant that is a literal; raises `Inapplicable` where it is an expression."""
        return literal_value(self.code)

    @property
    def meaning(self) -> str:
        """The code without formatting, comments and docstrings."""
        return recipe_source.normalised_source(self.code)

    @property
    def parameters(self) -> tuple[str, ...] | None:
        """The parameter names of a plain `async def`, or None."""
        return coroutine_parameters(self.code) if self.kind == "definition" else None


@dataclass(frozen=True)
class Genome:
    """A recipe file taken apart. Part names are unique; edits return new genomes."""

    docstring: str
    imports: tuple[Import, ...]
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    @functools.cached_property
    def names(self) -> frozenset[str]:
        return frozenset(part.name for part in self.parts if part.name)

    @functools.cached_property
    def bindings(self) -> frozenset[str]:
        """Every name bound at the top level."""
        other = (assigned_names(part.code) for part in self.parts if part.kind == "other")
        return self.names.union((item.binding for item in self.imports), *other)

    @property
    def constants(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.kind == "constant")

    @property
    def coroutines(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.parameters is not None)

    def with_code(self, name: str, code: str) -> Genome:
        """The genome with another text for the part of that name."""
        parts = tuple(
            dataclasses.replace(part, code=code) if part.name == name else part for part in self.parts
        )
        return dataclasses.replace(self, parts=parts)

    def with_constant(self, name: str, literal: str) -> Genome:
        """The genome with one more constant, below the others."""
        return self.with_parts([Part("constant", name, f"{name} = {literal}")])

    def with_import(self, item: Import) -> Genome:
        """The genome with one more import; `Inapplicable` if its name already means something else."""
        if item in self.imports:
            return self
        plain = {
            held.name is None and held.alias is None
            for held in (*self.imports, item)
            if held.binding == item.binding
        }
        if item.binding in self.bindings and plain != {True}:
            raise Inapplicable(f"{item.binding} already means something else")
        return dataclasses.replace(self, imports=(*self.imports, item))

    def with_parts(self, new: Iterable[Part]) -> Genome:
        """The genome with more parts: constants below the constants, definitions above `recipe` (or last, if
        it is first).
        """
        new = list(new)
        parts = list(self.parts)
        definitions = [index for index, part in enumerate(parts) if part.kind == "definition"]
        above = [part for part in new if part.kind == "definition"]
        if definitions and parts[definitions[0]].name != ENTRY and ENTRY in self.names:
            at = next(index for index, part in enumerate(parts) if part.name == ENTRY)
            parts[at:at] = above
        else:
            parts.extend(above)
        at = definitions[0] if definitions else len(parts) - len(above)
        while (
            at > 0 and parts[at - 1].kind == "other" and any(part.kind == "constant" for part in parts[:at])
        ):
            at -= 1
        parts[at:at] = [part for part in new if part.kind == "constant"]
        return dataclasses.replace(self, parts=tuple(parts))

    def without(self, names: Iterable[str]) -> Genome:
        gone = frozenset(names)
        return dataclasses.replace(self, parts=tuple(part for part in self.parts if part.name not in gone))

    def reachable(self, extra: Iterable[str] = ()) -> frozenset[str]:
        """The names that `recipe`, the unnamed statements and `extra` use, directly or through
        other parts.
        """
        roots = {ENTRY, *extra}.union(*(part.uses for part in self.parts if part.kind == "other"))
        parts = self.uses_of(*roots)
        return frozenset(roots.union(*(part.uses for part in self.parts if part.name in parts)))

    def uses_of(self, *names: str) -> frozenset[str]:
        """Those of the parts' names that these parts use, themselves included, directly or through other
        parts.
        """
        table = {part.name: part for part in self.parts if part.name}
        seen: set[str] = set()
        waiting = [name for name in names if name in table]
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(table[name].uses & table.keys())
        return frozenset(seen)

    def undefined(self) -> frozenset[str]:
        """The names that some part uses and nothing defines."""
        return frozenset().union(*(part.uses for part in self.parts)) - self.bindings

    def pruned(self) -> Genome:
        """The genome without the parts and imports that nothing uses."""
        used = self.reachable()
        parts = tuple(part for part in self.parts if part.kind == "other" or part.name in used)
        imports = tuple(item for item in self.imports if item.module == "__future__" or item.binding in used)
        return Genome(self.docstring, imports, parts)

    def render(self) -> str:
        """The file's text."""
        text = _render_docstring(self.docstring) + _render_imports(self.imports)
        previous = "import" if self.imports else "docstring"
        for part in self.parts:
            if part.kind == "definition" or previous == "definition":
                text += "\n\n"
            elif part.kind != "constant" or previous != "constant" or part.spaced:
                text += "\n"
            text += part.code + "\n"
            previous = part.kind
        return text


@functools.lru_cache(maxsize=512)
def read_genome(source: str) -> Genome:
    """Take a recipe file apart. Raises `recipes.errors.RecipeError` if it isn't Python."""
    tree = recipe_source.parse(source)
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    starts = [
        min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]) for node in tree.body
    ]
    if any(start <= before.end_lineno for start, before in zip(starts[1:], tree.body, strict=False)):
        # Statements that share a line have no text of their own: write the file out afresh.
        return read_genome(ast.unparse(tree))
    imports: list[Import] = []
    parts: list[Part] = []
    previous_end = 0
    for position, (start, node) in enumerate(zip(starts, tree.body, strict=True)):
        above = lines[previous_end : start - 1]
        comments = [line.strip() for line in above if line.strip().startswith("#")]
        code = "\n".join(
            [
                *comments,
                *(
                    line.rstrip() if node.lineno == node.end_lineno else line
                    for line in lines[start - 1 : node.end_lineno]
                ),
            ]
        )
        previous_end = node.end_lineno or node.lineno
        if isinstance(node, ast.Import):
            imports.extend(Import(alias.name, None, alias.asname) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.extend(Import(node.module or "", alias.name, alias.asname) for alias in node.names)
        elif position > 0 or ast.get_docstring(tree) is None:
            spaced = bool(parts) and any(not line.strip() for line in above)
            parts.append(Part(*_classify(node), code, spaced))
    return Genome(ast.get_docstring(tree) or "", tuple(dict.fromkeys(imports)), tuple(parts))


def _classify(node: ast.stmt) -> tuple[Literal["constant", "definition", "other"], str]:
    if isinstance(node, _DEFINITIONS):
        return "definition", node.name
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return "constant", node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
        return "constant", node.target.id
    return "other", ""


@functools.lru_cache(maxsize=16_384)
def global_names(code: str) -> frozenset[str]:
    """The module-level names that a piece of code reads, without the builtins."""
    names: set[str] = set()
    waiting = [symtable.symtable(code, "recipe", "exec")]
    while waiting:
        table = waiting.pop()
        waiting.extend(table.get_children())
        for symbol in table.get_symbols():
            module_level = table.get_type() == "module" or symbol.is_global()
            if module_level and (symbol.is_referenced() or symbol.is_declared_global()):
                names.add(symbol.get_name())
    return frozenset(names - BUILTINS)


@functools.lru_cache(maxsize=4_096)
def local_names(code: str) -> frozenset[str]:
    """The names that a piece of code binds in any scope below the module."""
    names: set[str] = set()
    waiting = list(symtable.symtable(code, "recipe", "exec").get_children())
    while waiting:
        table = waiting.pop()
        waiting.extend(table.get_children())
        names.update(
            symbol.get_name() for symbol in table.get_symbols() if symbol.is_local() or symbol.is_free()
        )
    return frozenset(names)


@functools.lru_cache(maxsize=4_096)
def assigned_names(code: str) -> frozenset[str]:
    """The names that a top-level statement binds in the module."""
    table = symtable.symtable(code, "recipe", "exec")
    return frozenset(
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    )


@functools.lru_cache(maxsize=16_384)
def literal_value(code: str) -> Any:
    node = ast.parse(code).body[-1]
    value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
    if value is None:
        raise Inapplicable("the constant has no value")
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError) as error:
        raise Inapplicable("the constant is an expression") from error


@functools.lru_cache(maxsize=16_384)
def coroutine_parameters(code: str) -> tuple[str, ...] | None:
    node = ast.parse(code).body[-1]
    if not isinstance(node, ast.AsyncFunctionDef) or node.decorator_list:
        return None
    arguments = node.args
    if (
        arguments.posonlyargs
        or arguments.kwonlyargs
        or arguments.vararg
        or arguments.kwarg
        or arguments.defaults
    ):
        return None
    return tuple(argument.arg for argument in arguments.args)


def _render_docstring(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    end = "\n" if "\n" in text else ""
    if not end and escaped.endswith('"'):
        escaped = escaped[:-1] + '\\"'
    return f'"""{escaped}{end}"""\n'


def _render_imports(imports: tuple[Import, ...]) -> str:
    groups: dict[int, set[str]] = {}
    froms: dict[str, set[str]] = {}
    for item in imports:
        if item.name:
            froms.setdefault(item.module, set()).add(item.render().split(" import ", 1)[1])
        else:
            groups.setdefault(_group(item.module), set()).add(item.render())
    lines = {group: sorted(statements) for group, statements in groups.items()}
    for module in sorted(froms):
        lines.setdefault(_group(module), []).append(
            f"from {module} import {', '.join(sorted(froms[module]))}"
        )
    return "".join("\n" + "".join(f"{line}\n" for line in lines[group]) for group in sorted(lines))


def _group(module: str) -> int:
    root = module.split(".")[0]
    return {"__future__": 0, "numpy": 2, "torch": 2, "recipes": 3}.get(root, 1)
