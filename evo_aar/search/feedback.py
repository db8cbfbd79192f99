"""What an operator is told of scores: the best of its island so far, in coarse steps, and whether a recipe
has clearly beaten it.

Selection inside the engine, the tables and the report use exact scores. Whatever reaches an operator (a
prompt, a tool's result, a finding that others read) goes through here, and so through the Ladder
(`evaluator.ladder`).

How to use it. One `Feedback` a search:

    feedback = Feedback(store, testbed, seeds=search_seeds(...), islands=9, weak=..., ceiling=...)

In generation g, one `View` for every child that is made, through all its repairs:

    view = feedback.at(g, island)
    view.best               the island's best, as the generation found it or the child's own tries moved it
    view.of(source_hash)    a recipe that was born before generation g, on this island or another
    view.tried(one)         a `Try` of the conversation's own, once its trials are on record; to be called in
                            the conversation's order
    view.log()              goes on record with the child: later generations count these questions

`of` and `tried` give a `Shown`, whose `text` can be sent as it is, or None for what was never graded (it
failed, or isn't on record).

Nothing here depends on timing. A view starts from the state after generation g - 1, which is a fold over the
store in the order of places: by generation, first the tries for places that stayed empty, then island by
island each child's tries and the child itself, then who migrated there. A search that is resumed folds the
same rows again and asks the grader nothing.

What it does not hide: who was chosen as a parent, and in what order an archive stands. These come from exact
scores.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evaluator.ladder import LEVEL, Ladder
from evo_aar.search.phases import is_by
from evo_aar.search.record import BirthRecord, GenerationRecord, Try
from population.store import Store
from population.tables.asked import TrialKey


@dataclass(frozen=True)
class Shown:
    """What may be told.

    `value`: PGR of the best so far, which is this recipe's own where `is_new_best`; it moves in whole
    `step`s.
    """

    value: float
    step: float
    is_new_best: bool

    @property
    def text(self) -> str:
        """One sentence for an operator."""
        figure = f"PGR {self.value + 0.0:.2f}, told in steps of {self.step:.2f}"
        return (
            f"the island's best so far: {figure}"
            if self.is_new_best
            else f"not clearly above the island's best so far ({figure})"
        )


@dataclass
class _Ladders:
    """An island's ladders: one for whole recipes, one for each kind of try.

    They share one count of questions.
    """

    level: float
    questions: int = 0
    by_kind: dict[tuple[float, int], Ladder] = field(default_factory=dict)
    told: dict[Try, Shown] = field(default_factory=dict)

    def copy(self) -> _Ladders:
        return replace(self, by_kind=dict(self.by_kind), told=dict(self.told))


class Feedback:
    """The operator-visible scores of one search on its testbed.

    `testbed`: its content hash; `seeds`: those that every recipe of the search is tried on; `weak`,
    `ceiling`: the accuracies of PGR.
    """

    def __init__(
        self, store: Store, testbed: str, *, seeds: Sequence[int], islands: int, weak: float, ceiling: float
    ) -> None:
        self._store = store
        self._testbed = testbed
        self.seeds = tuple(seeds)
        self._weak, self._gap = weak, ceiling - weak
        self._islands = {island: _Ladders(LEVEL / islands) for island in range(islands)}
        self._generations: list[dict[int, _Ladders]] = [self._islands]
        """The state that each generation finds when it begins."""

    def at(self, generation: int, island: int) -> View:
        """The view of one child that is made in `generation` on `island`.

        Raises StoreError where the generation before has not ended.
        """
        while len(self._generations) <= generation:
            self._generations.append(self._after(len(self._generations) - 1))
        return View(self, self._generations[generation], island)

    def _after(self, generation: int) -> dict[int, _Ladders]:
        """The state after `generation`, in the order of places."""
        state = {island: ladders.copy() for island, ladders in self._generations[generation].items()}
        asked = {key for key, phase in self._store.asked.all().items() if is_by(phase, generation)}
        for place in GenerationRecord.of(self._store.generations.get(generation)).state.empty:
            for one in place.tries:
                self.ask(state[place.island], one)
        for individual in self._store.individuals.all(generation=generation):
            ladders = state[individual.island]
            for one in BirthRecord.of(individual).state.tries or ():
                self.ask(ladders, one)
            self._ask_whole(ladders, individual.source_hash, asked)
        for move in self._store.generations.migrations(generation):
            source_hash = self._store.individuals.get(move.individual).source_hash
            self._ask_whole(state[move.target], source_hash, asked)
        return state

    def _ask_whole(self, ladders: _Ladders, source_hash: str, asked: Container[TrialKey]) -> None:
        """Put a recipe's trials of the search itself to the ladder, where the search had asked for them by
        then.
        """
        if all(TrialKey(source_hash, self._testbed, seed, 1.0) in asked for seed in self.seeds):
            self.ask(ladders, Try(source_hash, self.seeds, 1.0))

    def ask(self, ladders: _Ladders, tried: Try) -> Shown | None:
        """Put a recipe's trials to the ladder of their kind; the same trials again are no question, and get
        the same answer.
        """
        if tried in ladders.told:
            return ladders.told[tried]
        correct = self._correct(tried)
        if correct is None:
            return None
        kind = (tried.fidelity, len(tried.seeds))
        ladder = replace(ladders.by_kind.get(kind, Ladder(ladders.level)), questions=ladders.questions)
        ladders.by_kind[kind], answer = ladder.ask(correct)
        ladders.questions = ladders.by_kind[kind].questions
        shown = Shown(
            (answer.accuracy - self._weak) / self._gap, Ladder.step(len(correct)) / self._gap, answer.improved
        )
        ladders.told[tried] = shown
        return shown

    def _correct(self, tried: Try) -> np.ndarray | None:
        """[m] each example's share of these seeds that were right; None where one of them was not graded."""
        graded = self._store.correctness.of
        found = [graded(tried.source_hash, self._testbed, seed, tried.fidelity) for seed in tried.seeds]
        known = [one for one in found if one is not None]
        return np.mean(known, axis=0) if known and len(known) == len(found) else None


class View:
    """What one child's operator may see. Made by `Feedback.at`."""

    def __init__(self, feedback: Feedback, state: dict[int, _Ladders], island: int) -> None:
        self._feedback = feedback
        self._state = state
        self._island = island
        self._own = state[island].copy()
        self._log: list[Try] = []

    @property
    def best(self) -> Shown | None:
        """The best whole recipe of the island; None before there is one."""
        told = [
            shown
            for tried, shown in self._own.told.items()
            if (tried.fidelity, tried.seeds) == (1.0, self._feedback.seeds)
        ]
        return replace(told[-1], is_new_best=True) if told else None

    def of(self, source_hash: str) -> Shown | None:
        """What was told of a recipe when it was born: on this island, or else on the first that
        it came to.
        """
        whole = Try(source_hash, self._feedback.seeds, 1.0)
        homes = (self._own, *(ladders for _, ladders in sorted(self._state.items())))
        return next((ladders.told[whole] for ladders in homes if whole in ladders.told), None)

    def tried(self, one: Try) -> Shown | None:
        """The answer to a trial of this conversation's own.

        A low fidelity is compared with its like alone.
        """
        shown = self._feedback.ask(self._own, one)
        self._log.append(one)
        return shown

    def log(self) -> tuple[Try, ...]:
        """The tries in their order; they go on record with the child."""
        return tuple(self._log)
