"""Safetensors files of a saved student, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file

from evaluator.errors import EvaluatorError


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The file's arrays by name. Raises EvaluatorError where it can't be read."""
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise EvaluatorError(f"{path} can't be read ({error}). Export the student again.") from None
