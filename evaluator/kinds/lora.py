"""The LoRA student: low-rank adapters on the top blocks of the strong model, and a linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evaluator.kinds.kind import Hyperparameters, SavedFiles, StudentKind

if TYPE_CHECKING:
    from evaluator.trainer.model import StudentModel
    from evaluator.trainer.trainer import Trainer


class LoraKind(StudentKind):
    """See `evaluator.trainer.lora`."""

    name = "lora"
    defaults = Hyperparameters(learning_rate=1e-3, epochs=3.0, batch_size=32, weight_decay=0.0)

    def model(self, trainer: Trainer) -> StudentModel:
        # Here and not above: they import transformers, and loading the strong model is dear too.
        from evaluator.trainer.lora import LoraModel
        from evaluator.trainer.trunk import Trunk

        profile = trainer.testbed.profile
        trunk = Trunk(trainer.states.strong, trainer.testbed)
        return LoraModel(trunk, profile.rank, profile.trainable_layers)

    def saved_logits(self, node: dict[str, Any], files: SavedFiles) -> np.ndarray:
        from evaluator.trainer import peft_format

        with peft_format.merged(files.strong.model, files.folder / node["folder"]):
            pooled = files.states((files.strong.depth,))
        head = files.tensors(f"{node['folder']}/head.safetensors")
        return pooled @ head["weight"].T + head["bias"]
