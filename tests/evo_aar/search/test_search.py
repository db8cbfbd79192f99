"""The search as its users run it: the same outcome whatever the workers, kills and resumes; stops that lose
nothing.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from population.store import Store

pytestmark = pytest.mark.slow

SMALL = [
    "--islands",
    "2",
    "--generations",
    "2",
    "--children",
    "1",
    "--population",
    "2",
    "--seeds",
    "2",
    "--final-seeds",
    "2",
    "--audit-seeds",
    "0",
]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from evo_aar.cli import main; main()", *arguments]


def evo_aar(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600)


def fingerprint(runs: Path, name: str) -> str:
    with Store.open(runs / name / "search.sqlite", writable=False) as store:
        return store.fingerprint()


@pytest.fixture(scope="module")
def runs(tmp_path_factory, math_testbed) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def straight(runs) -> str:
    """The fingerprint of a small search on one worker, run from beginning to end."""
    done = evo_aar("evolve", *SMALL, "--runs", str(runs), "--run", "straight", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert "best evolved child" in done.stdout and "vanilla" in done.stdout
    return fingerprint(runs, "straight")


def test_two_workers_give_the_population_that_one_gives(runs, straight):
    done = evo_aar("evolve", *SMALL, "--runs", str(runs), "--run", "two", "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert fingerprint(runs, "two") == straight


def test_another_seed_gives_another_population(runs, straight):
    done = evo_aar(
        "evolve", *SMALL, "--generations", "1", "--runs", str(runs), "--run", "other", "--seed", "1"
    )
    assert done.returncode == 0, done.stderr
    with (
        Store.open(runs / "other" / "search.sqlite", writable=False) as store,
        Store.open(runs / "straight" / "search.sqlite", False) as first,
    ):
        assert set(store.individuals.source_hashes()) != set(first.individuals.source_hashes(before=2))


def test_a_search_that_is_killed_again_and_again_ends_as_one_that_was_not(runs, straight):
    """kill -9 of the whole process group as soon as some trials are on record, three times,
    then to the end.
    """
    arguments = ["evolve", *SMALL, "--runs", str(runs), "--run", "killed", "--workers", "2"]
    path = runs / "killed" / "search.sqlite"
    seen = 0
    for _ in range(3):
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            if path.exists():
                with Store.open(path, writable=False) as store:
                    if len(store.trials) >= seen + 3:
                        seen = len(store.trials)
                        break
        assert process.poll() is None, "it ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        arguments = ["resume", "killed", "--runs", str(runs), "--workers", "2"]
    with Store.open(path, writable=False) as store:
        kept = len(store.trials)
    assert kept >= seen, "a trial that was on record is gone"
    done = evo_aar(*arguments)
    assert done.returncode == 0, done.stderr
    assert fingerprint(runs, "killed") == straight


def test_a_store_that_was_copied_elsewhere_is_resumed_there(runs, straight, tmp_path):
    done = evo_aar("evolve", *SMALL, "--runs", str(runs), "--run", "half", "--max-questions", "1")
    assert done.returncode == 0, done.stderr
    assert "--max-questions 1 is reached" in done.stdout
    assert "evo-aar resume half" in done.stdout
    with Store.open(runs / "half" / "search.sqlite", writable=False) as store:
        assert len(store.generations) == 1
    shutil.copytree(runs / "half", tmp_path / "moved")
    done = evo_aar("resume", "moved", "--runs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert fingerprint(tmp_path, "moved") == straight


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(runs, straight):
    process = subprocess.Popen(
        command("evolve", *SMALL, "--runs", str(runs), "--run", "stopped"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    path = runs / "stopped" / "search.sqlite"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if path.exists():
            with Store.open(path, writable=False) as store:
                if len(store.trials) >= 1:
                    break
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "evo-aar resume stopped" in out
    assert "Traceback" not in err, err
    done = evo_aar("resume", "stopped", "--runs", str(runs))
    assert done.returncode == 0, done.stderr
    assert fingerprint(runs, "stopped") == straight


def test_a_search_that_has_ended_is_shown_again_and_nothing_is_run(runs, straight):
    done = evo_aar("resume", "straight", "--runs", str(runs))
    assert done.returncode == 0, done.stderr
    assert "best evolved child" in done.stdout
    assert fingerprint(runs, "straight") == straight


def test_what_was_trained_is_on_the_ledger_once(runs, straight):
    for name in ("straight", "killed"):
        with Store.open(runs / name / "search.sqlite", writable=False) as store:
            trials = store.trials.all()
            assert store.ledger.total("trainer_tokens") == sum(trial.tokens for trial in trials)
            assert store.ledger.total("grader_questions") == sum(trial.ok for trial in trials)


def test_elites_are_tried_on_fresh_seeds_and_finalists_on_seeds_nothing_was_selected_on(runs, straight):
    from evo_aar.search.finals import crowned, finalists
    from evo_aar.search.seeds import FINAL

    with Store.open(runs / "straight" / "search.sqlite", writable=False) as store:
        best = crowned(store)
        rows = finalists(store, store.facts["testbed_hash"])
        assert {row.role for row in rows} == {"vanilla", "best seed recipe", "best evolved child"}
        assert best.id in {row.individual for row in rows}
        assert all(trial.seed >= FINAL for row in rows for trial in row.trials)


def test_a_run_that_is_in_use_is_refused(runs, straight):
    with Store.open(runs / "straight" / "search.sqlite"):
        done = evo_aar("resume", "straight", "--runs", str(runs))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_run_begun_on_another_testbed_is_not_continued(runs, straight, tmp_path):
    """A store names its testbed by content: other data under the same name is another testbed."""
    import json

    from evo_aar.machine.testbeds import prepared

    folder = tmp_path / "own"
    shutil.copytree(prepared("mini/math"), folder)
    done = evo_aar(
        "evolve",
        *SMALL,
        "--generations",
        "0",
        "--testbed",
        str(folder),
        "--runs",
        str(runs),
        "--run",
        "changed",
        "--max-trials",
        "1",
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((folder / "testbed.json").read_text())
    (folder / "testbed.json").write_text(json.dumps(facts | {"content_hash": "0" * 16}))
    done = evo_aar("resume", "changed", "--runs", str(runs))
    assert done.returncode == 2
    assert "0000000000000000" in done.stderr and "Traceback" not in done.stderr
