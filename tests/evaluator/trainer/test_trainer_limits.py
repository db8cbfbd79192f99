"""Budgets and memory decide when the trainer does things, never what comes out."""

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trainings import assert_same_bits, run, training

from evaluator.testbeds.prepared import Testbed
from evaluator.trainer import memory
from evaluator.trainer.fusion import Fusion, budget
from evaluator.trainer.trainer import Trainer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def testbed(math_testbed) -> Testbed:
    return Testbed.load(math_testbed)


@pytest.fixture(scope="module")
def unfused(testbed, cache) -> Trainer:
    return Trainer(testbed, cache=cache, tokens_per_step=1)


specs = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**62),
        "size": st.integers(1, 150),
        "batch_size": st.sampled_from([7, 32]),
        "loss": st.sampled_from(["cross_entropy", "log_confidence", "generalised_cross_entropy"]),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    several=st.lists(specs, min_size=2, max_size=7),
    joins=st.lists(st.integers(0, 9), min_size=7, max_size=7),
    tokens=st.one_of(st.none(), st.integers(1, 400)),
    memory_bytes=st.one_of(st.none(), st.integers(0, 2_000_000)),
)
def test_any_budget_and_any_memory_give_the_same_bits(
    testbed, cache, unfused, several, joins, tokens, memory_bytes
):
    trainer = Trainer(testbed, cache=cache, tokens_per_step=tokens, memory_bytes=memory_bytes)
    trainer._features = unfused._features
    got = run(trainer, [training(trainer, **spec) for spec in several], joins[: len(several)])
    for spec, parameters in zip(several, got, strict=True):
        assert_same_bits(parameters, run(unfused, [training(unfused, **spec)])[0])


def test_slots_beyond_the_budget_take_turns(testbed, cache):
    trainer = Trainer(testbed, cache=cache, tokens_per_step=3 * 32)
    run(trainer, [training(trainer, seed=seed) for seed in range(7)])
    steps = training(trainer).steps
    assert trainer.work.slots == 7 * steps
    assert trainer.work.steps == 3 * steps  # of 3, 3 and 1
    assert trainer.work.mixed == 2 * steps


def test_a_slot_that_ends_frees_its_place_at_once(testbed, cache):
    trainer = Trainer(testbed, cache=cache, tokens_per_step=2 * 32)
    long, short = training(trainer, epochs=4.0), training(trainer, epochs=1.0)
    run(trainer, [long, short, short, short], joins=[0, 0, short.steps, 2 * short.steps])
    assert trainer.work.slots == long.steps + 3 * short.steps
    assert trainer.work.steps == long.steps


def test_only_what_fits_is_resident_and_one_always_is(testbed, cache):
    trainer = Trainer(testbed, cache=cache, memory_bytes=1)
    run(trainer, [training(trainer, seed=seed) for seed in range(3)])
    assert trainer.work.steps == trainer.work.slots == 3 * training(trainer).steps
    one = training(trainer)
    roomy = Trainer(
        testbed,
        cache=cache,
        tokens_per_step=10**6,
        memory_bytes=2 * (memory.slot_bytes(one) + memory.step_bytes(one)),
    )
    run(roomy, [training(roomy, seed=seed) for seed in range(4)])
    assert roomy.work.slots == 2 * roomy.work.steps


def test_a_budget_is_tuned_once_and_kept_for_the_device(testbed, tmp_path, cache, monkeypatch):
    trainer = Trainer(testbed, cache=cache)
    some = training(trainer)
    fusion = Fusion(tmp_path, trainer.device)
    assert fusion.most(some, 1) == 1 and not list(tmp_path.iterdir()), "nothing to fuse, nothing to tune"
    found = fusion.most(some, 8)
    assert found >= 1
    (kept,) = tmp_path.rglob("*.json")
    before = kept.read_text()
    monkeypatch.setattr(
        "evaluator.trainer.fusion.time_per_slot", lambda *_: pytest.fail("it was tuned again")
    )
    assert Fusion(tmp_path, trainer.device).most(some, 8) == found
    kept.write_text(before[:10])  # as a full disk may leave it
    monkeypatch.setattr(
        "evaluator.trainer.fusion.time_per_slot", lambda *_: {1: 5.0, 2: 3.0, 4: 2.0, 8: 1.99, 16: 4.0}
    )
    assert Fusion(tmp_path, trainer.device).most(some, 8) == 4


def test_the_budget_is_the_smallest_that_is_as_good_as_any():
    assert budget({1: 1.0}) == 1
    assert budget({1: 1.0, 2: 1.2, 4: 1.4}) == 1
    assert budget({1: 9.0, 2: 5.0, 4: 3.0, 8: 2.97, 16: 3.5}) == 4


STARVED = """
import resource, sys
sys.path.insert(0, "tests/helpers")
from pathlib import Path
import torch
from trainings import run, training
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer

testbed, cache = Testbed.load(Path(sys.argv[1])), Path(sys.argv[2])
def trainings(trainer):
    return [training(trainer, seed=seed, size=4096, batch_size=4096, hidden_size=512, epochs=3.0) for seed in range(8)]
trainer = Trainer(testbed, cache=cache, tokens_per_step=10**9, memory_bytes=10**12)
alone = [run(trainer, [one])[0] for one in trainings(trainer)]
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (130 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = trainer.work.steps
together = run(trainer, trainings(trainer))
for one, other in zip(alone, together):
    assert all(torch.equal(one[name], other[name]) for name in one)
steps = trainer.work.steps - before
del together
limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (16 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
ended = []
for hidden_size in (4096, 16):
    trainer.submit(training(trainer, size=4096, batch_size=4096, hidden_size=hidden_size), ended.append)
    while trainer.busy:
        trainer.step()
assert "batch size 4096" in ended[0].error and ended[1].error is None and len(ended) == 2
print("fused steps:", steps)
"""  # noqa: E501


def test_when_memory_runs_out_the_fused_batch_is_halved_and_nothing_is_lost(math_testbed, cache):
    """Eight slots whose step takes 8 MiB of activations each, several times over, in a process that may take
    130 MiB more.

    A training that has no room even alone fails by itself.
    """
    done = subprocess.run(
        [sys.executable, "-c", STARVED, str(math_testbed), str(cache)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 3, "eight slots of three steps went fused: memory never ran out"


def test_an_error_that_is_not_of_memory_is_raised():
    import torch

    assert memory.is_exhausted(torch.OutOfMemoryError("CUDA out of memory"))
    assert not memory.is_exhausted(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
