"""The prompts: Markdown files with Jinja, and the recipe contract's reference as the code gives it.

A hash of all of it names their version.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Any

import jinja2

from recipes.reference import reference

NAMES = ("conduct", "island", "mutation", "crossover", "draft", "repair")


def render(name: str, **values: Any) -> str:
    """A prompt with its values filled in. Raises `jinja2.UndefinedError` where one is missing."""
    return _environment().get_template(f"{name}.md").render(**values)


@functools.cache
def conduct() -> str:
    """What every agent is told, whatever its island: the most stable part of a prompt."""
    return render("conduct", contract=reference())


@functools.cache
def version() -> str:
    """12 hexadecimal digits over all prompts, the contract included."""
    digest = hashlib.sha256(reference().encode())
    for name in NAMES:
        digest.update(_text(name).encode())
    return digest.hexdigest()[:12]


@functools.cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: _text(name.removesuffix(".md")))
    return jinja2.Environment(
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("prompts", f"{name}.md").read_text(encoding="utf-8")
