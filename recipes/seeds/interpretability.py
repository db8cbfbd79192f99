"""Find the direction that truth takes in the hidden states, and train where it and the teacher meet.

Direction: interpretability

The direction is the difference of the class means of confidently labelled rows, corrected by the covariance (the mass-mean
probe of Marks and Tegmark 2023, "The Geometry of Truth", section 5). Rows on which teacher and direction are both sure, and agree,
hold what the teacher can see and what only the student can: the overlap of Shin et al. 2024, "Weak-to-Strong Generalization
Through the Data-Centric Lens", section 3, from which the student learns the latter.
"""

import numpy as np

LAYER = -1
CONFIDENT_SHARE = 0.5
RIDGE = 0.1
SHARPENING = 1.5
KEEP = 0.6


def probabilities(log_odds):
    """[n, 2] float32 from the log odds of class 1, [n]."""
    one = 1 / (1 + np.exp(-log_odds))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


def surest(score, label, share):
    """The rows with the largest score [n], the same share of either class, in ascending order."""
    chosen = [
        rows[np.argsort(-score[rows])[: max(1, int(share * len(rows)))]] for rows in (np.flatnonzero(label == c) for c in (0, 1))
    ]
    return np.sort(np.concatenate(chosen))


def mass_mean(states, rows, label):
    """Whitened difference of the class means over `rows`, [d]."""
    means = [states[rows[label[rows] == c]].mean(axis=0) for c in (0, 1)]
    spread = states[rows] - np.stack(means)[label[rows]]
    covariance = spread.T @ spread / len(rows)
    return np.linalg.solve(covariance + RIDGE * np.eye(len(covariance)), means[1] - means[0])


async def truth_direction(task, targets):
    """Labels by the side of the truth direction on which a row lies, at the targets' share of class 1."""
    states = await task.hidden(LAYER)
    states = (states - states.mean(axis=0)) / (states.std(axis=0) + 1e-6)
    label = targets.argmax(axis=1)
    margin = states @ mass_mean(states, surest(targets.max(axis=1), label, CONFIDENT_SHARE), label)
    margin = margin - np.quantile(margin, 1 - targets[:, 1].mean())
    return probabilities(SHARPENING * margin / (margin.std() + 1e-6))


async def select(task, targets):
    """Where the teacher and the targets overlap: both lean to the same class, and the less sure of the two is sure."""
    label = targets.argmax(axis=1)
    row = np.arange(task.size)
    return surest(np.minimum(task.weak_labels[row, label], targets[row, label]), label, KEEP)


async def fit(task, targets, rows):
    return await task.finetune(targets[rows], rows)


async def recipe(task):
    targets = task.weak_labels
    targets = await truth_direction(task, targets)
    rows = await select(task, targets)
    return await fit(task, targets, rows)
