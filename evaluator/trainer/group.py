"""Slots of one structure and batch size: fused up to a budget, in turns of some steps beyond it.

A slot that ends frees its place at once and another takes it. When memory runs out in a step, nobody has
moved: the batch is halved, and so is the budget.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from evaluator.trainer import memory
from evaluator.trainer.fused import FusedBatch
from evaluator.trainer.slot import Slot
from evaluator.trainer.submission import Submission

TURN = 16  # steps: a batch that comes back finds its state gone from the processor's caches


class Group:
    """All resident slots of one key. `most(slots)`: how many run fused where this many are resident.

    `on_step(slots)` is called with the slots that a fused step moved.
    """

    def __init__(
        self, most: Callable[[int], int], on_step: Callable[[Sequence[Slot]], None] = lambda slots: None
    ) -> None:
        self._most = most
        self._on_step = on_step
        self._ceiling: int | None = None  # what memory has shown to be too much
        self._newcomers: list[Slot] = []
        self._turns: deque[FusedBatch] = deque()
        self._moved = 0  # steps of the turn that is on

    def add(self, slot: Slot) -> None:
        self._newcomers.append(slot)

    @property
    def slots(self) -> list[Slot]:
        return [*(slot for batch in self._turns for slot in batch.slots), *self._newcomers]

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do before an answer from outside arrives."""
        return bool(self._newcomers) or any(
            slot.ready or slot.unasked or slot.cancelled for batch in self._turns for slot in batch.slots
        )

    def step(self) -> list[Slot]:
        """One fused step of the batch whose turn it is; the slots that ended, or failed.

        A slot whose own loss is awaited stays where it is.
        """
        self._arrange()
        for _ in range(len(self._turns)):
            batch = self._turns.popleft()
            if any(slot.ready or slot.unasked for slot in batch.slots):
                return self._run(batch)
            self._turns.append(batch)
            self._moved = 0
        return []

    def _run(self, batch: FusedBatch) -> list[Slot]:
        moved = [slot for slot in batch.slots if slot.ready]
        if not self._within_memory(batch, batch.advance):
            return [slot for slot in batch.slots if slot.error]
        if moved:
            self._on_step(moved)
        ended = [slot for slot in moved if slot.done]
        if ended:
            batch.leave(ended)
        if len(batch):
            if self._within_memory(batch, batch.ask):
                self._moved = (self._moved + 1) % TURN
                if self._moved:
                    self._turns.appendleft(batch)
                else:
                    self._turns.append(batch)
            ended += [slot for slot in batch.slots if slot.error]
        return ended

    def _within_memory(self, batch: FusedBatch, act: Callable[[], None]) -> bool:
        """Whether a batch could act.

        If memory ran out, its halves have the next turns, and a slot that was alone has failed.
        """
        try:
            act()
            return True
        except (RuntimeError, MemoryError) as error:
            if not memory.is_exhausted(error):
                raise
        memory.release()  # out of the handler: the error's frames held what the step had made
        if len(batch) == 1:
            batch.slots[0].error = memory.too_large(batch.slots[0].training)
        else:
            self._ceiling = (len(batch) + 1) // 2
            self._turns.extendleft(reversed(batch.split(self._ceiling)))
        return False

    def _arrange(self) -> None:
        """Let the cancelled go, newcomers in, and batches that fit into one become one."""
        for batch in list(self._turns):
            cancelled = [slot for slot in batch.slots if slot.cancelled]
            if cancelled:
                batch.leave(cancelled)
            if not len(batch):
                self._turns.remove(batch)
        newcomers = [slot for slot in self._newcomers if not slot.cancelled]
        self._newcomers = []
        if not newcomers and len(self._turns) < 2:
            return
        most = self._limit(len(newcomers) + sum(map(len, self._turns)))
        batches = sorted(self._turns, key=len)
        if len(batches) > 1 and len(batches[0]) + len(batches[1]) <= most:
            self._turns.remove(batches[0])
            moved = list(batches[0].slots)
            batches[0].leave(moved)
            newcomers = moved + newcomers
        for batch in self._turns:
            room = most - len(batch)
            if room > 0 and newcomers:
                batch.join(newcomers[:room])
                newcomers = newcomers[room:]
        for start in range(0, len(newcomers), most):
            self._turns.append(FusedBatch(newcomers[start : start + most]))

    def _limit(self, resident: int) -> int:
        most = max(1, self._most(resident))
        return most if self._ceiling is None else min(most, self._ceiling)


def history(training: Submission | Slot) -> list[dict[str, Any]]:
    """Its logged steps as plain dicts; a loss that the recipe computed itself is unknown here, and None."""
    return [
        {**asdict(step), "loss": step.loss if step.loss == step.loss else None} for step in training.history
    ]
