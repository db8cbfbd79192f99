"""Warm up on the weak labels, then search the student's parameters without gradients for answers that are right by vote and sure of it.

Direction: evolution_strategies

Evolution strategies with mirrored perturbations and rank utilities (Salimans et al. 2017, section 2; on whole language models
Qiu et al. 2025, "Evolution Strategies at Scale"). The fitness needs no derivative: the share of targets met, as a bounded
score that noise can't dominate (Ghosh et al. 2017, "Robust Loss Functions under Label Noise"), plus confidence, less imbalance.
"""

import numpy as np

WARM_EPOCHS = 6.0
POPULATION = 16
BATCH = 256
SIGMA = 0.05
STEP_SCALE = 0.5
CONFIDENCE_WEIGHT = 0.1
BUDGET_SHARE = 0.5
SEARCH_STEPS = 30


def fitness(logits, targets):
    """One score for each of K parameter sets, [K], from `logits` [K, b, 2] and `targets` [b, 2]."""
    one = 1 / (1 + np.exp(logits[..., 0] - logits[..., 1]))
    met = (one * targets[:, 1] + (1 - one) * targets[:, 0]).mean(axis=1)
    sure = np.abs(2 * one - 1).mean(axis=1)
    imbalance = np.abs(one.mean(axis=1) - targets[:, 1].mean())
    return met + CONFIDENCE_WEIGHT * sure - imbalance


def utilities(scores):
    """Centred ranks in [-0.5, 0.5]: the size of a score doesn't matter, only its place."""
    return scores.argsort().argsort() / (len(scores) - 1) - 0.5


async def evolve(task, start, targets, rows, steps):
    """The student after `steps` steps from `start`, with perturbations in proportion to each tensor's size."""
    async with task.session(start=start) as session:
        centre = await session.parameters()
        scale = {name: SIGMA * (np.sqrt(np.mean(value**2)) + 1e-3) for name, value in centre.items()}
        for _ in range(steps):
            batch = task.rng.choice(rows, min(BATCH, len(rows)), replace=False)
            noise = [
                {name: task.rng.standard_normal(value.shape) * scale[name] for name, value in centre.items()}
                for _ in range(POPULATION // 2)
            ]
            noise += [{name: -value for name, value in one.items()} for one in noise]
            logits = await session.forward(batch, [{name: centre[name] + value for name, value in one.items()} for one in noise])
            merit = utilities(fitness(logits, targets[batch]))
            step = {name: sum(share * one[name] for share, one in zip(merit, noise, strict=True)) for name in centre}
            centre = {name: centre[name] + STEP_SCALE * step[name] for name in centre}
        await session.load(centre)
        return await session.student()


async def fit(task, targets, rows):
    start = await task.finetune(targets[rows], rows, epochs=WARM_EPOCHS)
    before = task.budget
    await task.predict(start)  # one pass over the pool shows what a row costs
    price = (before - task.budget) * POPULATION * min(BATCH, len(rows)) / task.size
    steps = min(SEARCH_STEPS, int(BUDGET_SHARE * task.budget / max(price, 1)))
    return await evolve(task, start, targets, rows, steps)


async def recipe(task):
    targets = task.weak_labels
    rows = np.arange(task.size)
    return await fit(task, targets, rows)
