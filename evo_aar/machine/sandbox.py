"""At which level of the sandbox a command runs its recipes, and when it refuses to."""

from __future__ import annotations

from evaluator.sandbox.levels import Level, worst
from evaluator.sandbox.probe import probe
from evo_aar.errors import UsageError
from population.store import Store
from recipes.directions import baseline_sources, directions
from recipes.source import source_hash

UNTRUSTED = "untrusted: recipes ran without a sandbox, and could have read the labels"


def level_for(*, written_here: bool, unsandboxed: bool) -> Level:
    """The level to run at: what this machine has, or D where the user gave up the sandbox.

    `written_here`: whether every recipe comes from this package (seeds, baselines) or from its own operator
    on syntax trees. Raises `UsageError` where others would run and there is no sandbox.
    """
    if unsandboxed:
        return Level.D
    found = probe()
    if found.level is Level.D and not written_here:
        why = "; ".join(f"{level}: {reason}" for level, reason in found.refused.items())
        raise UsageError(
            f"this machine has no sandbox for recipes that were not written here ({why}). `evo-aar doctor`"
            " says what helps; or take --unsandboxed, which marks every result as untrusted."
        )
    return found.level


def is_ours(source: str) -> bool:
    """Whether a recipe is one of this package's own, a seed or a baseline."""
    ours = [direction.seed_source for direction in directions()] + list(baseline_sources().values())
    return source_hash(source) in {source_hash(one) for one in ours}


def level_of(store: Store) -> Level | None:
    """The weakest level that any part of a run was run at; None before its first session."""
    return worst([Level(one.sandbox) for one in store.stints.all()])


def described(level: Level | None) -> str:
    """A level in words, for tables, tags and cards."""
    if level is None:
        return "none yet"
    return f"level {level}: {UNTRUSTED if level is Level.D else level.words}"
