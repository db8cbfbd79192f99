"""Label the pool with what the strong model already believes, made coherent: every label predictable from all the others.

Direction: unsupervised_elicitation

No teacher: a first guess from contrast pairs (the top principal component of the differences between a statement's two
verdicts; Burns et al. 2022, "Discovering Latent Knowledge", section 2.2 and appendix G.2) and from calibrated zero-shot
answers to every wording (Zhou et al. 2023, "Batch Calibration"), then rounds in which each row is labelled anew by students
that saw only the others: the mutual predictability of Wen et al. 2025, "Unsupervised Elicitation", section 2. Where the model
cannot answer, only the sign of the guess, one bit, is taken from the weak labels.
"""

import asyncio

import numpy as np

LAYER = -1
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


def principal_component(states):
    """Coordinates [n] along the direction in which `states` [n, d] vary most."""
    _, _, axes = np.linalg.svd(states - states.mean(axis=0), full_matrices=False)
    return states @ axes[0]


async def zero_shot(task):
    """Log odds of the strong model's own answers, centred over the pool, mean over the question templates, [n]."""
    answers = await asyncio.gather(*(task.prior(template) for template in range(task.templates) if template not in task.statements))
    return sum(normalised(np.log(answer[:, 1] + 1e-6) - np.log(answer[:, 0] + 1e-6)) for answer in answers) / len(answers)


async def contrast(task):
    """The main direction in which saying yes differs from saying no, [n]; without statements, that of the states themselves."""
    if not task.statements:
        return normalised(principal_component(normalised(await task.hidden(LAYER))))
    sides = [
        await asyncio.gather(*(task.hidden(LAYER, template=template, swap=swap) for swap in (False, True)))
        for template in task.statements
    ]
    return sum(normalised(principal_component(normalised(right) - normalised(wrong))) for right, wrong in sides) / len(sides)


async def initial_targets(task):
    guess = await contrast(task)
    compass = await zero_shot(task) if task.has_prior else task.weak_labels[:, 1] - task.weak_labels[:, 1].mean()
    guess = guess * np.sign(guess @ compass or 1.0)
    return probabilities(normalised(guess + compass) if task.has_prior else guess)


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
