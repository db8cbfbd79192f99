"""A student read back from the files that `evaluator.trainer.save` wrote, to be asked about rows that no
testbed holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.special import expit, softmax

from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel, describe
from evaluator.testbeds.prepared import FIELDS, Template
from evaluator.trainer.save import FORMAT
from evaluator.trainer.students import Ensemble, Prior, Shifted, Student, Untrained

Row = dict[str, str]


class SavedStudent:
    """A student with its strong model. Make one with `load`."""

    def __init__(self, folder: Path, facts: dict, strong: StrongModel) -> None:
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
            margin = self._read(rows, template, verdicts=True)
            return np.stack([expit(-margin), expit(margin)], 1)

        return self._built(self._tree, rows).probabilities("", len(rows), prior)

    def _built(self, node: dict, rows: Sequence[Row]) -> Student | _Answers:
        """The node as a student; a trained one as its answers on these rows."""
        kind = node["kind"]
        if kind == "untrained":
            return Untrained(node["template"], node["swap"])
        if kind == "shift":
            return Shifted(self._built(node["base"], rows), node["bias"])
        if kind == "ensemble":
            return Ensemble(tuple(self._built(one, rows) for one in node["members"]), tuple(node["weights"]))
        if kind == "head":
            return _Answers(self._head_logits(node, rows))
        if kind == "lora":
            with self._adapted(self._folder / node["folder"]):
                pooled = self._read(rows, 0, layers=(self._strong.depth,))
            head = _tensors(self._folder / node["folder"] / "head.safetensors")
            return _Answers(pooled @ head["weight"].T + head["bias"])
        raise EvaluatorError(
            f"{self._folder}: unknown kind of student {kind!r}. Use the version that exported it."
        )

    def _head_logits(self, node: dict, rows: Sequence[Row]) -> np.ndarray:
        tensors = _tensors(self._folder / node["file"])
        values = (self._read(rows, 0, layers=tuple(node["layers"])) - tensors["mean"]) / tensors["scale"]
        if "weight_1" in tensors:
            values = np.maximum(values @ tensors["weight_1"] + tensors["bias_1"], 0)
        return values @ tensors["weight_2"] + tensors["bias_2"]

    def _read(
        self, rows: Sequence[Row], template: int, layers: tuple[int, ...] = (), verdicts: bool = False
    ) -> np.ndarray:
        """Concatenated hidden states [n, d], or verdict margins [n]; a pair's are the first's minus the
        second's.
        """
        chosen = self._templates[template]
        texts = [text for place in zip(*(chosen.render(row) for row in rows), strict=True) for text in place]
        states, margins = self._strong.read(texts, layers, chosen.verdicts if verdicts else None)
        values = margins if verdicts else np.concatenate([states[layer] for layer in layers], axis=1)
        return values if len(values) == len(rows) else np.subtract(*np.split(values, 2))

    @contextmanager
    def _adapted(self, folder: Path) -> Iterator[None]:
        """The strong model with an adapter's factors added to its weights, for the length of the block."""
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        factors = _tensors(folder / "adapter_model.safetensors")
        scale = config["lora_alpha"] / config["r"]
        kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        try:
            for name in config["target_modules"]:
                up, down = (factors[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "BA")
                weight = self._strong.model.get_submodule(name).weight
                kept.append((weight, weight.data))
                delta = torch.from_numpy((up @ down).T if config["fan_in_fan_out"] else up @ down).to(
                    weight.device
                )
                weight.data = weight.data + scale * delta
            yield
        finally:
            for weight, data in kept:
                weight.data = data


@dataclass(frozen=True)
class _Answers:
    """A trained student's logits [n, 2] on the rows at hand."""

    logits: np.ndarray

    def probabilities(self, split: str, size: int, prior: Prior) -> np.ndarray:
        return softmax(self.logits, axis=1).astype(np.float32)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return {name: tensor.numpy() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise EvaluatorError(f"{path} can't be read ({error}). Export the student again.") from None
