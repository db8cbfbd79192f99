"""Export of a real, tiny search, and students that outlive their trainer."""

import json
import shutil

import numpy as np
import pytest
from command import evo_aar
from small_testbeds import small_testbed
from store_examples import a_failure, a_trial, an_individual

from evaluator.errors import EvaluatorError
from evaluator.evaluator import Evaluator
from evaluator.grader import accuracy
from evaluator.saved import SavedStudent
from evaluator.testbeds.prepared import Testbed, load_labels
from evaluator.trial import TrialRequest
from evaluator.workers import stop_workers
from evo_aar.export.ancestry import ancestry
from evo_aar.export.bundle import best
from evo_aar.search.settings import SearchSettings
from population.island import Generation, Island
from population.store import Store
from population.tables.generations import Fate

pytestmark = pytest.mark.slow

SEEDS = 2


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVO_AAR_CACHE", str(folder / "cache"))
        yield small_testbed(folder / "small")
    stop_workers()


@pytest.fixture(scope="module")
def runs(testbed):
    """A finished search of two islands and one generation."""
    runs = testbed.parent / "runs"
    sizes = (
        "--islands",
        2,
        "--generations",
        1,
        "--children",
        2,
        "--population",
        2,
        "--seeds",
        SEEDS,
        "--final-seeds",
        2,
        "--audit-seeds",
        2,
    )
    answer = evo_aar("evolve", "--testbed", testbed, *sizes, "--workers", 1, "--run", "tiny", "--runs", runs)
    assert answer.status == 0, answer
    return runs


@pytest.fixture(scope="module")
def exported(runs):
    """The best individual's folder."""
    folder = runs.parent / "best"
    answer = evo_aar("export", "tiny", "--best", "-o", folder, "--runs", runs)
    assert answer.status == 0, answer
    return folder


@pytest.fixture
def store(runs):
    with Store.open(runs / "tiny" / "search.sqlite", writable=False) as store:
        yield store


# ---- what is exported


def test_the_exported_recipe_gives_the_same_pgr_for_the_same_seeds(exported, testbed):
    metrics = json.loads((exported / "metrics.json").read_text())
    first = metrics["trials"][0]["seed"]
    found = evo_aar(
        "evaluate",
        exported / "recipe.py",
        "--testbed",
        testbed,
        "--seeds",
        SEEDS,
        "--first-seed",
        first,
        "--workers",
        1,
        "--json",
    ).json
    assert [one["pgr"] for one in found["trials"]] == [one["pgr"] for one in metrics["trials"]]
    assert found["pgr"]["mean"] == metrics["pgr"]["mean"]
    assert found["source_hash"] == metrics["source_hash"]


def test_the_best_is_the_crowned_one_with_its_figures_on_record(exported, store):
    metrics = json.loads((exported / "metrics.json").read_text())
    (crowned,) = store.generations.fates(kind="crowned")
    assert metrics["individual"] == crowned.individual
    recorded = store.trials.of(metrics["source_hash"], metrics["testbed_hash"], 1.0)
    by_seed = {trial.seed: trial.pgr for trial in recorded}
    assert [by_seed[one["seed"]] for one in metrics["trials"]] == [one["pgr"] for one in metrics["trials"]]
    assert all(one["same_again"] for one in metrics["trials"])
    assert metrics["final_pgr"]["mean"] == pytest.approx(
        np.mean([by_seed[seed] for seed in metrics["final_pgr"]["seeds"]])
    )
    assert metrics["vanilla_final_pgr"] is not None


def test_every_seed_has_its_student_which_scores_what_the_search_has_on_record(exported, testbed):
    rows, truth = Testbed.load(testbed).rows("fitness"), load_labels(testbed, "fitness")
    trials = json.loads((exported / "metrics.json").read_text())["trials"]
    assert len(trials) == SEEDS
    for trial in trials:
        student = SavedStudent.load(exported / "students" / f"seed-{trial['seed']}")
        assert accuracy(student.probabilities(rows), truth) == trial["accuracy"]


def test_the_card_tells_what_one_has_to_know(exported):
    card, metrics = (exported / "README.md").read_text(), json.loads((exported / "metrics.json").read_text())
    pgr = metrics["pgr"]
    for told in (
        f"{pgr['mean']:.3f} ± {pgr['standard_error']:.3f}",
        "fitness split",
        metrics["testbed_hash"],
        metrics["versions"]["torch"]["search"],
        f"{metrics['baselines']['weak_accuracy']:.3f}",
        "evo-aar evaluate recipe.py",
        "| pool permuted | pass |",
        "Not reviewed by a person.",
        "| migrate\\_every | 2 |",
    ):
        assert told in card
    assert card.startswith("# ")


def test_a_childs_lineage_leads_to_seed_recipes_with_its_changes(runs, store, tmp_path):
    child = next(one for one in store.individuals.all(generation=1) if store.trials.of(one.source_hash)[0].ok)
    answer = evo_aar("export", "tiny", "--individual", child.id, "-o", tmp_path / "child", "--runs", runs)
    assert answer.status == 0, answer
    files = {path.name for path in (tmp_path / "child" / "lineage").iterdir()}
    assert files == {f"{child.id}.py", f"{child.id}.diff", *(f"{parent}.py" for parent in child.parents)}
    diff = (tmp_path / "child" / "lineage" / f"{child.id}.diff").read_text().splitlines()
    parent = store.individuals.get(child.parents[0])
    assert diff[:2] == [f"--- {parent.id}.py", f"+++ {child.id}.py"]
    assert {line[1:] for line in diff[3:] if line.startswith("+")} <= set(child.source.splitlines())
    assert {line[1:] for line in diff[3:] if line.startswith("-")} <= set(parent.source.splitlines())
    card = (tmp_path / "child" / "README.md").read_text()
    assert all(parent in card for parent in child.parents) and diff[-1] in card


def test_a_crossovers_lineage_holds_both_sides_and_its_diff_is_against_the_first_parent(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:
        mother, father = (
            an_individual(island=island, source=f"A = {island}\n", source_hash=f"{island}")
            for island in (0, 1)
        )
        child = an_individual(generation=1, source="A = 2\n", source_hash="2", parents=(father.id, mother.id))
        for one in (mother, father, child):
            store.individuals.add(one)
        store.trials.record(a_trial(source_hash="1", pgr=0.25))
        store.trials.record(a_trial(source_hash="2", seed=7))
        lineage = ancestry(store, child, "mini", [0])
    assert [one.individual.id for one in lineage] == [child.id, father.id, mother.id]
    assert lineage[0].diff.splitlines() == [
        f"--- {father.id}.py",
        f"+++ {child.id}.py",
        "@@ -1 +1 @@",
        "-A = 1",
        "+A = 2",
    ]
    assert [one.fitness and one.fitness.mean for one in lineage] == [None, 0.25, None]
    assert [one.diff for one in lineage[1:]] == ["", ""]


def test_the_crowned_one_is_the_best_even_where_another_looked_better(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:
        lucky, sound = an_individual(island=0), an_individual(island=1)
        for one in (lucky, sound):
            store.individuals.add(one)
        store.generations.commit(Generation(0, (Island(0, (lucky.id,)),), {"best": lucky.id}))
        assert best(store) == lucky
        store.generations.add_fate(Fate(sound.id, 0, 1, "crowned"))
        assert best(store) == sound


def test_an_empty_folder_is_filled_and_leaves_nothing_beside_it(runs, store, tmp_path):
    (tmp_path / "here").mkdir()
    seed = store.individuals.all(generation=0)[1]
    assert (
        evo_aar("export", "tiny", "--individual", seed.id, "-o", tmp_path / "here", "--runs", runs).status
        == 0
    )
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        "README.md",
        "recipe.py",
        "metrics.json",
        "students",
        "lineage",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


# ---- what is refused


@pytest.mark.parametrize("which", [(), ("--best", "--individual", "g000-i0-c00")])
def test_either_the_best_or_an_individual_is_exported(runs, tmp_path, which):
    assert (
        "either --best or --individual"
        in evo_aar("export", "tiny", *which, "-o", tmp_path / "out", "--runs", runs).error
    )


def test_an_unknown_individual_is_refused(runs, tmp_path):
    answer = evo_aar("export", "tiny", "--individual", "g009-i9-c09", "-o", tmp_path / "out", "--runs", runs)
    assert "has no individual 'g009-i9-c09'" in answer.error
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(runs, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("full", "file"):
        assert (
            "exists already"
            in evo_aar("export", "tiny", "--best", "-o", tmp_path / name, "--runs", runs).error
        )
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file"}


def test_a_folder_that_cannot_be_written_to_is_named(runs, tmp_path):
    (tmp_path / "file").write_text("")
    for output in ("/proc/nowhere/out", tmp_path / "file" / "out"):
        assert (
            f"-o {output}: can't be written"
            in evo_aar("export", "tiny", "--best", "-o", output, "--runs", runs).error
        )


def test_another_testbed_than_the_searchs_is_refused_and_leaves_nothing(runs, testbed, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(testbed, other)
    facts = json.loads((other / "testbed.json").read_text())
    (other / "testbed.json").write_text(json.dumps(facts | {"content_hash": "feedfacefeedface"}))
    _copy_with(
        runs / "tiny" / "search.sqlite", tmp_path / "runs" / "moved" / "search.sqlite", testbed=str(other)
    )
    answer = evo_aar("export", "moved", "--best", "-o", tmp_path / "out", "--runs", tmp_path / "runs")
    assert "was begun on" in answer.error
    assert {path.name for path in tmp_path.iterdir()} == {"other", "runs"}


def test_a_recipe_that_failed_has_no_student(runs, testbed, tmp_path):
    with Store.create(
        tmp_path / "failed" / "search.sqlite",
        SearchSettings(testbed=str(testbed)).to_json(),
        {"testbed_hash": "t"},
    ) as store:
        store.individuals.add(an_individual())
        for seed in range(3):
            store.trials.record(a_failure(seed=seed, reason="memory", testbed="t"))
    answer = evo_aar(
        "export", "failed", "--individual", "g000-i0-c00", "-o", tmp_path / "out", "--runs", tmp_path
    )
    assert "g000-i0-c00 failed (memory" in answer.error
    assert (
        "no recipe with a fitness yet"
        in evo_aar("export", "failed", "--best", "-o", tmp_path / "out", "--runs", tmp_path).error
    )


def _copy_with(source, target, **changes):
    """A copy of a search with other settings: what its user would have, had the testbed's folder changed."""
    with (
        Store.open(source, writable=False) as old,
        Store.create(target, old.settings | changes, old.facts) as new,
    ):
        for individual in old.individuals.all():
            new.individuals.add(individual)
        for trial in old.trials.all():
            new.trials.record(trial)
        for generation in old.generations.all():
            new.generations.commit(
                Generation(
                    generation.number,
                    tuple(Island(i.number, i.population) for i in generation.islands),
                    generation.summary,
                )
            )


# ---- students of every kind

KINDS = {
    "head": "return await task.finetune(task.weak_labels)",
    "lora": "return await task.finetune(task.weak_labels, student='lora')",
    "untrained": "return task.untrained()",
    "linear": "return task.linear((2, 4), np.linspace(-1, 1, 2 * (await task.hidden(-1)).shape[1]), 0.5)",
    "raw head": "return await task.probe((2,), task.weak_labels, hidden_size=8, standardise=False)",
    "ensemble": (
        """
        students = [await task.finetune(task.weak_labels), task.shift(task.untrained(), 0.3), await task.probe((2, 4), task.weak_labels)]
        return task.shift(task.ensemble(students, [1, 0.5, 2]), -0.1)"""  # noqa: E501
    ),
}


@pytest.mark.parametrize("body", KINDS.values(), ids=KINDS.keys())
def test_a_saved_student_answers_as_it_did_in_the_trainer(testbed, tmp_path, body):
    source = f'"""An idea."""\nimport numpy as np\n\nasync def recipe(task):\n        {body.strip()}\n'
    evaluator = Evaluator(testbed, cache=testbed.parent / "cache", spool=tmp_path / "spool")
    (result,) = evaluator.evaluate([TrialRequest(source, 0)], tmp_path / "students")
    assert result.outcome.ok, result.outcome.message
    rows = evaluator.testbed.rows("fitness")
    student = SavedStudent.load(tmp_path / "students" / "seed-0")
    np.testing.assert_allclose(student.probabilities(rows), result.outcome.fitness, atol=2e-6)
    np.testing.assert_allclose(
        student.probabilities(rows[5:8]), result.outcome.fitness[5:8], atol=2e-6
    )  # LoRA left the model as it was


@pytest.mark.parametrize(
    "body", [KINDS["head"], KINDS["lora"], KINDS["untrained"]], ids=["head", "lora", "untrained"]
)
def test_a_saved_student_compares_the_two_of_a_pair(testbed, tmp_path, body):
    pairs = small_testbed(tmp_path / "pairs", "pair")
    source = f'"""An idea."""\n\nasync def recipe(task):\n    {body}\n'
    evaluator = Evaluator(pairs, cache=testbed.parent / "cache", spool=tmp_path / "spool")
    (result,) = evaluator.evaluate([TrialRequest(source, 0)], tmp_path / "students")
    rows = evaluator.testbed.rows("fitness")
    student = SavedStudent.load(tmp_path / "students" / "seed-0")
    np.testing.assert_allclose(student.probabilities(rows), result.outcome.fitness, atol=2e-6)
    other_way = [{"prompt": row["prompt"], "first": row["second"], "second": row["first"]} for row in rows]
    if body == KINDS["untrained"]:
        np.testing.assert_allclose(
            student.probabilities(other_way), result.outcome.fitness[:, ::-1], atol=2e-6
        )


def test_a_saved_student_refuses_what_it_cannot_answer(exported, testbed, tmp_path):
    folder = next((exported / "students").iterdir())
    student = SavedStudent.load(folder)
    assert student.probabilities([]).shape == (0, 2)
    with pytest.raises(EvaluatorError, match="row 1 has no 'choice'"):
        student.probabilities([{"question": "1 + 1", "choice": "2"}, {"question": "1 + 1"}])
    with pytest.raises(EvaluatorError, match="holds no student"):
        SavedStudent.load(tmp_path)


def test_a_saved_student_goes_with_its_own_strong_model_alone(exported, tmp_path):
    folder = next((exported / "students").iterdir())
    strong = json.loads((folder / "student.json").read_text())["strong"]["name"]
    shutil.copytree(strong, tmp_path / "moved")
    SavedStudent.load(folder, strong=str(tmp_path / "moved"))
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    with pytest.raises(EvaluatorError, match="is not the strong model"):
        SavedStudent.load(folder, strong=str(tmp_path / "moved"))
