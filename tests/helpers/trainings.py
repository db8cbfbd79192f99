"""Trainings of heads on a real testbed, for tests of the trainer."""

import numpy as np
import torch

from evaluator.trainer.slot import Training
from evaluator.trainer.trainer import Trainer
from recipes.contract import LOSSES


def training(trainer: Trainer, **changes) -> Training:
    size = changes.pop("size", 200)
    rng = np.random.default_rng(changes.get("seed", 0))
    targets = rng.dirichlet([1, 1], size).astype(np.float32)
    facts = {
        "model": trainer.head((4,), changes.pop("hidden_size", 16), True),
        "rows": rng.integers(0, trainer.testbed.sizes["train"], size),
        "targets": targets,
        "weights": np.ones(size, np.float32),
        "order": None,
        "loss": "cross_entropy",
        "loss_options": None,
        "learning_rate": 2e-3,
        "weight_decay": 1e-2,
        "schedule": "linear",
        "epochs": 1.0,
        "batch_size": 32,
        "seed": 0,
        "start": None,
    } | changes
    facts["loss_options"] = facts["loss_options"] or LOSSES.get(facts["loss"], {})
    return Training(**facts)


def run(
    trainer: Trainer, trainings: list[Training], joins: list[int] | None = None
) -> list[dict[str, torch.Tensor]]:
    """Train all together; the k-th joins after `joins[k]` steps. The parameters that each ends with."""
    step, slots = 0, {}
    waiting = sorted(zip(joins or [0] * len(trainings), range(len(trainings)), strict=True))
    while waiting or trainer.busy:
        while waiting and waiting[0][0] <= step:
            _, index = waiting.pop(0)
            slots[index] = trainer.submit(trainings[index], owner=index)
        trainer.step()
        step += 1
    return [slots[index].parameters for index in range(len(trainings))]


def assert_same_bits(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name
