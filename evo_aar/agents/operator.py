"""The agent operator: Claude, or any model behind the Messages API, as mutation, crossover,
draft and repair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from evo_aar.agents import prompts
from evo_aar.agents.client import ModelClient
from evo_aar.agents.conversation import Opening, converse
from evo_aar.agents.desk import Desk
from evo_aar.agents.journal import Journal
from evo_aar.agents.laboratory import Laboratory
from evo_aar.agents.library import Library
from evo_aar.agents.meter import Meter
from evo_aar.agents.prices import Price
from evo_aar.errors import SearchStopped
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import Failure, OperatorContext, OperatorError, Parent, Proposal
from evo_aar.search.settings import SearchSettings
from population.individual import individual_id
from population.store import Store
from recipes.directions import TITLES


@dataclass(frozen=True)
class Prepared:
    """A conversation that is ready to begin."""

    opening: Opening
    desk: Desk
    library: Library


class AgentOperator:
    """Makes each child in a conversation of its own (`conversation.converse`), journalled turn by turn.

    `student`: the default kind of student, for the prompt; `say` takes lines for who watches. Its methods
    block, and may be called from several threads.
    """

    name = "agent"
    verbs = frozenset({"mutation", "crossover", "draft", "repair"})
    waits = True
    most_parents = 3

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        laboratory: Laboratory,
        feedback: Feedback,
        *,
        testbed: str,
        student: str,
        client: ModelClient,
        meter: Meter,
        say: Callable[[str], object] = print,
    ) -> None:
        self._store = store
        self._settings = settings
        self._laboratory = laboratory
        self._feedback = feedback
        self._testbed = testbed
        self._student = student
        self._client = client
        self._meter = meter
        self._say = say
        self._tries: dict[tuple[int, int], dict[str, int]] = {}
        self._views = threading.Lock()

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
        self._client.close()

    def prepare(self, context: OperatorContext, verb: str, failure: Failure | None = None) -> Prepared:
        """What the agent would be sent first, and its tools."""
        with self._views:
            view = self._feedback.at(context.generation, context.island)
            tries = self._tries.setdefault(
                (context.generation, context.island), {"left": self._settings.tries}
            )
        if verb == "repair":
            tries = {"left": 0}
        library = Library(self._store, self._testbed, context, view, self._feedback.seeds)
        draft = failure.source if failure else context.parents[0].source if verb != "draft" else ""
        desk = Desk(context, verb, draft, library, self._laboratory, tries)
        parents = (
            [self._shown(one, library) for one in context.parents]
            if verb in ("mutation", "crossover")
            else []
        )
        task = prompts.render(
            verb,
            parents=parents,
            failure=failure,
            tries=tries["left"],
            turns=self._settings.turns,
            direction=context.direction,
        )
        opening = Opening(
            context.model,
            (prompts.conduct(), self._island(context, library)),
            task,
            desk.tools,
            self._settings.reply_tokens,
        )
        return Prepared(opening, desk, library)

    def _make(
        self, context: OperatorContext, verb: str, parents: tuple[Parent, ...], failure: Failure | None = None
    ) -> Proposal:
        prepared = self.prepare(context, verb, failure)
        journal = Journal(
            self._store,
            self._client,
            self._meter,
            Price.of(self._settings.prices[context.model]),
            individual=individual_id(context.generation, context.island, context.child),
            verb=verb,
            attempt=failure.attempt if failure else 0,
            account={"island": context.island, "generation": context.generation},
        )
        try:
            ending = converse(prepared.opening, prepared.desk, journal, self._settings.turns)
        except OperatorError as error:
            raise OperatorError(
                f"{context.place}: {error}", error.usd, tries=prepared.library.view.log()
            ) from None
        handed = prepared.desk.submitted
        return Proposal(
            handed["source"],
            self.name,
            verb,
            parents=tuple(parent.individual_id for parent in parents),
            kinds=(verb,),
            changes=tuple(handed["changes"]),
            notes={
                "reasons": handed["reasons"],
                "model": ending.model,
                "prompt": prompts.version(),
                "turns": ending.turns,
            },
            tries=prepared.library.view.log(),
            usd=ending.usd,
        )

    def _island(self, context: OperatorContext, library: Library) -> str:
        archive = [self._shown(one, library) for one in context.archive]
        return prompts.render(
            "island",
            title=TITLES[context.direction],
            brief=context.brief,
            direction=context.direction,
            student=self._student,
            layers=", ".join(map(str, context.layers)),
            has_prior=context.has_prior,
            archive=archive,
            findings=len(library.findings),
        )

    def _shown(self, one: Parent, library: Library) -> dict:
        individual = self._store.individuals.get(one.individual_id)
        shown = library.view.of(individual.source_hash)
        return {
            "id": one.individual_id,
            "idea": individual.idea,
            "source": one.source if one.source.endswith("\n") else f"{one.source}\n",
            "facts": library.facts(individual),
            "near": one.near,
            "told": shown.text if shown else "",
        }
