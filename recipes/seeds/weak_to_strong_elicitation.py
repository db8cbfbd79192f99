"""Elicit confident answers that the strong model agrees with; the weak labels only say which question is meant.

Direction: weak_to_strong_elicitation

The elicitation objective, confidence (Burns et al. 2023, "Weak-to-Strong Generalization", section 4.3) and consistency with the
model's own answers (Burns et al. 2022, "Discovering Latent Knowledge", section 2.2), is applied to the weak labels: they start
as the targets, and a short student that was trained to be confident about them corrects them before the student proper is
trained the same way.
"""

import asyncio

import numpy as np

CONFIDENCE_STRENGTH = 0.25
CONFIDENCE_WARMUP = 0.2
PRIOR_WEIGHT = 0.2
CORRECTION_EPOCHS = 5.0
CORRECTION_MIX = 0.5


def probabilities(log_odds):
    """[n, 2] float32 from the log odds of class 1, [n]."""
    one = 1 / (1 + np.exp(-log_odds))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


def calibrated(answers):
    """Log odds of `answers` [n, 2], centred at their median and of deviation 1."""
    log_odds = np.log(answers[:, 1] + 1e-6) - np.log(answers[:, 0] + 1e-6)
    return (log_odds - np.median(log_odds)) / (log_odds.std() + 1e-6)


async def initial_targets(task):
    """The weak labels, moved towards the strong model's own answers as far as the two have anything in common."""
    weak = np.log(task.weak_labels[:, 1] + 1e-6) - np.log(task.weak_labels[:, 0] + 1e-6)
    if not task.has_prior:
        return probabilities(weak)
    wordings = [template for template in range(task.templates) if template not in task.statements]
    answers = await asyncio.gather(*(task.prior(template) for template in wordings))
    own = sum(calibrated(answer) for answer in answers) / len(answers)
    heard = max(0.0, float(np.corrcoef(own, weak)[0, 1]))
    return probabilities(weak + PRIOR_WEIGHT * heard * own)


async def elicit(task, targets):
    """A confident student's answers, mixed into the targets."""
    options = {"strength": CONFIDENCE_STRENGTH, "warmup": CONFIDENCE_WARMUP}
    student = await task.finetune(targets, loss="log_confidence", loss_options=options, epochs=CORRECTION_EPOCHS)
    return (1 - CORRECTION_MIX) * targets + CORRECTION_MIX * await task.predict(student)


async def fit(task, targets, rows):
    options = {"strength": CONFIDENCE_STRENGTH, "warmup": CONFIDENCE_WARMUP}
    return await task.finetune(targets[rows], rows, loss="log_confidence", loss_options=options)


async def recipe(task):
    targets = await initial_targets(task)
    targets = await elicit(task, targets)
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
