"""The head: a linear layer, or two, on cached hidden states of the frozen strong model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluator.kinds.kind import Hyperparameters, SavedFiles, StudentKind

if TYPE_CHECKING:
    from evaluator.trainer.model import StudentModel
    from evaluator.trainer.trainer import Trainer


class HeadKind(StudentKind):
    """See `evaluator.trainer.head`."""

    name = "head"
    defaults = Hyperparameters(learning_rate=2e-3, epochs=20.0, batch_size=64, weight_decay=1e-4)

    def model(self, trainer: Trainer) -> StudentModel:
        profile = trainer.testbed.profile
        layers = tuple(trainer.states.resolve(layer) for layer in profile.head_layers)
        return trainer.head(layers, profile.hidden_size, True)

    def saved_logits(self, node: dict[str, Any], files: SavedFiles) -> np.ndarray:
        tensors = files.tensors(node["file"])
        values = (files.states(tuple(node["layers"])) - tensors["mean"]) / tensors["scale"]
        if "weight_1" in tensors:
            values = np.maximum(values @ tensors["weight_1"] + tensors["bias_1"], 0)
        return values @ tensors["weight_2"] + tensors["bias_2"]
