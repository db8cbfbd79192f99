"""The offline operator in the small: what single edits do, what is refused, and that children run."""

import numpy as np
import pytest
from domain_testbeds import domain_testbed

from evaluator.processes import Limits
from evaluator.service import Service
from evaluator.testbeds.mini.weak import WEIGHTS
from evaluator.testbeds.mini.world import templates
from evaluator.testbeds.prepared import Profile
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest
from evo_aar.operators import mutations as kinds
from evo_aar.operators.constants import assign_step, loci
from evo_aar.operators.edits import rename
from evo_aar.operators.genome import Inapplicable, read_genome
from evo_aar.operators.losses import swap_loss
from evo_aar.operators.offline import OfflineOperator
from evo_aar.operators.pipeline import pipeline
from evo_aar.operators.stages import stages
from evo_aar.operators.transplant import transplant
from evo_aar.search.operator import Failure, Operator, OperatorContext, OperatorError, Parent
from recipes.contract import LOSSES, SCHEDULES
from recipes.directions import baseline_sources, directions
from recipes.source import source_hash, validate

SEEDS = {one.name: one.seed_source for one in directions()}


def context(*sources, rng=0, born=(), **facts):
    parents = tuple(Parent(f"p{number}", source, "distillation") for number, source in enumerate(sources))
    return OperatorContext(
        0, 1, 2, "distillation", np.random.default_rng(rng), parents, frozenset(born), **facts
    )


def file(constants, body, functions="", idea="An idea."):
    return (
        f'"""{idea}\n\nDirection: distillation\n"""\n\nimport numpy as'
        f" np\n\n{constants}\n\n{functions}\n\nasync def recipe(task):\n{body}\n"
    )


# ---- files taken apart and put together


@pytest.mark.parametrize(
    "source", [*SEEDS.values(), *baseline_sources().values()], ids=[*SEEDS, *baseline_sources()]
)
def test_a_seed_taken_apart_and_put_together_is_the_same_text(source):
    assert read_genome(source).render() == source


def test_odd_layouts_keep_their_meaning():
    source = file(
        'A = 1; B = (2,\n  3)\n# why\nC = """x\n\n  y"""  # text', "    return A, B, C, [\n        1]"
    )
    rendered = read_genome(source).render()
    assert source_hash(rendered) == source_hash(source)
    assert read_genome(rendered).render() == rendered


def test_comments_stay_with_what_they_stand_above():
    genome = read_genome(file("# the share\nKEEP = 0.5  # of rows\nDROP = 1", "    return KEEP"))
    assert "# the share\nKEEP = 0.5  # of rows\n" in genome.pruned().render()
    assert "DROP" not in genome.pruned().render()


# ---- constants


@pytest.mark.parametrize(
    ("constant", "low", "high"),
    [
        ("LEARNING_RATE = 1e-3", 1e-5, 1e-1),
        ("KEEP = 0.5", 0.02, 0.98),
        ("STRENGTH = 1.0", 0.02, 0.98),
        ("EPOCHS = 20", 1, 30),
        ("ROUNDS = 1", 1, 6),
        ("FOLDS = 2", 2, 6),
        ("MEMBERS = 8", 2, 8),
        ("TEMPERATURE = 0.5", 0.1, 10),
        ("WEIGHT_DECAY = 0.0", 1e-6, 1.0),
        ("LAYER = -1", -4, -1),
        ("COUNT = 1", 1, 4096),
    ],
)
def test_a_constant_walks_within_its_range_and_moves_at_every_step(constant, low, high):
    genome, name = read_genome(file(constant, f"    return {constant.split()[0]}")), constant.split()[0]
    walker, values = context(rng=3), []
    for _ in range(200):
        before = genome.part(name).value
        genome, words = assign_step(genome, name, walker, 1.0)
        values.append(genome.part(name).value)
        assert values[-1] != before and type(values[-1]) is type(before) and low <= values[-1] <= high
        assert words.startswith(f"{name} ") and len(genome.part(name).code) < 40
    assert len(set(values)) > 1


def test_words_flags_and_layers_change_within_what_the_testbed_offers():
    source = file('SCHEDULE = "linear"\nHARD = True\nLAYERS = (-1, -2)', "    return SCHEDULE, HARD, LAYERS")
    seen = {"SCHEDULE": set(), "HARD": set(), "LAYERS": set()}
    genome, walker = read_genome(source), context(layers=(2, 5, 9))
    for _ in range(100):
        for name in seen:
            genome, _ = assign_step(genome, name, walker, 1.0)
            seen[name].add(genome.part(name).value)
    assert seen["SCHEDULE"] == set(SCHEDULES) and seen["HARD"] == {True, False}
    assert all(set(layers) <= {-1, -2, -3} and len(set(layers)) == len(layers) for layers in seen["LAYERS"])
    assert len(seen["LAYERS"]) > 5


def test_expressions_seeds_and_unknown_words_are_no_loci():
    source = file(
        'A = 2 * 3\nSEED = 4\nNAME = "x"\nlower = 3\nZERO = 0\nKEEP = 0.5',
        "    return A, SEED, NAME, lower, ZERO, KEEP",
    )
    assert [part.name for part in loci(read_genome(source), SCHEDULES, (1,))] == ["KEEP"]


# ---- losses


def test_a_loss_comes_with_its_options_and_takes_the_old_ones_away():
    functions = (
        "async def fit(task, targets, rows):\n    options = {'strength': STRENGTH}\n"
        "    return await task.finetune(targets, rows, loss='log_confidence', loss_options=options)\n"
    )
    genome = read_genome(
        file(
            "STRENGTH = 0.5",
            "    targets = task.weak_labels\n    return await fit(task, targets, None)",
            functions,
        )
    )
    changed, words = swap_loss(
        genome, np.random.default_rng(0), ("log_confidence", "generalised_cross_entropy")
    )
    text = changed.pruned().render()
    assert 'loss="generalised_cross_entropy", loss_options={"q": GENERALISED_Q}' in text
    assert f"GENERALISED_Q = {LOSSES['generalised_cross_entropy']['q']}" in text
    assert "options =" not in text and "STRENGTH" not in text
    assert words == "generalised cross entropy loss in fit (was log confidence)"


def test_a_recipe_s_own_loss_function_is_left_alone():
    functions = "def own(batch):\n    return batch.logits\n"
    genome = read_genome(file("", "    return await task.finetune(task.weak_labels, loss=own)", functions))
    with pytest.raises(Inapplicable):
        swap_loss(genome, np.random.default_rng(0), tuple(LOSSES))


# ---- transplants

HELPER = "def folds(task):\n    return task.rng.permutation(task.size) % FOLDS\n"
REFINE = "async def refine(task, targets):\n    return targets * SHARE + folds(task).mean() / FOLDS\n"
BODY = "    targets = task.weak_labels\n    targets = await refine(task, targets)\n    return targets"


def test_a_function_brings_what_it_uses_and_takes_away_what_only_its_predecessor_used():
    host = read_genome(file("OLD = 1", BODY, "async def refine(task, targets):\n    return targets + OLD\n"))
    donor = read_genome(file("FOLDS = 3\nSHARE = 0.5", BODY, f"{HELPER}\n\n{REFINE}"))
    child = transplant(host, donor, "refine").pruned()
    assert child.names == {"FOLDS", "SHARE", "folds", "refine", "recipe"}


def test_a_constant_is_renamed_only_where_both_values_are_used():
    other = "async def select(task, targets):\n    return targets[:SHARE]\n"
    body = f"{BODY}, await select(task, targets)"
    donor = read_genome(
        file("SHARE = 0.5", BODY, "async def refine(task, targets):\n    return targets * SHARE\n")
    )
    own = "async def refine(task, targets):\n    return targets\n"
    for value, names in (("0.5", {"SHARE"}), ("0.9", {"SHARE", "REFINE_SHARE"})):
        host = read_genome(file(f"SHARE = {value}", body, f"{own}\n\n{other}"))
        child = transplant(host, donor, "refine").pruned()
        assert {part.name for part in child.constants} == names
    assert "targets * REFINE_SHARE" in child.part("refine").code and child.part("SHARE").value == 0.9


def test_both_sides_of_a_shared_helper_see_the_same_constant():
    other = "async def select(task, targets):\n    return folds(task)\n"
    body = f"{BODY}, await select(task, targets)"
    own = "async def refine(task, targets):\n    return targets\n"
    host = read_genome(file("FOLDS = 4", body, f"{HELPER}\n\n{own}\n\n{other}"))
    donor = read_genome(file("FOLDS = 3\nSHARE = 0.5", BODY, f"{HELPER}\n\n{REFINE}"))
    child = transplant(host, donor, "refine").pruned()
    assert {part.name: part.value for part in child.constants} == {"FOLDS": 4, "SHARE": 0.5}
    assert "folds(task).mean() / FOLDS" in child.part("refine").code


def test_imports_that_clash_are_refused():
    host = read_genome(file("", BODY, "async def refine(task, targets):\n    return np\n"))
    donor = read_genome(
        file("", BODY, "async def refine(task, targets):\n    return np.eye\n").replace(
            "numpy as np", "torch as np"
        )
    )
    with pytest.raises(Inapplicable, match="np"):
        transplant(host, donor, "refine")


def test_renaming_leaves_attributes_and_keywords_alone_and_refuses_local_names():
    code = "def f(task):\n    return SHARE + task.SHARE + g(SHARE=SHARE)"
    assert rename(code, {"SHARE": "KEEP"}) == "def f(task):\n    return KEEP + task.SHARE + g(SHARE=KEEP)"
    with pytest.raises(Inapplicable):
        rename("def f(SHARE):\n    return SHARE", {"SHARE": "KEEP"})


def test_what_is_added_stands_with_its_like():
    genome = transplant(read_genome(SEEDS["distillation"]), stages().genome, "smooth_over_neighbours")
    order = [part.kind for part in genome.parts]
    assert order == sorted(order), "constants first, then definitions"
    assert genome.parts[-1].name == "recipe"


# ---- the grammar


def test_a_recipe_takes_only_so_many_stages():
    genome = read_genome(SEEDS["distillation"])
    with pytest.raises(Inapplicable, match="stages"):
        for seed in range(100):
            genome = kinds.add_stage(genome, context(rng=seed), 1.0).genome
    assert sum(line.role == "stage" for line in pipeline(genome.part("recipe").code)) == kinds.MOST_STAGES


@pytest.mark.parametrize("name", stages().stages)
def test_a_stage_put_in_and_taken_out_leaves_the_recipe_as_it_was(name, monkeypatch):
    genome = read_genome(SEEDS["simplicity_bias"])
    one = stages().genome
    only = type(stages())(one, (name,), stages().selections, stages().fits, stages().wrappers)
    monkeypatch.setattr(kinds, "stages", lambda: only)
    grown = kinds.add_stage(genome, context(), 1.0).genome.pruned()
    assert f"targets = await {name}(task, targets)" in grown.render()
    line = next(line for line in pipeline(grown.part("recipe").code) if line.function == name)
    assert source_hash(kinds.drop_line(grown, line).genome.pruned().render()) == source_hash(
        SEEDS["simplicity_bias"]
    )


def test_stages_that_ask_for_a_prior_are_not_offered_without_one():
    words = {
        kinds.add_stage(read_genome(SEEDS["distillation"]), context(rng=seed, has_prior=False), 1.0).words
        for seed in range(60)
    }
    assert len(words) > 5 and "blend with prior added" not in words


def test_an_ensemble_is_never_put_around_an_ensemble():
    genome = read_genome(SEEDS["distillation"])
    genome = genome.with_code(
        "fit",
        "async def fit(task, targets, rows):\n    return task.ensemble([await task.finetune(targets[rows],"
        " rows)])",
    )
    with pytest.raises(Inapplicable):
        kinds.wrap_fit(genome, context(), 1.0)


# ---- the operator


def test_the_offline_operator_is_an_operator():
    assert isinstance(OfflineOperator(), Operator)


def test_the_children_of_a_baseline_are_recipes_too():
    for seed in range(20):
        child = OfflineOperator().mutate(context(baseline_sources()["vanilla"], rng=seed))
        assert validate(child.source).direction == "distillation"


def test_a_child_is_never_one_that_was_born_before():
    seed, born = SEEDS["distillation"], set()
    for _ in range(12):
        child = OfflineOperator().mutate(context(seed, rng=7, born=born))  # the same stream each time
        assert source_hash(child.source) not in born
        born.add(source_hash(child.source))


def test_two_recipes_with_nothing_to_exchange_still_have_a_child():
    child = OfflineOperator().crossover(context(SEEDS["distillation"], SEEDS["distillation"]))
    assert source_hash(child.source) != source_hash(SEEDS["distillation"])


def test_what_has_nothing_to_change_is_an_error_that_says_where():
    source = '"""Nothing."""\nasync def recipe(task):\n    return task.untrained()\n'
    with pytest.raises(OperatorError, match=r"island 0, generation 1, child 2.*no kind of mutation applies"):
        OfflineOperator().mutate(context(source))
    with pytest.raises(OperatorError, match="needs 2 parents, got 1"):
        OfflineOperator().crossover(context(source))
    with pytest.raises(OperatorError, match=r"parent p0 is no recipe: .*no recipe function"):
        OfflineOperator().mutate(context('"""Nothing."""'))


def test_the_first_line_does_not_grow_with_the_generations():
    source = SEEDS["distillation"]
    for seed in range(40):
        source = OfflineOperator().mutate(context(source, rng=seed)).source
    idea = validate(source).idea
    assert (
        idea.startswith("Seek the teacher's modes, not its mean")
        and idea.count("; now ") == 1
        and len(idea) < 240
    )
    assert "Born-Again Neural Networks" in source, "the seed's own notes stay"


def test_repair_trains_less_where_the_budget_was_exceeded():
    source = SEEDS["distillation"]
    repaired = OfflineOperator().repair(
        context(source), Failure(source, "budget", "BudgetExceeded: too much")
    )
    assert repaired.kinds == ("less training",)
    assert (
        read_genome(repaired.source).part("ROUND_EPOCHS").value
        < read_genome(source).part("ROUND_EPOCHS").value
    )


def test_repair_drops_the_stage_in_which_a_recipe_failed():
    source = SEEDS["label_posterior"]
    line = next(number for number, text in enumerate(source.splitlines(), 1) if "counts.sum" in text)
    failure = Failure(source, "exception", f"ValueError: bad (recipe.py, line {line})")
    repaired = OfflineOperator().repair(context(source), failure)
    assert "expectation_maximisation" not in repaired.source
    assert OfflineOperator().repair(context(source), Failure(source, "exception", "ValueError: bad")) is None
    assert OfflineOperator().repair(context(source), Failure("def", "syntax", "SyntaxError")) is None


def test_children_run_in_the_real_recipe_process_and_trainer(tmp_path):
    testbed = domain_testbed(
        tmp_path / "testbed", WEIGHTS, templates("math"), Profile(layers=(1, 2, 3, 4), head_layers=(4,))
    )
    parents, sources = list(SEEDS.values()), []
    for generation in range(6):
        children = []
        for child in range(len(parents)):
            facts = context(
                parents[child],
                parents[child - 1],
                rng=[generation, child],
                born={source_hash(one) for one in sources},
            )
            operator = OfflineOperator()
            children.append((operator.crossover(facts) if child % 2 else operator.mutate(facts)).source)
        parents = children
        sources += children[generation % 2 :: 2]
    service, outcomes = Service(Trainer(testbed, cache=tmp_path / "cache"), Limits(), "head"), []
    try:
        service.run(
            [TrialRequest(source, 1) for source in sources], lambda trial, talk: outcomes.append(talk.outcome)
        )
    finally:
        service.close()
    assert len(outcomes) == len(sources)
    assert {outcome.message for outcome in outcomes if outcome.reason not in (None, "budget")} == set()
    assert sum(outcome.ok for outcome in outcomes) > 0.8 * len(outcomes)
