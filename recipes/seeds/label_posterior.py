"""Treat the teacher as a noisy channel and alternate between the labels' posterior and a student of it.

Direction: label_posterior

Expectation maximisation after Dawid and Skene 1979, with a classifier as the prior as in Raykar et al. 2010, "Learning from
Crowds", section 2: the student's out-of-fold answer is the prior of a row's label, and how often each bucket of weak scores
occurs in either class is the likelihood. A weak score thus means what it is found to mean, not what it claims.
"""

import asyncio

import numpy as np

ROUNDS = 2
FOLDS = 2
FOLD_EPOCHS = 3.0
BUCKETS = 10
STUDENT_WEIGHT = 0.7


def probabilities(log_odds):
    """[n, 2] float32 from the log odds of class 1, [n]."""
    one = 1 / (1 + np.exp(-log_odds))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


async def out_of_fold(task, targets):
    """Each row's label as predicted by a student that did not see it, [n, 2]."""
    fold = task.rng.permutation(task.size) % FOLDS
    others = [np.flatnonzero(fold != number) for number in range(FOLDS)]
    students = await asyncio.gather(*(task.finetune(targets[rows], rows, epochs=FOLD_EPOCHS) for rows in others))
    return np.stack(await asyncio.gather(*(task.predict(student) for student in students)))[fold, np.arange(task.size)]


def channel(weak, belief):
    """log P(weak score's bucket | class 1) / P(... | class 0) for every row, [n], from the current belief [n, 2]."""
    edges = np.quantile(weak, np.linspace(0, 1, BUCKETS + 1)[1:-1])
    bucket = np.digitize(weak, edges)
    counts = np.stack([np.bincount(bucket, belief[:, label], BUCKETS) + 1 for label in (0, 1)])
    likelihood = counts / counts.sum(axis=1, keepdims=True)
    return np.log(likelihood[1] / likelihood[0])[bucket]


async def expectation_maximisation(task, targets):
    for _ in range(ROUNDS):
        prior = await out_of_fold(task, targets)
        student = np.log(prior[:, 1] + 1e-6) - np.log(prior[:, 0] + 1e-6)
        targets = probabilities(STUDENT_WEIGHT * student + channel(task.weak_labels[:, 1], prior))
    return targets


async def fit(task, targets, rows):
    return await task.finetune(targets[rows], rows)


async def recipe(task):
    targets = task.weak_labels
    targets = await expectation_maximisation(task, targets)
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
