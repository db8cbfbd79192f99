"""A generation's children, from plans to final sources: the operator proposes for several islands at once
while others' children train.

What comes out does not depend on who was first: every island's proposals follow from its plans and elder
siblings, every repair from its failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from evo_aar.search.allocation import Arm
from evo_aar.search.operator import Failure, Operator, OperatorContext, OperatorError, Proposal
from evo_aar.search.planning import Plan
from evo_aar.search.record import BirthRecord, BirthState, BirthStory, EmptyPlace
from evo_aar.search.trials import Candidate
from population.individual import Individual
from population.island import child_stream
from population.trial import FailedTrial
from recipes.source import idea, source_hash

REPAIRS = 2
"""How often a child that failed goes back to its operator."""
REPAIR_STREAM = 1_000
"""Added to a child's number, once an attempt: the random stream of its repairs."""


@dataclass(frozen=True)
class Birth:
    """A child that an operator proposed. Not born until its source is final.

    `usd` is what all attempts at it have cost; `given_up`: it failed, and its operator saw no remedy.
    """

    arm: Arm
    context: OperatorContext
    proposal: Proposal
    usd: float
    attempt: int = 0
    given_up: bool = False

    @property
    def source_hash(self) -> str:
        return source_hash(self.proposal.source)

    @property
    def candidate(self) -> Candidate:
        """To be tried."""
        context, proposal = self.context, self.proposal
        return Candidate(
            proposal.source, self.source_hash, context.island, context.generation, proposal.operator
        )

    def individual(self) -> Individual:
        """The child as it is born."""
        context, proposal = self.context, self.proposal
        story = BirthStory(
            context.direction,
            proposal.verb,
            proposal.kinds,
            proposal.changes,
            proposal.parents,
            self.attempt,
            proposal.notes,
        )
        return Individual.born(
            generation=context.generation,
            island=context.island,
            child=context.child,
            source=proposal.source,
            source_hash=self.source_hash,
            operator=f"{proposal.operator} {proposal.verb}",
            parents=proposal.parents,
            idea=idea(proposal.source),
            detail=BirthRecord(BirthState(self.arm.key, self.usd, proposal.tries), story).to_json(),
        )


class Breeding:
    """Has an operator make children, tries them, and sends failures back a bounded number of times.

    `seed`: the search's; `attempt` tries the recipes of births; `failed` tells the trial in which one failed,
    or None. `concurrency`: how many calls of the operator run at once. Where the operator waits for something
    else than this machine, children are tried as they come, rather than all together, which trains more of
    them in one batch. What stops it has the operator interrupt, and waits for calls that have begun; who is
    stopped again meanwhile has it abandon them.
    """

    def __init__(
        self,
        operator: Operator,
        seed: int,
        attempt: Callable[[list[Birth]], None],
        failed: Callable[[Birth], FailedTrial | None],
        *,
        concurrency: int,
    ) -> None:
        self._operator = operator
        self._seed = seed
        self._attempt = attempt
        self._failed = failed
        self._concurrency = concurrency

    def children(self, islands: Sequence[Sequence[Plan]]) -> tuple[list[Birth], list[EmptyPlace]]:
        """Every place's child, and the places for which there is none, both in the order of places."""
        final: list[Birth] = []
        empty: list[EmptyPlace] = []
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="operator")
        until = FIRST_COMPLETED if self._operator.waits else ALL_COMPLETED
        try:
            pending: set[Future[list[Birth | EmptyPlace]]] = {
                pool.submit(self.propose, plans) for plans in islands if plans
            }
            while pending:
                done, pending = wait(pending, return_when=until)
                proposed = [one for future in done for one in future.result()]
                empty += [one for one in proposed if isinstance(one, EmptyPlace)]
                births = sorted((one for one in proposed if isinstance(one, Birth)), key=_place)
                self._attempt(births)
                for birth in births:
                    trial = self._failed(birth)
                    if trial is not None and birth.attempt < REPAIRS and not birth.given_up:
                        pending.add(pool.submit(self._mended, birth, trial))
                    else:
                        final.append(birth)
        except BaseException:
            self._operator.interrupt()
            raise
        finally:
            self._end(pool)
        return sorted(final, key=_place), sorted(empty, key=lambda one: (one.island, one.child))

    def propose(self, plans: Sequence[Plan]) -> list[Birth | EmptyPlace]:
        """One island's children, one after the other."""
        made: list[Birth | EmptyPlace] = []
        make = {
            "mutation": self._operator.mutate,
            "crossover": self._operator.crossover,
            "draft": self._operator.draft,
        }
        for plan in plans:
            siblings = {one.source_hash for one in made if isinstance(one, Birth)}
            context = replace(plan.context, born=plan.context.born | siblings)
            try:
                proposal = make[plan.arm.verb](context)
            except OperatorError as error:
                place = (context.island, context.child)
                made.append(EmptyPlace(*place, plan.arm.key, str(error), error.usd, error.tries))
            else:
                made.append(Birth(plan.arm, context, proposal, proposal.usd))
        return made

    def repair(self, birth: Birth, trial: FailedTrial) -> Birth | None:
        """The child with its failure mended, or None where the operator sees no remedy."""
        attempt = birth.attempt + 1
        context = birth.context
        stream = child_stream(
            self._seed, context.generation, context.island, context.child + attempt * REPAIR_STREAM
        )
        failure = Failure(birth.proposal.source, trial.reason, trial.message or trial.reason, attempt)
        context = replace(context, rng=stream, born=context.born | {birth.source_hash})
        try:
            proposal = self._operator.repair(context, failure)
        except OperatorError as error:
            return replace(birth, usd=birth.usd + error.usd) if error.usd else None
        if proposal is None:
            return None
        if birth.proposal.tries:
            proposal = replace(proposal, tries=(*birth.proposal.tries, *(proposal.tries or ())))
        return Birth(birth.arm, context, proposal, birth.usd + proposal.usd, attempt)

    def _end(self, pool: ThreadPoolExecutor) -> None:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:
            self._operator.abandon()
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    def _mended(self, birth: Birth, trial: FailedTrial) -> list[Birth | EmptyPlace]:
        """The repaired birth, to be tried; where there is no remedy, the failed one, not to be sent back
        again.
        """
        mended = self.repair(birth, trial)
        if mended is None or mended.source_hash == birth.source_hash:
            return [replace(mended or birth, given_up=True)]
        return [mended]


def _place(one: Birth) -> tuple[int, int]:
    return one.context.island, one.context.child
