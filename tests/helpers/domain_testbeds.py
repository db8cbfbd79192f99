"""A few rows of a `mini` domain as a testbed, for any strong model: for tests that run whole recipes."""

import numpy as np

from evaluator.testbeds.mini.prepare import generate
from evaluator.testbeds.prepared import Testbed, write

SIZES = {"train": 160, "fitness": 60, "sealed": 40}


def domain_testbed(path, strong, wordings, profile, domain="math"):
    """A few rows of mini, with the truth, blurred and wrong in a quarter of the rows, as weak labels."""
    rng = np.random.default_rng(0)
    drawn = {split: generate(domain, split) for split in SIZES}
    rows = {split: drawn[split][0][:size] for split, size in SIZES.items()}
    labels = {split: drawn[split][1][:size] for split, size in SIZES.items()}

    def weak(truth):
        told = np.where(rng.random(len(truth)) < 0.25, 1 - truth, truth)
        return np.clip(0.5 + (told - 0.5) * rng.uniform(0.1, 0.9, len(truth)), 0.01, 0.99)

    one = weak(labels["train"])
    write(
        path,
        name="small",
        kind="pair" if domain == "chat" else "single",
        strong=str(strong),
        templates=wordings,
        profile=profile,
        rows=rows,
        labels=labels,
        weak_labels=np.stack([1 - one, one], axis=1),
        weak_fitness=weak(labels["fitness"])[None],
        weak_sealed=weak(labels["sealed"])[None],
        strong_hash=str(strong),
    )
    return Testbed.load(path)
