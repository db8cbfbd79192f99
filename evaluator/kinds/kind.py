"""What a kind of student says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from evaluator.strong import StrongModel
    from evaluator.trainer.model import StudentModel
    from evaluator.trainer.trainer import Trainer


@dataclass(frozen=True)
class Hyperparameters:
    """Vanilla fine-tuning's, of one kind of student."""

    learning_rate: float
    epochs: float
    batch_size: int
    weight_decay: float


class SavedFiles(Protocol):
    """A saved student's folder and strong model, with the rows at hand that it is asked about."""

    @property
    def folder(self) -> Path: ...

    @property
    def strong(self) -> StrongModel: ...

    def states(self, layers: tuple[int, ...]) -> np.ndarray:
        """[n, d] float32: concatenated hidden states of the rows, read by the strong model as it is now; a
        pair's are the first's minus the second's.
        """

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """A safetensors file of the folder, by the tensors' names.

        Raises EvaluatorError where it can't be read.
        """


class StudentKind(ABC):
    """One kind of student. Its file must be light to import: torch and the model only when they are needed.

    `name`: as recipes, profiles and the command line say it. `defaults`: of a testbed whose profile has no
    hyperparameters for the kind.
    """

    name: str
    defaults: Hyperparameters

    @abstractmethod
    def model(self, trainer: Trainer) -> StudentModel:
        """The testbed profile's student of this kind; made once for a trainer.

        Its `kind` is this one's `name`; its `save` writes what `saved_logits` reads.
        """

    @abstractmethod
    def saved_logits(self, node: dict[str, Any], files: SavedFiles) -> np.ndarray:
        """[n, 2] logits of a student that `StudentModel.save` described as `node`, on the rows at hand."""
