"""A testbed from a user's files: train_label.jsonl, train_unlabel.jsonl and test.jsonl (see `labelled` for
their form).

`train_label` trains the weak model; `train_unlabel` becomes the training pool, its labels kept for the
ceiling alone; `test` is cut into the fitness and the sealed split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from evaluator.descriptions import StrongDescription, describe, token_counts
from evaluator.errors import TestbedError
from evaluator.strong import MAX_TOKENS, Progress
from evaluator.testbeds.labelled import Duplicates, duplicates, inputs, keys, kind_of, labels, read_folder
from evaluator.testbeds.prepared import Profile, Template, write
from evaluator.testbeds.weak import teach

FITNESS_SHARE = 1 / 3
FITNESS_MINIMUM = (
    500  # a standard error of 0.02 in accuracy; taken from the sealed split while that keeps as many
)
SMALLEST_TEST = 40
SMALL_FITNESS = 1000

SINGLE_TEMPLATES = (
    Template("{question}\n{choice}\nAnswer:", (" no", " yes")),
    Template("{question}\n{choice}\nAnswer:{verdict}", (" no", " yes")),
    Template("Text: {choice}\nQuestion: {question}\nAnswer yes or no:", (" no", " yes")),
)
PAIR_TEMPLATES = (
    Template("{prompt}\n{reply}\nIs this a good reply? Answer:", (" no", " yes")),
    Template("{prompt}\n{reply}\nIs this a good reply? Answer:{verdict}", (" no", " yes")),
    Template("Reply: {reply}\nTo: {prompt}\nDoes the reply help, yes or no?", (" no", " yes")),
)
# Where the ceiling on film reviews was best; with more epochs at a higher rate, heads on real text learn each
# weak label by heart.
LEARNING_RATES_ON_TEXT = {"head": 5e-4, "lora": 1e-3}
EPOCHS_ON_TEXT = {"head": 10.0, "lora": 3.0}


@dataclass(frozen=True)
class Report:
    """What was prepared. `weak_accuracy`: mean over the weak teachers on the fitness split.

    `warnings`: one line each.
    """

    path: Path
    content_hash: str
    kind: str
    sizes: dict[str, int]
    share_of_class_1: dict[str, float]
    weak_accuracy: float
    duplicates: tuple[Duplicates, ...]
    warnings: tuple[str, ...]


def prepare_files(
    folder: Path | str,
    path: Path | str,
    *,
    strong: str,
    weak: str = "tfidf",
    name: str | None = None,
    templates: tuple[Template, ...] | None = None,
    profile: Profile | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Report:
    """Prepare the files of `folder` as a testbed in the folder `path`.

    `strong`: hub name or local folder of a transformers decoder or encoder. `weak`: "tfidf", or a
    transformers model. `seed` cuts the test file and draws the weak teachers. `progress` is called while a
    transformers teacher reads. Raises TestbedError for what is wrong with the files (with file and line),
    EvaluatorError for a model that can't be used.
    """
    return prepare_tables(
        read_folder(folder),
        path,
        strong=strong,
        weak=weak,
        name=name or f"files/{Path(folder).resolve().name}",
        templates=templates,
        profile=profile,
        seed=seed,
        device=device,
        progress=progress,
    )


def prepare_tables(
    tables: DatasetDict,
    path: Path | str,
    *,
    strong: str,
    weak: str,
    name: str,
    templates: tuple[Template, ...] | None = None,
    profile: Profile | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    strong_hash: str | None = None,
) -> Report:
    """As `prepare_files`, from tables with the columns that `read_folder` gives them.

    `strong_hash`: by default the model's fingerprint.
    """
    path = Path(path)
    kind = kind_of(tables["test"])
    description = describe(strong)
    templates = templates or default_templates(kind, description)
    fitness, sealed = cut(keys(tables["test"]), labels(tables["test"]), seed)
    splits = {
        "train": tables["train_unlabel"],
        "fitness": tables["test"].select(fitness),
        "sealed": tables["test"].select(sealed),
    }
    rows = {split: inputs(table) for split, table in splits.items()}
    truth = {split: labels(table) for split, table in splits.items()}
    weak_labels = teach(
        weak,
        kind,
        templates[0],
        labelled=inputs(tables["train_label"]),
        labels=labels(tables["train_label"]),
        pool=rows["train"],
        fitness=rows["fitness"],
        sealed=rows["sealed"],
        device=device,
        seed=seed,
        progress=progress,
    )
    content_hash = write(
        path,
        name=name,
        kind=kind,
        strong=str(description.folder.resolve()) if Path(strong).is_dir() else strong,
        templates=templates,
        profile=profile or default_profile(description),
        rows=rows,
        labels=truth,
        weak_labels=weak_labels.pool,
        weak_fitness=weak_labels.fitness,
        weak_sealed=weak_labels.sealed,
        strong_hash=strong_hash or description.fingerprint,
    )
    repeated = tuple(duplicates(tables))
    weak_accuracy = float(((weak_labels.fitness > 0.5) == truth["fitness"]).mean())
    return Report(
        path=path,
        content_hash=content_hash,
        kind=kind,
        sizes={split: len(table) for split, table in splits.items()},
        share_of_class_1={split: float(values.mean()) for split, values in truth.items()},
        weak_accuracy=weak_accuracy,
        duplicates=repeated,
        warnings=(*map(str, repeated), *_warnings(rows, truth, templates[0], description, weak_accuracy)),
    )


def default_templates(kind: str, strong: StrongDescription) -> tuple[Template, ...]:
    """A question, a statement, and another wording; only a causal model is asked for its verdict on the
    questions.
    """
    chosen = SINGLE_TEMPLATES if kind == "single" else PAIR_TEMPLATES
    return tuple(
        template if strong.causal or template.is_statement else Template(template.pattern)
        for template in chosen
    )


def default_profile(strong: StrongDescription) -> Profile:
    """Four layers from two fifths of the depth to the deepest; heads read the one at four fifths, where
    verdicts are formed.
    """
    layers = sorted({max(1, round(strong.depth * share)) for share in (0.4, 0.6, 0.8, 1.0)})
    return Profile(
        layers=tuple(layers),
        head_layers=(max(1, round(strong.depth * 0.8)),),
        learning_rate=LEARNING_RATES_ON_TEXT,
        epochs=EPOCHS_ON_TEXT,
    )


def cut(
    test_keys: list[tuple[str, ...]], test_labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the fitness and of the sealed split, sorted.

    A third goes to fitness, or FITNESS_MINIMUM rows where a third is fewer, but never more than half. Either
    split has the file's share of each class, and rows with the same input stay together. Raises TestbedError
    if the test file is too small to be cut.
    """
    total = len(test_labels)
    share = min(1 / 2, max(FITNESS_SHARE, FITNESS_MINIMUM / total)) if total else 0.0
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(test_keys):
        groups.setdefault(key, []).append(row)
    rng = np.random.default_rng(seed)
    fitness: list[int] = []
    for label in (0, 1):
        own = [rows for rows in groups.values() if test_labels[rows[0]] == label]
        wanted = share * sum(map(len, own))
        taken = 0
        for place in rng.permutation(len(own)):
            if taken + len(own[place]) / 2 > wanted:
                break
            fitness += own[place]
            taken += len(own[place])
    chosen = np.sort(np.array(fitness, np.int64))
    rest = np.setdiff1d(np.arange(total), chosen)
    if total < SMALLEST_TEST or min(len(set(test_labels[rows])) for rows in (chosen, rest)) < 2:
        raise TestbedError(
            f"test.jsonl: {total} rows are too few to be cut into a fitness and a sealed split with both"
            f" classes; give at least {SMALLEST_TEST}, better thousands."
        )
    return chosen, rest


def _warnings(
    rows: dict[str, list[dict[str, str]]],
    truth: dict[str, np.ndarray],
    template: Template,
    strong: StrongDescription,
    weak_accuracy: float,
) -> list[str]:
    found = []
    for split in rows:
        texts = [text for row in rows[split] for text in template.render(row)]
        limit = strong.limit(MAX_TOKENS)
        long = int((token_counts(strong, texts) > limit).sum())
        if long:
            found.append(f"{long} texts of {split} are longer than {limit} tokens and are cut")
    if len(truth["fitness"]) < SMALL_FITNESS:
        error = 0.5 / np.sqrt(len(truth["fitness"]))
        found.append(
            f"the fitness split has {len(truth['fitness'])} rows: the standard error of an accuracy is up to"
            f" {error:.3f}"
        )
    majority = max(truth["fitness"].mean(), 1 - truth["fitness"].mean())
    if weak_accuracy <= majority:
        found.append(
            f"the weak model ({weak_accuracy:.3f}) is no better than always answering the commoner class"
            f" ({majority:.3f})"
        )
    return found
