"""The bandit over operators and models: what it credits, what it never does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_aar.search.allocation import FLOOR, Allocation
from evo_aar.search.record import Tally

BOTH = ("mutation", "crossover")
tallies = st.builds(
    Tally,
    births=st.integers(0, 1000),
    gain=st.floats(0, 100, allow_subnormal=False),
    usd=st.floats(0, 1e4, allow_subnormal=False),
)
keys = ("mutation a", "mutation b", "crossover a", "crossover b")


@given(st.fixed_dictionaries(dict.fromkeys(keys, tallies)))
def test_probabilities_sum_to_one_and_none_falls_below_its_floor(given_tallies):
    chances = Allocation(BOTH, ("a", "b"), given_tallies).probabilities()
    assert sum(chances.values()) == pytest.approx(1)
    assert min(chances.values()) >= FLOOR / len(keys) - 1e-12


def test_without_a_record_the_operators_have_their_initial_weights():
    assert Allocation(BOTH, (), {}).probabilities() == pytest.approx({"mutation": 0.58, "crossover": 0.42})


def test_of_two_models_that_gained_as_much_the_cheaper_one_is_asked_more_often():
    record = {"mutation dear": Tally(10, 0.5, 5.0), "mutation cheap": Tally(10, 0.5, 0.5)}
    chances = Allocation(("mutation",), ("dear", "cheap"), record).probabilities()
    assert chances["mutation cheap"] > 2 * chances["mutation dear"]


def test_where_nothing_costs_money_gain_per_birth_decides():
    record = {"mutation": Tally(10, 0.1), "crossover": Tally(10, 1.0)}
    assert Allocation(BOTH, (), record).probabilities()["crossover"] > 0.6


def test_a_loss_is_no_negative_gain():
    assert Tally().plus(-0.4, 0.1) == Tally(1, 0.0, 0.1)


def test_uniform_heeds_no_record():
    record = {"mutation": Tally(10, 0.1), "crossover": Tally(10, 1.0)}
    assert Allocation(BOTH, (), record, "uniform").probabilities() == {"mutation": 0.5, "crossover": 0.5}


def test_arms_are_drawn_with_their_probabilities():
    allocation = Allocation(BOTH, (), {"mutation": Tally(10, 0.1), "crossover": Tally(10, 1.0)})
    stream = np.random.default_rng(0)
    drawn = [allocation.choose(stream).key for _ in range(4000)]
    assert drawn.count("crossover") / 4000 == pytest.approx(allocation.probabilities()["crossover"], abs=0.03)


def test_arms_of_earlier_generations_are_accounted_for_without_being_chosen():
    record = {"crossover a": Tally(3, 0.25, 0.5), "draft a": Tally(1, 0.0, 0.1)}
    allocation = Allocation(BOTH, ("a",), record)
    assert {key: tally for key, tally in allocation.tallies.items() if tally.births} == record
    assert "draft a" not in allocation.probabilities()
