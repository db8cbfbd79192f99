"""What tokens cost, what a call is taken to cost at most, and what an agent would be sent."""

import json
import re

import pytest
from command import evo_aar
from hypothesis import given
from hypothesis import strategies as st

from evo_aar.agents.prices import KINDS, Price, Usage, price_table, shipped_date
from evo_aar.errors import UsageError

counts = st.integers(0, 2_000_000)
prices = st.builds(
    lambda *values: dict(zip(KINDS, values, strict=True)), *[st.floats(0, 100, allow_subnormal=False)] * 4
)


@given(
    prices,
    st.none() | st.tuples(st.integers(0, 300_000), prices),
    st.builds(Usage, counts, counts, counts, counts),
)
def test_a_reply_never_costs_more_than_was_reserved_for_it(facts, above, usage):
    price = Price.of(facts | ({"above": {"tokens": above[0], **above[1]}} if above else {}))
    assert price.usd(usage) <= price.most(usage.prompt, usage.output) * (1 + 1e-9)


def test_each_kind_of_token_has_its_price():
    price = Price.of({"input": 4, "output": 20, "cache_write": 5, "cache_read": 0.2})
    assert price.usd(Usage(1_000_000, 0, 0, 0)) == 4
    assert price.usd(Usage(0, 1_000_000, 0, 0)) == 20
    assert price.usd(Usage(500_000, 100_000, 200_000, 1_000_000)) == pytest.approx(2 + 2 + 1 + 0.2)


def test_a_long_prompt_is_dearer_where_the_table_says_so():
    (facts,) = price_table(["claude-haiku-5-5"]).values()
    price = Price.of(facts)
    assert price.usd(Usage(input=100_000)) == pytest.approx(0.01)
    assert price.usd(Usage(input=100_001)) == pytest.approx(0.05, rel=1e-4)
    assert price.usd(Usage(input=1, cache_read=100_000)) == pytest.approx(0.005, rel=1e-3)


def test_the_shipped_table_is_dated_and_whole():
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", shipped_date())
    assert price_table(["claude-opus-5-5", "claude-sonnet-5-5"])["claude-opus-5-5"]["output"] == 20


def test_words_come_before_the_file_and_the_file_before_the_table(tmp_path):
    file = tmp_path / "prices.json"
    mine = {"input": 1, "output": 2, "cache_write": 3, "cache_read": 4}
    file.write_text(json.dumps({"models": {"claude-opus-5-5": mine, "own": mine}}))
    found = price_table(["claude-opus-5-5", "own", "claude-opus-5"], file, ["own=7/8"])
    assert found["claude-opus-5-5"] == mine
    assert found["own"] == {"input": 7, "output": 8, "cache_write": 7, "cache_read": 7}
    assert found["claude-opus-5"]["input"] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not JSON"),
        ("[1]", "an object of models"),
        ('{"m": {"input": 1}}', "output"),
        ('{"m": {"input": -1, "output": 1, "cache_write": 1, "cache_read": 1}}', "0 or more"),
        ('{"m": {"input": 1, "output": 1, "cache_write": 1, "cache_read": 1, "above": 7}}', "above"),
    ],
)
def test_a_file_of_prices_that_cannot_be_used_is_refused(text, words, tmp_path):
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        price_table(["m"], file)


@pytest.mark.parametrize(
    "words", ["m", "m=", "=1/2", "m=1", "m=1/2/3", "m=a/b", "m=-1/2", "m=nan/1", "m=inf/1"]
)
def test_words_that_are_no_price_are_refused(words):
    with pytest.raises(UsageError, match="--price"):
        price_table(["m"], None, [words])


@pytest.mark.parametrize("verb", ["mutation", "crossover", "draft"])
def test_a_dry_run_prints_what_would_be_sent_and_its_price(verb):
    done = evo_aar("propose", "--island", "3", "--dry-run", "--verb", verb)
    assert done.status == 0, done.err
    assert "Direction: label_posterior" in done.out and "async def recipe(task)" in done.out
    assert "submit(changes, reasons)" in done.out and "USD a child" in done.out
    assert ("noisy channel" in done.out) and ("EM" in done.out or verb == "draft")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--island", "3"], "--dry-run"),
        (["--island", "9", "--dry-run"], "islands 0 to 8"),
        (["--island", "0", "--dry-run", "--verb", "cloning"], "--verb cloning"),
        (["--island", "0", "--dry-run", "--model", "nobody"], "no price is known"),
        (["--island", "0", "--dry-run", "--run", "nowhere"], "nowhere"),
    ],
)
def test_a_dry_run_names_mistakes(arguments, words, tmp_path):
    assert words in evo_aar("propose", *arguments, "--runs", tmp_path).error
