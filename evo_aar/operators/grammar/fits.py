"""Fits: how the student that a recipe returns is trained. `fit` stands for the recipe's own."""

import asyncio

import numpy as np

from evo_aar.operators.grammar.common import top_share_per_class

FIT_STRENGTH = 0.6
FIT_WARMUP = 0.2
WEIGHT_POWER = 1.0
HEAD_LAYERS = (-1, -2)
HEAD_HIDDEN_SIZE = 64
HEAD_STRENGTH = 0.5
EASY_SHARE = 0.4
EASY_EPOCHS = 6.0
MEMBERS = 3
OWN_WEIGHT = 0.7


async def fit(task, targets, rows):
    """Train on the targets as they are; in a recipe this is the recipe's own fit."""
    return await task.finetune(targets[rows], rows=rows)


async def fit_confidently(task, targets, rows):
    """Train with the auxiliary confidence loss: the student may overrule targets that it is sure are wrong."""
    return await task.finetune(
        targets[rows], rows=rows, loss="log_confidence", loss_options={"strength": FIT_STRENGTH, "warmup": FIT_WARMUP}
    )


async def fit_weighted(task, targets, rows):
    """Train with every row weighted by how firm its target is."""
    weights = np.abs(targets[rows, 1] - targets[rows, 0]) ** WEIGHT_POWER + 0.01
    return await task.finetune(targets[rows], rows=rows, weights=weights / weights.mean())


async def fit_on_layers(task, targets, rows):
    """Train a small head on several layers at once, free to overrule targets."""
    return await task.probe(
        HEAD_LAYERS,
        targets[rows],
        rows=rows,
        hidden_size=HEAD_HIDDEN_SIZE,
        loss="log_confidence",
        loss_options={"strength": HEAD_STRENGTH},
    )


async def fit_easy_first(task, targets, rows):
    """Train on the firmest targets first, then go on with all rows from there."""
    easy = np.intersect1d(rows, top_share_per_class(targets, targets.max(axis=1), EASY_SHARE))
    first = await task.finetune(targets[easy], rows=easy, epochs=EASY_EPOCHS)
    return await task.finetune(targets[rows], rows=rows, start=first)


async def average_fits(task, targets, rows):
    """Fit several students that differ by their seed, and let them vote."""
    return task.ensemble(await asyncio.gather(*[fit(task, targets, rows) for _ in range(MEMBERS)]))


async def fit_again_on_own_labels(task, targets, rows):
    """Fit, relabel every row by the student's own beliefs, fit again (born-again self-training)."""
    student = await fit(task, targets, rows)
    own = (1 - OWN_WEIGHT) * targets + OWN_WEIGHT * await task.predict(student)
    return await fit(task, own, np.arange(task.size))
