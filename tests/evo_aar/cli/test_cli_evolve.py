"""What `evolve` and `resume` refuse before anything has begun."""

import pytest
from command import evo_aar


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evolve", "--islands", "0"], "--islands 0"),
        (["evolve", "--seeds", "0"], "--seeds 0"),
        (["evolve", "--workers", "0"], "--workers 0"),
        (["evolve", "--run", "a/b"], "a/b"),
        (["evolve", "--testbed", "mini/physics"], "mini/chat"),
        (["evolve", "--testbed", "mini/math", "--strong", "gpt2"], "--strong"),
        (["evolve", "--also", "nowhere"], "nowhere"),
        (["evolve", "--student", "tree"], "head"),
        (["evolve", "--device", "abacus"], "cpu"),
        (["resume", "nobody"], "nobody"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_mistake_gets_one_line_with_the_remedy_and_leaves_nothing(arguments, words, tmp_path, cache):
    assert words in evo_aar(*arguments, "--runs", tmp_path / "runs").error
    assert not list((tmp_path / "runs").glob("*/search.sqlite"))
