"""What leaves the grader for operators: enough to know that a recipe is clearly better, not enough to learn
labels from.
"""

import importlib.util
import math

import numpy as np
import pytest
from repository import ROOT

from evaluator.ladder import Ladder, critical

ROWS, QUESTIONS = 2_000, 5_000
CHANCE = 0.5 + 3 * 0.5 / math.sqrt(ROWS)
"""Three standard deviations above what one blind guess of every label gets right."""

spec = importlib.util.spec_from_file_location("adversary", ROOT / "benchmarks" / "adversary.py")
adversary = importlib.util.module_from_spec(spec)
spec.loader.exec_module(adversary)


def correct(share: float, size: int = ROWS) -> np.ndarray:
    return np.arange(size) < share * size


@pytest.mark.parametrize("strategy", adversary.STRATEGIES, ids=lambda one: one.__name__)
def test_5000_adaptive_questions_recover_no_label_better_than_chance(strategy):
    for seed in range(2):
        assert adversary.recovered(adversary.Ours, strategy, ROWS, QUESTIONS, seed) < CHANCE


def test_the_same_adversary_recovers_the_labels_from_raw_accuracies():
    assert adversary.recovered(adversary.Raw, adversary.one_by_one, ROWS, QUESTIONS, 0) == 1.0
    assert adversary.recovered(adversary.Rounded, adversary.vote, ROWS, QUESTIONS, 0) > 0.85


def test_and_from_the_ladder_with_one_standard_error_for_a_threshold():
    assert adversary.recovered(adversary.Published, adversary.pairs, ROWS, QUESTIONS, 0) > 0.8


def test_a_clear_improvement_is_a_new_best_and_everything_else_gets_the_same_answer():
    ladder, first = Ladder().ask(correct(0.60))
    assert first.improved and first.accuracy == pytest.approx(0.60, abs=Ladder.step(ROWS) / 2)
    for share in (0.60, 0.6005, 0.55, 0.10):
        ladder, answer = ladder.ask(correct(share))
        assert answer == (first.accuracy, False)
    ladder, better = ladder.ask(correct(0.65))
    assert better.improved and better.accuracy > first.accuracy
    assert ladder.ask(correct(0.60))[1] == (better.accuracy, False)


def test_what_is_told_moves_in_whole_steps_of_a_standard_error():
    step = Ladder.step(ROWS)
    assert step == pytest.approx(math.sqrt(0.25 / ROWS))
    for share in np.linspace(0.3, 0.95, 40):
        accuracy = Ladder().ask(correct(share))[1].accuracy
        assert accuracy / step == pytest.approx(round(accuracy / step))


def test_the_threshold_grows_with_the_questions_and_all_of_them_share_one_level():
    values = [critical(0.05, question) for question in (1, 10, 100, 1_000)]
    assert values == sorted(values) and values[0] > 2
    # Over random labels, a recipe that changes 200 rows at random hardly ever moves the best, however often
    # it is asked.
    rng, moved = np.random.default_rng(0), 0
    for _ in range(40):
        ladder, _ = Ladder().ask(rng.random(ROWS) < 0.5)
        for _ in range(50):
            ladder, answer = ladder.ask(np.where(np.arange(ROWS) < 200, rng.random(ROWS) < 0.5, ladder.best))
            moved += answer.improved
    assert moved <= 4  # 0.05 of 40 searches are 2; the bound is on whole searches


def test_seeds_are_averaged_by_example():
    ladder, _ = Ladder().ask(np.full(ROWS, 0.5))
    assert not ladder.ask(np.full(ROWS, 0.5))[1].improved
    assert ladder.ask(np.full(ROWS, 0.6))[1].improved
