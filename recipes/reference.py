"""Writes CONTRACT.md, the reference for those who write recipes, from the contract's own signatures and
docstrings.

python -m recipes.reference            write recipes/CONTRACT.md
python -m recipes.reference --check    exit with 1 if the file isn't what would be written
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from recipes import contract, losses, options, task_errors, terms
from recipes.directions import direction, directions
from recipes.source import ALLOWED_MODULES, MAX_BYTES

FILE = Path(__file__).with_name("CONTRACT.md")
EXAMPLE = "distillation"
FILE_RULES = """\
A recipe is one Python file of at most {max_bytes:,} bytes. Its docstring's first line is the idea in one sentence, and a line
`Direction: NAME` says which of the directions it follows. It may import {modules}; no other recipe. It defines one
`async def recipe(task)` and returns a `Student`. Upper-case constants at the top are what the offline operator tunes, so their names
should say what they are (`LEARNING_RATE`, `EPOCHS`, `KEEP`, `NEIGHBOURS`).

Read no files and open no connections: there is nothing to find, and the sandbox will end the trial."""  # noqa: E501
SHAPE = """\
A convention, not a rule. Recipes of this shape can exchange stages, by hand or by crossover of syntax trees:

```python
async def recipe(task):
    targets = await initial_targets(task)        # belief about the labels, [n, 2] float32
    targets = await refine(task, targets)        # any number of stages, of any name -> [n, 2]
    rows = await select(task, targets)           # integer rows to train on, repeats allowed
    return await fit(task, targets, rows)        # trains and returns the student
```

`targets` always covers the whole pool; `fit` takes what it needs with `targets[rows]`. What a recipe doesn't need is left out: without
`initial_targets`, `targets = task.weak_labels`; without `select`, `rows = np.arange(task.size)`. Helpers are plain functions."""  # noqa: E501
CONDUCT = """\
- **Side by side.** `await asyncio.gather(...)` over several requests trains them in one batch: folds, ensembles, co-training.
- **Any student.** The default student is a head on frozen hidden states on some testbeds and LoRA adapters on others. Don't assume
  either: leave `student=` and the hyperparameters open unless they are the idea.
- **Any model.** Where the strong model is an encoder, `task.has_prior` is false. `task.statements` may be empty.
- **The budget** counts tokens, trained and forwarded, of all requests, as many as eight vanilla trainings. Of this, `predict` takes one pass
  over the pool. Cross-fitting and rounds need fewer epochs than a full training: 2 to 5 is enough for an opinion.
- **Randomness** comes from `task.rng` alone: the same seed gives the same student.
- **Class shares.** Nothing says that the classes are balanced. A threshold at the median assumes it; the weak labels' own share is a guess.
- **Failing is not a score.** An error ends the trial with its message as the reason. Catch `BudgetExceeded` to return what there is."""  # noqa: E501
OWN_LOSS = '''\
```python
def peer_pressure(batch):
    """Cross-entropy, less a tenth of the entropy of the student's mean answer."""
    exponent = np.exp(batch.logits - batch.logits.max(axis=1, keepdims=True))
    p = exponent / exponent.sum(axis=1, keepdims=True)
    slope = 0.1 * np.log(p.mean(axis=0))                       # of -0.1 H(mean p), with respect to p
    d_logits = batch.weights[:, None] * (p - batch.targets)
    d_logits += p * (slope - (p * slope).sum(axis=1, keepdims=True))
    return d_logits / len(p)                                   # the gradient of the batch's mean

student = await task.finetune(task.weak_labels, loss=peer_pressure)
```

It is called once a step over the wire, and costs a second forward pass: prefer a named loss where one will do.'''  # noqa: E501


def reference() -> str:
    """The text of CONTRACT.md."""
    tree = ast.parse(inspect.getsource(contract))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    documented = _documented(tree.body) | _documented(ast.parse(inspect.getsource(terms)).body)
    lead = _docstring(tree).split("\n\n", 1)[1]
    modules = ", ".join(f"`{name}`" for name in sorted(ALLOWED_MODULES - {"__future__"}))
    sections = [
        "# The recipe contract",
        "<!-- Written by `python -m recipes.reference` from recipes/contract.py. Change that, not this. -->",
        _indented_as_code(lead),
        "## The file",
        FILE_RULES.format(max_bytes=MAX_BYTES, modules=modules),
        "## Task",
        *_class(classes["Task"]),
        "## Student",
        *_class(classes["Student"]),
        "## Session",
        *_class(classes["Session"]),
        "## Losses",
        _losses(),
        (
            f"Schedules: {', '.join(f'`{name}`' for name in contract.SCHEDULES)}."
            f" {documented['SCHEDULES'].split(': ', 1)[1].capitalize()}"
        ),
        (
            f"Optimisers: {', '.join(f'`{name}`' for name in contract.OPTIMISERS)}."
            f" {documented['OPTIMISERS'].split(': ', 1)[1]}"
        ),
        "## A loss of your own",
        documented["Loss"],
        _docstring(classes["Batch"]),
        OWN_LOSS,
        "## Errors",
        "\n".join(f"- `{name}`: {inspect.getdoc(error)}" for name, error in task_errors.ERRORS.items()),
        "## What to mind",
        CONDUCT,
        "## The shape of our recipes",
        SHAPE,
        "## Directions",
        "\n".join(f"- `{one.name}`: {_idea(one.seed_source)}" for one in directions()),
        "## An example",
        f"```python\n{direction(EXAMPLE).seed_source.rstrip()}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _idea(seed: str) -> str:
    """A seed's idea: the first line of its docstring."""
    return _docstring(ast.parse(seed)).split("\n", 1)[0]


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Raises ValueError where there is none: all that authors can use is explained to them."""
    found = ast.get_docstring(node)
    if found is None:
        raise ValueError(f"{getattr(node, 'name', 'a module')} has no docstring")
    return found


def _losses() -> str:
    rows = ["| loss | options and their defaults | what it is |", "| --- | --- | --- |"]
    for loss in losses.NAMED.values():
        defaults = ", ".join(f"`{option}={value:g}`" for option, value in loss.options.items())
        rows.append(f"| `{loss.name}` | {defaults} | {loss.words} |")
    return "\n".join(rows)


def _class(node: ast.ClassDef) -> Iterator[str]:
    """The class's docstring, its attributes and its public methods."""
    yield _docstring(node)
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    attributes = [
        text for method in methods if method.name == "__init__" for text in _documented(method.body).items()
    ]
    attributes += [(item.name, _docstring(item)) for item in methods if _is_property(item)]
    if attributes:
        yield "\n".join(f"- `{name}`: {' '.join(text.split())}" for name, text in attributes)
    for method in methods:
        if not method.name.startswith("_") and not _is_property(method):
            yield f"### {method.name}"
            yield f"```python\n{_signature(method)}\n```"
            yield _docstring(method)


def _documented(body: list[ast.stmt]) -> dict[str, str]:
    """Assignments that a string follows: the name as a reader knows it, and the string."""
    found = {}
    for statement, after in itertools.pairwise(body):
        if (
            isinstance(statement, ast.Assign | ast.AnnAssign)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            found[ast.unparse(target).removeprefix("self.")] = inspect.cleandoc(after.value.value)
    return found


def _is_property(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in method.decorator_list
    )


def _signature(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """One line, or an argument a line where that is too long. A leading `await` marks what is awaited."""
    call = "await " if isinstance(method, ast.AsyncFunctionDef) else ""
    returns = f" -> {ast.unparse(method.returns)}" if method.returns else ""
    keywords = [
        _argument(ast.unparse(argument), default)
        for argument, default in zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True)
    ]
    if method.args.kwarg is not None:
        keywords += _training_options()
    plain = ast.unparse(ast.arguments([], method.args.args[1:], None, [], [], None, method.args.defaults))
    line = ", ".join(part for part in (plain, *(["*", *keywords] if keywords else [])) if part)
    if not keywords and len(call + method.name + line + returns) <= 108:
        return f"{call}{method.name}({line}){returns}"
    parts = ([plain] if plain else []) + (["*", *keywords] if keywords else [])
    return f"{call}{method.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def _argument(argument: str, default: ast.expr | None) -> str:
    return argument if default is None else f"{argument} = {ast.unparse(default)}"


def _training_options() -> list[str]:
    """The arguments that `options.TrainingOptions` stands for, with their defaults."""
    tree = ast.parse(inspect.getsource(options.TrainingOptions)).body[0]
    assert isinstance(tree, ast.ClassDef)
    defaults = dict(options.DEFAULTS)
    return [
        f"{ast.unparse(field)} = {defaults[ast.unparse(field.target)]!r}"
        for field in tree.body
        if isinstance(field, ast.AnnAssign)
    ]


def _indented_as_code(text: str) -> str:
    """Docstrings indent code by four spaces, which Markdown reads as such; make it a fence."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        f"```python\n{inspect.cleandoc(one)}\n```" if one.startswith("    ") else one for one in paragraphs
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if CONTRACT.md isn't up to date"
    )
    written = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    if not parser.parse_args().check:
        FILE.write_text(reference(), encoding="utf-8")
    elif written != reference():
        sys.exit(
            f"{FILE} is not what recipes/contract.py says: run `python -m recipes.reference` and commit the"
            " result."
        )


if __name__ == "__main__":
    main()
