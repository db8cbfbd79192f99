"""What a search has on record is typed, and comes back from its JSON as it went in."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st
from store_examples import an_individual

from evo_aar.search.record import (
    BirthRecord,
    BirthState,
    BirthStory,
    EmptyPlace,
    GenerationFigures,
    GenerationRecord,
    GenerationState,
    IslandFigures,
    Tally,
    Try,
    direction_of,
)
from population.behaviour import Diversity
from population.island import Generation, Island

NAMES = st.text("abcdefgh-", min_size=1, max_size=6)
COUNTS = st.integers(0, 9)
NUMBERS = st.floats(-2, 2, allow_nan=False)
FIGURES = st.none() | NUMBERS
TEXTS = st.lists(NAMES, max_size=2).map(tuple)
TRIES = st.lists(st.builds(Try, NAMES, st.tuples(COUNTS), st.floats(0.1, 1)), max_size=2).map(tuple)
ISLANDS = range(3)
ISLAND = st.builds(IslandFigures, NAMES, FIGURES, FIGURES, FIGURES, COUNTS, COUNTS, COUNTS, COUNTS)
EMPTY = st.builds(EmptyPlace, COUNTS, COUNTS, NAMES, NAMES, NUMBERS, TRIES)
DIVERSITY = st.builds(Diversity, COUNTS, COUNTS, FIGURES, FIGURES, st.none() | NAMES, FIGURES)
VERBS = st.sampled_from(("mutation", "crossover", "draft"))
NOTES = st.dictionaries(st.sampled_from(("model", "reasons", "attempt")), NAMES)
BIRTHS = st.builds(
    BirthRecord,
    st.builds(BirthState, NAMES, NUMBERS, st.none() | TRIES),
    st.builds(BirthStory, NAMES, VERBS, TEXTS, TEXTS, TEXTS, COUNTS, NOTES),
)


@st.composite
def generation_records(draw):
    arms = draw(st.sets(NAMES, max_size=3))
    state = GenerationState(
        best={island: draw(st.none() | NAMES) for island in ISLANDS},
        near=draw(st.dictionaries(NAMES, NAMES, max_size=3)),
        tallies={arm: draw(st.builds(Tally, COUNTS, NUMBERS, NUMBERS)) for arm in arms},
        empty=tuple(draw(st.lists(EMPTY, max_size=2))),
    )
    figures = GenerationFigures(
        islands={island: draw(ISLAND) for island in ISLANDS},
        best=draw(st.none() | NAMES),
        best_pgr=draw(FIGURES),
        best_se=draw(FIGURES),
        diversity=draw(st.none() | DIVERSITY),
        probabilities={arm: draw(NUMBERS) for arm in arms},
        baselines=draw(st.dictionaries(NAMES, NUMBERS, max_size=2)),
        also=draw(st.dictionaries(NAMES, st.dictionaries(NAMES, FIGURES, max_size=2), max_size=2)),
    )
    return GenerationRecord(state, figures)


@given(generation_records())
def test_a_generation_comes_back_from_its_summary(record):
    generation = Generation(1, tuple(map(Island, ISLANDS)), json.loads(json.dumps(record.to_json())))
    assert GenerationRecord.of(generation) == record


@given(BIRTHS)
def test_a_birth_comes_back_from_its_detail(record):
    individual = an_individual(detail=json.loads(json.dumps(record.to_json())))
    assert BirthRecord.of(individual) == record
    assert direction_of(individual) == record.story.direction


def test_a_seed_recipe_has_its_direction_on_record_and_nothing_else():
    record = BirthRecord(story=BirthStory("distillation"))
    assert record.to_json() == {"direction": "distillation"}
    assert BirthRecord.of(an_individual(detail=record.to_json())) == record


def test_a_summary_that_lacks_a_part_stands_for_an_empty_one():
    assert GenerationRecord.of(Generation(0, ())) == GenerationRecord()


def test_what_drives_a_search_and_what_only_reports_look_at_share_no_name():
    def names(kind):
        return {one.name for one in dataclasses.fields(kind)}

    assert not names(BirthState) & names(BirthStory)
    assert names(GenerationState) & names(GenerationFigures) == {"best"}  # of each island, and of all
