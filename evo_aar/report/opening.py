"""An opening of the sealed split: a short list frozen by its hash, on the ledger before anything is read, and
then tried recipe by recipe.

The record has every step. An opening that was interrupted goes on where it stopped: it is the same one, and
nothing that has its score is trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from evo_aar.errors import UsageError
from evo_aar.search.audits import quarantined
from evo_aar.search.finals import crowned
from evo_aar.search.record import GenerationRecord
from evo_aar.search.seeds import sealed_seeds
from population.individual import Individual
from population.store import Store
from population.tables.integrity import Opening, SealedScore
from population.trial import FAILED, OK
from recipes.directions import baseline_sources
from recipes.source import idea, source_hash

if TYPE_CHECKING:
    from evaluator.evaluator import Evaluator, Result

FINALISTS = 3
WEAK, CEILING = "weak model", "ceiling"
"""Under these names the fixed points of PGR stand among an opening's scores; a ceiling of several members is
"ceiling of N".
"""


def shortlist(store: Store, chosen: Sequence[str] = ()) -> list[dict]:
    """The rows of a short list: the finalists, best first, and all baselines. Each has role, individual,
    idea, source_hash and source.

    `chosen`: individuals to be taken for finalists. Without, these are the crowned one, the best of the other
    kind (seed or child) and, where there is room, the best of the last generation. Raises `UsageError` where
    they are too many or quarantined, or the search has not ended.
    """
    barred = quarantined(store)
    named = [store.individuals.get(identity) for identity in chosen] or finalists(store)
    named = list({one.source_hash: one for one in named}.values())
    if len(named) > FINALISTS:
        raise UsageError(
            f"{len(named)} finalists: name {FINALISTS} at most. Whoever looks at many finds one that was"
            " lucky."
        )
    for one in named:
        if one.id in barred or one.source_hash in barred:
            raise UsageError(
                f"{one.id} is quarantined ({barred.get(one.id) or barred[one.source_hash]}): name another"
                " finalist."
            )
    rows = [_row("seed recipe" if not one.parents else "evolved child", one.id, one.source) for one in named]
    rows += [_row(f"baseline {name}", None, source) for name, source in baseline_sources().items()]
    return rows


def finalists(store: Store) -> list[Individual]:
    """The crowned individual first, at most three. Raises `UsageError` before the search's end."""
    best = crowned(store)
    if best is None:
        raise UsageError(
            f"{store.path.parent.name} has crowned nobody yet. Resume it to its end, or name finalists with"
            " --individual."
        )
    barred = quarantined(store)
    last = store.generations.get(len(store.generations) - 1)
    newest = GenerationRecord.of(last).figures.best
    elites = [fate for fate in store.generations.fates(kind="elite") if fate.reason.endswith("of the search")]
    ids = [
        best.id,
        *(fate.individual for fate in elites),
        *([newest] if newest else []),
    ]
    found = {
        one.source_hash: one
        for one in map(store.individuals.get, ids)
        if barred.keys().isdisjoint((one.id, one.source_hash))
    }
    return list(found.values())[:FINALISTS]


def _row(role: str, identity: str | None, source: str) -> dict:
    return {
        "role": role,
        "individual": identity,
        "idea": idea(source),
        "source_hash": source_hash(source),
        "source": source,
    }


def begin(store: Store, rows: Sequence[dict], *, search_seed: int, seeds: int, facts: dict) -> Opening:
    """The next opening, on record and on the ledger before the sealed split is touched."""
    number = len(store.openings.all()) + 1
    made = Opening(number, tuple(rows), {**facts, "seeds": sealed_seeds(search_seed, number, seeds)})
    with store.transaction():
        store.openings.record(made)
        store.ledger.add(
            "sealed_openings",
            1,
            operator="report",
            detail={"opening": number, "shortlist": made.shortlist_hash},
        )
    return store.openings.all()[-1]


def is_complete(store: Store, opening: Opening) -> bool:
    """Whether everything that the opening is for has its score."""
    scores = store.openings.scores(opening.number)
    have = {(score.source_hash, score.seed) for score in scores}
    tried = all(
        (row["source_hash"], seed) in have for row in opening.shortlist for seed in opening.facts["seeds"]
    )
    crowds = {score.members for score in scores if score.members > 1}
    names = {score.source_hash for score in scores}
    return tried and {WEAK, CEILING, *(f"{CEILING} of {members}" for members in crowds)} <= names


def open_sealed(
    store: Store,
    opening: Opening,
    evaluator: Evaluator,
    on_score: Callable[[SealedScore], object] = lambda score: None,
) -> None:
    """Train and score what the opening lacks. `evaluator`: on the search's testbed."""
    from evaluator.trial import SEALED, TrialRequest

    number = opening.number
    base = evaluator.sealed_baselines
    with store.transaction():
        for name, accuracies in ((WEAK, base.weak), (CEILING, base.ceiling)):
            for seed, accuracy in enumerate(accuracies):
                store.openings.record_score(SealedScore(number, name, seed, OK, accuracy))
    have = {(score.source_hash, score.seed) for score in store.openings.scores(number)}
    asked = {entry.detail.get("trial") for entry in store.ledger.all() if entry.kind == "grader_questions"}

    def enter(trial: TrialRequest) -> None:
        key = trial.key(evaluator.testbed.content_hash)
        if key not in asked:
            store.ledger.add(
                "grader_questions",
                1,
                operator="report",
                detail={"trial": key, "split": "sealed", "opening": number},
            )
            asked.add(key)

    wanted = [
        TrialRequest(row["source"], seed, purpose=SEALED)
        for row in opening.shortlist
        for seed in opening.facts["seeds"]
        if (row["source_hash"], seed) not in have
    ]
    for result in evaluator.evaluate(wanted, on_question=enter):
        score = _score(number, result)
        with store.transaction():
            store.openings.record_score(score)
            store.ledger.add("trainer_tokens", result.outcome.tokens, operator="report")
            store.ledger.add("compute_seconds", result.outcome.seconds, operator="report")
        evaluator.forget(result.request)
        on_score(score)
    for members in sorted({score.members for score in store.openings.scores(number)} - {1}):
        with store.transaction():
            for seed, accuracy in enumerate(evaluator.ensemble_accuracies(members, sealed=True)):
                store.openings.record_score(
                    SealedScore(number, f"{CEILING} of {members}", seed, OK, accuracy)
                )


def _score(number: int, result: Result) -> SealedScore:
    outcome, trial = result.outcome, result.request
    message = None if outcome.ok else f"{outcome.reason}: {outcome.message}"
    return SealedScore(
        number,
        trial.source_hash,
        trial.seed,
        OK if outcome.ok else FAILED,
        result.accuracy,
        outcome.members,
        message,
    )
