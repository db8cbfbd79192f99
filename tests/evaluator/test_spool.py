"""Outcomes on disk: what is kept is got back, what an earlier version wrote too, and what is damaged is not
there.
"""

import io
import json

import numpy as np
import pytest

from evaluator.spool import Spool
from evaluator.trial import Failure, Success

STEPS = [{"request": 1, "student": "head", "steps": [{"step": 0, "loss": None}]}]
FACTS = {
    "reason": None,
    "message": None,
    "tokens": 7,
    "seconds": 0.5,
    "members": 3,
    "history": STEPS,
    "output": "said",
}
FITNESS, POOL = np.full((4, 2), 0.5, np.float32), np.linspace(0, 1, 3, dtype=np.float32)


def by_hand(facts: object, **arrays: np.ndarray) -> bytes:
    """A file as version 0.1.0 wrote it."""
    buffer = io.BytesIO()
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)
    return buffer.getvalue()


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def test_what_is_kept_is_got_back_until_it_is_forgotten(spool):
    told = {"tokens": 7, "seconds": 0.5, "history": STEPS, "output": "said"}
    failure = Failure(reason="budget", message="too dear", **told)
    spool.keep("good", Success(fitness=FITNESS, pool=POOL, members=3, **told))
    spool.keep("bad", failure)
    good = spool.get("good")
    assert good.ok and good.members == 3 and good.history == STEPS and good.output == "said"
    assert (good.fitness == FITNESS).all() and (good.pool == POOL).all()
    assert spool.get("bad") == failure and not failure.ok
    spool.forget("good")
    spool.forget("never there")
    assert spool.get("good") is None
    assert [path.name for path in spool.folder.iterdir()] == ["bad.npz"]


def test_files_of_an_earlier_version_are_read(spool):
    (spool.folder / "good.npz").write_bytes(by_hand(FACTS, fitness=FITNESS, pool=POOL))
    failed = FACTS | {"reason": "exception", "message": "ValueError: x", "members": 1}
    (spool.folder / "bad.npz").write_bytes(by_hand(failed))
    good, bad = spool.get("good"), spool.get("bad")
    assert good.ok and good.tokens == 7 and (good.fitness == FITNESS).all()
    assert not bad.ok and (bad.reason, bad.message) == ("exception", "ValueError: x")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no archive", id="other bytes"),
        pytest.param(by_hand(FACTS, fitness=FITNESS, pool=POOL)[:-40], id="cut short"),
        pytest.param(by_hand(FACTS), id="a success without predictions"),
        pytest.param(by_hand({"reason": None}), id="facts of another version"),
        pytest.param(by_hand([1]), id="a list"),
    ],
)
def test_what_cannot_be_read_is_absent(spool, data):
    (spool.folder / "key.npz").write_bytes(data)
    assert spool.get("key") is None
