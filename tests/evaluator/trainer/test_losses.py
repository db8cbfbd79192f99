"""A loss is one definition and one registration, from outside of the packages too."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from trainings import assert_same_bits, run, training

from evaluator.requests import Refused, loss_of
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer
from recipes import losses
from recipes.contract import LOSSES
from recipes.losses import NamedLoss, probability
from recipes.reference import reference

SEEN: list[torch.Tensor] = []
"""The progress [K, 1] that `fading`'s slope was given at each step."""


def fading_value(margin, target, read):
    return (1 - read["floor"] * read["progress"]) * (probability(margin) - target).square()


def fading_slope(margin, target, read):
    SEEN.append(read["progress"].clone())
    p = probability(margin)
    return (1 - read["floor"] * read["progress"]) * 2 * (p - target) * p * (1 - p)


FADING = NamedLoss(
    name="fading",
    words="The Brier score, which fades to 1 - `floor` of itself.",
    value=fading_value,
    slope=fading_slope,
    options={"floor": 0.5},
    reads_progress=True,
)


@pytest.fixture(scope="module")
def trainer(math_testbed, cache):
    return Trainer(Testbed.load(math_testbed), cache=cache, tokens_per_step=10**9)


@pytest.fixture
def fading():
    SEEN.clear()
    yield losses.register(FADING)
    losses.unregister("fading")


def test_progress_runs_from_0_towards_1_in_a_batch_with_other_losses(trainer, fading):
    kept = {"size": 64, "batch_size": 32, "epochs": 10.0}
    mine = training(trainer, loss="fading", **kept)
    others = [training(trainer, loss=name, seed=1, **kept) for name in ("cross_entropy", "log_confidence")]
    before = trainer.work.steps
    together = run(trainer, [others[0], mine, others[1]])[1]
    assert trainer.work.steps - before == mine.steps, "they did not run fused"
    assert [one.item() for one in SEEN] == pytest.approx([step / mine.steps for step in range(mine.steps)])
    assert_same_bits(together, run(trainer, [mine])[0])


def test_progress_is_each_slot_s_own_however_many_share_the_loss(trainer, fading):
    """The second joins when the first is half way."""
    short, long = (training(trainer, loss="fading", size=64, epochs=epochs) for epochs in (4.0, 8.0))
    run(trainer, [long, short], joins=[0, 8])
    both = [one.flatten().tolist() for one in SEEN if len(one) == 2]
    assert both == [[(8 + step) / long.steps, step / short.steps] for step in range(short.steps)]


def test_the_contract_the_check_of_requests_and_the_reference_follow(fading):
    assert LOSSES["fading"] == {"floor": 0.5}
    assert loss_of({"loss": "fading", "loss_options": {"floor": 0.25}}) == ("fading", {"floor": 0.25})
    with pytest.raises(Refused, match="has the options"):
        loss_of({"loss": "fading", "loss_options": {"ceiling": 1.0}})
    assert f"| `fading` | `floor=0.5` | {FADING.words} |" in reference()


@pytest.fixture
def silent():
    yield losses.register(replace(FADING, name="silent", reads_progress=False))
    losses.unregister("silent")


def test_a_loss_that_does_not_say_so_is_not_given_progress(math_testbed, cache, silent):
    trainer = Trainer(Testbed.load(math_testbed), cache=cache)
    with pytest.raises(KeyError, match="progress"):
        run(trainer, [training(trainer, loss="silent")])


def test_a_name_is_one_loss_s_and_progress_is_no_option(fading):
    with pytest.raises(ValueError, match="already"):
        losses.register(FADING)
    with pytest.raises(ValueError, match="reads_progress"):
        losses.register(replace(FADING, name="another", options={"progress": 0.0}))
