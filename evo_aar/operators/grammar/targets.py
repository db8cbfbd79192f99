"""Stages that better the targets without training a student."""

import numpy as np

from evo_aar.operators.grammar.common import beliefs_from, log_odds, neighbour_beliefs, top_share_per_class, unit_states

SMOOTHING_LAYER = -1
SMOOTHING_NEIGHBOURS = 25
SMOOTHING_SHARE = 0.8
SHARPENING = 2.0
CLASS_BALANCE = 0.5
BALANCE_LIMIT = 2.0
PRIOR_WEIGHT = 0.3
TEACHER_WEIGHT = 0.3
DIRECTION_LAYER = -1
DIRECTION_KEEP = 0.5
DIRECTION_WEIGHT = 0.5


async def smooth_over_neighbours(task, targets):
    """Blend each belief with those of the nearest rows in hidden space: a weak teacher's noise averages out."""
    smooth = await neighbour_beliefs(task, targets, SMOOTHING_LAYER, SMOOTHING_NEIGHBOURS)
    return (1 - SMOOTHING_SHARE) * targets + SMOOTHING_SHARE * smooth


async def sharpen(task, targets):
    """Make the beliefs firmer (or softer, below 1)."""
    return beliefs_from(SHARPENING * log_odds(targets))


async def balance_classes(task, targets):
    """Shift the beliefs so that the known share of rows is of class 1."""
    odds = log_odds(targets)
    shift = np.quantile(odds, 1 - CLASS_BALANCE)
    return beliefs_from(odds - np.clip(shift, -BALANCE_LIMIT, BALANCE_LIMIT))


async def blend_with_prior(task, targets):
    """Add the strong model's own zero-shot evidence, centred, to the beliefs."""
    if not task.has_prior:
        return targets
    prior = log_odds(await task.prior())
    return beliefs_from(log_odds(targets) + PRIOR_WEIGHT * (prior - np.median(prior)))


async def return_to_teacher(task, targets):
    """Pull the beliefs back towards the weak labels, lest they drift."""
    return (1 - TEACHER_WEIGHT) * targets + TEACHER_WEIGHT * task.weak_labels


async def follow_mean_difference(task, targets):
    """Blend with the beliefs of the direction between the confident means of the two classes in hidden space."""
    states = await unit_states(task, DIRECTION_LAYER)
    rows = top_share_per_class(targets, targets.max(axis=1), DIRECTION_KEEP)
    labels = targets[rows].argmax(axis=1)
    direction = states[rows[labels == 1]].mean(axis=0) - states[rows[labels == 0]].mean(axis=0)
    score = states @ direction
    score = (score - np.median(score)) / (score.std() + 1e-6)
    return (1 - DIRECTION_WEIGHT) * targets + DIRECTION_WEIGHT * beliefs_from(2 * score)
