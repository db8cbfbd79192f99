"""A student as files that outlive the trainer. `evaluator.saved` reads them, and nothing in them needs this
package to be understood.

    student.json               what the student is, as a tree, and the inputs and strong model it belongs to
    head-K.safetensors         a head: mean, scale [d]; weight_1 [d, h], bias_1 [h] where it has a hidden
                               layer; weight_2, bias_2 [2]
    adapter-K/                 a LoRA student, as `peft` and `peft_format` have it

The nodes of the tree, by "kind", a registered kind of student (`evaluator.kinds`) or one of the last three:

    head       "file", "layers": logits = relu(((x - mean) / scale) @ weight_1 + bias_1) @ weight_2 +
               bias_2, without the hidden layer where there is none; x: the concatenated hidden
               states of the strong model's layers, a pair's first minus second
    lora       "folder": logits = pooled last hidden state of the adapted model @ weight.T + bias of
               head.safetensors
    untrained  "template", "swap": the strong model's zero-shot probabilities
    shift      "bias", "base": the base's log-odds of class 1 plus bias
    ensemble   "weights", "members": the weighted mean of the members' probabilities
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from evaluator.hidden_states import HiddenStates
from evaluator.trainer.students import Ensemble, Shifted, Student, Trained, Untrained

FORMAT = 1


def save(student: Student, folder: Path, states: HiddenStates) -> None:
    """Write a student to `folder`, which is made. student.json comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    testbed, strong = states.testbed, states.description
    facts = {
        "format": FORMAT,
        "testbed": {"name": testbed.name, "kind": testbed.kind, "content_hash": testbed.content_hash},
        "templates": [dataclasses.asdict(template) for template in testbed.templates],
        "strong": {"name": testbed.strong, "fingerprint": strong.fingerprint, "precision": states.precision},
        "student": _Writer(folder).write(student),
    }
    (folder / "student.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


class _Writer:
    """Numbers the files of each kind as it walks the tree."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: Counter[str] = Counter()

    def write(self, student: Student) -> dict[str, Any]:
        if isinstance(student, Untrained):
            return {"kind": "untrained", "template": student.template, "swap": student.swap}
        if isinstance(student, Shifted):
            return {"kind": "shift", "bias": student.bias, "base": self.write(student.base)}
        if isinstance(student, Ensemble):
            return {
                "kind": "ensemble",
                "weights": list(student.weights),
                "members": [self.write(one) for one in student.members],
            }
        if not isinstance(student, Trained):
            raise TypeError(f"a {type(student).__name__} can't be saved: it is no student of the trainer's")
        kind = student.model.kind
        number, self._written[kind] = self._written[kind], self._written[kind] + 1
        return {"kind": kind} | student.model.save(student.parameters, self._folder, number)
