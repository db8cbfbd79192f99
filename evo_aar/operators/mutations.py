"""The kinds of mutation of the offline operator.

Each turns a genome into another and says what it did in plain words.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evo_aar.operators import losses
from evo_aar.operators import pipeline as pipelines
from evo_aar.operators.constants import assign_step, loci
from evo_aar.operators.genome import ENTRY, Genome, Import, Inapplicable
from evo_aar.operators.pipeline import FIT, STAGE, Line
from evo_aar.operators.stages import stages
from evo_aar.operators.transplant import transplant
from evo_aar.search.operator import OperatorContext

MOST_STAGES = 6


@dataclass(frozen=True)
class Edit:
    """A changed genome, the kind of the change, and the change in plain words."""

    genome: Genome
    kind: str
    words: str


def perturb_constants(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Step one to three constants."""
    rng = context.rng
    candidates = loci(genome, context.schedules, context.layers)
    if not candidates:
        raise Inapplicable("there is no constant to step")
    count = min(len(candidates), int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2])))
    words = []
    for index in sorted(rng.choice(len(candidates), size=count, replace=False)):
        genome, change = assign_step(genome, candidates[index].name, context, boldness)
        words.append(change)
    return Edit(genome, "constants", ", ".join(words))


def swap_loss(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    genome, words = losses.swap_loss(genome, context.rng, context.losses)
    return Edit(genome, "loss", words)


def swap_schedule(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    genome, words = losses.swap_schedule(genome, context.rng, context.schedules)
    return Edit(genome, "schedule", words)


def add_stage(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Put a stage of the grammar, or one that the recipe already has, somewhere after the first targets."""
    lines = _lines(genome, "start", "stage")
    if not lines:
        raise Inapplicable("recipe assigns no targets")
    if len(_lines(genome, "stage")) >= MOST_STAGES:
        raise Inapplicable(f"recipe has {MOST_STAGES} stages")
    offered = stages()
    names = [name for name in offered.stages if context.has_prior or not offered.uses_prior(name)]
    name = str(context.rng.choice(names))
    at = lines[int(context.rng.integers(len(lines)))].index + 1
    if name not in genome.names:
        genome = transplant(genome, offered.genome, name)
    elif genome.part(name).parameters != STAGE:
        raise Inapplicable(f"{name} is another kind of function here")
    code = pipelines.insert(genome.part(ENTRY).code, at, pipelines.stage_line(name))
    return Edit(genome.with_code(ENTRY, code), "add stage", f"{_words(name)} added")


def remove_stage(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Take a stage, the selection or a fit's wrapper out, with whatever only it used."""
    lines = [line for line in _lines(genome, "stage", "select") if line.function] + [
        line for line in _lines(genome, "fit") if _inner_fit(genome, line)
    ]
    if not lines:
        raise Inapplicable("there is no stage to remove")
    return drop_line(genome, lines[int(context.rng.integers(len(lines)))])


def drop_line(genome: Genome, line: Line) -> Edit:
    """The genome without that line of its pipeline."""
    code = genome.part(ENTRY).code
    if line.role == "stage":
        code = pipelines.remove(code, line.index)
    elif line.role == "select":
        genome = genome.with_import(Import("numpy", None, "np"))
        code = pipelines.replace(code, line.index, "rows = np.arange(task.size)\n")
    else:
        inner = _inner_fit(genome, line)
        if inner is None:
            raise Inapplicable(f"{line.function} wraps no other fit")
        code = pipelines.replace(code, line.index, pipelines.fit_line(inner))
    return Edit(genome.with_code(ENTRY, code), "remove stage", f"{_words(line.function)} removed")


def move_stage(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Exchange two neighbouring stages."""
    lines = _lines(genome, "stage")
    pairs = [
        (first, second) for first, second in itertools.pairwise(lines) if first.function != second.function
    ]
    if not pairs:
        raise Inapplicable("there are no two stages to exchange")
    first, second = pairs[int(context.rng.integers(len(pairs)))]
    code = pipelines.replace(genome.part(ENTRY).code, first.index, pipelines.stage_line(second.function))
    code = pipelines.replace(code, second.index, pipelines.stage_line(first.function))
    return Edit(
        genome.with_code(ENTRY, code),
        "move stage",
        f"{_words(second.function)} before {_words(first.function)}",
    )


def replace_selection(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Another way to select the rows to train on."""
    lines = _lines(genome, "select")
    if len(lines) != 1:
        raise Inapplicable("recipe has no one line that selects rows")
    name = str(context.rng.choice(stages().selections))
    genome = transplant(genome, stages().genome, name, install_as="select")
    code = pipelines.replace(genome.part(ENTRY).code, lines[0].index, pipelines.select_line("select"))
    return Edit(genome.with_code(ENTRY, code), "selection", f"rows chosen by {_words(name)}")


def replace_fit(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Another way to train the student from targets and rows."""
    line = _fit_line(genome)
    name = str(context.rng.choice(stages().fits))
    target = _inner_fit(genome, line) or line.function
    return Edit(
        transplant(genome, stages().genome, name, install_as=target),
        "fit",
        f"student trained by {_words(name)}",
    )


def wrap_fit(genome: Genome, context: OperatorContext, boldness: float) -> Edit:
    """Put an ensemble or a born-again round around the recipe's own fit."""
    line = _fit_line(genome)
    if line.function != "fit" or _makes_ensembles(genome, "fit"):
        raise Inapplicable("the fit is wrapped already")
    name = str(context.rng.choice(stages().wrappers))
    genome = transplant(genome, stages().genome, name, keep=("fit",))
    code = pipelines.replace(genome.part(ENTRY).code, line.index, pipelines.fit_line(name))
    return Edit(genome.with_code(ENTRY, code), "wrap fit", f"{_words(name)} added")


Mutation = Callable[[Genome, OperatorContext, float], Edit]
# How often each kind is tried first. Steps of constants are the bulk, as in any evolution strategy; half the
# rest grows a recipe or changes a slot of it, so that good constants are found for structures that last.
WEIGHTS: dict[Mutation, float] = {
    perturb_constants: 0.38,
    add_stage: 0.20,
    remove_stage: 0.09,
    swap_loss: 0.10,
    replace_fit: 0.06,
    replace_selection: 0.06,
    wrap_fit: 0.05,
    move_stage: 0.03,
    swap_schedule: 0.03,
}


def mutate_once(genome: Genome, context: OperatorContext, boldness: float = 1.0) -> Edit:
    """One mutation of a kind drawn by `WEIGHTS` among those that apply; `Inapplicable` where none does."""
    kinds = list(WEIGHTS)
    weights = np.array(list(WEIGHTS.values()))
    while kinds:
        index = int(context.rng.choice(len(kinds), p=weights / weights.sum()))
        try:
            return kinds[index](genome, context, boldness)
        except Inapplicable:
            del kinds[index]
            weights = np.delete(weights, index)
    raise Inapplicable("no kind of mutation applies")


def _lines(genome: Genome, *roles: str) -> list[Line]:
    return [line for line in pipelines.pipeline(genome.part(ENTRY).code) if line.role in roles]


def _fit_line(genome: Genome) -> Line:
    lines = _lines(genome, "fit")
    if len(lines) != 1 or lines[0].function not in genome.names:
        raise Inapplicable("recipe does not end in one fit")
    return lines[0]


def _inner_fit(genome: Genome, line: Line) -> str | None:
    """The fit inside a wrapper: a function of the same parameters that the line's function calls."""
    if line.function not in genome.names:
        return None
    inner = [
        name
        for name in sorted(genome.part(line.function).uses)
        if name in genome.names and name != line.function
    ]
    return next((name for name in inner if genome.part(name).parameters == FIT), None)


def _makes_ensembles(genome: Genome, name: str) -> bool:
    return any(".ensemble(" in genome.part(part).code for part in genome.uses_of(name))


def _words(name: str) -> str:
    return name.replace("_", " ")
