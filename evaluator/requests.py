"""Reading a recipe's requests: every number is checked before the trainer acts on it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from evaluator.kinds import Hyperparameters
from evaluator.trainer.model import StudentModel
from evaluator.trainer.slot import Training
from evaluator.trainer.students import Student, Trained
from recipes.contract import LOSSES, OPTIMISERS, SCHEDULES
from recipes.wire import Message

MAX_REPEATS = 64
MAX_HIDDEN_SIZE = 1024
MAX_LAYERS = 8


MAX_WORDS = 2_000


class ProtocolBreach(Exception):
    """A message that the contract's own client would never send: the trial is over."""


class Refused(Exception):
    """A request that breaks the contract. `kind` names the recipe-side error class."""

    def __init__(self, message: str, kind: str = "InvalidRequest") -> None:
        super().__init__(message)
        self.kind = kind


def words(said: object, most: int = MAX_WORDS) -> str:
    """What a recipe said, as text of bounded length that UTF-8 can hold."""
    return str(said)[:most].encode("utf-8", "replace").decode("utf-8")


def number(fields: Mapping, name: str, low: float, high: float, default: float | None = None) -> float:
    """A finite number in [low, high]; `default` where the recipe left it open. Raises `Refused`."""
    return float(_within(fields, name, low, high, default, whole=False))


def whole_number(fields: Mapping, name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number in [low, high]; `default` where the recipe left it open. Raises `Refused`."""
    return int(_within(fields, name, low, high, default, whole=True))


def _within(fields: Mapping, name: str, low: float, high: float, default: float | None, whole: bool) -> float:
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _finite(value):
        raise Refused(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high or (whole and value != int(value)):
        raise Refused(
            f"{name} must be {'a whole number ' if whole else ''}between {low:g} and {high:g}, got {value!r}"
        )
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def flag(fields: Mapping, name: str) -> bool:
    """True or false. Raises `Refused`."""
    if not isinstance(fields.get(name), bool):
        raise Refused(f"{name} must be true or false, got {fields.get(name)!r}")
    return fields[name]


def row_numbers(array: np.ndarray, size: int, name: str = "rows", repeats: int = MAX_REPEATS) -> np.ndarray:
    """[m] int64 within [0, size), each at most `repeats` times on average."""
    if array.ndim != 1 or array.dtype != np.int64:
        raise Refused(f"{name} must be a list of integers, got {array.dtype} of shape {array.shape}")
    if not 1 <= len(array) <= repeats * size:
        raise Refused(f"{name} has {len(array)} entries; between 1 and {repeats * size} are allowed")
    if array.min() < 0 or array.max() >= size:
        raise Refused(f"{name} must lie between 0 and {size - 1}, got {array.min()} to {array.max()}")
    return array


def float_array(array: np.ndarray, shape: tuple[int | None, ...], name: str) -> np.ndarray:
    """Finite float32 of this shape, None for any size."""
    if (
        array.dtype.kind != "f"
        or array.ndim != len(shape)
        or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True))
    ):
        wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
        raise Refused(
            f"{name} must be floats of shape {wanted}, got {array.dtype} of shape {list(array.shape)}"
        )
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise Refused(f"{name} holds NaN or infinity, or a number that float32 can't hold")
    return single


def class_targets(array: np.ndarray, count: int) -> np.ndarray:
    """[m] classes or [m, 2] probabilities as [m, 2] float32 rows that sum to 1."""
    if array.dtype == np.int64 and array.ndim == 1:
        if len(array) != count:
            raise Refused(f"{len(array)} targets for {count} rows")
        if len(array) and not np.isin(array, (0, 1)).all():
            raise Refused("integer targets must be 0 or 1")
        return np.eye(2, dtype=np.float32)[array]
    targets = float_array(array, (None, 2), "targets")
    if len(targets) != count:
        raise Refused(f"{len(targets)} targets for {count} rows")
    if targets.min() < -1e-4 or np.abs(targets.sum(1) - 1).max() > 1e-3:
        raise Refused("targets must be probabilities: rows of two numbers in [0, 1] that sum to 1")
    targets = targets.clip(0, 1)
    return targets / targets.sum(1, keepdims=True)


def example_weights(array: np.ndarray | None, count: int) -> np.ndarray:
    """[m] float32 with mean 1."""
    if array is None:
        return np.ones(count, np.float32)
    weights = float_array(array, (count,), "weights")
    if weights.min() < 0 or weights.sum() <= 0:
        raise Refused("weights must be non-negative and not all zero")
    return (weights / weights.mean(dtype=np.float64)).astype(np.float32)


def loss_of(fields: Mapping) -> tuple[str | None, dict[str, float]]:
    """A named loss with all its options, or None for the recipe's own."""
    name, options = fields.get("loss"), fields.get("loss_options")
    if name is None:
        return None, {}
    if not isinstance(name, str) or name not in LOSSES:
        raise Refused(f"unknown loss {name!r}; one of {', '.join(LOSSES)}")
    if not isinstance(options, dict) or set(options) - set(LOSSES[name]):
        raise Refused(f"loss {name} has the options {list(LOSSES[name])}, got {options!r}")
    return name, {
        option: number(options, option, -100, 100, default) for option, default in LOSSES[name].items()
    }


def layer_numbers(values: object, offered: tuple[int, ...]) -> tuple[int, ...]:
    """Layers on offer; a negative one is an index into them from the end."""
    if (
        not isinstance(values, list)
        or not 1 <= len(values) <= MAX_LAYERS
        or any(type(value) is not int for value in values)
    ):
        raise Refused(f"layers must be 1 to {MAX_LAYERS} layer numbers, got {values!r}")
    for value in values:
        if value not in offered and not -len(offered) <= value < 0:
            raise Refused(f"layer {value} is not on offer; task.layers is {offered}")
    return tuple(offered[value] if value < 0 else value for value in values)


def training(
    message: Message,
    *,
    model: StudentModel,
    start: Student | None,
    size: int,
    defaults: Hyperparameters,
    seed: int,
) -> Training:
    """A request "train" as a fully specified training, its rows counted within the trial's own pool of
    `size`.
    """
    fields, arrays = message.fields, message.arrays
    if "targets" not in arrays:
        raise Refused("finetune needs targets")
    rows = row_numbers(arrays["rows"], size) if "rows" in arrays else np.arange(size)
    order = row_numbers(arrays["order"], len(rows), "order") if "order" in arrays else None
    if order is not None and len(order) != len(rows):
        raise Refused(f"order has {len(order)} positions for {len(rows)} rows")
    if start is not None and not (isinstance(start, Trained) and start.model is model):
        raise Refused("start must be a student that was trained with the same structure")
    loss, options = loss_of(fields)
    schedule = fields.get("schedule")
    if schedule not in SCHEDULES:
        raise Refused(f"unknown schedule {schedule!r}; one of {', '.join(SCHEDULES)}")
    optimiser = fields.get("optimiser")
    if optimiser not in OPTIMISERS:
        raise Refused(f"unknown optimiser {optimiser!r}; one of {', '.join(OPTIMISERS)}")
    if optimiser != "adamw" and fields.get("learning_rate") is None:
        raise Refused(f"the testbed's learning rate is AdamW's: give {optimiser} a learning_rate of its own")
    return Training(
        model=model,
        rows=rows,
        targets=class_targets(arrays["targets"], len(rows)),
        weights=example_weights(arrays.get("weights"), len(rows)),
        order=order,
        loss=loss,
        loss_options=options,
        learning_rate=number(fields, "learning_rate", 0, 10, defaults.learning_rate),
        weight_decay=number(fields, "weight_decay", 0, 10, defaults.weight_decay),
        clip_norm=number(fields, "clip_norm", 1e-6, 1e6, math.inf),
        optimiser=optimiser,
        schedule=schedule,
        epochs=number(fields, "epochs", 1e-3, 10_000, defaults.epochs),
        batch_size=whole_number(fields, "batch_size", 1, 4096, defaults.batch_size),
        seed=seed,
        start=start.parameters if start is not None else None,
    )
