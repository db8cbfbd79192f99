"""A prepared testbed: the one on-disk form in which every testbed, built-in or a user's, reaches the
evaluator.

A preparer (`mini`, `film`, `files`) writes a folder with `write`; the trainer reads it with `Testbed.load`,
which never opens anything under `labels/`; the grader alone reads that, with `load_labels`.

    testbed.json          name, kind, templates, strong model, profile, content hash
    train.jsonl           the unlabelled training pool, the rows that carry weak labels
    weak_labels.npy       [n, 2] float32, P(class | row) by the weak model of seed 0
    fitness.jsonl         inputs of the fitness split
    sealed.jsonl          inputs of the sealed split; not read during a search
    labels/train.npy      [n] uint8 ground truth of the training pool, for the ceiling alone
    labels/fitness.npy    [m] uint8
    labels/sealed.npy     [k] uint8
    labels/weak_fitness.npy, labels/weak_sealed.npy   [seeds, m], [seeds, k] float32: P(class 1) by weak model

A row is `{"question", "choice"}` (kind "single": is this choice right?) or `{"prompt", "first", "second"}`
(kind "pair": class 1 says that the first is the better one). Any other field stays behind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluator import kinds
from evaluator.errors import TestbedError
from evaluator.kinds import Hyperparameters

FORMAT = 1
SPLITS = ("train", "fitness", "sealed")
HASHED_KINDS = ("head", "lora")
"""The kinds of student whose hyperparameters every profile lists and every content hash covers. A kind that
is added later is not among them: its defaults are its own, and testbeds stay the testbeds that they are.
"""
FIELDS = {"single": ("question", "choice"), "pair": ("prompt", "first", "second")}


@dataclass(frozen=True)
class Template:
    """How a row becomes text for the strong model.

    `pattern` is a format string over `{question}` and `{choice}`, or over `{prompt}` and `{reply}` for pairs,
    whose two replies are encoded apart. `verdicts` are the two label words (class 0, class 1) whose
    next-token logits make the zero-shot prior, or None. A pattern with `{verdict}` is a statement: it asserts
    class 1, and class 0 when swapped.
    """

    pattern: str
    verdicts: tuple[str, str] | None = None

    @property
    def is_statement(self) -> bool:
        return "{verdict}" in self.pattern

    @property
    def label_words(self) -> tuple[str, str]:
        """The two label words. Raises ValueError for a template that has none."""
        if self.verdicts is None:
            raise ValueError(f"template {self.pattern!r} has no verdicts")
        return self.verdicts

    def render(self, row: dict[str, str], swap: bool = False) -> tuple[str, ...]:
        """The one text of a single row, or the two of a pair in the order in which they are compared."""
        fields = dict(row)
        if self.is_statement:
            fields["verdict"] = self.label_words[0 if swap else 1]
        if "first" not in row:
            return (self.pattern.format(**fields),)
        order = ("second", "first") if swap and not self.is_statement else ("first", "second")
        return tuple(self.pattern.format(reply=row[name], **fields) for name in order)


@dataclass(frozen=True)
class Profile:
    """What a student is by default on a testbed, and what a trial may spend. The hyperparameters are
    vanilla's.

    `layers`: the layers of the strong model whose hidden states are cached and offered to recipes, deepest
    last. `head_layers`: those whose concatenation a head reads. `learning_rate`, `epochs`, `batch_size`,
    `weight_decay`: by kind of student; `hyperparameters` knows the kinds that are not listed too. `budget`: a
    trial's tokens as a multiple of vanilla's (trained plus forwarded, on the training pool). `precision`: of
    the cached hidden states; "bfloat16" holds where the processor has it, others use float32.
    """

    student: str = "head"
    layers: tuple[int, ...] = (-1,)
    head_layers: tuple[int, ...] = (-1,)
    hidden_size: int = 64
    rank: int = 8
    trainable_layers: int | None = None
    learning_rate: dict[str, float] = field(
        default_factory=lambda: {kind: kinds.kind(kind).defaults.learning_rate for kind in HASHED_KINDS}
    )
    epochs: dict[str, float] = field(
        default_factory=lambda: {kind: kinds.kind(kind).defaults.epochs for kind in HASHED_KINDS}
    )
    batch_size: dict[str, int] = field(
        default_factory=lambda: {kind: kinds.kind(kind).defaults.batch_size for kind in HASHED_KINDS}
    )
    weight_decay: dict[str, float] = field(
        default_factory=lambda: {kind: kinds.kind(kind).defaults.weight_decay for kind in HASHED_KINDS}
    )
    budget: float = 8.0
    precision: str = "float32"

    def hyperparameters(self, kind: str) -> Hyperparameters:
        """Vanilla's for a kind of student: those given here, the kind's own defaults for the rest.

        Raises EvaluatorError where there is no such kind.
        """
        own = kinds.kind(kind).defaults
        return Hyperparameters(
            learning_rate=self.learning_rate.get(kind, own.learning_rate),
            epochs=self.epochs.get(kind, own.epochs),
            batch_size=self.batch_size.get(kind, own.batch_size),
            weight_decay=self.weight_decay.get(kind, own.weight_decay),
        )


@dataclass(frozen=True)
class Testbed:
    """Everything about a testbed that the trainer may know: inputs and weak labels, never the
    ground truth.
    """

    __test__ = False

    path: Path
    name: str
    kind: str
    strong: str  # hub name or local folder of a transformers model
    templates: tuple[Template, ...]
    profile: Profile
    content_hash: str
    sizes: dict[str, int]

    @classmethod
    def load(cls, path: Path | str) -> Testbed:
        path = Path(path)
        try:
            meta = json.loads((path / "testbed.json").read_text())
        except FileNotFoundError:
            raise TestbedError(
                f"{path} is not a prepared testbed (no testbed.json). Prepare it with `evo-aar testbed`."
            ) from None
        except json.JSONDecodeError as error:
            raise TestbedError(
                f"{path / 'testbed.json'}, line {error.lineno}: not JSON ({error.msg}). Prepare the testbed"
                " again."
            ) from None
        if meta.get("format") != FORMAT:
            raise TestbedError(
                f"{path} has testbed format {meta.get('format')}; this version reads {FORMAT}. Prepare it"
                " again."
            )
        profile: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in meta["profile"].items()
        }
        return cls(
            path=path,
            name=meta["name"],
            kind=meta["kind"],
            strong=meta["strong"],
            templates=tuple(
                Template(t["pattern"], tuple(t["verdicts"]) if t["verdicts"] else None)
                for t in meta["templates"]
            ),
            profile=Profile(**profile),
            content_hash=meta["content_hash"],
            sizes=meta["sizes"],
        )

    def rows(self, split: str) -> list[dict[str, str]]:
        """The inputs of a split, in order. Opening "sealed" is the report's business alone."""
        with open(self.path / f"{split}.jsonl", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def weak_labels(self) -> np.ndarray:
        """[n, 2] float32."""
        return np.load(self.path / "weak_labels.npy")


def load_labels(path: Path | str, name: str) -> np.ndarray:
    """Ground truth or weak predictions under `labels/`; the grader's alone.

    `name` as in the module's listing.
    """
    return np.load(Path(path) / "labels" / f"{name}.npy")


def write(
    path: Path,
    *,
    name: str,
    kind: str,
    strong: str,
    templates: tuple[Template, ...],
    profile: Profile,
    rows: dict[str, list[dict[str, str]]],
    labels: dict[str, np.ndarray],
    weak_labels: np.ndarray,
    weak_fitness: np.ndarray,
    weak_sealed: np.ndarray,
    strong_hash: str,
) -> str:
    """Write a prepared testbed and return its content hash. `testbed.json` is written last: without it there
    is no testbed.

    `rows` and `labels` hold the three splits; `strong_hash` identifies the strong model's weights (a hub
    revision or a digest of the file), so that the same name with other weights is another testbed.
    """
    if set(rows) != set(SPLITS) or set(labels) != set(SPLITS):
        raise ValueError(f"rows and labels need exactly the splits {SPLITS}")
    (path / "labels").mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(
        json.dumps(
            [
                FORMAT,
                name,
                kind,
                strong_hash,
                [dataclasses.astuple(t) for t in templates],
                dataclasses.asdict(profile),
            ],
            sort_keys=True,
        ).encode()
    )
    for split in SPLITS:
        keep = [{name: str(row[name]) for name in FIELDS[kind]} for row in rows[split]]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in keep)
        (path / f"{split}.jsonl").write_text(text, encoding="utf-8")
        digest.update(text.encode())
        truth = np.asarray(labels[split], np.uint8)
        if truth.shape != (len(keep),):
            raise ValueError(f"{split}: {len(keep)} rows but labels of shape {truth.shape}")
        np.save(path / "labels" / f"{split}.npy", truth)
        digest.update(truth.tobytes())
    for file, array in (
        ("weak_labels", weak_labels),
        ("labels/weak_fitness", weak_fitness),
        ("labels/weak_sealed", weak_sealed),
    ):
        array = np.ascontiguousarray(array, np.float32)
        np.save(path / f"{file}.npy", array)
        digest.update(array.tobytes())
    content_hash = digest.hexdigest()[:16]
    meta = {
        "format": FORMAT,
        "name": name,
        "kind": kind,
        "strong": strong,
        "templates": [dataclasses.asdict(t) for t in templates],
        "profile": dataclasses.asdict(profile),
        "sizes": {split: len(rows[split]) for split in SPLITS},
        "content_hash": content_hash,
    }
    (path / "testbed.json").write_text(json.dumps(meta, indent=1) + "\n")
    return content_hash
