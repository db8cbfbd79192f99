"""One canonical JSON text for a value, so that equal values are equal texts in the store,
whoever wrote them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from population.errors import PopulationError


def canonical(value: Any) -> str:
    """`value` as JSON with sorted keys; NumPy scalars and arrays become numbers and lists.

    NaN and infinities are kept (as Python's own JSON does): a diverged loss belongs on record.
    Raises PopulationError for what JSON cannot hold.
    """
    try:
        return json.dumps(
            value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_from_numpy
        )
    except (TypeError, ValueError) as error:
        raise PopulationError(
            f"a value of the record is not JSON ({error}). Pass dicts, lists, texts and numbers."
        ) from None


def plain(value: Any) -> Any:
    """`value` as it will be read back from the store: tuples become lists, keys texts, NumPy
    scalars numbers.
    """
    return json.loads(canonical(value))


def digest(value: Any) -> str:
    """A hash of `value`'s canonical text, 32 hexadecimal digits. Journalled requests are identified by it."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:32]


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot hold (lone surrogates of a malformed reply or message) replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON type")
