"""The agent operator: Claude, or any model behind the Messages API, as mutation, crossover,
draft and repair.
"""

from __future__ import annotations

from collections.abc import Callable

from evo_aar.agents import prompts
from evo_aar.agents.briefs import Briefs
from evo_aar.agents.conversation import converse
from evo_aar.agents.desk import Desk, TriesLeft
from evo_aar.agents.journal import Journal
from evo_aar.agents.laboratory import Laboratory
from evo_aar.agents.meter import Meter
from evo_aar.agents.prices import Price
from evo_aar.agents.provider import Provider
from evo_aar.errors import SearchStopped
from evo_aar.search.operator import Failure, OperatorContext, OperatorError, Parent, Proposal
from evo_aar.search.settings import SearchSettings
from population.individual import individual_id
from population.store import Store


class AgentOperator:
    """Makes each child in a conversation of its own (`conversation.converse`), journalled turn by turn.

    `laboratory`: where agents try things; `say` takes lines for who watches. Its methods block, and may be
    called from several threads.
    """

    name = "agent"
    verbs = frozenset({"mutation", "crossover", "draft", "repair"})
    waits = True
    most_parents = 3

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        briefs: Briefs,
        laboratory: Laboratory,
        *,
        provider: Provider,
        meter: Meter,
        say: Callable[[str], object] = print,
    ) -> None:
        self._store = store
        self._settings = settings
        self._briefs = briefs
        self._laboratory = laboratory
        self._provider = provider
        self._meter = meter
        self._say = say
        self._tries: dict[tuple[int, int], TriesLeft] = {}

    def mutate(self, context: OperatorContext) -> Proposal:
        """A child of the first parent."""
        return self._make(context, "mutation", context.parents[:1])

    def crossover(self, context: OperatorContext) -> Proposal:
        """A child of all the context's parents, at home or from abroad."""
        return self._make(context, "crossover", context.parents)

    def draft(self, context: OperatorContext) -> Proposal:
        """A recipe from the direction's brief."""
        return self._make(context, "draft", ())

    def repair(self, context: OperatorContext, failure: Failure) -> Proposal | None:
        """The failed child, mended. It keeps its parents."""
        return self._make(context, "repair", context.parents, failure)

    def interrupt(self) -> None:
        self._meter.stop(SearchStopped("the search is being stopped"))
        if self._meter.calls:
            self._say(
                f"waiting for {self._meter.calls} replies that are being paid for; Ctrl-C gives them up"
            )

    def abandon(self) -> None:
        self._provider.close()

    def _make(
        self, context: OperatorContext, verb: str, parents: tuple[Parent, ...], failure: Failure | None = None
    ) -> Proposal:
        place = (context.generation, context.island)
        tries = self._tries.setdefault(place, TriesLeft(self._settings.tries))
        if failure is not None:
            tries = TriesLeft(0)
        library = self._briefs.library(context)
        draft = failure.source if failure else context.parents[0].source if verb != "draft" else ""
        desk = Desk(context, verb, draft, library, self._laboratory, tries)
        journal = Journal(
            self._store,
            self._provider,
            self._meter,
            Price.of(self._settings.prices[context.model]),
            individual=individual_id(context.generation, context.island, context.child),
            verb=verb,
            attempt=failure.attempt if failure else 0,
            account={"island": context.island, "generation": context.generation},
        )
        briefing = self._briefs.briefing(context, verb, library, tries.left, failure)
        try:
            ending = converse(briefing, desk, journal, self._settings.turns)
        except OperatorError as error:
            raise OperatorError(f"{context.place}: {error}", error.usd, tries=library.view.log()) from None
        return Proposal(
            ending.submission.source,
            self.name,
            verb,
            parents=tuple(parent.individual_id for parent in parents),
            kinds=(verb,),
            changes=ending.submission.changes,
            notes={
                "reasons": ending.submission.reasons,
                "model": ending.model,
                "prompt": prompts.version(),
                "turns": ending.turns,
            },
            tries=library.view.log(),
            usd=ending.usd,
        )
