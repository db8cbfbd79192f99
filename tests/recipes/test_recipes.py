"""The seed recipes and the baselines, each run by the real recipe process and trainer on small testbeds."""

import ast
import itertools
import subprocess
import sys

import numpy as np
import pytest
from domain_testbeds import SIZES, domain_testbed
from transformers import AutoTokenizer, BertConfig, BertModel

from evaluator.processes import Limits
from evaluator.service import Service
from evaluator.testbeds.mini.weak import WEIGHTS
from evaluator.testbeds.mini.world import templates
from evaluator.testbeds.prepared import Profile, Template
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest
from evo_aar.operators.genome import read_genome
from evo_aar.operators.pipeline import pipeline
from recipes import contract, reference
from recipes.directions import BASELINES, baseline_sources, direction, directions
from recipes.source import DIRECTIONS, validate

pytestmark = pytest.mark.slow

SEEDS = {one.name: one.seed_source for one in directions()}
RECIPES = {**SEEDS, **baseline_sources()}
BARE = (Template("{question} = {choice}."),)


def run_all(testbed, cache, kind):
    """The outcome of every recipe, by name."""
    service = Service(Trainer(testbed, cache=cache), Limits(), kind)
    names = {source: name for name, source in RECIPES.items()}
    outcomes = {}
    try:
        service.run(
            [TrialRequest(source, 1) for source in RECIPES.values()],
            lambda trial, talk: outcomes.update({names[trial.source]: talk.outcome}),
        )
    finally:
        service.close()
    return outcomes


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small encoder with random weights: no label words, no prior."""
    folder, tokenizer = tmp_path_factory.mktemp("encoder"), AutoTokenizer.from_pretrained(WEIGHTS)
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(
        BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **sizes)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=["decoder-head", "decoder-lora", "pairs-head", "encoder-head", "encoder-without-statements"],
)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def outcomes(case, tmp_path_factory, encoder):
    path, cache = tmp_path_factory.mktemp(case), tmp_path_factory.mktemp("cache")
    decoder_profile = Profile(layers=(1, 2, 3, 4), head_layers=(4,))
    encoder_profile = Profile(layers=(1, 2), head_layers=(2,))
    if case == "encoder-without-statements":
        testbed = domain_testbed(path, encoder, BARE, encoder_profile)
    elif case == "encoder-head":
        testbed = domain_testbed(path, encoder, templates("math"), encoder_profile)
    else:
        domain = "chat" if case == "pairs-head" else "math"
        testbed = domain_testbed(path, WEIGHTS, templates(domain), decoder_profile, domain)
    return run_all(testbed, cache, "lora" if case.endswith("lora") else "head")


def test_there_is_a_direction_for_each_island_in_order():
    assert [(one.number, one.name) for one in directions()] == list(enumerate(DIRECTIONS))
    assert len({one.title for one in directions()}) == len(DIRECTIONS)
    assert direction("epiplexity") == directions()[6]


def test_an_unknown_direction_is_an_error_that_names_the_known_ones():
    with pytest.raises(KeyError, match=r"no direction 'luck'.*epiplexity"):
        direction("luck")


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_states_its_idea_and_the_direction_of_its_file(name):
    recipe = validate(SEEDS[name])
    assert recipe.direction == name
    assert len(recipe.idea.split()) >= 5 and recipe.idea.endswith(".")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_states_its_idea_and_follows_no_direction(name):
    assert validate(baseline_sources()[name]).direction is None


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_is_a_pipeline_whose_stages_can_be_exchanged(name):
    genome = read_genome(SEEDS[name])
    lines = pipeline(genome.part("recipe").code)
    roles = [line.role for line in lines]
    assert roles[0] == "start" and roles[-2:] == ["select", "fit"] and set(roles[1:-2]) <= {"stage"}
    assert {line.function for line in lines} - {""} <= genome.names
    assert genome.pruned() == genome, "something in the file is used by nothing"


@pytest.mark.parametrize("name", SEEDS)
def test_a_seed_has_constants_to_tune(name):
    constants = [
        node
        for node in ast.parse(SEEDS[name]).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.UnaryOp)
    ]
    assert len([node for node in constants if node.targets[0].id.isupper()]) >= 3


@pytest.mark.parametrize("one", directions(), ids=lambda one: one.name)
def test_a_brief_is_a_short_paragraph_without_figures(one):
    assert 20 < len(one.brief.split()) < 90
    assert "\n\n" not in one.brief and not any(letter.isdigit() for letter in one.brief)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_returns_a_student_within_its_budget(outcomes, case, name):
    outcome = outcomes[name]
    if name == "zero_shot" and case.startswith("encoder"):
        assert outcome.reason == "not_available" and "no zero-shot answers" in outcome.message
        return
    assert outcome.ok, outcome.message
    assert outcome.fitness.shape == (SIZES["fitness"], 2) and np.isfinite(outcome.fitness).all()


def test_no_two_recipes_answer_alike(outcomes):
    pools = {name: outcome.pool for name, outcome in outcomes.items() if outcome.ok}
    assert len(pools) >= len(RECIPES) - 1
    for first, second in itertools.combinations(pools, 2):
        assert np.abs(pools[first] - pools[second]).max() > 1e-3, f"{first} and {second}"


def test_the_reference_is_what_the_contract_says():
    assert reference.FILE.read_text(encoding="utf-8") == reference.reference(), (
        "run python -m recipes.reference"
    )


def test_a_reference_that_drifted_fails_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "FILE", tmp_path / "CONTRACT.md")
    monkeypatch.setattr(sys, "argv", ["reference", "--check"])
    with pytest.raises(SystemExit, match="run `python -m recipes"):
        reference.main()
    monkeypatch.setattr(sys, "argv", ["reference"])
    reference.main()
    monkeypatch.setattr(sys, "argv", ["reference", "--check"])
    reference.main()


def test_the_check_runs_from_the_command_line():
    assert subprocess.run([sys.executable, "-m", "recipes.reference", "--check"], check=False).returncode == 0


def test_the_reference_explains_every_loss_and_every_public_name_of_a_task():
    text = reference.reference()
    for loss in contract.LOSSES:
        assert f"| `{loss}` | " in text, loss
    task = contract.Task(
        None,
        dict.fromkeys(("size", "seed", "has_prior", "templates", "student", "budget"), 0)
        | {"layers": (), "statements": ()},
        None,
    )
    for name in (name for name in dir(task) if not name.startswith("_")):
        assert f"`{name}`: " in text or f"### {name}\n" in text, name


def test_the_example_of_a_loss_gives_the_gradient_of_what_it_says():
    example = reference.OWN_LOSS.split("```python\n")[1].split("\nstudent = ")[0]
    exec(example, namespace := {"np": np})
    rng = np.random.default_rng(0)
    logits, told, weights = rng.standard_normal((6, 2)), rng.dirichlet((1, 1), 6), rng.random(6)

    def loss(logits):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        mean = p.mean(axis=0)
        return -(weights * (told * np.log(p)).sum(axis=1)).mean() + 0.1 * (mean * np.log(mean)).sum()

    steps = np.eye(12).reshape(12, 6, 2) * 1e-5
    expected = [(loss(logits + step) - loss(logits - step)) / 2e-5 for step in steps]
    batch = contract.Batch(np.arange(6), logits, told, weights, np.zeros((6, 1)), 0.0)
    np.testing.assert_allclose(namespace["peer_pressure"](batch).ravel(), expected, atol=1e-8)
