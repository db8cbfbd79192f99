"""The trainer's promise: a slot's result does not depend on its neighbours, bit for bit, and it learns what
it is told.
"""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trainings import run, training

from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.optimisers import MOMENTUM, UPDATES
from evaluator.trainer.slot import Training, learning_rate_factor
from evaluator.trainer.trainer import Trainer
from recipes.contract import LOSSES, OPTIMISERS, SCHEDULES
from recipes.losses import NAMED


@pytest.fixture(scope="module")
def trainer(math_testbed, cache) -> Trainer:
    return Trainer(Testbed.load(math_testbed), cache=cache)


kinds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**62),
        "size": st.integers(1, 150),
        "batch_size": st.sampled_from([1, 7, 16, 32]),
        "hidden_size": st.sampled_from([0, 3, 16]),
        "epochs": st.sampled_from([0.2, 1.0, 2.5]),
        "loss": st.sampled_from(list(LOSSES)),
        "schedule": st.sampled_from(SCHEDULES),
        "learning_rate": st.sampled_from([1e-4, 1e-2]),
        "weight_decay": st.sampled_from([0.0, 0.1]),
        "optimiser": st.sampled_from(OPTIMISERS),
        "clip_norm": st.sampled_from([float("inf"), 0.05]),
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    specs=st.lists(kinds, min_size=2, max_size=8), joins=st.lists(st.integers(0, 12), min_size=8, max_size=8)
)
def test_a_slot_trains_to_the_same_bits_alone_and_among_neighbours(trainer, specs, joins):
    together = run(trainer, [training(trainer, **spec) for spec in specs], joins[: len(specs)])
    for spec, parameters in zip(specs, together, strict=True):
        (alone,) = run(trainer, [training(trainer, **spec)])
        assert all(torch.equal(alone[name], parameters[name]) for name in alone), spec


TORCH_OPTIMISERS = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": lambda *given, **options: torch.optim.SGD(*given, momentum=MOMENTUM, **options),
    "adagrad": torch.optim.Adagrad,
}


def test_every_optimiser_of_the_contract_has_its_step():
    assert set(UPDATES) == set(OPTIMISERS) == set(TORCH_OPTIMISERS)


@pytest.mark.parametrize("clip_norm", [float("inf"), 0.05])
@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_a_head_trains_as_plain_autograd_and_torch_optim_would(trainer, optimiser, clip_norm):
    """The hand-written backward, clipping and the stacked optimiser against torch's own."""
    spec = training(trainer, size=96, epochs=3.0, weight_decay=0.05, clip_norm=clip_norm, optimiser=optimiser)
    (ours,) = run(trainer, [spec])
    own = {
        name: value.clone().requires_grad_()
        for name, value in spec.model.initial_parameters(spec.seed).items()
    }
    by_torch = TORCH_OPTIMISERS[optimiser](
        own.values(), lr=spec.learning_rate, weight_decay=spec.weight_decay
    )
    features = spec.model.features.of("train")
    for step, batch in enumerate(spec.positions()):
        hidden = torch.relu(features[spec.rows[batch]] @ own["weight_1"] + own["bias_1"])
        logits = hidden @ own["weight_2"] + own["bias_2"]
        loss = -(torch.from_numpy(spec.targets[batch]) * logits.log_softmax(-1)).sum(-1).mean()
        for group in by_torch.param_groups:
            group["lr"] = spec.learning_rate * learning_rate_factor(spec.schedule, step / spec.steps)
        by_torch.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(own.values(), clip_norm)
        by_torch.step()
    for name in own:
        torch.testing.assert_close(ours[name], own[name].detach(), rtol=1e-4, atol=1e-6)


def by_the_book(name, logits, targets, progress, options):
    """Each loss of `recipes.contract.LOSSES` from its source's formula on two logits, for autograd to
    differentiate.
    """
    log_p = logits.log_softmax(-1)
    p, cross = log_p.exp(), lambda aim: -(aim * log_p).sum(-1)
    if name == "log_confidence":
        strength = options["strength"] * (progress / options["warmup"]).clamp(max=1)
        margin = (logits[..., 1] - logits[..., 0]).detach()
        own = (margin > margin.median(-1, keepdim=True).values).to(logits.dtype)
        return (1 - strength) * cross(targets) + strength * cross(torch.stack([1 - own, own], -1))
    if name == "reverse_kl":
        return (p * (log_p - targets.clamp(1e-3, 1 - 1e-3).log())).sum(-1)
    if name == "confidence_window":
        most = p.detach().amax(-1)
        return cross(targets) * ((most >= options["low"]) & (most <= options["high"]))
    if name == "symmetric_cross_entropy":
        reverse = -(p * targets.clamp_min(1e-9).log().clamp_min(-4)).sum(-1)
        return options["alpha"] * cross(targets) + options["beta"] * reverse
    if name == "generalised_cross_entropy":
        return (targets * (1 - p ** options["q"][..., None]) / options["q"][..., None]).sum(-1)
    return (p - targets).square().sum(-1) if name == "mean_squared" else cross(targets)


@pytest.mark.parametrize("name", list(NAMED))
def test_a_named_loss_has_the_value_and_the_gradient_that_its_formula_has(name):
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 9, 2, generator=generator, dtype=torch.float64)).requires_grad_()
    targets = torch.rand(2, 9, 1, generator=generator, dtype=torch.float64)
    targets[0, :2] = torch.tensor([[0.0], [1.0]])
    targets = torch.cat([1 - targets, targets], -1)
    progress = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    options = {
        key: torch.tensor([[value], [value]], dtype=torch.float64) for key, value in LOSSES[name].items()
    }
    loss = by_the_book(name, logits, targets, progress, options)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    margin = (logits[..., 1] - logits[..., 0]).detach()
    read = options | ({"progress": progress} if NAMED[name].reads_progress else {})
    slope = NAMED[name].slope(margin, targets[..., 1], read)
    torch.testing.assert_close(NAMED[name].value(margin, targets[..., 1], read), loss.detach())
    torch.testing.assert_close(torch.stack([-slope, slope], -1), gradient)


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 300),
    batch_size=st.integers(1, 64),
    epochs=st.floats(0.1, 4.0),
    seed=st.integers(0, 2**62),
)
def test_data_order_visits_every_row_equally_often_in_full_batches(size, batch_size, epochs, seed):
    spec = Training(
        model=None,
        rows=np.arange(size),
        targets=np.zeros((size, 2), np.float32),
        weights=np.ones(size, np.float32),
        order=None,
        loss="cross_entropy",
        loss_options={},
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="linear",
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        start=None,
    )
    positions = spec.positions()
    assert positions.shape == (spec.steps, spec.batch)
    assert spec.steps * spec.batch >= min(epochs * size, 1)
    counts = np.bincount(positions.ravel(), minlength=size)
    assert counts.max() - counts.min() <= 1


def test_a_curriculum_is_followed_in_every_epoch(trainer):
    order = np.random.default_rng(0).permutation(40)
    spec = training(trainer, size=40, order=order, epochs=2.0, batch_size=10)
    assert spec.positions().ravel().tolist() == [*order, *order]


def test_history_tells_loss_gradient_norm_and_agreement(trainer):
    from evaluator.trainer.group import history

    slot = trainer.submit(training(trainer, size=200, epochs=20.0))
    while trainer.busy:
        trainer.step()
    steps = history(slot)
    assert 20 <= len(steps) <= 45
    assert steps[0]["step"] == 0 and steps[-1]["step"] == slot.training.steps - 1
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(0 <= one["agreement"] <= 1 and one["gradient_norm"] > 0 for one in steps)
