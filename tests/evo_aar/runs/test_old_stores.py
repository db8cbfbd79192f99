"""A search of an earlier version goes on, is exported and looked at."""

import json

import pytest
from command import evo_aar
from old_stores import FINGERPRINTS, old_run

from population.store import Store


@pytest.fixture
def folder(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fingerprint(name):
    with Store.open(f"runs/{name}/search.sqlite", writable=False) as store:
        return store.fingerprint()


def test_one_that_was_killed_in_a_migration_ends_as_the_one_that_was_not(folder):
    """On the processor that the fixture was made on; another one rounds otherwise, so that trials differ."""
    old_run(folder, "killed")
    resumed = evo_aar("resume", "killed", "--workers", 1)
    assert resumed.status == 0, resumed.err
    assert "other versions than before" in resumed.out or resumed.out
    with Store.open("runs/killed/search.sqlite", writable=False) as store:
        assert store.generations.last().number == 3
        assert len(store.generations.fates(kind="crowned")) == 1
        assert [one.versions.keys() >= {"torch", "numpy"} for one in store.stints.all()] == [False, True]


def test_one_that_ended_is_exported_and_looked_at(folder):
    old_run(folder, "finished")
    status = evo_aar("status", "finished", "--json").json
    assert status["state"] == "finished" and status["best"]["individual"].startswith("g00")
    done = evo_aar("export", "finished", "--best", "-o", folder / "best")
    assert done.status in (0, 1), (
        done.err
    )  # 1: this processor trains other students than the one of the fixture
    assert json.loads((folder / "best" / "metrics.json").read_text())["pgr"]["mean"] > 0
    assert fingerprint("finished") == FINGERPRINTS["finished"]
