"""Ten thousand children of the offline operator: generations of mutants and crosses, chained
from the seeds.
"""

import ast
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from evo_aar.operators.offline import OfflineOperator
from evo_aar.search.operator import OperatorContext, Parent
from recipes.directions import directions
from recipes.source import source_hash, validate

pytestmark = pytest.mark.slow

GENERATIONS = 30
CHILDREN = 334
NAMES = [one.name for one in directions()]


def make(operator, island, generation, child, parents, born):
    """The proposal of one child: every third a cross."""
    context = OperatorContext(
        island=island,
        generation=generation,
        child=child,
        direction=NAMES[island],
        rng=np.random.default_rng([1, island, generation, child]),
        parents=parents,
        born=frozenset(born),
    )
    return operator.crossover(context) if child % 3 == 2 else operator.mutate(context)


class Child:
    """A child with its parents and its place."""

    def __init__(self, generation, island, parents, proposal):
        self.generation, self.island, self.parents, self.proposal = generation, island, parents, proposal
        self.source = proposal.source
        self.hash = source_hash(proposal.source)
        self.recipe = validate(proposal.source)


@pytest.fixture(scope="module")
def children():
    """Thirty generations, each bred from the last: parents are drawn from all islands."""
    operator, made = OfflineOperator(), []
    born = {source_hash(one.seed_source) for one in directions()}
    last = [Parent(one.name, one.seed_source, one.name) for one in directions()]
    for generation in range(GENERATIONS):
        draw = np.random.default_rng([2, generation])
        # Forty of the last generation breed, as selection would have it.
        breeders = [last[index] for index in draw.choice(len(last), size=min(40, len(last)), replace=False)]
        here = []
        for number in range(CHILDREN):
            parents = tuple(breeders[index] for index in draw.choice(len(breeders), size=2, replace=False))
            # `born` as it stood when the generation began, as in a search.
            here.append(
                Child(
                    generation,
                    number % len(NAMES),
                    parents,
                    make(operator, number % len(NAMES), generation, number, parents, born),
                )
            )
        born |= {child.hash for child in here}
        last = [
            Parent(f"{generation}-{number}", child.source, NAMES[child.island])
            for number, child in enumerate(here)
        ]
        made.extend(here)
    assert len(made) >= 10_000
    return made


def test_every_child_meets_the_contract_and_keeps_its_island_s_direction(children):
    for child in children:
        assert child.recipe.direction == NAMES[child.island]


def test_no_child_repeats_a_parent_or_a_recipe_born_before_its_generation(children):
    first_seen = {source_hash(one.seed_source): -1 for one in directions()}
    for child in children:
        assert first_seen.setdefault(child.hash, child.generation) == child.generation


def test_ruff_finds_nothing_undefined_unused_or_out_of_place_in_any_child(children, tmp_path):
    for number, child in enumerate(children):
        (tmp_path / f"child_{number}.py").write_text(child.source, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--no-cache",
        "--select",
        "F,E7,E9,I,W",
        "--output-format",
        "concise",
    ]
    found = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[:2_000] + found.stderr[:2_000]


def test_no_child_carries_functions_or_constants_that_it_does_not_use(children):
    for child in children[::20]:
        tree = ast.parse(child.source)
        used = {
            node.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        for node in tree.body:
            name = getattr(node, "name", None) or (
                node.targets[0].id if isinstance(node, ast.Assign) else None
            )
            assert name in used | {None, "recipe"}, f"{name} is used by nothing:\n{child.source}"


def test_recipes_stay_of_readable_size_over_thirty_generations(children):
    sizes = [len(child.source) for child in children if child.generation == GENERATIONS - 1]
    assert max(len(child.source) for child in children) <= 20_000
    assert np.median(sizes) < 10_000
    for child in children:
        # A new name for a constant may make a line somewhat longer than its author did.
        assert max(len(line) for line in child.source.splitlines()[1:]) <= 160


def test_the_first_line_says_what_changed_in_one_bounded_sentence(children):
    for child in children:
        idea = child.recipe.idea
        assert re.fullmatch(r"[^\n]+; now [^\n]+\.", idea) and idea.count("; now ") == 1
        assert len(idea) <= 240


def test_constants_stay_short_and_in_range(children):
    bounds = {
        "LEARNING_RATE": (1e-5, 1e-1),
        "EPOCHS": (1, 30),
        "FOLDS": (2, 6),
        "MEMBERS": (2, 8),
        "KEEP": (0.02, 0.98),
    }
    seen = Counter()
    for child in children:
        for name, value in re.findall(r"^([A-Z][A-Z0-9_]*) = (.*)$", child.source, re.MULTILINE):
            assert len(value.split("#")[0]) < 40
            for ending, (low, high) in bounds.items():
                if name.endswith(ending):
                    seen[ending] += 1
                    assert low <= float(value.split("#")[0]) <= high, (name, value)
    assert all(seen[ending] for ending in ("EPOCHS", "FOLDS", "MEMBERS", "KEEP"))


def test_every_kind_of_change_occurs_and_none_crowds_out_the_rest(children):
    kinds = Counter(kind for child in children for kind in child.proposal.kinds)
    share = {kind: count / len(children) for kind, count in kinds.items()}
    assert 0.2 < share["constants"] < 0.5
    assert set(share) == {
        "constants",
        "loss",
        "schedule",
        "add stage",
        "remove stage",
        "move stage",
        "selection",
        "fit",
        "wrap fit",
        "exchange functions",
        "exchange stage",
        "exchange constants",
    }
    assert min(share.values()) > 0.005


def test_stages_neither_pile_up_nor_die_out(children):
    counts = [
        child.source.count("targets = await ") for child in children if child.generation == GENERATIONS - 1
    ]
    assert 1 < np.mean(counts) < 7


def test_a_proposal_names_the_parents_and_the_changes(children):
    for child in children:
        proposal = child.proposal
        assert set(proposal.parents) <= {parent.individual_id for parent in child.parents}
        assert len(proposal.parents) == (2 if proposal.verb == "crossover" else 1)
        assert len(proposal.kinds) == len(proposal.changes) >= 1


def test_the_same_stream_gives_the_same_child(children):
    operator = OfflineOperator()
    start = CHILDREN * 3
    born = {source_hash(one.seed_source) for one in directions()} | {child.hash for child in children[:start]}
    for number in range(start, start + 60):
        child = children[number]
        again = make(operator, child.island, child.generation, number % CHILDREN, child.parents, born)
        assert again == child.proposal
