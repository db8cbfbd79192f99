"""The static side of the recipe contract, and the identity of a recipe."""

import ast
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.directions import baseline_sources, directions
from recipes.errors import RecipeError
from recipes.source import (
    DIRECTIONS,
    MAX_BYTES,
    direction,
    idea,
    normalised_source,
    source_hash,
    validate,
)

ALL = {one.name: one.seed_source for one in directions()} | baseline_sources()

RECIPE = '''"""Train on the confident half.

Direction: data_reweighting
"""

import numpy as np

KEEP = 0.5


async def recipe(task):
    """Trains."""
    rows = np.argsort(-task.weak_labels.max(axis=1))[: int(KEEP * task.size)]
    return await task.finetune(task.weak_labels[rows], rows)
'''


def changed(old, new):
    assert old in RECIPE
    return RECIPE.replace(old, new)


@pytest.mark.parametrize("source", ALL.values(), ids=ALL)
def test_every_seed_and_baseline_meets_the_contract(source):
    validate(source)


def test_a_recipe_states_its_idea_and_its_direction():
    recipe = validate(RECIPE)
    assert recipe.idea == idea(RECIPE) == "Train on the confident half."
    assert recipe.direction == direction(RECIPE) == "data_reweighting"


def test_a_recipe_without_a_direction_line_follows_none():
    assert validate(changed("Direction: data_reweighting\n", "")).direction is None


def test_the_idea_may_stand_on_the_docstring_s_second_line():
    assert validate(changed("Train on", "\nTrain on")).idea == "Train on the confident half."


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        (changed("async def recipe(task):", "async def recipe(task:"), 11, "not Python"),
        (RECIPE + "\n\ndef f(:\n", 17, "not Python"),
        (changed("data_reweighting", "luck"), 1, "unknown direction 'luck'"),
        (changed("Direction: data_reweighting", "Direction:"), 1, "unknown direction ''"),
        (changed("Direction:", "Direction: distillation\nDirection:"), 1, "2 Direction lines"),
        (RECIPE.split('"""', 2)[2], 1, "states no idea"),
        (changed("import numpy as np", "import os\nimport numpy as np"), 6, "import of os"),
        (changed("    rows =", "    from subprocess import run\n    rows ="), 13, "import of subprocess"),
        (changed("import numpy as np", "import numpy as np, pickle"), 6, "import of pickle"),
        (changed("import numpy as np", "from . import helpers"), 6, "relative import"),
        (changed("import numpy as np", "from numpy import *"), 6, "import \\* from numpy"),
        (changed("import numpy as np", "import recipes.wire"), 6, "import of recipes.wire"),
        (changed("import numpy as np", "from recipes import wire"), 6, "import of recipes.wire"),
        (changed("import numpy as np", "import numpyro"), 6, "import of numpyro"),
        (changed("recipe(task)", "recette(task)"), None, "there is no recipe function"),
        (changed("async def", "def").replace("await ", ""), 11, "not asynchronous"),
        (changed("recipe(task)", "recipe(task, n=1)"), 11, "other arguments"),
        (changed("recipe(task)", "recipe(*task)"), 11, "other arguments"),
        (changed("recipe(task)", "recipe(job)"), 11, "other arguments"),
        (changed("async def recipe", "@print\nasync def recipe"), 12, "decorated"),
        (RECIPE + "\n\nasync def recipe(task):\n    pass\n", 17, "recipe is defined twice"),
        (changed("KEEP = 0.5", "KEEP = 0.5\nKEEP = 0.6"), 9, "KEEP is defined twice"),
        (RECIPE + "#" * MAX_BYTES, None, "bytes"),
        (changed("0.5", "'\udcff'"), None, "not valid Unicode"),
        (changed("0.5", "0.5\0"), None, "not Python"),
        (changed("0.5", "-" * 20_000 + "1"), None, "nested too deeply|not Python"),
        (changed("0.5", "+".join(["1"] * 5_000)), None, "nested too deeply|not Python"),
        (changed("0.5", "0x" + "f" * 5_000), None, "literal"),
    ],
)
def test_a_broken_rule_is_named_with_its_line(source, line, words):
    with pytest.raises(RecipeError, match=words) as caught:
        validate(source)
    if line is not None:
        assert caught.value.line == line and f"line {line}" in str(caught.value)


def test_an_error_says_what_to_do_and_survives_pickling():
    with pytest.raises(RecipeError) as caught:
        validate(changed("import numpy", "import numba"))
    assert "numpy" in caught.value.remedy and caught.value.remedy in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.line, copy.remedy) == (str(caught.value), caught.value.line, caught.value.remedy)


def test_submodules_and_the_contract_may_be_imported():
    for statement in (
        "import numpy.linalg",
        "from torch.nn import functional",
        "from recipes.contract import TaskError",
        "from recipes import contract",
    ):
        validate(changed("import numpy as np", f"import numpy as np\n{statement}"))


@pytest.mark.parametrize(
    "same",
    [
        changed("KEEP = 0.5", "# how many\nKEEP = 0.50  # a share"),
        changed('    """Trains."""\n', ""),
        changed("Trains.", "Does nothing of the kind."),
        changed("Train on the confident half.", "Another idea."),
        changed("data_reweighting", DIRECTIONS[3]),
        changed("\n\n\n", "\n"),
        changed("(KEEP * task.size)", "(  (KEEP) * task.size\n  )"),
        changed("import numpy as np\n\nKEEP = 0.5\n", "import numpy as np; KEEP = 0.5\n"),
        changed("KEEP = 0.5\n", "KEEP = 0.5 \\\n\n"),
        RECIPE.replace("\n", "\r\n"),
        RECIPE.rstrip("\n"),
    ],
)
def test_formatting_comments_and_docstrings_do_not_make_another_recipe(same):
    assert same != RECIPE
    assert normalised_source(same) == normalised_source(RECIPE)
    assert source_hash(same) == source_hash(RECIPE)


@pytest.mark.parametrize(
    "other",
    [
        changed("0.5", "0.51"),
        changed("KEEP", "SHARE"),
        changed("argsort(-", "argsort("),
        changed("    return", "    if task.size < 2:\n        pass\n    return"),
        changed('"""Trains."""', 'x = """Trains."""'),
        RECIPE + "\n\ndef unused():\n    pass\n",
    ],
)
def test_any_change_of_the_code_makes_another_recipe(other):
    validate(other)
    assert source_hash(other) != source_hash(RECIPE)


def test_the_hash_is_sixteen_hexadecimal_digits_and_stays_what_it_was():
    assert source_hash(RECIPE) == "aba0c38b700c4221"


@pytest.mark.parametrize("source", ALL.values(), ids=ALL)
def test_the_normal_form_is_code_of_the_same_meaning_and_its_own_normal_form(source):
    normal = normalised_source(source)
    assert normalised_source(normal) == normal

    def bare(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            ):
                del body[0]
        return ast.dump(tree)

    assert bare(normal) == bare(source)


@given(st.text(max_size=200))
def test_any_text_is_accepted_or_refused_with_a_recipe_error(text):
    for source in (text, RECIPE + text, RECIPE[:150] + text + RECIPE[150:]):
        try:
            validate(source)
            source_hash(source)
        except RecipeError as error:
            assert str(error)
