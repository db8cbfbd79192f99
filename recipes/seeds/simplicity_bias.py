"""Prefer labels that are a smooth function of the few main directions of the hidden states, and a student with small weights.

Direction: simplicity_bias

The weak labels are replaced by their ridge regression on the hidden states, which shrinks what it explains by a direction of variance v
to v / (v + RIDGE) of it: a soft preference for low rank (Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical
Learning", section 3.4.1). Teachers' mistakes that need many minor directions do not survive it. That gradient descent
leans the same way is Valle-Perez et al. 2019, "Deep learning generalizes because the parameter-function map is biased".
"""

import numpy as np

LAYER = -1
RIDGE = 0.5
SHARPENING = 1.5
WEIGHT_DECAY = 0.1


def probabilities(log_odds):
    """[n, 2] float32 from the log odds of class 1, [n]."""
    one = 1 / (1 + np.exp(-log_odds))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


def ridge_regression(states, values):
    """`values` [n] as a linear function of the standardised `states` [n, d] with a price on its weights, [n]."""
    states = (states - states.mean(axis=0)) / (states.std(axis=0) + 1e-6)
    covariance = states.T @ states / len(states)
    weight = np.linalg.solve(covariance + RIDGE * np.eye(len(covariance)), states.T @ (values - values.mean()) / len(states))
    return states @ weight


async def smooth(task, targets):
    """The regression's labels, at the threshold that keeps the targets' share of class 1."""
    score = ridge_regression(await task.hidden(LAYER), targets[:, 1])
    score = score - np.quantile(score, 1 - targets[:, 1].mean())
    return probabilities(SHARPENING * score / (score.std() + 1e-6))


async def fit(task, targets, rows):
    return await task.finetune(targets[rows], rows, weight_decay=WEIGHT_DECAY)


async def recipe(task):
    targets = task.weak_labels
    targets = await smooth(task, targets)
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
