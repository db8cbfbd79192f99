"""What several stages use: beliefs as log odds, and students' out-of-fold beliefs."""

import asyncio

import numpy as np

CROSSFIT_FOLDS = 2
CROSSFIT_EPOCHS = 5.0


def log_odds(beliefs):
    """The log odds of class 1, [n], of beliefs [n, 2]; within some +-9."""
    return np.log(np.clip(beliefs[:, 1], 1e-4, 1) / np.clip(beliefs[:, 0], 1e-4, 1))


def beliefs_from(odds):
    """Beliefs [n, 2] float32 from the log odds of class 1, [n]."""
    first = 1 / (1 + np.exp(-np.clip(odds, -15, 15)))
    return np.stack([1 - first, first], axis=1).astype(np.float32)


async def held_out_beliefs(task, targets):
    """Beliefs [n, 2] of students about rows that they were not trained on."""
    fold = task.rng.permutation(task.size) % CROSSFIT_FOLDS

    async def belief(held_out):
        rows = np.flatnonzero(fold != held_out)
        student = await task.finetune(targets[rows], rows=rows, epochs=CROSSFIT_EPOCHS)
        return await task.predict(student)

    predictions = await asyncio.gather(*[belief(number) for number in range(CROSSFIT_FOLDS)])
    return np.stack(predictions)[fold, np.arange(task.size)]


async def unit_states(task, layer):
    """Standardised hidden states [n, d], scaled to length one."""
    states = await task.hidden(layer)
    states = (states - states.mean(axis=0)) / (states.std(axis=0) + 1e-6)
    return states / (np.linalg.norm(states, axis=1, keepdims=True) + 1e-6)


async def neighbour_beliefs(task, targets, layer, count):
    """The mean belief [n, 2] of every row's nearest rows (itself among them) by cosine in hidden space."""
    states = await unit_states(task, layer)
    count = min(count, task.size - 1)
    beliefs = np.empty_like(targets)
    for start in range(0, task.size, 1000):
        similarity = states[start : start + 1000] @ states.T
        nearest = np.argpartition(-similarity, count, axis=1)[:, :count]
        beliefs[start : start + 1000] = targets[nearest].mean(axis=1)
    return beliefs


def top_share_per_class(targets, trust, share):
    """The rows, in order, that are the most trusted share of each class by the targets."""
    rows = []
    for label in (0, 1):
        members = np.flatnonzero(targets.argmax(axis=1) == label)
        rows.append(members[np.argsort(-trust[members])[: max(8, round(share * len(members)))]])
    return np.sort(np.concatenate(rows))
