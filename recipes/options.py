"""What `Task.finetune` and `Task.probe` can be told alike, and how it is put into a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from recipes.task_errors import InvalidRequest

if TYPE_CHECKING:
    from recipes.contract import Loss, Student


class TrainingOptions(TypedDict, total=False):
    """The keyword arguments of every training; `DEFAULTS` says what those are that are left out."""

    loss: str | Loss
    loss_options: dict[str, float] | None
    learning_rate: float | None
    epochs: float | None
    batch_size: int | None
    weight_decay: float | None
    optimiser: str
    clip_norm: float | None
    schedule: str
    start: Student | None
    order: Any


DEFAULTS: TrainingOptions = {
    "loss": "cross_entropy",
    "loss_options": None,
    "learning_rate": None,
    "epochs": None,
    "batch_size": None,
    "weight_decay": None,
    "optimiser": "adamw",
    "clip_norm": None,
    "schedule": "linear",
    "start": None,
    "order": None,
}


def completed(options: TrainingOptions, function: str) -> TrainingOptions:
    """The options with their defaults. Raises TypeError, as `function` would, for one that there isn't."""
    for name in options:
        if name not in DEFAULTS:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return DEFAULTS | options


def request_fields(options: TrainingOptions) -> dict[str, Any]:
    """The completed options that travel as JSON: all but `start` and `order`, and no loss of the recipe's
    own.
    """
    loss, loss_options = options["loss"], options["loss_options"] or {}
    return {
        "loss": loss if isinstance(loss, str) else None,
        "loss_options": {str(name): float(value) for name, value in loss_options.items()},
        "learning_rate": _optional(float, options["learning_rate"]),
        "epochs": _optional(float, options["epochs"]),
        "batch_size": _optional(int, options["batch_size"]),
        "weight_decay": _optional(float, options["weight_decay"]),
        "optimiser": str(options["optimiser"]),
        "clip_norm": _optional(float, options["clip_norm"]),
        "schedule": str(options["schedule"]),
    }


def _optional(convert: Callable[[Any], float], value: float | None) -> float | None:
    return None if value is None else convert(value)


def floats(values: Any) -> np.ndarray:
    """As float32."""
    return np.asarray(values, np.float32)


def integers(values: Any) -> np.ndarray:
    """Row numbers as int64; a mask of booleans as the numbers of the rows that it marks.

    Raises `InvalidRequest` for what are no integers.
    """
    values = np.asarray(values)
    if values.dtype == bool:
        return np.flatnonzero(values)
    if values.size and values.dtype.kind not in "iu":
        raise InvalidRequest(f"row numbers must be integers, got {values.dtype}")
    return values.astype(np.int64)


def class_targets(values: Any) -> np.ndarray:
    """Class numbers [m] as int64, probabilities [m, 2] as float32."""
    targets = np.asarray(values)
    is_classes = targets.ndim == 1 and targets.dtype.kind in "iub"
    return targets.astype(np.int64) if is_classes else floats(targets)
