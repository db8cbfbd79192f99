"""Train on the labels that can be learned but aren't learned at once, from the plain to the intricate.

Direction: epiplexity

After Finzi et al. 2026, "From Entropy to Epiplexity": what a bounded learner extracts from data is the area under its loss curve
above the final loss. Per row, out of fold: a wrong label still surprises a student that was trained on, and is left out; between
labels that don't, those that surprised the same student when it was stopped early say more. What is kept is visited in a
curriculum (Bengio et al. 2009, "Curriculum learning").
"""

import asyncio

import numpy as np

FOLDS = 2
EARLY_EPOCHS = 1.0
LATE_EPOCHS = 5.0
KEEP = 0.6
NOVELTY_WEIGHT = 0.2
BLOCKS = 4


async def surprise(task, targets, students, fold):
    """-log P(target label) by the student that did not see the row, [n]."""
    answers = np.stack(await asyncio.gather(*(task.predict(student) for student in students)))[fold, np.arange(task.size)]
    return -np.log(answers[np.arange(task.size), targets.argmax(axis=1)] + 1e-6)


async def select(task, targets):
    """The rows that are no surprise in the end and were one in the beginning, those plain from the start first."""
    fold = task.rng.permutation(task.size) % FOLDS
    others = [np.flatnonzero(fold != number) for number in range(FOLDS)]
    early = await asyncio.gather(*(task.finetune(targets[rows], rows, epochs=EARLY_EPOCHS, schedule="constant") for rows in others))
    late = await asyncio.gather(
        *(
            task.finetune(targets[rows], rows, epochs=LATE_EPOCHS, start=student)
            for rows, student in zip(others, early, strict=True)
        )
    )
    before, after = await surprise(task, targets, early, fold), await surprise(task, targets, late, fold)
    score, label = after - NOVELTY_WEIGHT * before, targets.argmax(axis=1)
    by_class = [
        rows[np.argsort(score[rows])[: max(1, int(KEEP * len(rows)))]] for rows in (np.flatnonzero(label == c) for c in (0, 1))
    ]
    chosen = np.concatenate(by_class)
    return chosen[np.argsort(before[chosen])]


async def fit(task, targets, rows):
    """`rows` come from plain to intricate: blocks keep that order, and are shuffled within."""
    order = np.concatenate([task.rng.permutation(block) for block in np.array_split(np.arange(len(rows)), BLOCKS)])
    return await task.finetune(targets[rows], rows, order=order)


async def recipe(task):
    targets = task.weak_labels
    rows = await select(task, targets)
    return await fit(task, targets, rows)
