"""What decides numbers is on record by version, and a change is said and recorded when a search goes on."""

import json
import shutil

import pytest
from command import evo_aar

from evo_aar.runs import versions
from population.store import Store

pytestmark = pytest.mark.slow

SMALL = {
    "--islands": 1,
    "--generations": 1,
    "--children": 1,
    "--seeds": 1,
    "--final-seeds": 1,
    "--audit-seeds": 0,
    "--workers": 1,
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory, math_testbed):
    """The folder of a search that stopped after its seed recipes."""
    folder = tmp_path_factory.mktemp("begun")
    options = SMALL | {"--max-trials": 1, "--run": "one", "--runs": folder / "runs"}
    done = evo_aar("evolve", *(word for option in options.items() for word in option))
    assert done.status == 0, done.err
    return folder


@pytest.fixture
def stopped(begun, tmp_path, monkeypatch):
    """A copy of it, as the working folder."""
    shutil.copytree(begun / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def stints():
    with Store.open("runs/one/search.sqlite", writable=False) as store:
        return store.stints.all()


def test_a_change_of_version_is_said_and_on_record_and_the_search_goes_on(stopped, monkeypatch):
    newer = {**versions.versions(), "torch": "99.0", "mlflow": "99.0"}
    monkeypatch.setattr("evo_aar.runs.search_run.versions", lambda: newer)
    resumed = evo_aar("resume", "one", "--workers", 1)
    assert resumed.status == 0, resumed.err
    said = " ".join(resumed.out.split())
    assert f"other versions than before: torch 99.0 (was {versions.versions()['torch']})." in said
    assert [one.versions["torch"] for one in stints()] == [versions.versions()["torch"], "99.0"]
    status = evo_aar("status", "one", "--json").json
    assert status["versions"] == [dict(one.versions) for one in stints()]
    assert "torch 99.0" in evo_aar("status", "one").out


def test_the_same_versions_are_not_remarked_on(stopped):
    resumed = evo_aar("resume", "one", "--workers", 1)
    assert resumed.status == 0 and "other versions" not in resumed.out
    assert stints()[0].versions == stints()[1].versions
    assert json.loads(json.dumps(versions.versions()))["python"]


def test_versions_that_were_not_on_record_are_no_change():
    assert versions.changes({"torch": "1"}, {"torch": "1", "numpy": "2"}) == []
    assert versions.changes({"torch": "1", "numpy": "1"}, {"torch": "2", "numpy": "1"}) == ["torch 2 (was 1)"]


def test_the_tracked_search_has_its_versions_as_tags(stopped):
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///runs/mlflow.db")
    found = client.search_runs(
        [one.experiment_id for one in client.search_experiments()], "tags.kind = 'search'"
    )
    assert found[0].data.tags["version.torch"] == versions.versions()["torch"]
    assert found[0].data.metrics["best_pgr"] is not None
