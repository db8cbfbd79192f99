"""Small testbeds whose labels anybody can learn: is the answer given (of a pair: the first) a small number?

The strong model is `mini`'s.
"""

import hashlib

import numpy as np

from evaluator.testbeds.mini.weak import WEIGHTS
from evaluator.testbeds.prepared import SPLITS, Profile, Template, write

SIZES = {"train": 400, "fitness": 300, "sealed": 40}
TEACHERS, MISTAKES = 3, 0.4
PROFILE = Profile(
    layers=(2, 4),
    head_layers=(4,),
    hidden_size=16,
    epochs={"head": 10.0, "lora": 1.0},
    learning_rate={"head": 2e-3, "lora": 5e-3},
    budget=12.0,
)
TEMPLATES = {
    "single": (
        Template("{question} = {choice}. right?", (" no", " yes")),
        Template("{question} = {choice}. that is {verdict}", (" no", " yes")),
    ),
    "pair": (Template("{prompt} = {reply}. right?", (" no", " yes")),),
}


def small_testbed(folder, kind="single", profile=PROFILE):
    """Write a testbed of that kind to `folder`, and return the folder.

    The weak teachers are wrong on 40 % of rows, at random.
    """
    rng = np.random.default_rng(0)
    labels = {split: rng.permutation(np.arange(SIZES[split]) % 2) for split in SPLITS}
    rows = {split: [_row(rng, label, kind) for label in labels[split]] for split in SPLITS}
    weak = {split: np.stack([_teacher(rng, labels[split]) for _ in range(TEACHERS)]) for split in SPLITS}
    write(
        folder,
        name="small",
        kind=kind,
        strong=str(WEIGHTS),
        templates=TEMPLATES[kind],
        profile=profile,
        rows=rows,
        labels=labels,
        weak_labels=np.stack([1 - weak["train"][0], weak["train"][0]], axis=1),
        weak_fitness=weak["fitness"],
        weak_sealed=weak["sealed"],
        strong_hash=hashlib.sha256((WEIGHTS / "model.safetensors").read_bytes()).hexdigest(),
    )
    return folder


def _row(rng, label, kind):
    question = "{} + {}".format(*rng.integers(1, 10, 2))
    small, large = str(rng.integers(1, 5)), str(rng.integers(6, 10))
    first, second = (small, large) if label else (large, small)
    return (
        {"question": question, "choice": first}
        if kind == "single"
        else {"prompt": question, "first": first, "second": second}
    )


def _teacher(rng, labels):
    """P(class 1) of each row, [n]."""
    right = rng.random(len(labels)) > MISTAKES
    confidence = rng.uniform(0.5, 0.8, len(labels)) + 0.15 * right
    return np.where(right == (labels == 1), confidence, 1 - confidence)
