"""Individuals, trials, and the statistics over trials."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import a_failure, a_pool, a_trial, an_individual

from population.errors import PopulationError
from population.fitness import Difference, Fitness, paired_difference
from population.individual import Individual, individual_id


def test_an_id_follows_from_the_place_of_birth():
    assert individual_id(2, 3, 1) == "g002-i3-c01"
    assert an_individual(2, 3, 1).id == "g002-i3-c01"
    with pytest.raises(PopulationError, match="must be called 'g000-i0-c00'"):
        Individual("g001-i0-c00", 0, 0, 0, "", "5eed", "seed")


def test_an_individual_is_in_memory_as_it_will_be_read_back():
    individual = an_individual(
        parents=["g000-i0-c00"], generation=1, detail={"scores": (np.float64(0.5), 1)}, idea="a\ud800b"
    )
    assert individual.parents == ("g000-i0-c00",)
    assert individual.detail == {"scores": [0.5, 1]}
    assert individual.idea == "a?b"


def test_a_source_that_is_no_text_and_a_detail_that_is_no_json_are_refused():
    with pytest.raises(PopulationError, match="UTF-8"):
        an_individual(source="\ud800")
    with pytest.raises(PopulationError, match="not JSON"):
        an_individual(detail={"when": object()})


def test_birth_order_is_by_generation_island_and_child():
    born = [an_individual(1, 0, 0), an_individual(0, 1, 0), an_individual(0, 0, 11), an_individual(0, 0, 2)]
    assert [each.id for each in sorted(born, key=lambda each: each.rank)] == [
        "g000-i0-c02",
        "g000-i0-c11",
        "g000-i1-c00",
        "g001-i0-c00",
    ]


def test_a_failure_says_why():
    with pytest.raises(PopulationError, match="needs a reason"):
        a_failure(reason="")


@pytest.mark.parametrize(
    "score", [{"pgr": -math.inf}, {"accuracy": math.nan}, {"pgr": math.nan}, {"accuracy": math.inf}]
)
def test_a_success_has_finite_scores(score):
    with pytest.raises(PopulationError, match="finite accuracy and PGR"):
        a_trial(**score)


@pytest.mark.parametrize(
    "fields",
    [
        {"fidelity": 0},
        {"fidelity": 1.5},
        {"seed": -1},
        {"seed": 2**63},
        {"tokens": -1},
        {"seconds": math.nan},
    ],
)
def test_a_trial_out_of_range_is_refused(fields):
    with pytest.raises(PopulationError):
        a_trial(**fields)


@pytest.mark.parametrize("pool", [np.full(3, 1.5), np.array([0.5, np.nan]), np.zeros((2, 2))])
def test_pool_predictions_are_probabilities(pool):
    with pytest.raises(PopulationError, match="probabilities of class 1"):
        a_trial(pool=pool)


def test_pool_predictions_are_kept_in_half_precision_and_cannot_be_changed():
    given_pool = a_pool()
    trial = a_trial(pool=given_pool)
    assert trial.pool.dtype == np.float16
    given_pool[:] = 0
    assert trial.pool.max() > 0
    with pytest.raises(ValueError):
        trial.pool[0] = 0


def test_trials_are_equal_by_content():
    assert a_trial(pool=a_pool(), history=[{"loss": math.nan}]) == a_trial(
        pool=a_pool(), history=[{"loss": math.nan}]
    )
    assert a_trial(pool=a_pool()) != a_trial(pool=a_pool(seed=1))
    assert a_trial(pgr=0.0) == a_trial(pgr=-0.0)
    assert a_trial() != a_trial(tokens=1)


def test_fitness_by_hand():
    # mean of 0.2, 0.4, 0.9 is 0.5; deviations -0.3, -0.1, 0.4: variance 0.26 / 2 = 0.13; standard error
    # sqrt(0.13 / 3)
    fitness = Fitness.of([a_trial(0, 0.2), a_trial(1, 0.4), a_trial(2, 0.9)])
    assert fitness.mean == pytest.approx(0.5)
    assert fitness.standard_error == pytest.approx(math.sqrt(0.13 / 3))
    assert fitness.trials == 3


def test_one_trial_has_no_standard_error():
    assert Fitness.of([a_trial(pgr=-0.25)]) == Fitness(-0.25, None, 1)


def test_who_failed_or_was_not_tried_has_no_fitness():
    assert Fitness.of([]) is None
    assert Fitness.of([a_trial(0), a_failure(1)]) is None


@pytest.mark.parametrize(
    "other",
    [a_trial(0), a_trial(1, testbed="film"), a_trial(1, fidelity=0.5), a_trial(1, source_hash="0ther")],
)
def test_trials_that_do_not_belong_together_have_no_mean(other):
    with pytest.raises(PopulationError, match="distinct seeds of one recipe"):
        Fitness.of([a_trial(0), other])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.randoms())
def test_fitness_does_not_depend_on_the_order_of_trials(values, random):
    trials = [a_trial(seed, value) for seed, value in enumerate(values)]
    fitness = Fitness.of(trials)
    random.shuffle(trials)
    assert Fitness.of(trials) == fitness
    assert fitness.mean == pytest.approx(np.mean(values), abs=1e-12)
    if len(values) > 1:
        assert fitness.standard_error == pytest.approx(
            np.std(values, ddof=1) / math.sqrt(len(values)), abs=1e-12
        )


def test_paired_difference_by_hand():
    # common seeds 1, 2, 3: differences 0.1, 0.2, 0.6; mean 0.3; variance (0.04 + 0.01 + 0.09) / 2 = 0.07
    a = [a_trial(0, 9.0), a_trial(1, 0.3), a_trial(2, 0.5), a_trial(3, 0.7)]
    b = [a_trial(3, 0.1), a_trial(2, 0.3), a_trial(1, 0.2), a_trial(4, 9.0)]
    difference = paired_difference(a, b)
    assert difference.mean == pytest.approx(0.3)
    assert difference.standard_error == pytest.approx(math.sqrt(0.07 / 3))
    assert difference.pairs == 3


def test_a_seed_in_which_one_failed_is_no_pair():
    assert paired_difference([a_trial(0, 0.5), a_failure(1)], [a_trial(0, 0.25), a_trial(1)]) == Difference(
        0.25, None, 1
    )
    assert paired_difference([a_failure(0)], [a_trial(0)]) is None


def test_pairing_cancels_what_a_seed_does_to_both():
    luck = [0.3, -0.2, 0.5, 0.0]
    a = [a_trial(seed, 0.6 + x) for seed, x in enumerate(luck)]
    b = [a_trial(seed, 0.5 + x) for seed, x in enumerate(luck)]
    assert paired_difference(a, b).standard_error < 1e-12 < Fitness.of(a).standard_error


def test_trials_of_two_testbeds_are_not_paired():
    with pytest.raises(PopulationError, match="one testbed"):
        paired_difference([a_trial(0)], [a_trial(0, testbed="film")])


def test_a_failure_has_no_score_and_a_success_no_reason():
    with pytest.raises(TypeError):
        a_failure(pgr=0.0)
    with pytest.raises(TypeError):
        a_trial(reason="crash")
    with pytest.raises(PopulationError, match="needs a reason"):
        a_failure(reason="")
