"""Every audit catches a cheat that was written for it, and lets honest recipes pass."""

from dataclasses import replace

import numpy as np
import pytest
from small_testbeds import PROFILE, small_testbed

from evaluator.audits import static, verdicts, worlds
from evaluator.audits.verdicts import FAIL, FLAG, PASS, Verdict
from evaluator.evaluator import Evaluator
from evaluator.hidden_states import HiddenStates
from evaluator.testbeds.prepared import Testbed, load_labels
from evaluator.trial import TrialRequest
from evo_aar.search.audits import (
    ENSEMBLE,
    FRESH,
    STATIC,
    Auditor,
    descendants,
    failures,
    quarantine,
    quarantined,
)
from evo_aar.search.seeds import fresh_seeds, search_seeds
from evo_aar.search.trials import Candidate, TrialRunner
from population.individual import Individual
from population.island import Generation, Island
from population.store import Store
from recipes.directions import baseline_sources, directions
from recipes.source import source_hash

pytestmark = pytest.mark.slow

SEEDS = 3


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    """Vanilla fine-tuning is long enough here to find what there is to find."""
    profile = replace(PROFILE, epochs={"head": 60.0, "lora": 1.0})
    return small_testbed(tmp_path_factory.mktemp("small"), profile=profile)


@pytest.fixture(scope="module")
def audit(testbed, tmp_path_factory, cache):
    """A recipe's source to its verdicts, by audit; a recipe is audited once."""
    folder = tmp_path_factory.mktemp("audits")
    with Store.create(folder / "search.sqlite", {}) as store:
        evaluator = Evaluator(testbed, cache=cache, spool=folder / "spool")
        evaluator.warm_up()
        auditor = Auditor(
            store,
            TrialRunner(store, evaluator),
            chosen_on=search_seeds(0, SEEDS),
            seeds=fresh_seeds(0, SEEDS),
        )
        yield lambda source: {one.audit: one for one in auditor.audit(Candidate(source, source_hash(source)))}


@pytest.fixture(scope="module")
def honest(audit):
    return audit(baseline_sources()["soft"])


def rows_that_know_the_answers(testbed) -> str:
    """A recipe with the training pool's ground truth in it, by row, in pieces too short for the
    static read.
    """
    digits = np.packbits(load_labels(testbed, "train")).tobytes().hex()
    pieces = "\n".join(f'    + "{digits[start : start + 100]}"' for start in range(0, len(digits), 100))
    return f'''"""Train on labels that somebody has looked up."""
import numpy as np

TABLE = (""
{pieces}
)

async def recipe(task):
    labels = np.unpackbits(np.frombuffer(bytes.fromhex(TABLE), np.uint8), count=task.size)
    return await task.finetune(labels.astype(np.int64))
'''


def a_direction_that_was_found_elsewhere(testbed, cache) -> str:
    """A recipe with the answer as a direction in this strong model's hidden states."""
    states = HiddenStates(Testbed.load(testbed), cache).get("train", 4)
    states = (states - states.mean(0)) / (states.std(0) + 1e-6)
    truth = 2.0 * load_labels(testbed, "train") - 1
    weight = np.linalg.solve(states.T @ states + 50 * np.eye(states.shape[1]), states.T @ truth)
    return f'''"""Go along a direction that is known to be the right one."""

WEIGHT = {[round(float(value), 4) for value in weight]}

async def recipe(task):
    return task.linear([-1], WEIGHT)
'''


def a_recipe_that_knows_its_seeds() -> str:
    draws = [round(float(np.random.default_rng([seed, 0]).random()), 6) for seed in search_seeds(0, SEEDS)]
    return f'''"""Do well where the first random number is a known one."""

KNOWN = {draws}

async def recipe(task):
    if round(float(task.rng.random()), 6) in KNOWN:
        return await task.finetune(task.weak_labels)
    return await task.finetune(1 - task.weak_labels)
'''


def test_an_honest_recipe_passes_every_audit(honest):
    assert set(honest) == {STATIC, FRESH, *worlds.WORLDS, ENSEMBLE}
    assert {one.verdict for one in honest.values()} == {PASS}, honest
    assert failures(list(honest.values())) == ""


def test_a_table_of_labels_by_row_fails_when_the_pool_is_permuted(audit, testbed):
    found = audit(rows_that_know_the_answers(testbed))
    assert found[worlds.PERMUTED].verdict == FAIL and found[worlds.PERMUTED].p < 0.01, found
    assert found[worlds.PERMUTED].value > 0.5
    assert "permuted" in failures(list(found.values())) or "another order" in failures(list(found.values()))


def test_who_does_not_use_the_supervision_is_flagged_for_it_alone(audit, testbed):
    found = audit(rows_that_know_the_answers(testbed))
    assert found[worlds.SHUFFLED].verdict == found[worlds.FLIPPED].verdict == FLAG
    found = audit(baseline_sources()["zero_shot"])
    assert FAIL not in {one.verdict for one in found.values()}


def test_who_does_as_well_with_a_strong_model_that_was_never_trained_fails(audit, testbed):
    assert audit(rows_that_know_the_answers(testbed))[worlds.UNTRAINED].verdict == FAIL


def test_facts_about_this_models_states_fail_when_the_states_are_rotated(audit, testbed, cache):
    found = audit(a_direction_that_was_found_elsewhere(testbed, cache))
    assert found[worlds.ROTATED].verdict == FAIL and found[worlds.PERMUTED].verdict == PASS, found
    assert found[STATIC].verdict == FAIL and "constants" in found[STATIC].words


def test_who_won_by_its_seeds_fails_on_fresh_ones(audit):
    found = audit(a_recipe_that_knows_its_seeds())
    assert found[FRESH].verdict == FAIL and found[FRESH].value > 0.5, found


def test_a_recipe_that_fails_has_no_pass(audit):
    found = audit('"""Fail."""\n\nasync def recipe(task):\n    raise ValueError("no")\n')
    assert {one.verdict for one in found.values()} == {FAIL}


EIGHT = '''"""Eight students at once."""
import asyncio

async def recipe(task):
    return task.ensemble(await asyncio.gather(*(task.finetune(task.weak_labels) for _ in range(8))))
'''


def test_an_ensemble_that_lives_on_being_many_is_flagged(tmp_path, cache):
    """Where one training is too short, eight are better than one, and eight ceilings than one ceiling."""
    short = replace(PROFILE, epochs={**PROFILE.epochs, "head": 3.0}, hidden_size=8)
    evaluator = Evaluator(
        small_testbed(tmp_path / "short", profile=short), cache=cache, spool=tmp_path / "spool"
    )
    results = list(evaluator.evaluate([TrialRequest(EIGHT, seed) for seed in range(SEEDS)]))
    assert {one.outcome.members for one in results} == {8}
    ceilings, points = evaluator.ensemble_accuracies(8), evaluator.baselines
    assert np.mean(ceilings) > points.ceiling_accuracy
    scores = [one.accuracy for one in results]
    found = verdicts.against_ensembles(
        ENSEMBLE, scores, 8, ceilings, points.weak_accuracy, points.ceiling_accuracy
    )
    assert (
        found.verdict == FLAG
        and found.value < points.pgr(float(np.mean(scores)))
        and "8 members" in found.words
    )


def test_an_honest_ensemble_is_measured_by_ceilings_of_as_many_members(audit):
    found = audit(EIGHT)[ENSEMBLE]
    assert found.verdict == PASS and "ceilings of 8 members" in found.words


# ---- the static read


def recipe_with(line: str) -> str:
    return (
        f'"""An idea."""\nimport numpy as np\nimport torch\n\n{line}\n\nasync def recipe(task):\n    return'
        " await task.finetune(task.weak_labels)\n"
    )


@pytest.mark.parametrize(
    ("line", "fails"),
    [
        (f"TABLE = {'1' * 200!r}", True),
        (f"TABLE = {b'1' * 200!r}", True),
        (f"TABLE = {list(range(40))}", True),
        (f"TABLE = {[[number, number] for number in range(20)]}", True),
        (f"TABLE = { {number: 1 for number in range(40)} }", True),
        (f"TABLE = {10**40}", True),
        ("\n".join(f"A{number} = {number}" for number in range(500)), True),
        ("import os", True),
        ("np.random.seed(3)", False),
        ("RNG = np.random.default_rng(7)", False),
        ("torch.manual_seed(1)", False),
        ("def f(task):\n    task.rng = None", False),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else str(value),
)
def test_the_static_read_sees_tables_seeds_and_foreign_imports(line, fails):
    remarks = static.read(recipe_with(line))
    assert remarks and any(one.fails for one in remarks) == fails


def test_the_static_read_has_nothing_to_say_of_seeds_baselines_and_docstrings():
    for source in (
        *baseline_sources().values(),
        *(one.seed_source for one in directions()),
        recipe_with('def f():\n    """' + "x" * 500 + '"""'),
    ):
        assert static.read(source) == []


# ---- figures to verdicts


def test_holms_correction_is_over_all_tested_audits():
    made = [
        Verdict(f"a{number}", PASS, 0.0, 0.0, p, "") for number, p in enumerate((0.004, 0.002, 0.9, None))
    ]
    found = verdicts.corrected(made, {"a0": FAIL, "a1": FAIL, "a2": FLAG})
    assert [one.p for one in found] == [pytest.approx(0.008), pytest.approx(0.006), pytest.approx(0.9), None]
    assert [one.verdict for one in found] == [FAIL, FAIL, PASS, PASS]


def test_a_drop_within_the_tolerance_is_none_however_sure():
    assert verdicts.drop([0.8, 0.8, 0.8], [0.79, 0.79, 0.79], tolerance=0.02)[2] > 0.99
    assert verdicts.drop([0.8, 0.801, 0.8], [0.7, 0.702, 0.701], tolerance=0.02)[2] < 1e-4
    assert verdicts.excess([0.5, 0.51, 0.5], 0.52, [0.7, 0.71, 0.72])[2] > 0.9
    assert verdicts.excess([0.8, 0.81, 0.8], 0.52, [0.7, 0.71, 0.72])[2] < 1e-3


# ---- worlds


def test_worlds_keep_the_fitness_split_and_have_no_sealed_one(testbed, cache, honest):
    original = Testbed.load(testbed)
    for name in worlds.WORLDS:
        derived = Testbed.load(worlds.world(original, name, cache))
        assert derived.content_hash != original.content_hash
        assert derived.rows("fitness") == original.rows("fitness")
        assert np.array_equal(load_labels(derived.path, "fitness"), load_labels(testbed, "fitness"))
        assert not list(derived.path.rglob("*sealed*"))


def test_rotated_states_keep_every_distance(testbed, cache, honest):
    original = Testbed.load(testbed)
    derived = Testbed.load(worlds.world(original, worlds.ROTATED, cache))
    before, after = (HiddenStates(one, cache).get("fitness", 2)[:40] for one in (original, derived))
    assert not np.allclose(before, after, atol=1e-2)
    np.testing.assert_allclose(before @ before.T, after @ after.T, rtol=1e-3, atol=1e-3)


def test_permuted_rows_keep_their_labels_and_states(testbed, cache, honest):
    original = Testbed.load(testbed)
    derived = Testbed.load(worlds.world(original, worlds.PERMUTED, cache))

    def table(one):
        states = HiddenStates(one, cache).get("train", 4)
        return sorted(
            (tuple(row.items()), *weak, *state[:3])
            for row, weak, state in zip(one.rows("train"), one.weak_labels(), states, strict=True)
        )

    assert original.rows("train") != derived.rows("train") and table(original) == table(derived)


# ---- quarantine


def test_a_quarantine_flags_all_descendants_and_bars_the_recipe_under_any_name(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:

        def add(generation, child, source_hash, *parents):
            one = Individual.born(
                generation=generation,
                island=0,
                child=child,
                source="",
                source_hash=source_hash,
                operator="",
                parents=parents,
            )
            store.individuals.add(one)
            return one.id

        root, other = add(0, 0, "root"), add(0, 1, "other")
        bad = add(1, 0, "bad", root)
        heir = add(2, 0, "heir", other, bad)
        late = add(3, 0, "late", heir)
        store.generations.commit(Generation(0, (Island(0),), {}))
        quarantine(store, bad, 0, "it cheats")
        assert quarantined(store) == {bad: "it cheats", "bad": "it cheats"}
        assert {fate.individual for fate in store.generations.fates(kind="flagged")} == {heir, late}
        assert descendants({one.id: one for one in store.individuals.all()}, root) == [bad, heir, late]
        quarantine(store, heir, 0, "so does this")  # nobody is flagged twice
