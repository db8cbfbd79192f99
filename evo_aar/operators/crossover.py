"""Crossover of two recipe files: same-named functions and constants change places, and stages travel."""

from __future__ import annotations

import numpy as np

from evo_aar.operators import pipeline as pipelines
from evo_aar.operators.docstring import base_idea
from evo_aar.operators.edits import assign, value_text
from evo_aar.operators.genome import ENTRY, Genome, Inapplicable, Part
from evo_aar.operators.mutations import MOST_STAGES, Edit
from evo_aar.operators.pipeline import STAGE
from evo_aar.operators.transplant import transplant


def exchange_functions(host: Genome, donor: Genome, rng: np.random.Generator) -> Edit:
    """One or more of the donor's same-named functions in place of the host's."""
    called = host.part(ENTRY).uses & donor.part(ENTRY).uses
    called |= {
        name for name in ("fit",) if name in host.names and name in donor.names
    }  # also inside a wrapper
    common = [
        part.name
        for part in host.coroutines
        if part.name in called
        and donor.part(part.name).parameters == part.parameters
        and not _alike(host, donor, part.name)
    ]
    if not common:
        raise Inapplicable("the parents share no function that differs")
    chosen = [name for name in common if rng.random() < 0.5] or [common[int(rng.integers(len(common)))]]
    for name in chosen:
        host = transplant(host, donor, name)
    return Edit(
        host,
        "exchange functions",
        f"{' and '.join(name.replace('_', ' ') for name in chosen)} from {_origin(host, donor)}",
    )


def exchange_stage(host: Genome, donor: Genome, rng: np.random.Generator) -> Edit:
    """A stage of the donor that the host lacks, at its place in the order or thereabouts."""
    own = pipelines.pipeline(host.part(ENTRY).code)
    places = [line for line in own if line.role in ("start", "stage")]
    theirs = [line for line in pipelines.pipeline(donor.part(ENTRY).code) if line.role == "stage"]
    new = [
        (order, line.function)
        for order, line in enumerate(theirs)
        if line.function not in host.names and line.function in donor.names
    ]
    if not places or not new or sum(line.role == "stage" for line in own) >= MOST_STAGES:
        raise Inapplicable("the donor has no stage for the host")
    order, name = new[int(rng.integers(len(new)))]
    if donor.part(name).parameters != STAGE:
        raise Inapplicable("the donor's stage is no plain coroutine")
    host = transplant(host, donor, name)
    at = places[min(order, len(places) - 1)].index + 1
    code = pipelines.insert(host.part(ENTRY).code, at, pipelines.stage_line(name))
    return Edit(
        host.with_code(ENTRY, code),
        "exchange stage",
        f"{name.replace('_', ' ')} added from {_origin(host, donor)}",
    )


def exchange_constants(host: Genome, donor: Genome, rng: np.random.Generator) -> Edit:
    """The donor's values for some of the constants that both have and that differ."""
    common = [part.name for part in host.constants if _differs(part, donor)]
    if not common:
        raise Inapplicable("the parents share no constant that differs")
    chosen = [name for name in common if rng.random() < 0.5] or [common[int(rng.integers(len(common)))]]
    words = []
    for name in chosen:
        new = value_text(donor.part(name).code)
        words.append(f"{name} {new} (was {value_text(host.part(name).code)})")
        host = host.with_code(name, assign(host.part(name).code, new))
    return Edit(host, "exchange constants", ", ".join(words))


KINDS = {exchange_functions: 0.5, exchange_stage: 0.25, exchange_constants: 0.25}


def cross_once(host: Genome, donor: Genome, rng: np.random.Generator) -> Edit:
    """One exchange of a kind drawn by `KINDS` among those that apply; `Inapplicable` where none does."""
    kinds, weights = list(KINDS), np.array(list(KINDS.values()))
    while kinds:
        index = int(rng.choice(len(kinds), p=weights / weights.sum()))
        try:
            return kinds[index](host, donor, rng)
        except Inapplicable:
            del kinds[index]
            weights = np.delete(weights, index)
    raise Inapplicable("the parents have nothing to exchange")


def _origin(host: Genome, donor: Genome) -> str:
    """The donor in words: by its idea where that tells it from the host."""
    if base_idea(host.docstring) == base_idea(donor.docstring):
        return "a relative"
    return f"'{base_idea(donor.docstring, longest=60)}'"


def _differs(part: Part, donor: Genome) -> bool:
    """Whether the donor has a constant of this name and type with another literal value."""
    if not part.name.isupper() or part.name not in donor.names or donor.part(part.name).kind != "constant":
        return False
    try:
        mine, other = part.value, donor.part(part.name).value
    except Inapplicable:
        return False
    return mine != other and type(mine) is type(other) and not isinstance(mine, str)


def _alike(host: Genome, donor: Genome, name: str) -> bool:
    """Whether a function and everything that it uses mean the same in both."""
    used = host.uses_of(name)
    return used == donor.uses_of(name) and all(
        host.part(part).code == donor.part(part).code or host.part(part).meaning == donor.part(part).meaning
        for part in used
    )
