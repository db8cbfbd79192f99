"""Weigh each weak label by how sure the teacher was and by how plausible students that did not see it find it.

Direction: data_reweighting

The teacher's confidence and the student's own opinion, out of fold and, where the strong model can answer, zero-shot, multiply
to a weight. Related: the small-loss criterion of Han et al. 2018, "Co-teaching", section 2, and Ren et al. 2018, "Learning to
Reweight Examples".
"""

import asyncio

import numpy as np

FOLDS = 2
FOLD_EPOCHS = 3.0
TEACHER_POWER = 2.0
STUDENT_POWER = 1.0
PRIOR_TRUST = 0.3


async def out_of_fold(task, targets):
    """Each row's label as predicted by a student that did not see it, [n, 2]."""
    fold = task.rng.permutation(task.size) % FOLDS
    others = [np.flatnonzero(fold != number) for number in range(FOLDS)]
    students = await asyncio.gather(*(task.finetune(targets[rows], rows, epochs=FOLD_EPOCHS) for rows in others))
    return np.stack(await asyncio.gather(*(task.predict(student) for student in students)))[fold, np.arange(task.size)]


async def opinion(task, targets):
    """What the strong model makes of each row, [n, 2]."""
    learned = await out_of_fold(task, targets)
    if not task.has_prior:
        return learned
    prior = await task.prior()
    log_odds = np.log(prior[:, 1] + 1e-6) - np.log(prior[:, 0] + 1e-6)
    one = 1 / (1 + np.exp(-(log_odds - np.median(log_odds)) / (log_odds.std() + 1e-6)))
    return (1 - PRIOR_TRUST) * learned + PRIOR_TRUST * np.stack([1 - one, one], axis=1)


async def trust(task, targets):
    """The weight of each row's label, [n]."""
    label, row = targets.argmax(axis=1), np.arange(task.size)
    believed = (await opinion(task, targets))[row, label]
    confidence = np.abs(2 * targets[row, label] - 1)
    return confidence**TEACHER_POWER * believed**STUDENT_POWER


async def fit(task, targets, rows):
    weights = await trust(task, targets)
    return await task.finetune(targets.argmax(axis=1)[rows], rows, weights[rows])


async def recipe(task):
    targets = task.weak_labels
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
