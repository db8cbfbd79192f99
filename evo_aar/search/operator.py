"""What the search asks of an operator: from parents to the source of a child.

An operator is a function of its context and nothing else. All randomness comes from `context.rng`; parents,
forum and archives are as they stood when the generation began; so the same search makes the same children on
one worker or eight. Methods are ordinary functions that may block (an agent loop waits for its model) and may
be called from several threads at once, each with its own context.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evo_aar.search.record import Try
from recipes.contract import LOSSES, SCHEDULES


class OperatorError(Exception):
    """An operator could not make a child. The message says for which child and what was tried.

    `usd` is what that has cost; `tries` the trials that it was told of (see `evo_aar.search.feedback`).
    """

    def __init__(self, message: str, usd: float = 0.0, tries: Sequence[Try] = ()) -> None:
        super().__init__(message)
        self.usd = usd
        self.tries = tuple(tries)


@dataclass(frozen=True)
class Parent:
    """An evaluated individual that a child is made from, without its score: see `evo_aar.search.feedback`.

    `near`: how many of its children behaved nearly as it does.
    """

    individual_id: str
    source: str
    direction: str
    near: int = 0


@dataclass(frozen=True)
class Failure:
    """Why a recipe has no fitness, as told to the operator that repairs it: an outcome's `reason` (one word)
    and `message`.

    `attempt` counts the repairs of one child from 1.
    """

    source: str
    reason: str
    message: str
    attempt: int = 1

    @property
    def over_budget(self) -> bool:
        """Whether the recipe asked for more training than a trial may spend."""
        return self.reason == "budget"

    @property
    def line(self) -> int | None:
        """The line of `source` where it happened, where the message gives it."""
        found = re.search(r"\(recipe\.py, line (\d+)\)", self.message)
        return int(found.group(1)) if found else None


@dataclass(frozen=True)
class OperatorContext:
    """Everything a child is made from.

    `child` is the child's index in its island's generation. `parents` holds the best first: `mutate` uses the
    first, `crossover` the first two. `born` are the source hashes of every recipe ever born, which a child
    must not repeat. `losses`, `schedules`, `layers` (whose hidden states are available, deepest last) and
    `has_prior` say what the testbed offers. `brief` is the direction's text, `archive` the island's archive,
    `model` the language model to call.
    """

    island: int
    generation: int
    child: int
    direction: str
    rng: np.random.Generator
    parents: tuple[Parent, ...]
    born: frozenset[str] = frozenset()
    brief: str = ""
    archive: tuple[Parent, ...] = ()
    model: str = ""
    losses: tuple[str, ...] = field(default_factory=lambda: tuple(LOSSES))
    schedules: tuple[str, ...] = SCHEDULES
    layers: tuple[int, ...] = (1, 2, 3, 4)
    has_prior: bool = True

    @property
    def place(self) -> str:
        """The child's place in the search, for messages."""
        return f"island {self.island}, generation {self.generation}, child {self.child}"


@dataclass(frozen=True)
class Proposal:
    """The source of a child that meets the static contract, and how it came about.

    `operator`: the operator's name; `verb`: which of its verbs made it; `parents`: ids, the one whose file
    was edited first; `kinds`, `changes`: what was done, by kind and in plain words; `notes`: JSON of the
    operator's own, for people. `tries`: the trials that it was told of, None for an operator that tries
    nothing. `usd` is what making it has cost.
    """

    source: str
    operator: str
    verb: str
    parents: tuple[str, ...]
    kinds: tuple[str, ...]
    changes: tuple[str, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)
    tries: tuple[Try, ...] | None = None
    usd: float = 0.0


@runtime_checkable
class Operator(Protocol):
    """Makes children. `name` is what the lineage shows.

    `verbs`: what it can do, of "mutation", "crossover", "draft" and "repair". `waits`: whether a call waits
    for something else than this machine, so that it pays to have several at once; `most_parents`: how many a
    crossover can make use of.
    """

    name: str
    most_parents: int
    verbs: frozenset[str]
    waits: bool

    def mutate(self, context: OperatorContext) -> Proposal:
        """A changed copy of the first parent. Raises `OperatorError` where none can be found."""
        ...

    def crossover(self, context: OperatorContext) -> Proposal:
        """A child of the first two parents, or of all. Raises `OperatorError` where none can be found."""
        ...

    def draft(self, context: OperatorContext) -> Proposal:
        """A recipe made anew, from the direction's brief. Asked for only where `verbs` has it.

        Raises `OperatorError`.
        """
        ...

    def repair(self, context: OperatorContext, failure: Failure) -> Proposal | None:
        """A child that should not fail as `failure` did, or None where the operator sees no remedy."""
        ...

    def interrupt(self) -> None:
        """Begin nothing new: the search is being stopped.

        Calls in other threads end as soon as what is paid for is on record.
        """
        ...

    def abandon(self) -> None:
        """Give up calls that have begun, whatever they cost."""
        ...
