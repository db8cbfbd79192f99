"""Audits of a search's recipes: re-runs in changed worlds, through the store like any other trial, and
verdicts on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evo_aar.search.trials import Candidate, TrialRunner
from population.store import Store
from population.tables.generations import Fate
from population.tables.integrity import Audit
from population.trial import Trial, first_failure, successful

if TYPE_CHECKING:
    from evaluator.audits.verdicts import Verdict

PASS, FLAG, FAIL = "pass", "flag", "fail"
STATIC, FRESH, ENSEMBLE = "static read", "fresh seeds", "ensemble ceiling"
OPERATOR = "audit"
"""On whose account an audit's trials are on the ledger."""


class Auditor:
    """Audits recipes on the testbed of `trials`.

    `chosen_on`: the seeds that recipes are selected with; `seeds`: others, at least two, on which they are
    tried in each world. `say` is called with what is being done.
    """

    def __init__(
        self,
        store: Store,
        trials: TrialRunner,
        *,
        chosen_on: Sequence[int],
        seeds: Sequence[int],
        say: Callable[[str], object] = lambda words: None,
    ) -> None:
        self._store = store
        self._trials = trials
        self._evaluator = trials.evaluator
        self._chosen_on = list(chosen_on)
        self._seeds = list(seeds)
        self._say = say
        self._worlds: dict[str, TrialRunner] = {}

    def audit(self, candidate: Candidate) -> list[Audit]:
        """All audits of a recipe, from the record where they are there.

        A recipe that fails on a seed of its own has none.
        """
        digest, testbed = candidate.source_hash, self._trials.testbed
        mine = Candidate(candidate.source, digest, candidate.island, candidate.generation, OPERATOR)
        # Asked for on record or not: what is asked for counts, and must not depend on what was there before.
        self._trials.ensure([mine], sorted({*self._chosen_on, *self._seeds}))
        found = self._store.audits.of(digest, testbed)
        if found:
            return found
        verdicts = self._verdicts(mine)
        audits = [Audit(source_hash=digest, testbed=testbed, **vars(one)) for one in verdicts]
        with self._store.transaction():
            for one in audits:
                self._store.audits.record(one)
        return audits

    def _verdicts(self, candidate: Candidate) -> list[Verdict]:
        from evaluator.audits import static, verdicts, worlds
        from evaluator.audits.verdicts import Verdict

        base, chosen = (
            self._of(self._trials, candidate, self._seeds),
            self._of(self._trials, candidate, self._chosen_on),
        )
        failed = first_failure((*base, *chosen))
        if failed is not None:
            return [
                Verdict(
                    "trials",
                    FAIL,
                    None,
                    None,
                    None,
                    f"seed {failed.seed} failed: {failed.reason}: {failed.message}",
                )
            ]
        points = self._evaluator.baselines
        slack = verdicts.tolerance(self._evaluator.testbed.sizes["fitness"])
        fresh = [trial.accuracy for trial in successful(base)]
        made: list[Verdict] = []
        worst: dict[str, str] = {}

        remarks = static.read(candidate.source)
        words = "; ".join(f"line {one.line}: {one.words}" for one in remarks) or "nothing remarkable"
        made.append(Verdict(STATIC, _worst_of(remarks), float(len(remarks)), None, None, words))

        def add(name: str, tested: tuple[float, float, float], words: str, kind: str, less: float) -> None:
            value, error, p = tested
            value, error = (value - less) / points.gap, error / points.gap
            made.append(Verdict(name, PASS, value, error, p, words.format(f"{value:+.3f} ± {error:.3f}")))
            worst[name] = kind

        add(
            FRESH,
            verdicts.drop([one.accuracy for one in successful(chosen)], fresh, slack),
            "loses {} PGR on seeds that it was not chosen with",
            FAIL,
            0,
        )
        # What a random model's states still tell is the task's own; more than half of the gain is no longer
        # the strong model's.
        half = points.weak_accuracy + max(0.0, float(np.mean(fresh)) - points.weak_accuracy) / 2
        told = {
            worlds.SHUFFLED: ("PGR {} when the weak labels are shuffled", FLAG, points.majority + slack),
            worlds.FLIPPED: ("PGR {} when the weak labels say the opposite", FLAG, points.majority + slack),
            worlds.PERMUTED: ("loses {} PGR when the pool comes in another order", FAIL, None),
            worlds.ROTATED: ("loses {} PGR when the hidden states are rotated", FAIL, None),
            worlds.UNTRAINED: (
                "PGR {} with a strong model that was never trained",
                FAIL,
                max(half, points.weak_accuracy + slack),
            ),
        }
        for name, (words, kind, bound) in told.items():
            self._say(f"audit: {name}")
            trials = self._world(name)
            trials.ensure([candidate], self._seeds)
            tried = self._of(trials, candidate, self._seeds)
            failed = first_failure(tried)
            if failed is not None:
                made.append(
                    Verdict(
                        name,
                        FLAG,
                        None,
                        None,
                        None,
                        f"fails in this world ({failed.reason}: {failed.message})",
                    )
                )
                continue
            scores = [trial.accuracy for trial in successful(tried)]
            if bound is None:
                add(name, verdicts.drop(fresh, scores, slack), words, kind, 0)
            else:
                add(name, verdicts.excess(scores, bound, fresh), words, kind, points.weak_accuracy)
        members = max(trial.members for trial in successful(base))
        ceilings = self._evaluator.ensemble_accuracies(members) if members > 1 else []
        made.append(
            verdicts.against_ensembles(
                ENSEMBLE, fresh, members, ceilings, points.weak_accuracy, points.ceiling_accuracy
            )
        )
        return verdicts.corrected(made, worst)

    def _world(self, name: str) -> TrialRunner:
        if name not in self._worlds:
            evaluator = self._evaluator.in_world(
                name, lambda done, total: self._say(f"audit: {name} {done}/{total}")
            )
            self._worlds[name] = TrialRunner(self._store, evaluator)
        return self._worlds[name]

    @staticmethod
    def _of(trials: TrialRunner, candidate: Candidate, seeds: Sequence[int]) -> list[Trial]:
        return [trial for trial in trials.of(candidate.source_hash) if trial.seed in seeds]


def _worst_of(remarks: Sequence) -> str:
    return PASS if not remarks else FAIL if any(one.fails for one in remarks) else FLAG


def failures(audits: Sequence[Audit]) -> str:
    """What the failed audits say, in a line; "" where none failed."""
    return "; ".join(f"{one.audit}: {one.words}" for one in audits if one.verdict == FAIL)


def static_failures(source: str) -> str:
    """What the static read finds fault with, in a line; "" where it finds none."""
    from evaluator.audits import static

    return "; ".join(f"line {one.line}: {one.words}" for one in static.read(source) if one.fails)


def quarantine(store: Store, identity: str, generation: int, reason: str) -> None:
    """Set an individual apart, and flag all who descend from it. Nothing is deleted."""
    with store.transaction():
        for fate in quarantine_fates(store, identity, generation, reason):
            store.generations.add_fate(fate)


def quarantine_fates(
    store: Store, identity: str, generation: int, reason: str, before: Iterable[Fate] = ()
) -> list[Fate]:
    """The fates of an individual that is set apart and of its descendants; one flagged before keeps its first
    flag. `before`: fates that are decided, and not on record yet.
    """
    everyone = {one.id: one for one in store.individuals.all()}
    flagged = [*store.generations.fates(kind="flagged"), *(one for one in before if one.kind == "flagged")]
    marked = {fate.individual for fate in flagged}
    heirs = [everyone[heir] for heir in descendants(everyone, identity) if heir not in marked]
    words = f"descends from {identity}, which was quarantined"
    return [
        Fate(identity, generation, everyone[identity].island, "quarantined", reason),
        *(Fate(heir.id, generation, heir.island, "flagged", words) for heir in heirs),
    ]


def descendants(everyone: dict, identity: str) -> list[str]:
    """Who has this individual among its ancestors, in the order of birth."""
    found = {identity}
    for one in sorted(everyone.values(), key=lambda one: one.rank):
        if found & set(one.parents):
            found.add(one.id)
    return sorted(found - {identity}, key=lambda heir: everyone[heir].rank)


def quarantined(store: Store, also: Iterable[Fate] = ()) -> dict[str, str]:
    """Who was quarantined, and why; also under the source hashes of their recipes, which no duplicate escapes
    by its name. `also`: fates that are decided, and not on record yet.
    """
    found = {}
    decided = [one for one in also if one.kind == "quarantined"]
    for fate in [*store.generations.fates(kind="quarantined"), *decided]:
        found[fate.individual] = found[store.individuals.get(fate.individual).source_hash] = fate.reason
    return found
