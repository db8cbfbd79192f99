"""What an agent is sent first: conduct and contract, its island, its task, and the tools that it has."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evo_aar.agents import prompts
from evo_aar.agents.desk import tool_schemas
from evo_aar.agents.library import Library
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import Failure, OperatorContext, Parent
from evo_aar.search.settings import SearchSettings
from population.store import Store
from recipes.directions import TITLES

CACHED = {"type": "ephemeral"}


@dataclass(frozen=True)
class Briefing:
    """What a conversation begins with. `system`: texts, the most stable first, each the end of a stretch
    worth caching.
    """

    model: str
    system: tuple[str, ...]
    task: str
    tools: tuple[dict[str, Any], ...]
    reply_tokens: int

    def request(self, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The request for the next reply. The end of the last message is cached too: the next request begins
        with all of it.
        """
        *earlier, last = messages
        if last["role"] == "user":
            *blocks, end = last["content"]
            last = {**last, "content": [*blocks, {**end, "cache_control": CACHED}]}
        return {
            "model": self.model,
            "max_tokens": self.reply_tokens,
            "system": [{"type": "text", "text": text, "cache_control": CACHED} for text in self.system],
            "tools": list(self.tools),
            "messages": [*earlier, last],
        }

    @property
    def first_message(self) -> dict[str, Any]:
        return {"role": "user", "content": [{"type": "text", "text": self.task}]}


class Briefs:
    """Makes briefings. `testbed`: its content hash; `student`: the default kind of student, for the prompt.

    Safe to use from several threads.
    """

    def __init__(
        self, store: Store, settings: SearchSettings, feedback: Feedback, *, testbed: str, student: str
    ) -> None:
        self._store = store
        self._settings = settings
        self._feedback = feedback
        self._testbed = testbed
        self._student = student
        self._views = threading.Lock()

    def library(self, context: OperatorContext) -> Library:
        """What the agent of this child may read. Each call gives one of its own."""
        with self._views:
            view = self._feedback.at(context.generation, context.island)
        return Library(self._store, self._testbed, context, view, self._feedback.seeds)

    def briefing(
        self,
        context: OperatorContext,
        verb: str,
        library: Library,
        tries: int,
        failure: Failure | None = None,
    ) -> Briefing:
        """`tries`: how many trials are left on the island; `failure`: what is to be repaired."""
        shown = context.parents if verb in ("mutation", "crossover") else ()
        task = prompts.render(
            verb,
            parents=[self._shown(one, library) for one in shown],
            failure=failure,
            tries=tries,
            turns=self._settings.turns,
            direction=context.direction,
        )
        return Briefing(
            context.model,
            (prompts.conduct(), self._island(context, library)),
            task,
            tool_schemas(),
            self._settings.reply_tokens,
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

    def _shown(self, one: Parent, library: Library) -> dict[str, Any]:
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
