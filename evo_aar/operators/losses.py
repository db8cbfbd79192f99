"""Exchanging the named loss or the schedule of a training call."""

from __future__ import annotations

import ast
from collections.abc import Callable

import numpy as np

from evo_aar.operators.constants import literal
from evo_aar.operators.edits import TrainingCall, drop_unused_local, set_keywords, training_calls
from evo_aar.operators.genome import Genome, Inapplicable, Part, local_names
from evo_aar.operators.vocabulary import option_constant
from recipes.contract import LOSSES


def swap_loss(genome: Genome, rng: np.random.Generator, losses: tuple[str, ...]) -> tuple[Genome, str]:
    """Another named loss, with its options as constants, in one training call.

    A recipe's own loss function is left alone.
    """
    part, index = _choose_call(genome, rng, lambda call: _named_loss(genome, call) is not None)
    call = training_calls(part.code)[index]
    old = _named_loss(genome, call) or ""
    others = [loss for loss in losses if loss in LOSSES and loss != old]
    if not others:
        raise Inapplicable("there is no other loss")
    new = str(rng.choice(others))
    options = []
    for option, value in LOSSES[new].items():
        name = option_constant(new, option)
        if name not in genome.bindings:
            genome = genome.with_constant(name, literal(value))
        elif name not in genome.names or genome.part(name).kind != "constant":
            raise Inapplicable(f"{name} already means something else")
        options.append(f'"{option}": {name}')
    values = {"loss": f'"{new}"', "loss_options": "{" + ", ".join(options) + "}" if options else None}
    code = set_keywords(part.code, index, values)
    given = call.keywords.get("loss_options")
    if given in local_names(part.code):
        code = drop_unused_local(code, given)
    return genome.with_code(
        part.name, code
    ), f"{_words(new)} loss in {_words(part.name)} (was {_words(old or '')})"


def swap_schedule(genome: Genome, rng: np.random.Generator, schedules: tuple[str, ...]) -> tuple[Genome, str]:
    """Another learning-rate schedule in one training call that names it, or names none."""
    part, index = _choose_call(genome, rng, lambda call: _named_schedule(call) is not None)
    old = _named_schedule(training_calls(part.code)[index])
    others = [schedule for schedule in schedules if schedule != old]
    if not others:
        raise Inapplicable("there is no other schedule")
    new = str(rng.choice(others))
    code = set_keywords(part.code, index, {"schedule": f'"{new}"'})
    return genome.with_code(part.name, code), f"{new} schedule in {_words(part.name)} (was {old})"


def _choose_call(
    genome: Genome, rng: np.random.Generator, fits: Callable[[TrainingCall], bool]
) -> tuple[Part, int]:
    """A part, and which of its training calls, drawn among those that fit."""
    calls = [
        (part, index)
        for part in genome.parts
        if part.kind == "definition"
        for index, call in enumerate(training_calls(part.code))
        if fits(call)
    ]
    if not calls:
        raise Inapplicable("no training call can be changed so")
    return calls[int(rng.integers(len(calls)))]


def _named_loss(genome: Genome, call: TrainingCall) -> str | None:
    """The name of the call's loss, given by a literal, a constant or the default; None for a function or
    anything else.
    """
    text = call.keywords.get("loss", '"cross_entropy"')
    if text in genome.names and genome.part(text).kind == "constant":
        try:
            name = genome.part(text).value
        except Inapplicable:
            return None
    else:
        name = _string(text)
    return name if isinstance(name, str) and name in LOSSES else None


def _named_schedule(call: TrainingCall) -> str | None:
    return _string(call.keywords.get("schedule", '"linear"'))


def _string(text: str) -> str | None:
    """The value of a string literal, or None for any other expression."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, str) else None


def _words(name: str) -> str:
    return name.replace("_", " ")
