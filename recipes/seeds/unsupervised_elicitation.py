"""Label the pool with what the strong model already believes, made coherent: every label predictable from all the others.

Direction: unsupervised_elicitation

No teacher: a first guess from calibrated zero-shot answers to every wording (Zhou et al. 2023, "Batch Calibration") and from the
contrast between a statement's two verdicts (the main directions of the differences; Burns et al. 2022, "Discovering Latent
Knowledge", section 2.2), then rounds in which each row is labelled anew by students
that saw only the others: the mutual predictability of Wen et al. 2025, "Unsupervised Elicitation", section 2. Where the model
cannot answer, only the sign of the guess, one bit, is taken from the weak labels.
"""

import asyncio

import numpy as np

LAYER = -1
COMPONENTS = 4
ROUNDS = 2
FOLDS = 2
FOLD_EPOCHS = 3.0
SHARPENING = 1.5


def probabilities(log_odds):
    """[n, 2] float32 from the log odds of class 1, [n]."""
    one = 1 / (1 + np.exp(-log_odds))
    return np.stack([1 - one, one], axis=1).astype(np.float32)


def normalised(values):
    """Mean 0 and deviation 1 in every column: what a verdict's own words add is gone."""
    return (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)


def principal_components(states, count):
    """Coordinates [n, count] along the directions in which `states` [n, d] vary most, each of deviation 1."""
    _, _, axes = np.linalg.svd(states, full_matrices=False)
    return normalised(states @ axes[:count].T)


async def zero_shot(task):
    """Log odds of the strong model's own answers, centred over the pool, mean over the question templates, [n]."""
    answers = await asyncio.gather(*(task.prior(template) for template in range(task.templates) if template not in task.statements))
    return sum(normalised(np.log(answer[:, 1] + 1e-6) - np.log(answer[:, 0] + 1e-6)) for answer in answers) / len(answers)


async def contrast(task):
    """The main directions in which a yes differs from a no, [n, COMPONENTS]; without statements, those of the states themselves."""
    if not task.statements:
        return principal_components(normalised(await task.hidden(LAYER)), COMPONENTS)
    template = task.statements[0]
    right, wrong = await asyncio.gather(*(task.hidden(LAYER, template=template, swap=swap) for swap in (False, True)))
    return principal_components(normalised(right) - normalised(wrong), COMPONENTS)


async def initial_targets(task):
    """What the answers and the contrast agree on: the answers' projection onto the contrast's main directions, and the answers."""
    directions = await contrast(task)
    if task.has_prior:
        answers = await zero_shot(task)
        return probabilities(normalised(answers + normalised(directions @ (directions.T @ answers))))
    guess = directions[:, 0]
    return probabilities(guess * np.sign(guess @ (task.weak_labels[:, 1] - task.weak_labels[:, 1].mean()) or 1.0))


async def predict_mutually(task, targets):
    for _ in range(ROUNDS):
        fold = task.rng.permutation(task.size) % FOLDS
        others = [np.flatnonzero(fold != number) for number in range(FOLDS)]
        students = await asyncio.gather(*(task.finetune(targets[rows], rows, epochs=FOLD_EPOCHS) for rows in others))
        answers = np.stack(await asyncio.gather(*(task.predict(student) for student in students)))[fold, np.arange(task.size)]
        log_odds = np.log(answers[:, 1] + 1e-6) - np.log(answers[:, 0] + 1e-6)
        targets = probabilities(SHARPENING * (log_odds - np.median(log_odds)))
    return targets


async def fit(task, targets, rows):
    return await task.finetune(targets[rows], rows)


async def recipe(task):
    targets = await initial_targets(task)
    targets = await predict_mutually(task, targets)
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
