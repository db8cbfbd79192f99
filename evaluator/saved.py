"""A student read back from the files that `evaluator.trainer.save` wrote, to be asked about rows that no
testbed holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from evaluator import kinds
from evaluator.descriptions import describe
from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel
from evaluator.tensor_files import read_tensors
from evaluator.testbeds.prepared import FIELDS, Template
from evaluator.trainer.save import FORMAT
from evaluator.trainer.students import Ensemble, Prior, Shifted, Student, Untrained

Row = dict[str, str]


class SavedStudent:
    """A student with its strong model. Make one with `load`."""

    def __init__(self, folder: Path, facts: dict[str, Any], strong: StrongModel) -> None:
        self._folder = folder
        self._tree = facts["student"]
        self._fields = FIELDS[facts["testbed"]["kind"]]
        self._templates = [
            Template(one["pattern"], one["verdicts"] and tuple(one["verdicts"])) for one in facts["templates"]
        ]
        self._strong = strong

    @classmethod
    def load(cls, folder: Path | str, *, strong: str | None = None, device: str = "cpu") -> SavedStudent:
        """The student in `folder`. `strong`: where its strong model lies now, if not where it lay when the
        student was trained.

        Raises EvaluatorError where the folder holds no student, or the strong model can't be found or is
        another one.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "student.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise EvaluatorError(
                f"{folder} holds no student (no student.json). Name a folder that `evo-aar export` wrote."
            ) from None
        except json.JSONDecodeError as error:
            raise EvaluatorError(
                f"{folder / 'student.json'}: not JSON ({error.msg}). Export the student again."
            ) from None
        if facts.get("format") != FORMAT:
            raise EvaluatorError(
                f"{folder} has student format {facts.get('format')}; this version reads {FORMAT}. Export it"
                " again."
            )
        name = strong or facts["strong"]["name"]
        if describe(name).fingerprint != facts["strong"]["fingerprint"]:
            raise EvaluatorError(
                f"{name} is not the strong model that the student in {folder} was trained on. Name that one."
            )
        return cls(
            folder, facts, StrongModel.load(name, device=device, precision=facts["strong"]["precision"])
        )

    def probabilities(self, rows: Sequence[Row]) -> np.ndarray:
        """[n, 2] float32: P(class 0), P(class 1) of each row, a dict with "question" and "choice", or
        "prompt", "first", "second".
        """
        for place, row in enumerate(rows):
            missing = [field for field in self._fields if field not in row]
            if missing:
                raise EvaluatorError(
                    f"row {place} has no {missing[0]!r}; a row has {', '.join(self._fields)}."
                )
        if not rows:
            return np.zeros((0, 2), np.float32)

        def prior(split: str, template: int, swap: bool) -> np.ndarray:
            margin = self._margins(rows, template)
            return np.stack([expit(-margin), expit(margin)], 1)

        return self._built(self._tree, rows).probabilities("", len(rows), prior)

    def _built(self, node: dict[str, Any], rows: Sequence[Row]) -> Student:
        """The node as a student; a trained one as its answers on these rows."""
        kind = node["kind"]
        if kind == "untrained":
            return Untrained(node["template"], node["swap"])
        if kind == "shift":
            return Shifted(self._built(node["base"], rows), node["bias"])
        if kind == "ensemble":
            return Ensemble(tuple(self._built(one, rows) for one in node["members"]), tuple(node["weights"]))
        if kind not in kinds.names():
            raise EvaluatorError(
                f"{self._folder}: unknown kind of student {kind!r}. Use the version that exported it."
            )
        files = _Files(self._folder, self._strong, lambda layers: self._states(rows, layers))
        return _Answers(kinds.kind(kind).saved_logits(node, files))

    def _states(self, rows: Sequence[Row], layers: tuple[int, ...]) -> np.ndarray:
        """Concatenated hidden states [n, d] under template 0; a pair's are the first's minus the second's."""
        states, _ = self._strong.read(self._texts(rows, 0), layers)
        return _compared(np.concatenate([states[layer] for layer in layers], axis=1), rows)

    def _margins(self, rows: Sequence[Row], template: int) -> np.ndarray:
        """[n] the strong model's zero-shot log-odds of class 1; a pair's are the first's minus the second's.

        Raises EvaluatorError for a template without verdicts.
        """
        verdicts = self._templates[template].verdicts
        if verdicts is None:
            raise EvaluatorError(f"{self._folder}: template {template} has no verdicts. Export it again.")
        return _compared(self._strong.verdict_margins(self._texts(rows, template), verdicts), rows)

    def _texts(self, rows: Sequence[Row], template: int) -> list[str]:
        chosen = self._templates[template]
        return [text for place in zip(*(chosen.render(row) for row in rows), strict=True) for text in place]


def _compared(values: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
    """The rows' values; where each has two texts, the first ones' minus the second ones'."""
    return values if len(values) == len(rows) else np.subtract(*np.split(values, 2))


@dataclass(frozen=True)
class _Files:
    """A `SavedFiles`."""

    folder: Path
    strong: StrongModel
    states: Callable[[tuple[int, ...]], np.ndarray]

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        return read_tensors(self.folder / name)


@dataclass(frozen=True)
class _Answers:
    """A trained student's logits [n, 2] on the rows at hand."""

    logits: np.ndarray

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        return softmax(self.logits, axis=1).astype(np.float32)
