"""What one agent may read: its island's archive, the parents that it was handed, and of the other islands the
forum alone.

All of it is as the last generation left it; scores go through `evo_aar.search.feedback`.
"""

from __future__ import annotations

from evo_aar.search.feedback import Shown, View
from evo_aar.search.operator import OperatorContext
from evo_aar.search.record import BirthRecord, Try
from evo_aar.search.trials import TRY_FIDELITY
from population.behaviour import NEAR_DUPLICATE, behaviour, distance
from population.forum import Finding
from population.individual import Individual
from population.store import Store
from population.trial import Trial

LOGGED_STEPS = 10
TRAININGS = 12
MATCHES = 5
_COLUMNS = ("step", "loss", "gradient_norm", "agreement")


class ToolError(Exception):
    """A tool could not do what it was asked for. The message is the model's."""


class Library:
    """Reads the store for one agent. `seeds`: those that every recipe of the search is tried on."""

    def __init__(
        self, store: Store, testbed: str, context: OperatorContext, view: View, seeds: tuple[int, ...]
    ) -> None:
        self._store = store
        self._testbed = testbed
        self._context = context
        self._seeds = seeds
        self.view = view
        self.findings: list[Finding] = store.forum.as_of(context.generation)
        known = [one.individual_id for one in (*context.parents, *context.archive)]
        attached = [identity for one in self.findings if (identity := self.attached(one))]
        self._open = dict.fromkeys([*known, *attached])

    def individual(self, identity: str) -> Individual:
        """An individual that this agent may read. Raises `ToolError` for any other."""
        if identity not in self._open:
            raise ToolError(
                f"You can't read {identity!r}. Recipes open to you: {', '.join(self._open) or 'none'}."
            )
        return self._store.individuals.get(identity)

    def parent(self, one: Individual) -> Individual:
        """The parent that `one` was edited from."""
        return self._store.individuals.get(one.parents[0])

    def born_as(self, digest: str) -> str | None:
        """The id of whoever had this source first, before this generation."""
        return self._store.individuals.source_hashes(before=self._context.generation).get(digest)

    def facts(self, one: Individual) -> str:
        """A recipe's standing, in a few words."""
        shown = self.view.of(one.source_hash)
        parents = f", from {' and '.join(one.parents)}" if one.parents else ""
        changes = "; ".join(BirthRecord.of(one).story.changes)
        lines = [f"{one.id}, by {one.operator}{parents}", f"Idea: {one.idea}"]
        lines += [f"Changes: {changes}"] if changes else []
        lines.append(f"Told of it when it was tried: {shown.text}" if shown else "Never graded.")
        return "\n".join(lines)

    def history(self, one: Individual) -> str:
        """Process signals of a recipe's trial on the first seed."""
        trial = self._store.trials.get(one.source_hash, self._testbed, self._seeds[0], 1.0)
        if trial is None:
            return f"{one.id} has no trial on record."
        if not trial.ok:
            return f"{one.id} failed: {trial.reason}: {trial.message}"
        lines = [f"{one.id}: {trial.tokens:,} tokens, {len(trial.history)} trainings"]
        for training in trial.history[:TRAININGS]:
            steps = training["steps"]
            chosen = (
                sorted(
                    {
                        round(place * (len(steps) - 1) / max(1, LOGGED_STEPS - 1))
                        for place in range(LOGGED_STEPS)
                    }
                )
                if steps
                else []
            )
            lines.append(
                f"request {training['request']}, student {training['student']}: {' | '.join(_COLUMNS)}"
            )
            lines += [" | ".join(_figure(steps[place].get(name)) for name in _COLUMNS) for place in chosen]
        if len(trial.history) > TRAININGS:
            lines.append(f"... and {len(trial.history) - TRAININGS} more")
        return "\n".join(lines)

    def attached(self, finding: Finding) -> str | None:
        """The id of the recipe attached to a finding."""
        if finding.source_hash is None:
            return None
        owners = [
            one.id
            for one in self._store.individuals.of_source(finding.source_hash)
            if one.generation < self._context.generation
        ]
        return owners[0] if owners else None

    def finding(self, one: Finding) -> str:
        recipe = self.attached(one)
        return (
            f"{one.title} (island {one.island}, generation"
            f" {one.generation}{f', recipe {recipe}' if recipe else ''})\n{one.text}"
        )

    def search(self, words: str) -> list[Finding]:
        return self._store.forum.search(words, self._context.generation, MATCHES)

    def post(self, finding: Finding) -> bool:
        """Whether it says something that the forum did not."""
        return self._store.forum.post(finding)

    def tried(self, trial: Trial) -> Shown | None:
        """What may be told of a trial of this agent's own."""
        return self.view.tried(Try(trial.source_hash, (trial.seed,), trial.fidelity))

    def replay(self, tried: list[dict]) -> None:
        """Ask again what was asked in turns that were replayed, so that the view comes to stand where it
        stood.
        """
        for one in tried[len(self.view.log()) :]:
            self.view.tried(Try.from_json(one))

    def nearest(self, trial: Trial) -> str:
        """How far a try's behaviour is from that of the archive and the parents."""
        own, found = behaviour([trial]), []
        for identity in self._open:
            one = self._store.individuals.get(identity)
            other = behaviour(self._store.trials.of(one.source_hash, self._testbed, 1.0))
            if own is not None and other is not None:
                found.append((distance(own, other), identity))
        if not found:
            return ""
        near, identity = min(found)
        return (
            f"On the training pool its predictions differ least from {identity}'s: by {near:.3f} on average,"
            f" at fidelity {TRY_FIDELITY:g} against full trials. Below about"
            f" {NEAR_DUPLICATE:g} it is the same behaviour, which finds no place beside the other."
        )


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
