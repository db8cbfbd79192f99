"""Steps of a recipe's upper-case constants, each on the scale that is natural to it.

The name says what a constant is where its value alone doesn't: a learning rate moves by factors, a share by
odds, a layer by one. Values are rounded to two or three digits, so that recipes stay readable.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from evo_aar.operators.edits import assign
from evo_aar.operators.genome import Genome, Inapplicable, Part
from evo_aar.search.operator import OperatorContext
from recipes.contract import LOSSES

SHARE_LOW, SHARE_HIGH = 0.02, 0.98
LARGEST_INTEGER = 4_096


@dataclass(frozen=True)
class Range:
    """What constants of a name may be: by `factor` (log-normal steps) or by odds (`share`), within [low,
    high].
    """

    pattern: str
    scale: str
    low: float
    high: float


# The first pattern found in the name decides. Floats and integers share the table: an integer stays one.
RANGES = (
    Range(r"LEARNING_RATE|(^|_)LR$", "factor", 1e-5, 1e-1),
    Range(r"WEIGHT_DECAY|RIDGE", "factor", 1e-6, 1.0),
    Range(r"EPOCHS", "factor", 1, 30),
    Range(r"ROUNDS|ITERATIONS", "factor", 1, 6),
    Range(r"FOLDS", "factor", 2, 6),
    Range(r"MEMBERS|ENSEMBLE|STUDENTS", "factor", 2, 8),
    Range(r"NEIGHBOURS|NEIGHBORS", "factor", 2, 200),
    Range(r"HIDDEN_SIZE", "factor", 8, 512),
    Range(r"BATCH", "factor", 8, 512),
    Range(r"POPULATION|PERTURBATIONS", "factor", 2, 64),
    Range(r"BUCKETS|BINS|CLUSTERS|COMPONENTS", "factor", 2, 64),
    Range(r"STEPS|GENERATIONS", "factor", 1, 400),
    Range(r"TEMPERATURE|SHARPENING|SHARPNESS|POWER|EXPONENT|GAMMA", "factor", 0.1, 10),
    Range(r"SIGMA|SCALE|SPREAD|WIDTH|BANDWIDTH", "factor", 1e-4, 100),
    Range(
        r"FRACTION|SHARE|KEEP|MIX|BLEND|TRUST|WARMUP|STRENGTH|MOMENTUM|QUANTILE|THRESHOLD|DROPOUT|PROBABILITY|BALANCE|WEIGHT|SMOOTHING|_LOW$|_HIGH$",
        "share",
        SHARE_LOW,
        SHARE_HIGH,
    ),
)
_FIXED = re.compile(r"SEED|EPSILON|(^|_)EPS$|CHUNK|TEMPLATE")
_LAYER = re.compile(r"LAYER")
_SIGNED = re.compile(r"BIAS|SHIFT|OFFSET|MARGIN")


def loci(genome: Genome, schedules: tuple[str, ...], layers: tuple[int, ...]) -> list[Part]:
    """The constants that can be stepped, in the file's order."""
    return [part for part in genome.constants if part.name.isupper() and _is_locus(part, schedules, layers)]


def _is_locus(part: Part, schedules: tuple[str, ...], layers: tuple[int, ...]) -> bool:
    try:
        _step(part.name, part.value, np.random.default_rng(0), 1.0, schedules, layers)
    except Inapplicable:
        return False
    return True


def assign_step(genome: Genome, name: str, context: OperatorContext, boldness: float) -> tuple[Genome, str]:
    """The genome with another value for a constant, and the change in words.

    `boldness` scales the step; at 1 it is a factor of some 1.5, or half a unit of log odds. Raises
    `Inapplicable` where the constant is no locus or no other value was met.
    """
    part = genome.part(name)
    old = part.value
    for _ in range(16):
        new = _step(name, old, context.rng, boldness, context.schedules, context.layers)
        if new != old:
            return genome.with_code(
                name, assign(part.code, literal(new))
            ), f"{name} {literal(new)} (was {literal(old)})"
    raise Inapplicable(f"{name} has no other value near {old!r}")


def literal(value: Any) -> str:
    """Readable Python text of a value: 0.0025, 2.5e-5, (-1, -2)."""
    if isinstance(value, tuple):
        return f"({', '.join(literal(item) for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, float) and 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return repr(value)


def _step(
    name: str,
    value: Any,
    rng: np.random.Generator,
    boldness: float,
    schedules: tuple[str, ...],
    layers: tuple[int, ...],
) -> Any:
    if _FIXED.search(name):
        raise Inapplicable(f"{name} is not for tuning")
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return _other_word(value, rng, schedules)
    if isinstance(value, int) and _LAYER.search(name):
        return _step_layer(value, rng, layers)
    if isinstance(value, int):
        return _step_integer(name, value, rng, boldness)
    if isinstance(value, float) and math.isfinite(value):
        return _step_float(name, value, rng, boldness)
    if (
        isinstance(value, tuple)
        and value
        and all(type(item) is int for item in value)
        and _LAYER.search(name)
    ):
        return _step_layers(value, rng, layers)
    if isinstance(value, tuple) and value and all(type(item) in (int, float) for item in value):
        return _step_tuple(name, value, rng, boldness)
    raise Inapplicable(f"{name} has no natural scale")


def _other_word(value: str, rng: np.random.Generator, schedules: tuple[str, ...]) -> str:
    """Another schedule.

    Losses are exchanged where they are used, together with their options (see `losses`).
    """
    if value in LOSSES or value not in schedules or len(schedules) < 2:
        raise Inapplicable(f"no other word is known for {value!r}")
    return str(rng.choice([word for word in schedules if word != value]))


def _range(name: str) -> Range | None:
    return next((row for row in RANGES if re.search(row.pattern, name)), None)


def _step_float(name: str, value: float, rng: np.random.Generator, boldness: float) -> float:
    row = _range(name)
    is_share = (
        0 <= value <= 1 if row and row.scale == "share" else row is None and SHARE_LOW <= value <= SHARE_HIGH
    )
    if is_share:
        inside = min(max(value, SHARE_LOW), SHARE_HIGH)
        odds = math.log(inside / (1 - inside)) + boldness * 0.5 * rng.standard_normal()
        return _digits(min(max(1 / (1 + math.exp(-odds)), SHARE_LOW), SHARE_HIGH), 2)
    if value == 0 and row:
        return _digits(row.low * 10, 2)
    if value == 0:
        if not _SIGNED.search(name):
            raise Inapplicable(f"{name} = 0 has no natural scale")
        return _digits(boldness * 0.1 * rng.standard_normal(), 2)
    size = abs(value) * math.exp(boldness * 0.4 * rng.standard_normal())
    if row and row.scale == "factor" and value > 0:
        size = min(max(size, row.low), row.high)
    return _digits(math.copysign(min(max(size, 1e-8), 1e6), value), 2)


def _step_integer(name: str, value: int, rng: np.random.Generator, boldness: float) -> int:
    row = _range(name)
    if value <= 0:
        if row is None or row.scale != "factor" or row.pattern != "HIDDEN_SIZE":
            raise Inapplicable(f"{name} = {value} has no natural scale")
        return int(rng.choice([16, 32, 64]))
    new = round(value * math.exp(boldness * 0.4 * rng.standard_normal()))
    if new == value:
        new += int(rng.choice([-1, 1]))
    low, high = (
        (max(1, math.ceil(row.low)), math.floor(row.high))
        if row and row.scale == "factor" and row.high >= 2
        else (1, LARGEST_INTEGER)
    )
    return int(_digits(min(max(new, low), high), 2))


def _step_layer(value: int, rng: np.random.Generator, layers: tuple[int, ...]) -> int:
    """The next layer up or down."""
    known = _like(value, layers)
    if value not in known:
        raise Inapplicable(f"layer {value} is not available here")
    at = known.index(value)
    return int(rng.choice(known[max(at - 1, 0) : at] + known[at + 1 : at + 2])) if len(known) > 1 else value


def _like(value: int, layers: tuple[int, ...]) -> tuple[int, ...]:
    """All layers in the form of `value`: a layer's number, or negative, its place from the deepest."""
    return tuple(range(-len(layers), 0)) if value < 0 else layers


def _step_layers(
    value: tuple[int, ...], rng: np.random.Generator, layers: tuple[int, ...]
) -> tuple[int, ...]:
    """Adds, drops or moves one layer."""
    absent = [layer for layer in _like(value[0], layers) if layer not in value]
    moves = (["add", "move"] if absent else []) + (["drop"] if len(value) > 1 else [])
    if not moves:
        raise Inapplicable("there is one layer only")
    move, at = rng.choice(moves), int(rng.integers(len(value)))
    if move == "drop":
        return value[:at] + value[at + 1 :]
    new = int(rng.choice(absent))
    return (*value, new) if move == "add" else (*value[:at], new, *value[at + 1 :])


def _step_tuple(
    name: str, value: tuple[float, ...], rng: np.random.Generator, boldness: float
) -> tuple[float, ...]:
    """Steps one element; a tuple in order stays in order."""
    at = int(rng.integers(len(value)))
    old = value[at]
    stepped: float
    if isinstance(old, int):
        stepped = _step_integer(name, old, rng, boldness)
    else:
        stepped = _step_float(name, old, rng, boldness)
    new = (*value[:at], stepped, *value[at + 1 :])
    return tuple(sorted(new)) if list(value) == sorted(value) else new


def _digits(value: float, digits: int) -> float:
    """Rounded to that many significant digits; an integer below 100 stays as it is."""
    if isinstance(value, int) and value < 100:
        return value
    return float(f"{value:.{digits}g}")


def shrink_training(genome: Genome, context: OperatorContext, factor: float) -> tuple[Genome, str]:
    """The genome with its most costly kind of constant (epochs, rounds, members, folds, steps) reduced by a
    factor.

    Raises `Inapplicable` where it has none above its least value.
    """
    for pattern in (
        r"EPOCHS",
        r"ROUNDS|ITERATIONS",
        r"MEMBERS|ENSEMBLE|STUDENTS",
        r"STEPS|GENERATIONS",
        r"POPULATION",
        r"FOLDS",
    ):
        for part in loci(genome, context.schedules, context.layers):
            row = _range(part.name)
            if not re.search(pattern, part.name) or row is None or not isinstance(part.value, int | float):
                continue
            new = max(row.low, part.value * factor)
            new = math.floor(new) if isinstance(part.value, int) else _digits(float(new), 2)
            if new < part.value:
                words = f"{part.name} {literal(new)} (was {literal(part.value)})"
                return genome.with_code(part.name, assign(part.code, literal(new))), words
    raise Inapplicable("no constant says how much is trained")
