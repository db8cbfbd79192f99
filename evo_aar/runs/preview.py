"""What an agent would be sent, without sending it, and an estimate of what its child would cost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from evo_aar.agents.briefs import Briefing, Briefs
from evo_aar.agents.prices import Price, Usage
from evo_aar.errors import UsageError
from evo_aar.runs.standing import opened
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import OperatorContext, Parent
from evo_aar.search.record import GenerationRecord, direction_of
from evo_aar.search.seed_recipes import seed_individual
from evo_aar.search.seeds import search_seeds
from evo_aar.search.settings import SearchSettings
from population.island import Generation, Island
from population.store import Store
from recipes.directions import directions

VERBS = ("mutation", "crossover", "draft")
BYTES_PER_TOKEN = 3.5
"""Of English and Python, about; an estimate, which the reply's own count replaces."""
REPLIES = 10
WRITTEN_TOKENS = 700
RESULT_TOKENS = 500
"""What a child is taken to need: replies, tokens that each writes, tokens of tools' results that it is sent.

No live model was measured.
"""


def preview(runs: Path, run: str | None, island: int, verb: str, model: str) -> Briefing:
    """What the first request for the island's next child would hold.

    Raises `UsageError` for an island that isn't there.
    """
    with _store(runs, run, island) as (store, settings):
        if island >= settings.islands:
            raise UsageError(f"--island {island}: the search has islands 0 to {settings.islands - 1}.")
        last = store.generations.last()
        if last is None:
            raise UsageError(f"run {run!r} has no generation on record yet. Resume it first.")
        here = last.island(island)
        direction = directions()[island % len(directions())]
        abroad = last.islands[(island + 1) % len(last.islands)].population
        chosen = {
            "mutation": here.population[:1],
            "crossover": (*here.population[:1], *abroad[:1]),
            "draft": (),
        }[verb]
        if not chosen and verb != "draft":
            raise UsageError(
                f"nobody lives on island {island}: only a draft can be made there. Use --verb draft."
            )
        baselines = GenerationRecord.of(last).figures.baselines
        feedback = Feedback(
            store,
            store.facts.get("testbed_hash", ""),
            seeds=search_seeds(settings.seed, settings.seeds),
            islands=settings.islands,
            weak=baselines.get("weak", 0.0),
            ceiling=baselines.get("ceiling", 1.0),
        )
        briefs = Briefs(
            store,
            settings,
            feedback,
            testbed=store.facts.get("testbed_hash", ""),
            student=settings.student or "head",
        )
        context = OperatorContext(
            island=island,
            generation=last.number + 1,
            child=0,
            direction=direction.name,
            rng=np.random.default_rng(0),
            parents=tuple(_parent(store, one) for one in chosen),
            brief=direction.brief,
            archive=tuple(_parent(store, one) for one in here.archive),
            model=model,
        )
        return briefs.briefing(context, verb, briefs.library(context), settings.tries)


def estimate(briefing: Briefing, price: Price) -> list[str]:
    """The price of a child, with its arithmetic."""
    first = round(
        len(json.dumps(briefing.request([briefing.first_message]), ensure_ascii=False).encode())
        / BYTES_PER_TOKEN
    )
    growth = WRITTEN_TOKENS + RESULT_TOKENS
    read = sum(first + growth * turn for turn in range(REPLIES - 1))
    usage = Usage(
        output=REPLIES * WRITTEN_TOKENS, cache_write=first + growth * (REPLIES - 1), cache_read=read
    )
    parts = (
        ("written to the cache", usage.cache_write, price.cache_write),
        ("read from the cache", usage.cache_read, price.cache_read),
        ("written by the model", usage.output, price.output),
    )
    lines = [
        f"The first request has about {first:,} tokens. For a child of {REPLIES} replies, each of"
        f" {WRITTEN_TOKENS:,} tokens and followed by {RESULT_TOKENS:,} of tools' results, with all that was"
        f" sent before read from the cache ({briefing.model}):"
    ]
    lines += [
        f"{tokens:>10,} tokens {what:<22} x {cost:g} USD a million = {tokens * cost / 1e6:.4f} USD"
        for what, tokens, cost in parts
    ]
    lines.append(
        f"about {price.usd(usage):.3f} USD a child. An assumption, not a measurement; evolve's --max-usd is"
        " what holds."
    )
    return lines


def _parent(store: Store, identity: str) -> Parent:
    one = store.individuals.get(identity)
    return Parent(one.id, one.source, direction_of(one))


@contextmanager
def _store(runs: Path, run: str | None, island: int) -> Iterator[tuple[Store, SearchSettings]]:
    """The run's store, or one in which only the seeds were born."""
    if run is not None:
        with opened(runs, run) as found:
            yield found
        return
    settings = SearchSettings(testbed="mini/math")
    with (
        tempfile.TemporaryDirectory(prefix="evo-aar-") as folder,
        Store.create(Path(folder) / "search.sqlite", settings.to_json()) as store,
    ):
        seeds = []
        for number, direction in enumerate(directions()):
            seed = seed_individual(number, direction)
            store.individuals.add(seed)
            seeds.append(Island(number, (seed.id,), (seed.id,)))
        store.generations.commit(Generation(0, tuple(seeds)))
        yield store, settings
