"""The offline operator: children by edits of the syntax tree, without a language model.

It steps constants on their natural scale, exchanges losses and schedules, adds, removes and moves stages of a
small grammar, replaces the selection or the fit, and crosses two recipes function by function. Every child it
hands out is Python, meets the static contract and is a recipe that was never born before.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from typing import Any

from evo_aar.operators.constants import shrink_training
from evo_aar.operators.crossover import cross_once
from evo_aar.operators.docstring import base_idea, child_docstring
from evo_aar.operators.genome import ENTRY, Genome, Inapplicable, read_genome
from evo_aar.operators.mutations import Edit, drop_line, mutate_once
from evo_aar.operators.pipeline import pipeline
from evo_aar.search.operator import Failure, OperatorContext, OperatorError, Parent, Proposal
from recipes.errors import RecipeError
from recipes.source import parse, source_hash, validate

ATTEMPTS = 24
LONGEST_CHILD = 20_000


class OfflineOperator:
    """Mutates and crosses recipes through their syntax tree.

    The k-th of at most `attempts` tries makes 1 + k // 4 edits and scales its steps by 1 + k / 4, so that a
    child is found even where every small step was taken before. `second_edit` is the probability that a first
    try makes two.
    """

    name = "offline"
    verbs = frozenset({"mutation", "crossover", "repair"})
    waits = False
    most_parents = 2

    def __init__(self, *, attempts: int = ATTEMPTS, second_edit: float = 0.25) -> None:
        if attempts < 1 or not 0 <= second_edit <= 1:
            raise ValueError(
                f"attempts must be positive and second_edit a probability, got {attempts} and {second_edit}"
            )
        self.attempts = attempts
        self.second_edit = second_edit

    def mutate(self, context: OperatorContext) -> Proposal:
        """A changed copy of the first parent."""
        parent = _parents(context, 1)[0]
        genome = _genome(parent, context)

        def edits(attempt: int) -> list[Edit]:
            count = 1 + attempt // 4 + int(context.rng.random() < self.second_edit)
            return _mutate(genome, context, count, 1 + attempt / 4)

        return self._first_new(context, "mutation", (parent,), genome, edits)

    def crossover(self, context: OperatorContext) -> Proposal:
        """A child of the first two parents; which of them lends its file's frame is drawn."""
        parents = _parents(context, 2)
        order = (0, 1) if context.rng.random() < 0.5 else (1, 0)
        host_parent, donor_parent = (parents[index] for index in order)
        host, donor = _genome(host_parent, context), _genome(donor_parent, context)

        def edits(attempt: int) -> list[Edit]:
            try:
                first = cross_once(host, donor, context.rng)
            except Inapplicable:
                # Nothing to exchange: a mutation of the frame, from the first try on.
                return _mutate(host, context, 1 + attempt // 4, 1 + attempt / 4)
            return [first, *_mutate(first.genome.pruned(), context, (attempt + 3) // 4, 1 + attempt / 4)]

        return self._first_new(context, "crossover", (host_parent, donor_parent), host, edits)

    def draft(self, context: OperatorContext) -> Proposal:
        raise OperatorError(f"{context.place}: a syntax tree needs a parent; only agents draft recipes")

    def interrupt(self) -> None:
        """Its calls take milliseconds: they may as well end."""

    abandon = interrupt

    def repair(self, context: OperatorContext, failure: Failure) -> Proposal | None:
        """The failed recipe without the stage where it failed, or with less training if it was over budget;
        else None.
        """
        try:
            validate(failure.source)
            genome = read_genome(failure.source)
        except RecipeError:
            return None

        def edits(attempt: int) -> list[Edit]:
            if failure.over_budget and attempt % 2 == 0:
                first = shrink_training(genome, context, 0.5 / (1 + attempt))
                return [Edit(first[0], "less training", first[1])]
            lines = [
                line
                for line in pipeline(genome.part(ENTRY).code)
                if line.role in ("stage", "select") and line.function
            ]
            at_fault = [
                line for line in lines if failure.over_budget or _runs(genome, line.function, failure)
            ]
            if attempt // 2 >= len(at_fault):
                raise Inapplicable("no stage is at fault")
            return [drop_line(genome, at_fault[attempt // 2])]

        try:
            return self._first_new(context, "repair", context.parents, genome, edits)
        except OperatorError:
            return None

    def _first_new(
        self,
        context: OperatorContext,
        verb: str,
        parents: tuple[Parent, ...],
        frame: Genome,
        edits: Callable[[int], list[Edit]],
    ) -> Proposal:
        """The first try that is a valid recipe nobody was born with."""
        known = context.born | {source_hash(parent.source) for parent in context.parents}
        reason = "no attempt was made"
        for attempt in range(self.attempts):
            try:
                done = edits(attempt)
                words = [edit.words for edit in done]
                child = done[-1].genome.pruned()
                direction = context.direction or parents[0].direction
                source = Genome(
                    child_docstring(frame.docstring, words, direction), child.imports, child.parts
                ).render()
                validate(source)
                undefined = child.undefined() - frame.undefined()
                if undefined:
                    raise Inapplicable(
                        f"the child would use {', '.join(sorted(undefined))} without defining it"
                    )
                if len(source) > LONGEST_CHILD and len(source) > max(
                    len(parent.source) for parent in context.parents
                ):
                    raise Inapplicable(f"the child has {len(source):,} characters")
                digest = source_hash(source)
            except (Inapplicable, RecipeError) as error:
                reason = str(error)
                continue
            if digest in known:
                reason = "the child was born before"
                continue
            notes: dict[str, Any] = {"attempt": attempt}
            if verb == "crossover":
                notes["other_idea"] = base_idea(read_genome(parents[1].source).docstring)
            return Proposal(
                source,
                self.name,
                verb,
                parents=tuple(parent.individual_id for parent in parents),
                kinds=tuple(edit.kind for edit in done),
                changes=tuple(words),
                notes=notes,
            )
        raise OperatorError(
            f"{context.place}: no new child by {verb} in {self.attempts} attempts; the last one: {reason}"
        )


def _parents(context: OperatorContext, count: int) -> tuple[Parent, ...]:
    if len(context.parents) < count:
        raise OperatorError(f"{context.place}: needs {count} parents, got {len(context.parents)}")
    return context.parents[:count]


def _genome(parent: Parent, context: OperatorContext) -> Genome:
    try:
        return _read_recipe(parent.source)
    except RecipeError as error:
        raise OperatorError(
            f"{context.place}: parent {parent.individual_id} is no recipe: {error}"
        ) from error


@functools.lru_cache(maxsize=512)
def _read_recipe(source: str) -> Genome:
    validate(source)
    return read_genome(source).pruned()


def _mutate(genome: Genome, context: OperatorContext, count: int, boldness: float) -> list[Edit]:
    edits: list[Edit] = []
    for _ in range(count):
        edits.append(mutate_once(genome, context, boldness))
        genome = edits[-1].genome.pruned()
    return edits


def _runs(genome: Genome, function: str, failure: Failure) -> bool:
    """Whether the line where a recipe failed lies in that function or in what it uses."""
    if failure.line is None:
        return False
    inside = [
        node.name
        for node in parse(failure.source).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and node.lineno <= failure.line <= (node.end_lineno or node.lineno)
    ]
    return any(name in genome.uses_of(function) for name in inside)
