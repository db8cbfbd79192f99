"""What an attack is: a recipe that tries something, and how its effect, not its own word, is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PRELUDE = '''"""An attack."""
import asyncio, ctypes, gc, json, os, signal, socket, sys, time
import numpy as np
import torch
F = json.loads({facts!r})
libc = ctypes.CDLL(None, use_errno=True)


def tell(*found):
    print(*(repr(one)[:3000] for one in found))


def attempt(do, *arguments):
    try:
        return do(*arguments)
    except BaseException as error:
        return type(error).__name__


def read(path):
    with open(path, "rb") as file:
        return file.read(2000)


def syscall(number, *arguments):
    return libc.syscall(number, *arguments)


async def recipe(task):
'''

Effect = Callable[["object", "object"], "str | None"]
"""Looks at the world and at the trial's outcome; says what the attack reached, or None."""


@dataclass(frozen=True)
class Attack:
    """`body` is the recipe's; `effect` looks at what came of it.

    `reaches`: without a sandbox it reaches its aim, which is how the tests know that it is one. It must harm
    nothing but the decoys then.
    """

    name: str
    body: str
    effect: Effect
    reaches: bool = False

    def source(self, facts: str) -> str:
        lines = self.body.strip("\n").splitlines()
        return PRELUDE.replace("{facts!r}", repr(facts)) + "".join(f"    {line}\n" for line in lines)


# ---- effects


def kept(world, outcome) -> str | None:
    """No secret came back: not in what the recipe printed, nor in what it failed with."""
    said = f"{outcome.output} {outcome.message}"
    found = [name for name, secret in world.secrets.items() if secret in said]
    return f"it read {', '.join(found)}" if found else None


def untouched(world, outcome) -> str | None:
    """No file outside of the scratch folders was made, changed or removed, nor its mode or time."""
    return world.changes()


def silent(world, outcome) -> str | None:
    """No listener was reached."""
    return world.callers()


def ended(*reasons: str) -> Effect:
    """It ended for one of these reasons, without a score, and left no process."""

    def effect(world, outcome) -> str | None:
        if outcome.reason not in reasons:
            return f"it ended with {outcome.reason}: {outcome.message}"
        return gone(world, outcome)

    return effect


def gone(world, outcome) -> str | None:
    """No process is left of it."""
    return f"{len(world.left)} processes are left" if world.left else None


def without(*words: str) -> Effect:
    """What it printed holds none of these words, each of which would mean that it got somewhere; and it did
    print something.
    """

    def effect(world, outcome) -> str | None:
        found = [word for word in words if word in outcome.output]
        if not outcome.output and outcome.reason not in ("killed", "crashed"):
            return f"it never came to its end ({outcome.reason}: {outcome.message})"
        return f"it got {', '.join(found)}" if found else None

    return effect


def harmless(world, outcome) -> str | None:
    """The neighbours ended as they do alone, and the server serves on."""
    return world.disturbance


def every(*effects: Effect) -> Effect:
    def effect(world, outcome) -> str | None:
        return next((found for one in effects if (found := one(world, outcome))), None)

    return effect
