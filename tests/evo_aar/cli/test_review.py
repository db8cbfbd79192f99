"""A person's word: asked for or given, kept for good, and said wherever the recipe is shown."""

import pytest
from command import evo_aar
from synthetic_search import SyntheticSearch
from typer.testing import CliRunner

from evo_aar.errors import UsageError
from evo_aar.export.bundle import best
from evo_aar.report.opening import finalists
from evo_aar.search.audits import quarantine
from evo_aar.search.finals import crowned
from evo_aar.tracking.view import SearchView
from population.errors import PopulationError, StoreError
from population.store import Store
from population.tables.integrity import Audit, Review


@pytest.fixture
def runs(tmp_path):
    search = SyntheticSearch(tmp_path / "small" / "search.sqlite").run()
    one = crowned(search.store)
    testbed = search.store.facts["testbed_hash"]
    search.store.audits.record(
        Audit(one.source_hash, testbed, "pool permuted", "pass", 0.01, 0.02, 1.0, "loses +0.010 ± 0.020 PGR")
    )
    search.store.close()
    return tmp_path


def opened(runs):
    return Store.open(runs / "small" / "search.sqlite", writable=False)


def test_a_review_is_given_by_options_and_says_by_whom_and_when(runs):
    answer = evo_aar(
        "review",
        "small",
        "--runs",
        runs,
        "--verdict",
        "approve",
        "--remarks",
        "sound [idea]",
        "--reviewer",
        "Ada",
    )
    assert answer.status == 0, answer
    with opened(runs) as store:
        reviewed = store.reviews.all()
        assert [one.individual for one in reviewed] == [one.id for one in finalists(store)]
        assert {(one.reviewer, one.verdict, one.remarks) for one in reviewed} == {
            ("Ada", "approve", "sound [idea]")
        }
        assert all(one.at.startswith("20") for one in reviewed)


def test_the_walk_shows_idea_lineage_scores_and_audits(runs):
    with opened(runs) as store:
        one = crowned(store)
    answer = evo_aar(
        "review",
        "small",
        "--runs",
        runs,
        "--individual",
        one.id,
        "--verdict",
        "doubt",
        "--remarks",
        "",
        "--reviewer",
        "Ada",
    )
    for told in (
        one.id,
        one.idea,
        *one.parents,
        "crowned in generation",
        "What it changed of its first parent",
        "pool permuted",
        "PGR, final seeds",
    ):
        assert told in answer.out, told


def test_what_is_not_given_is_asked_for(runs, monkeypatch):
    from evo_aar.cli import _register, app

    _register()
    with opened(runs) as store:
        one = crowned(store)
    asked = CliRunner().invoke(
        app,
        ["review", "small", "--runs", str(runs), "--individual", one.id],
        input="Ada\nperhaps\nreject\nno\n",
    )
    assert asked.exit_code == 0, asked.output
    with opened(runs) as store:
        (review,) = store.reviews.of(one.id)
        assert (review.reviewer, review.verdict, review.remarks) == ("Ada", "reject", "no")


def test_a_second_review_stands_beside_the_first(runs):
    for verdict in ("doubt", "approve"):
        evo_aar("review", "small", "--runs", runs, "--verdict", verdict, "--remarks", "", "--reviewer", "Ada")
    with opened(runs) as store:
        assert [one.verdict for one in store.reviews.of(crowned(store).id)] == ["doubt", "approve"]
        life = SearchView(store, store.generations.last().number).life(crowned(store).id)
        assert len(life.reviews) == 2 and life.audits[0].audit == "pool permuted"


def test_a_review_is_no_part_of_the_searchs_outcome(runs):
    with opened(runs) as store:
        before = store.fingerprint()
    evo_aar("review", "small", "--runs", runs, "--verdict", "approve", "--remarks", "", "--reviewer", "Ada")
    with opened(runs) as store:
        assert store.fingerprint() == before


def test_mistakes_get_one_line_and_leave_nothing(runs):
    assert "approve, doubt or reject" in evo_aar("review", "small", "--runs", runs, "--verdict", "fine").error
    assert (
        "g009"
        in evo_aar(
            "review", "small", "--runs", runs, "--individual", "g009-i0-c00", "--verdict", "doubt"
        ).error
    )
    with opened(runs) as store:
        assert store.reviews.all() == []
    with pytest.raises(PopulationError, match="reviewer"):
        Review("g000-i0-c00", "  ", "approve")
    with Store.open(runs / "small" / "search.sqlite") as store, pytest.raises(StoreError, match="g009"):
        store.reviews.add(Review("g009-i0-c00", "Ada", "approve"))


def test_who_is_quarantined_is_no_finalist_and_not_exported_as_the_best(runs):
    with Store.open(runs / "small" / "search.sqlite") as store:
        one = crowned(store)
        assert best(store) == one
        quarantine(store, one.id, store.generations.last().number, "it cheats")
        assert one.id not in {each.id for each in finalists(store)}
        with pytest.raises(UsageError, match="it cheats"):
            best(store)
