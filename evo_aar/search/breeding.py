"""A generation's births, from plans to final sources: the operator proposes for several islands at once while
others' children train.

What comes out does not depend on who was first: every island's proposals follow from its plans, every repair
from its failure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from evo_aar.search.births import Birth, Nursery, Plan, Unborn
from population.individual import Trial

REPAIRS = 2


class Breeding:
    """Has an operator make children, tries them, and sends failures back a bounded number of times.

    `attempt` tries the recipes of births; `failed` tells the trial in which one failed, or None.
    `concurrency`: how many calls of the operator run at once; `waits`: whether these wait for something else
    than this machine, so that children are tried as they come, rather than all together, which trains more of
    them in one batch. What stops it calls `interrupt`, and waits for calls that have begun; who is stopped
    again meanwhile calls `abandon`.
    """

    def __init__(
        self,
        nursery: Nursery,
        attempt: Callable[[list[Birth]], None],
        failed: Callable[[Birth], Trial | None],
        *,
        concurrency: int,
        waits: bool,
        interrupt: Callable[[], None],
        abandon: Callable[[], None],
    ) -> None:
        self._nursery = nursery
        self._attempt = attempt
        self._failed = failed
        self._concurrency = concurrency
        self._waits = waits
        self._interrupt = interrupt
        self._abandon = abandon

    def births(self, islands: Sequence[Sequence[Plan]]) -> list[Birth | Unborn]:
        """Every place's child or the reason why there is none, in the order of places."""
        final: list[Birth | Unborn] = []
        pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="operator")
        try:
            pending: set[Future] = {pool.submit(self._nursery.propose, plans) for plans in islands if plans}
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED if self._waits else ALL_COMPLETED)
                proposed = sorted((one for future in done for one in future.result()), key=_place)
                final += [one for one in proposed if isinstance(one, Unborn)]
                births = [one for one in proposed if isinstance(one, Birth)]
                self._attempt(births)
                for birth in births:
                    trial = self._failed(birth)
                    if trial is not None and birth.attempt < REPAIRS and not birth.given_up:
                        pending.add(pool.submit(self._mended, birth, trial))
                    else:
                        final.append(birth)
        except BaseException:
            self._interrupt()
            raise
        finally:
            self._end(pool)
        return sorted(final, key=_place)

    def _end(self, pool: ThreadPoolExecutor) -> None:
        try:
            pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:
            self._abandon()
            pool.shutdown(wait=True, cancel_futures=True)
            raise

    def _mended(self, birth: Birth, trial: Trial) -> list[Birth]:
        """The repaired birth, to be tried; where there is no remedy, the failed one, not to be sent back
        again.
        """
        mended = self._nursery.repair(birth, trial)
        if mended is None or mended.source_hash == birth.source_hash:
            return [replace(mended or birth, given_up=True)]
        return [mended]


def _place(one: Birth | Unborn) -> tuple[int, int]:
    return one.context.island, one.context.child
