"""What a search looks like in a real MLflow database."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from mlflow import MlflowClient
from store_examples import python
from synthetic_search import SyntheticSearch
from tracking_examples import artifact, copied, fail, history, shown, tracked_search

from evo_aar.lineage.colours import Scale
from evo_aar.lineage.ticks import ticks
from evo_aar.machine.places import tracking_uri
from evo_aar.search.scores import scores_of
from evo_aar.tracking import Tracker
from evo_aar.views.markdown import code, escaped
from recipes.directions import baseline_sources
from recipes.source import source_hash


@pytest.fixture(scope="module")
def demo(tmp_path_factory, empty_database):
    """A whole search, tracked as a search is: the store, the runs by key, the client."""
    folder = copied(empty_database, tmp_path_factory.mktemp("demo"))
    return tracked_search(folder), *shown(folder)


@pytest.fixture
def runs(tmp_path, empty_database):
    return copied(empty_database, tmp_path / "runs")


def test_a_run_per_individual_lies_in_its_island_and_the_islands_in_the_search(demo):
    store, found, client = demo
    individuals = {one.id: one for one in store.individuals.all()}
    assert set(found) == {"search", "island-0", "island-1", *individuals}
    assert found["search"].info.run_name == "demo"
    for number in (0, 1):
        assert found[f"island-{number}"].data.tags["mlflow.parentRunId"] == found["search"].info.run_id
    for identity, one in individuals.items():
        assert found[identity].data.tags["mlflow.parentRunId"] == found[f"island-{one.island}"].info.run_id
        assert found[identity].info.run_name == identity
    assert client.get_experiment(found["search"].info.experiment_id).name == "evo-aar mini/math"


def test_runs_say_who_made_them_and_with_what(demo):
    tags = demo[1]["search"].data.tags
    assert tags["mlflow.user"] and tags["mlflow.source.name"] == "evo-aar"
    assert tags["version.torch"] == "2.13.0" and tags["version.python"] == "3.11.2"


def test_the_searchs_parameters_are_its_settings(demo):
    store, found, _ = demo
    params = found["search"].data.params
    assert params == {
        name: str(value) if value != [] else "" for name, value in store.settings.items() if value is not None
    }


def test_generations_are_the_steps_of_the_metrics_of_search_and_islands(demo):
    store, found, client = demo
    summaries = [generation.summary for generation in store.generations.all()]
    assert history(client, found["search"], "best_pgr") == [
        (n, one["best_pgr"]) for n, one in enumerate(summaries)
    ]
    for island in ("0", "1"):
        for ours, theirs, theirs_on_search in (
            ("best_pgr", "best_pgr", "best"),
            ("mean_pgr", "mean_pgr", "mean"),
            ("failed", "failed", "failures"),
        ):
            expected = [(n, one["islands"][island][ours]) for n, one in enumerate(summaries)]
            assert history(client, found[f"island-{island}"], theirs) == expected
            assert history(client, found["search"], f"{theirs_on_search}/island_{island}") == expected
        assert [step for step, _ in history(client, found[f"island-{island}"], "inhabitants")] == [0, 1, 2, 3]
    # The one inhabitant of generation 0 makes no pair: unknown, not 0.
    assert [step for step, _ in history(client, found["island-0"], "diversity")] == [1, 2, 3]
    assert history(client, found["search"], "diversity/founder_share") == [
        (n, one["diversity"]["founder_share"]) for n, one in enumerate(summaries)
    ]


def test_baselines_finals_and_expenses_are_the_searchs_metrics(demo):
    store, found, _ = demo
    metrics = found["search"].data.metrics
    vanilla = store.trials.of(source_hash(baseline_sources()["vanilla"]))
    assert metrics["baseline/vanilla"] == pytest.approx(sum(trial.pgr for trial in vanilla) / 4)
    assert {"final/vanilla", "final/best seed recipe", "final/best evolved child"} <= set(metrics)
    assert metrics["spent/trainer_tokens"] == store.ledger.total("trainer_tokens")


def test_an_individuals_run_has_its_birth_and_its_scores(demo):
    store, found, client = demo
    one = store.individuals.get("g001-i1-c02")
    run, trials = found[one.id], scores_of(store, one.source_hash).search
    assert run.data.params == {
        "operator": "offline mutation",
        "generation": "1",
        "island": "1",
        "direction": "data_reweighting",
        "idea": one.idea,
    }
    assert run.data.metrics["pgr"] == pytest.approx(sum(trial.pgr for trial in trials) / 3)
    assert run.data.metrics["accuracy"] == pytest.approx(sum(trial.accuracy for trial in trials) / 3)
    assert (
        run.data.metrics["pgr_se"] > 0
        and run.data.metrics["tokens"] == 120_000
        and run.data.metrics["seconds"] == 4.5
    )
    assert history(client, run, "pgr_by_seed") == [(seed, trial.pgr) for seed, trial in enumerate(trials)]
    assert history(client, run, "pgr")[0][0] == 1
    assert run.info.end_time - run.info.start_time == 4500
    assert run.data.tags["source_hash"] == one.source_hash and run.data.tags["parents"] == ", ".join(
        one.parents
    )


def test_fresh_and_final_seeds_are_told_apart_from_those_that_every_recipe_has(demo):
    store, found, client = demo
    (crowned,) = store.generations.fates(kind="crowned")
    run, scores = (
        found[crowned.individual],
        scores_of(store, store.individuals.get(crowned.individual).source_hash),
    )
    assert len(scores.final) == 4
    assert [step for step, _ in history(client, run, "final_pgr_by_seed")] == [0, 1, 2, 3]
    assert run.data.metrics["final_pgr"] == pytest.approx(sum(trial.pgr for trial in scores.final) / 4)
    assert run.data.metrics["pgr"] == pytest.approx(scores.fitness.mean)
    elite = next(fate.individual for fate in store.generations.fates(kind="elite"))
    assert [step for step, _ in history(client, found[elite], "pgr_by_fresh_seed")] == [0, 1, 2]


def test_a_failure_and_a_duplicate_have_no_pgr_and_say_why(demo):
    store, found, _ = demo
    failed, duplicate = (store.generations.fates(kind=kind)[0].individual for kind in ("failed", "duplicate"))
    for identity in (failed, duplicate):
        assert not {name for name in found[identity].data.metrics if "pgr" in name or name == "accuracy"}
        reason = store.generations.fates(individual=identity)[0].reason
        assert reason and reason in found[identity].data.tags["mlflow.note.content"]
    assert (
        found[failed].info.status == "FAILED"
        and "ZeroDivisionError" in found[failed].data.tags["mlflow.note.content"]
    )
    assert found[duplicate].info.status == "FINISHED" and found[duplicate].data.tags["fate"] == "duplicate"


def test_the_fate_that_is_told_is_the_last_one_but_a_coronation_is_never_forgotten(demo):
    store, found, _ = demo
    (crowned,) = store.generations.fates(kind="crowned")
    last = store.generations.last()
    alive = {identity for island in last.islands for identity in island.population} - {crowned.individual}
    assert found[crowned.individual].data.tags["fate"] == "crowned"
    assert {found[identity].data.tags["fate"] for identity in alive} <= {"survived", "elite"}
    dead = {one.id for one in store.individuals.all(generation=1)} - alive - {crowned.individual}
    assert {found[identity].data.tags["fate"] for identity in dead} <= {"died", "failed", "duplicate"}


def test_the_files_of_an_individual_are_its_source_its_parents_diffs_and_its_curves(demo):
    store, found, _ = demo
    crossed = next(one for one in store.individuals.all() if len(one.parents) == 2)
    run = found[crossed.id]
    assert artifact(run, "recipe.py") == crossed.source
    diff = artifact(run, "changes.diff.txt")
    assert all(f"--- {parent}\n+++ {crossed.id}\n" in diff for parent in crossed.parents)
    table = json.loads(artifact(run, "history.json"))
    assert table["columns"][:4] == ["seed", "request", "student", "step"]
    assert len(table["data"]) == 3 * 3 * 5 and {row[0] for row in table["data"]} == {0, 1, 2}
    assert json.loads(artifact(run, "birth.json"))["changes"]


def test_a_description_links_to_the_runs_of_both_parents(demo):
    store, found, _ = demo
    crossed = next(one for one in store.individuals.all() if len(one.parents) == 2)
    links = dict(
        re.findall(
            r"\[(g\d+-i\d+-c\d+)\]\(#/experiments/\d+/runs/(\w+)\?",
            found[crossed.id].data.tags["mlflow.note.content"],
        )
    )
    assert links == {parent: found[parent].info.run_id for parent in crossed.parents}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.edges, self.moves, self.nodes = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "data-from" in attributes:
            self.edges.append((attributes["data-from"], attributes["data-to"]))
        if "data-move" in attributes:
            self.moves.append(attributes["data-move"])
        if "data-id" in attributes:
            self.nodes.append(attributes["data-id"])


def test_the_genealogy_has_everybody_every_parent_and_every_migration_and_needs_nothing_from_elsewhere(demo):
    store, found, _ = demo
    text = artifact(found["search"], "lineage.html")
    page, everyone = Page(text), store.individuals.all()
    assert sorted(page.nodes) == sorted(one.id for one in everyone)
    assert sorted(page.edges) == sorted((parent, one.id) for one in everyone for parent in one.parents)
    assert sorted(page.moves) == sorted(move.individual for move in store.generations.migrations()) != []
    assert not [attributes for _, attributes in page.tags if {"src", "href"} & set(attributes)]
    assert set(re.findall(r"https?://[^\"' <]+", text)) == {"http://www.w3.org/2000/svg"}


def test_the_charts_lines_are_the_islands_and_the_search(demo):
    chart = ElementTree.fromstring(artifact(demo[1]["search"], "pgr.svg"))
    lines = chart.findall("{http://www.w3.org/2000/svg}polyline")
    assert [len(line.get("points").split()) for line in lines] == [4, 4, 4]


def test_searches_of_one_folder_keep_apart(runs):
    for name, seed in (("demo", 0), ("other", 1)):
        search = SyntheticSearch(runs / name / "search.sqlite", generations=0, seed=seed)
        Tracker(runs, search.store, name, warn=fail).generation(search.store, search.advance())
    client = MlflowClient(tracking_uri(runs))
    found = client.search_runs(
        [one.experiment_id for one in client.search_experiments()], "tags.kind = 'search'"
    )
    assert sorted(run.info.run_name for run in found) == ["demo", "other"]
    assert sorted(run.data.params["seed"] for run in found) == ["0", "1"]


def test_mlflow_is_not_imported_before_a_generation_is_shown():
    process = python("import sys, evo_aar.tracking; print('mlflow' in sys.modules)")
    out, error = process.communicate()
    assert out == "False\n", error


@pytest.mark.parametrize(
    "text", ["`", "a | b", "<img src=x>", "[x](javascript:alert(1))", "two\nlines", "```"]
)
def test_what_a_recipe_says_is_no_markup(text):
    cell = escaped(text)
    assert "\n" not in cell and "<" not in cell and not re.search(r"(?<!\\)[`|\[\]]", cell)
    block = code(text).splitlines()
    assert block[0] == block[-1] and block[0] not in block[1:-1]


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-0.37, 0.81), (0.5, 0.5), (-1200.0, 3.0), (0.501, 0.502)])
def test_an_axis_covers_its_values_with_a_handful_of_even_ticks(low, high):
    marks = ticks(low, high)
    steps = {round(b - a, 9) for a, b in pairwise(marks)}
    assert marks[0] <= low and marks[-1] >= high and 2 <= len(marks) <= 9 and len(steps) == 1


def test_a_single_disaster_does_not_take_the_colours_from_the_rest():
    scale = Scale.of([-40.0, *(0.5 + 0.01 * n for n in range(20))])
    assert scale.low >= 0.5 and scale.colour(-40.0) == scale.colour(0.5) != scale.colour(0.69)
