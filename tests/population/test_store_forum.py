"""The forum: snapshots, what counts as the same finding, and the search."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from population.errors import PopulationError
from population.forum import SEARCHED_WORDS, Finding
from population.store import Store


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("forum")


@pytest.fixture
def store(tmp_path):
    with Store.create(tmp_path / "search.sqlite", {}) as store:
        yield store


def finding(text, generation=0, island=0, child=0, title="A finding", **fields):
    return Finding(f"g{generation:03d}-i{island}-c{child:02d}", island, generation, title, text, **fields)


def texts(findings):
    return [each.text for each in findings]


def test_a_finding_comes_back_with_its_author_and_attached_source(store):
    posted = finding("Soft labels help", source_hash="5eed")
    assert store.forum.post(posted)
    assert store.forum.as_of() == [posted]
    assert len(store.forum) == 1


def test_a_snapshot_holds_what_was_posted_before_the_generation_began(store):
    for generation in (0, 1, 2):
        store.forum.post(finding(f"from generation {generation}", generation))
    assert texts(store.forum.as_of(0)) == []
    assert texts(store.forum.as_of(2)) == ["from generation 0", "from generation 1"]
    assert texts(store.forum.search("generation", 1)) == ["from generation 0"]


def test_equal_words_are_one_finding_whatever_their_case_spacing_and_punctuation(store):
    store.forum.post(finding("Soft labels help.", island=0))
    store.forum.post(finding("  soft LABELS —\nhelp!", island=1, title="Another title"))
    store.forum.post(finding("ſoft labels help", island=2))
    assert texts(store.forum.as_of()) == ["Soft labels help."]
    assert len(store.forum) == 3


def test_of_equal_findings_the_first_in_order_of_birth_is_shown_whoever_was_stored_first(store):
    store.forum.post(finding("late!", island=3))
    store.forum.post(finding("Late", island=1))
    store.forum.post(finding("late", generation=1, island=0))
    assert [each.author for each in store.forum.as_of()] == ["g000-i1-c00"]


def test_the_answer_to_an_author_depends_on_its_snapshot_alone(store):
    assert store.forum.post(finding("known", 0, 0))
    assert store.forum.post(finding("known", 0, 1)), "posted in the same generation: its author cannot know"
    assert not store.forum.post(finding("known", 1, 1))
    assert store.forum.post(finding("known", 0, 0)), "asked again, the same answer"
    assert len(store.forum) == 3


def test_a_repeated_posting_is_no_second_finding(store):
    store.forum.post(finding("once"))
    store.forum.post(finding("Once.", title="Again"))
    assert [(each.title, each.text) for each in store.forum.as_of()] == [("A finding", "once")]


def test_a_finding_without_words_is_refused():
    with pytest.raises(PopulationError, match="no text"):
        finding(" ... ")


def test_the_search_finds_word_forms_in_title_and_text_and_ranks_the_better_match_first(store):
    store.forum.post(finding("The auxiliary confidence loss needs a warm-up", child=0))
    store.forum.post(finding("Reweighting by confidence: confidence of teacher and student", child=1))
    store.forum.post(finding("Nothing to do with it", child=2, title="On distilling"))
    assert texts(store.forum.search("confidence teacher"))[0].startswith("Reweighting")
    assert len(store.forum.search("confidence", limit=1)) == 1
    assert texts(store.forum.search("distillation distilled")) == ["Nothing to do with it"]
    assert store.forum.search("epiplexity") == store.forum.search("confidence", limit=0) == []


@pytest.mark.parametrize(
    "words",
    ["", "   ", '"', "NOT", "K-fold AND (", "title:", "__", "*", "^a", "a" * 100_000, "fold " * 5_000],
)
def test_any_text_can_be_searched_for(store, words):
    store.forum.post(finding("K-fold works; NOT without title", title="_"))
    assert len(store.forum.search(words)) <= 1


def test_a_very_long_question_counts_by_its_first_words(store):
    store.forum.post(finding("needle"))
    straw = [f"straw{number}" for number in range(SEARCHED_WORDS)]
    assert store.forum.search(" ".join([*straw[1:], "needle"]))
    assert not store.forum.search(" ".join([*straw, "needle"]))


def test_a_reader_finds_what_a_writer_has_just_posted(store):
    with Store.open(store.path, writable=False) as reader:
        assert reader.forum.search("news") == []
        store.forum.post(finding("news"))
        assert texts(reader.forum.search("news")) == ["news"]


WORDS = st.lists(
    st.sampled_from(["soft", "hard", "label", "loss", "layer", "seed"]), min_size=1, max_size=6
).map(" ".join)
POSTS = st.lists(
    st.builds(finding, WORDS, generation=st.integers(0, 2), island=st.integers(0, 2)), max_size=12
)


@settings(max_examples=25, deadline=None)
@given(posts=POSTS, later=POSTS, query=WORDS, random=st.randoms(use_true_random=False))
def test_a_search_in_a_snapshot_reads_the_same_whatever_was_posted_later_or_in_which_order(
    folder, posts, later, query, random
):
    """Also the ranking: BM25 must not weigh words by findings that the snapshot does not hold."""

    def answers(name, events):
        path = folder / name
        for leftover in folder.glob(f"{name}*"):
            leftover.unlink()
        with Store.create(path, {}) as store:
            for event in events:
                store.forum.post(event)
            return [store.forum.search(query, generation) for generation in (2, 1, 2)], store.forum.as_of(2)

    # One author's postings keep their order; authors' interleaving is what timing decides.
    shuffled = (
        sorted(posts, key=lambda each: (random.random(), each.author))
        if len({p.author for p in posts}) == len(posts)
        else posts
    )
    later = [finding(each.text, 2 + each.generation, each.island, child=9) for each in later]
    assert answers("a", posts) == answers("b", [*later, *shuffled])
