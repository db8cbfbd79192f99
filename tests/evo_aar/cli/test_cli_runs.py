"""`status` and `runs` on stores as a search leaves them, at rest and beside a writer."""

import subprocess
import sys

import pytest
from command import evo_aar
from store_examples import a_trial, an_individual

from evo_aar.search.settings import SearchSettings
from population.individual import individual_id
from population.island import Generation, Island
from population.store import Store
from population.tables.generations import Fate

BEST = individual_id(0, 0, 0)


def begun(runs, name="first", generations=3):
    """A store with one individual in one committed generation, open for writing."""
    settings = SearchSettings(testbed="mini/math", islands=1, generations=generations)
    store = Store.create(runs / name / "search.sqlite", settings.to_json(), {"testbed_hash": "mini"})
    store.individuals.add(an_individual(idea="Trust [the] weak | model"))
    for seed in range(3):
        store.trials.record(a_trial(seed=seed, pgr=0.25 * (seed + 1)))
    store.ledger.add("trainer_tokens", 1234)
    facts = {"direction": "distillation", "best": BEST, "best_pgr": 0.5, "best_se": 0.144, "mean_pgr": 0.5}
    summary = {
        "islands": {"0": facts | {"born": 4, "failed": 2, "duplicates": 1, "unborn": 0}},
        "best": BEST,
        "best_pgr": 0.5,
        "best_se": 0.144,
    }
    store.generations.commit(Generation(0, (Island(0, (BEST,)),), summary))
    return store


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_run_at_rest_says_how_far_it_came_and_how_to_go_on(runs):
    begun(runs).close()
    facts = evo_aar("status", "first", "--runs", runs, "--json").json
    assert (facts["state"], facts["generation"], facts["generations"]) == ("stopped", 0, 3)
    assert (facts["individuals"], facts["trials"], facts["spent"]["trainer_tokens"]) == (1, 3, 1234)
    assert facts["best"] == {
        "individual": BEST,
        "idea": "Trust [the] weak | model",
        "operator": "seed",
        "pgr": 0.5,
        "standard_error": 0.144,
    }
    assert facts["resume"] == f"evo-aar resume first --runs {runs}"
    shown = evo_aar("status", "first", "--runs", runs)
    told = " ".join(shown.out.split())
    assert shown.status == 0
    assert (
        "0.500 ± 0.144" in told
        and "distillation" in told
        and "Trust [the] weak | model" in told
        and "1,234" in told
    )
    assert "evo-aar resume first" in told


def test_births_and_failures_are_counted_over_all_generations(runs):
    with begun(runs) as store:
        summary = store.generations.last().summary
        store.generations.commit(Generation(1, (Island(0, (BEST,)),), summary))
    (island,) = evo_aar("status", "first", "--runs", runs, "--json").json["islands"].values()
    assert (island["born"], island["failed"], island["duplicates"]) == (8, 4, 2)


def test_a_run_that_another_process_writes_is_running_and_can_be_read(runs):
    begun(runs).close()
    program = (
        "import sys; from population.store import Store; s = Store.open(sys.argv[1]); print('open',"
        " flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, runs / "first" / "search.sqlite"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "open\n"
        during = evo_aar("status", "first", "--runs", runs, "--json").json
        writer.stdin.close()
    assert during["state"] == "running" and during["resume"] is None
    assert evo_aar("status", "first", "--runs", runs, "--json").json["state"] == "stopped"


def test_asking_takes_nothing_from_the_writer(runs):
    with begun(runs) as store:
        assert evo_aar("status", "first", "--runs", runs, "--json").json["state"] == "running"
        assert store.trials.record(a_trial(seed=9))
        done = subprocess.run(
            [sys.executable, "-c", f"from population.store import Store; Store.open({str(store.path)!r})"],
            capture_output=True,
            text=True,
        )
    assert "StoreInUse" in done.stderr


def test_a_run_with_a_crowned_recipe_is_finished(runs):
    with begun(runs, generations=0) as store:
        store.generations.add_fate(Fate(BEST, 0, 0, "crowned"))
    assert evo_aar("runs", "--runs", runs, "--json").json[0]["state"] == "finished"
    assert "finished" in evo_aar("status", "first", "--runs", runs).out


def test_a_run_before_its_first_generation_has_no_best_yet(runs):
    settings = SearchSettings(testbed="mini/math")
    Store.create(runs / "young" / "search.sqlite", settings.to_json(), {"testbed_hash": "mini"}).close()
    shown = evo_aar("status", "young", "--runs", runs)
    assert shown.status == 0 and "none on record yet" in shown.out
    assert evo_aar("runs", "--runs", runs, "--json").json[0]["best"] is None


def test_a_damaged_run_does_not_hide_the_others(runs):
    begun(runs, "sound").close()
    (runs / "broken").mkdir()
    (runs / "broken" / "search.sqlite").write_bytes(b"not a database" * 99)
    listed = evo_aar("runs", "--runs", runs)
    assert listed.status == 0
    assert "unreadable" in listed.out and "0.500 ± 0.144" in listed.out
    assert "broken" in evo_aar("status", "broken", "--runs", runs).error


def test_a_folder_without_runs_says_how_to_begin(runs):
    assert evo_aar("runs", "--runs", runs).out == f"no runs in {runs}; begin one with: evo-aar evolve\n"
    assert not runs.exists()


def test_an_unknown_run_is_refused_with_the_ones_there_are(runs):
    begun(runs).close()
    for command in (["status", "secnd"], ["export", "secnd", "--best", "-o", runs / "out"]):
        assert (
            f"there is no run 'secnd' in {runs}. Runs there: first."
            in evo_aar(*command, "--runs", runs).error
        )


@pytest.mark.parametrize("name", ["../first", "a/b", "", ".hidden", "a" * 65, "first\n"])
def test_a_name_that_is_no_plain_file_name_is_refused(runs, name):
    begun(runs).close()
    assert "a run's name has letters, digits" in evo_aar("status", name, "--runs", runs).error
