"""Selections: which rows to train on."""

import numpy as np

from evo_aar.operators.grammar.common import held_out_beliefs, log_odds, neighbour_beliefs, top_share_per_class

CONFIDENT_KEEP = 0.5
AGREEMENT_KEEP = 0.7
CONSISTENCY_LAYER = -1
CONSISTENCY_NEIGHBOURS = 25
CONSISTENCY_KEEP = 0.6


async def select_confident(task, targets):
    """The rows of each class that the targets are surest of."""
    return top_share_per_class(targets, targets.max(axis=1), CONFIDENT_KEEP)


async def select_agreeing(task, targets):
    """The rows of each class where out-of-fold students agree most with the targets."""
    agreement = log_odds(await held_out_beliefs(task, targets)) * np.sign(log_odds(targets))
    return top_share_per_class(targets, agreement, AGREEMENT_KEEP)


async def select_consistent(task, targets):
    """The rows of each class whose neighbours in hidden space bear the same beliefs."""
    nearby = await neighbour_beliefs(task, targets, CONSISTENCY_LAYER, CONSISTENCY_NEIGHBOURS)
    return top_share_per_class(targets, (nearby * targets).sum(axis=1), CONSISTENCY_KEEP)
