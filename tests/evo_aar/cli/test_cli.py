"""The commands about recipes, testbeds and the machine, through the real evaluator on a small testbed."""

import statistics
import subprocess
import sys

import pytest
from command import evo_aar
from small_testbeds import small_testbed

from evaluator.testbeds.prepared import load_labels
from evaluator.workers import stop_workers
from recipes.source import DIRECTIONS, validate

pytestmark = pytest.mark.slow

GOOD = (
    '"""Learn what the weak model says."""\n\n\nasync def recipe(task):\n    return await'
    " task.finetune(task.weak_labels)\n"
)
COMMANDS = (
    "evolve",
    "resume",
    "status",
    "runs",
    "export",
    "audit",
    "review",
    "report",
    "evaluate",
    "baselines",
    "testbed",
    "new-recipe",
    "doctor",
)


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    """A small testbed, with a cache of its own for what is computed from it."""
    folder = tmp_path_factory.mktemp("cli")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVO_AAR_CACHE", str(folder / "cache"))
        yield small_testbed(folder / "math")
    stop_workers()


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe file whose `recipe(task)` has the body given."""

    def write(body, imports=""):
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        path = tmp_path / "mine.py"
        path.write_text(f'"""An idea."""\n{imports}\n\nasync def recipe(task):\n{lines}')
        return path

    return write


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return path


# ---- help


def test_help_names_every_command_and_imports_nothing_heavy():
    program = """
import sys
sys.argv = ["evo-aar", "--help"]
from evo_aar.cli import main
try:
    main()
finally:
    print("HEAVY", {"torch", "transformers", "mlflow", "pandas", "sklearn", "anthropic"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)
    assert "HEAVY set()" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command):
    answer = evo_aar(command, "--help")
    assert answer.status == 0
    assert "Usage" in answer.out


def test_help_tells_the_defaults():
    told = evo_aar("evaluate", "--help").out
    assert "default: mini/math" in told and "default: 3" in told


# ---- evaluate: recipes that work


def test_a_recipe_is_told_by_seed_with_its_pgr_over_the_seeds(testbed, good):
    found = evo_aar(
        "evaluate", good, "--testbed", testbed, "--seeds", 3, "--first-seed", 5, "--workers", 1, "--json"
    )
    assert found.status == 0
    facts = found.json
    assert [trial["seed"] for trial in facts["trials"]] == [5, 6, 7]
    for trial in facts["trials"]:
        gained = trial["accuracy"] - facts["weak_accuracy"]
        assert trial["pgr"] == pytest.approx(gained / (facts["ceiling_accuracy"] - facts["weak_accuracy"]))
        assert trial["tokens"] > 0 and trial["history"][0]["steps"]
    values = [trial["pgr"] for trial in facts["trials"]]
    assert facts["pgr"]["mean"] == pytest.approx(statistics.fmean(values))
    assert facts["pgr"]["standard_error"] == pytest.approx(statistics.stdev(values) / 3**0.5)
    assert facts["split"] == "fitness"


def test_the_same_seeds_give_the_same_pgr_in_another_order_and_number(testbed, good):
    three = evo_aar("evaluate", good, "--testbed", testbed, "--seeds", 3, "--workers", 1, "--json").json[
        "trials"
    ]
    one = evo_aar(
        "evaluate", good, "--testbed", testbed, "--seeds", 1, "--first-seed", 2, "--workers", 1, "--json"
    ).json["trials"]
    assert one[0]["pgr"] == three[2]["pgr"]


def test_tables_say_what_json_says(testbed, good):
    facts = evo_aar("evaluate", good, "--testbed", testbed, "--seeds", 2, "--workers", 1, "--json").json
    shown = evo_aar("evaluate", good, "--testbed", testbed, "--seeds", 2, "--workers", 1)
    assert shown.status == 0
    for trial in facts["trials"]:
        assert f"{trial['accuracy']:.3f}" in shown.out and f"{trial['tokens']:,}" in shown.out
    mean, error = facts["pgr"]["mean"], facts["pgr"]["standard_error"]
    assert f"PGR {mean:.3f} ± {error:.3f} over 2 seeds (fitness split)" in shown.out
    assert "gradient norm" in shown.out and "agreement" in shown.out


def test_a_single_seed_has_no_standard_error(testbed, good):
    answer = evo_aar("evaluate", good, "--testbed", testbed, "--seeds", 1, "--workers", 1, "--json")
    assert answer.json["pgr"]["standard_error"] is None


def test_the_student_is_the_one_asked_for(testbed, good):
    facts = evo_aar(
        "evaluate", good, "--testbed", testbed, "--seeds", 1, "--student", "lora", "--workers", 1, "--json"
    ).json
    assert facts["student"] == "lora"
    assert facts["trials"][0]["history"][0]["student"] == "lora"


# ---- evaluate: recipes that fail as they run

FAILURES = {
    "returns something else": ("return 0.99", "", "contract"),
    "returns no student at all": ("await task.finetune(task.weak_labels)", "", "contract"),
    "trains on rows out of range": ("return await task.finetune([1], [task.size])", "", "invalid_request"),
    "trains on NaN": (
        "return await task.finetune(np.full((task.size, 2), np.nan))",
        "import numpy as np",
        "invalid_request",
    ),
    "never ends": ("while True:\n    pass", "", "cpu_time"),
    "takes too much memory": (
        "x = np.ones(3 << 27)\nreturn await task.finetune(task.weak_labels)",
        "import numpy as np",
        "memory",
    ),
    "spends more than its budget": (
        "return await task.finetune(task.weak_labels, epochs=10_000)",
        "",
        "budget",
    ),
    "raises an exception": ("raise ValueError('[bold]no[/bold]')", "", "exception"),
    "waits for nothing": ("await asyncio.sleep(1e6)", "import asyncio", "deadlock"),
}


@pytest.mark.parametrize(("body", "imports", "reason"), FAILURES.values(), ids=FAILURES.keys())
def test_a_recipe_that_fails_has_a_reason_and_no_score(testbed, recipe, body, imports, reason):
    path = recipe(body, imports)
    answer = evo_aar(
        "evaluate", path, "--testbed", testbed, "--seeds", 1, "--cpu-seconds", 2, "--workers", 1, "--json"
    )
    assert answer.status == 1
    (trial,) = answer.json["trials"]
    assert (trial["status"], trial["reason"]) == ("failed", reason)
    assert trial["message"]
    assert trial["accuracy"] is None and trial["pgr"] is None and answer.json["pgr"] is None


def test_the_limit_of_processor_time_is_the_one_asked_for(testbed, recipe):
    path = recipe("while True:\n    pass")
    answer = evo_aar(
        "evaluate", path, "--testbed", testbed, "--seeds", 1, "--cpu-seconds", 1, "--workers", 1, "--json"
    )
    assert "its 1 s of processor time" in answer.json["trials"][0]["message"]


def test_a_failure_is_told_as_it_is_with_its_line(testbed, recipe):
    answer = evo_aar(
        "evaluate",
        recipe("raise ValueError('[bold]no[/]\\x1b[31m')"),
        "--testbed",
        testbed,
        "--seeds",
        1,
        "--workers",
        1,
    )
    assert answer.status == 1
    told = " ".join(answer.out.split())
    assert "ValueError: [bold]no[/]" in told and "(recipe.py, line 5)" in told
    assert "\x1b" not in answer.out
    assert "no fitness: 1 of 1 trials failed" in answer.out


def test_one_failed_seed_leaves_no_fitness(testbed, recipe):
    body = (
        "if task.rng.random() < 0.5:\n    raise ValueError('unlucky')\nreturn await"
        " task.finetune(task.weak_labels)"
    )
    answer = evo_aar("evaluate", recipe(body), "--testbed", testbed, "--seeds", 6, "--workers", 1, "--json")
    states = {trial["status"] for trial in answer.json["trials"]}
    assert states == {"ok", "failed"}
    assert answer.status == 1 and answer.json["pgr"] is None


# ---- evaluate: what it refuses


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('"""Idea."""\nasync def recipe(task):\n    return (1,\n', "line 3: not Python"),
        ('"""Idea."""\n', "there is no recipe function"),
        ('"""Idea."""\ndef recipe(task):\n    return 1\n', "line 2: recipe is not asynchronous"),
        ("async def recipe(task):\n    return 1\n", "line 1: the recipe states no idea"),
        (GOOD + "import os\n", "line 6: import of os"),
        ("", "the recipe states no idea"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_before_anything_runs(testbed, tmp_path, text, place):
    path = tmp_path / "bad.py"
    path.write_text(text)
    error = evo_aar("evaluate", path, "--testbed", testbed).error
    assert str(path) in error and place in error


def test_a_recipe_file_has_to_be_there_and_be_text(testbed, tmp_path):
    assert "no such file" in evo_aar("evaluate", tmp_path / "none.py", "--testbed", testbed).error
    assert "can't be read (Is a directory)" in evo_aar("evaluate", tmp_path, "--testbed", testbed).error
    (tmp_path / "latin.py").write_bytes(b'"""caf\xe9"""')
    assert "not UTF-8 text (byte 6)" in evo_aar("evaluate", tmp_path / "latin.py", "--testbed", testbed).error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ("--testbed", "mini/poetry"),
            "--testbed mini/poetry: no such testbed or folder. Built in: mini/chat",
        ),
        (("--testbed", "mini/[math]"), "--testbed mini/[math]: no such testbed"),
        (("--testbed", "mini/math", "--strong", "gpt2"), "--strong and --weak go with a folder of files"),
        (("--testbed", "TESTBED", "--student", "tree"), "--student tree: give head or lora"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(testbed, good, options, told):
    options = [str(testbed) if one == "TESTBED" else one for one in options]
    assert told in evo_aar("evaluate", good, *options).error


@pytest.mark.parametrize(
    "options",
    [("--seeds", "0"), ("--seeds", "many"), ("--first-seed", "-1"), ("--workers", "0"), ("--nonsense",)],
)
def test_values_out_of_range_are_refused(good, options):
    answer = evo_aar("evaluate", good, *options)
    assert answer.status == 2
    assert options[0] in answer.err


# ---- baselines and testbeds


def test_baselines_list_the_fixed_points_and_every_baseline_recipe(testbed):
    facts = evo_aar("baselines", "--testbed", testbed, "--seeds", 2, "--workers", 1, "--json").json
    truth, weak = load_labels(testbed, "fitness"), load_labels(testbed, "weak_fitness")
    assert facts["weak_accuracy"] == pytest.approx(((weak > 0.5) == truth).mean())
    assert facts["majority_accuracy"] == max(truth.mean(), 1 - truth.mean())
    assert facts["ceiling_seeds"] == 16 and facts["ceiling_standard_error"] > 0
    assert facts["gap"] == pytest.approx(facts["ceiling_accuracy"] - facts["weak_accuracy"])
    assert set(facts["recipes"]) == {"vanilla", "soft", "confident_only", "auxiliary_confidence", "zero_shot"}
    shown = evo_aar("baselines", "--testbed", testbed, "--seeds", 2, "--workers", 1).out
    assert (
        f"{facts['weak_accuracy']:.3f}" in shown
        and f"{facts['recipes']['vanilla']['pgr']['mean']:.3f}" in shown
    )


def test_a_testbed_is_shown_without_a_look_at_the_sealed_split(testbed):
    facts = evo_aar("testbed", "show", testbed, "--json").json
    assert facts["splits"]["sealed"] == {"rows": 40, "share_of_class_1": None}
    assert facts["splits"]["fitness"] == {"rows": 300, "share_of_class_1": 0.5}
    shown = evo_aar("testbed", "show", testbed)
    assert facts["content_hash"] in shown.out and "right?" in shown.out


def test_built_in_testbeds_are_listed(testbed):
    listed = evo_aar("testbed", "list")
    assert all(name in listed.out for name in ("mini/chat", "mini/math", "mini/code", "real/film"))
    assert "evo-aar testbed prepare real/film" in listed.out


def test_preparing_what_is_prepared_names_its_folder(testbed):
    assert evo_aar("testbed", "prepare", testbed).out.strip() == str(testbed)


def test_only_film_is_fetched():
    assert "testbed fetch mini/math" in evo_aar("testbed", "fetch", "mini/math").error


def test_a_cache_that_cannot_be_written_to_is_named(monkeypatch):
    monkeypatch.setenv("EVO_AAR_CACHE", "/proc/nowhere")
    assert "EVO_AAR_CACHE" in evo_aar("testbed", "prepare", "mini/math").error


# ---- new-recipe


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_new_recipe_meets_the_contract_in_every_direction(tmp_path, direction):
    path = tmp_path / "new.py"
    assert evo_aar("new-recipe", path, "--direction", direction).status == 0
    assert validate(path.read_text()).direction == direction


def test_a_new_recipe_can_be_evaluated_as_it_is(testbed, tmp_path):
    evo_aar("new-recipe", tmp_path / "new.py")
    assert (
        evo_aar("evaluate", tmp_path / "new.py", "--testbed", testbed, "--seeds", 1, "--workers", 1).status
        == 0
    )


def test_a_new_recipe_overwrites_nothing(good):
    assert "exists already" in evo_aar("new-recipe", good).error
    assert good.read_text() == GOOD


def test_a_new_recipe_needs_a_known_direction_and_a_folder(tmp_path):
    assert (
        "--direction alchemy: no such direction"
        in evo_aar("new-recipe", tmp_path / "a.py", "--direction", "alchemy").error
    )
    assert (
        "can't be written (No such file or directory)"
        in evo_aar("new-recipe", tmp_path / "no" / "a.py").error
    )
    assert not list(tmp_path.iterdir())


# ---- doctor


def test_a_machine_that_runs_these_tests_has_what_is_necessary(testbed, tmp_path):
    answer = evo_aar("doctor", "--runs", tmp_path, "--json")
    checks = {check["what"]: check for check in answer.json}
    assert answer.status == 0, [check for check in answer.json if not check["ok"]]
    assert checks["package torch"]["ok"] and checks["runs folder"]["ok"]
    assert "sandbox of recipes" in checks


def test_a_folder_that_cannot_be_written_to_is_missing_with_a_remedy():
    answer = evo_aar("doctor", "--runs", "/proc/nowhere", "--json")
    (runs,) = (check for check in answer.json if check["what"] == "runs folder")
    assert answer.status == 1
    assert not runs["ok"] and "--runs" in runs["remedy"]
