"""Tracking neither stops a search nor says anything twice; what was missed or damaged is made whole, in a
real MLflow database.
"""

import shutil
import signal
import sqlite3
import time

import pytest
from store_examples import python
from synthetic_search import SyntheticSearch
from tracking_examples import copied, everything, shown, tracked, tracked_search

from population.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def runs(tmp_path, empty_database):
    return copied(empty_database, tmp_path / "runs")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_database):
    """Everything that MLflow has of a whole search that nothing disturbed."""
    folder = copied(empty_database, tmp_path_factory.mktemp("demo"))
    tracked_search(folder)
    return everything(folder)


def test_all_runs_end_once_and_with_the_search(whole, runs):
    assert {one[1] for one in whole.values()} == {"FINISHED", "FAILED"}
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store)
    tracker.generation(search.store, search.advance())
    found, _ = shown(runs)
    assert {found[key].info.status for key in ("search", "island-0", "island-1")} == {"RUNNING"}
    tracker.finish()
    ended = {key: run.info.end_time for key, run in shown(runs)[0].items()}
    tracker.finish()
    tracked(runs, search.store).finish()
    assert {key: run.info.end_time for key, run in shown(runs)[0].items()} == ended


def test_tracking_again_by_the_same_or_another_tracker_changes_nothing(runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store)
    for _ in range(3):
        tracker.generation(search.store, search.advance())
    once = everything(runs, as_logged=True)
    tracker.generation(search.store, 2)
    assert everything(runs, as_logged=True) == once
    tracked(runs, search.store).generation(search.store, 2)
    assert everything(runs, as_logged=True) == once


def test_what_a_tracker_missed_is_added_by_the_next_one(whole, runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    for number in range(4):
        search.advance()
        if number in (0, 2):  # as many trackers as resumptions; generations 1 and 3 go by unseen
            tracked(runs, search.store).generation(search.store, number)
    search.finals()
    tracked(runs, search.store).finish()
    assert everything(runs) == whole


def test_runs_that_were_deleted_or_cut_short_are_made_whole(whole, runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite").run()
    tracked(runs, search.store).finish()
    found, client = shown(runs)
    client.delete_run(found["g001-i0-c00"].info.run_id)
    half = found["g001-i1-c02"].info.run_id
    with sqlite3.connect(runs / "mlflow.db") as database:  # as an interruption within log_batch leaves it
        database.execute("DELETE FROM metrics WHERE run_uuid = ? AND step > 0", (half,))
        database.execute(
            "DELETE FROM latest_metrics WHERE run_uuid = ? AND key IN ('pgr', 'tokens')", (half,)
        )
        database.execute("DELETE FROM tags WHERE run_uuid = ? AND key IN ('logged', 'fate')", (half,))
        database.execute("UPDATE runs SET status = 'RUNNING', end_time = NULL WHERE run_uuid = ?", (half,))
    database.close()
    shutil.rmtree(found["g001-i1-c02"].info.artifact_uri.removeprefix("file://"))
    tracked(runs, search.store).finish()
    assert everything(runs) == whole


TRACK = """
import sys
from pathlib import Path
from evo_aar.tracking import Tracker
from population.store import Store
runs = Path(sys.argv[1])
with Store.open(runs / "demo" / "search.sqlite", writable=False) as store:
    tracker = Tracker(runs, store, "demo")
    print("ready", flush=True)
    tracker.finish()
"""


@pytest.mark.parametrize("runs_before_the_kill", [1, 9])
def test_a_tracker_killed_in_the_middle_leaves_nothing_that_the_next_one_does_not_complete(
    whole, runs, runs_before_the_kill
):
    SyntheticSearch(runs / "demo" / "search.sqlite").run().store.close()
    process = python(TRACK, runs)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    database = sqlite3.connect(runs / "mlflow.db")
    deadline = time.monotonic() + 120
    while (
        database.execute("SELECT COUNT(*) FROM runs").fetchone()[0] < runs_before_the_kill
        and time.monotonic() < deadline
    ):
        time.sleep(0.001)
    database.close()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(shown(runs)[0]) < len(whole)
    with Store.open(runs / "demo" / "search.sqlite") as store:
        tracked(runs, store).finish()
    assert everything(runs) == whole


def test_who_dies_is_told_of_in_that_very_generation(runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store)
    for _ in range(3):
        tracker.generation(search.store, search.advance())
    died = {
        fate.individual
        for fate in search.store.generations.fates(kind="died")
        if fate.individual < f"g{fate.generation:03d}"
    }
    last = search.store.generations.last()
    died -= {identity for island in last.islands for identity in island.population}
    found, _ = shown(runs)
    assert died and {found[identity].data.tags["fate"] for identity in died} == {"died"}


def test_a_search_whose_runs_are_deleted_while_it_goes_on_is_shown_again(runs):
    said = []
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store, warn=said.append)
    tracker.generation(search.store, search.advance())
    found, client = shown(runs)
    for key in ("search", "island-1"):
        client.delete_run(found[key].info.run_id)
    tracker.generation(search.store, search.advance())
    tracker.generation(search.store, search.advance())
    assert len(said) == 1
    found, _ = shown(runs)
    for key, parent in (
        ("island-0", "search"),
        ("island-1", "search"),
        ("g000-i1-c00", "island-1"),
        ("g002-i1-c00", "island-1"),
    ):
        assert found[key].data.tags["mlflow.parentRunId"] == found[parent].info.run_id


def test_births_of_a_generation_that_has_not_ended_are_not_shown(runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    search.advance()
    search.store.individuals.add(search._birth(1, 0, 0))
    tracked(runs, search.store).generation(search.store, 0)
    assert set(shown(runs)[0]) == {"search", "island-0", "island-1", "g000-i0-c00", "g000-i1-c00"}


def test_a_database_that_cannot_be_written_is_one_warning_and_is_caught_up_with_later(whole, runs):
    for file in runs.glob("mlflow.db*"):
        file.unlink()
    (runs / "mlflow.db").mkdir()
    said = []
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store, warn=said.append)
    for _ in range(2):
        tracker.generation(search.store, search.advance())
    assert len(said) == 1 and said[0].startswith("MLflow tracking failed") and "\n" not in said[0]
    (runs / "mlflow.db").rmdir()
    for _ in range(2):
        tracker.generation(search.store, search.advance())
    search.finals()
    tracker.finish()
    assert len(said) == 1
    assert everything(runs) == whole


def test_artifacts_that_cannot_be_written_are_caught_up_with_later(whole, runs):
    said = []
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store, warn=said.append)
    (runs / "mlartifacts").write_text("a file where a folder should be")
    tracker.generation(search.store, search.advance())
    assert len(said) == 1
    (runs / "mlartifacts").unlink()
    for _ in range(3):
        tracker.generation(search.store, search.advance())
    search.finals()
    tracker.finish()
    assert len(said) == 1
    assert everything(runs) == whole


def test_a_damaged_database_stops_no_search(runs):
    (runs / "mlflow.db").write_bytes(b"this is no database" * 1000)
    said = []
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store, warn=said.append)
    tracker.generation(search.store, search.advance())
    tracker.finish()
    assert said and "not a database" in said[0]


def test_a_stopped_search_shows_as_killed_and_runs_again_when_it_goes_on(runs):
    search = SyntheticSearch(runs / "demo" / "search.sqlite")
    tracker = tracked(runs, search.store)
    tracker.generation(search.store, search.advance())
    tracker.pause()
    found, _ = shown(runs)
    assert {found[key].info.status for key in ("search", "island-0", "island-1")} == {"KILLED"}
    tracker.generation(search.store, search.advance())
    found, _ = shown(runs)
    assert {found[key].info.status for key in ("search", "island-0", "island-1")} == {"RUNNING"}
    assert found["search"].info.end_time is None
