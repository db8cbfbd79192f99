"""A training that was handed in to the trainer, as whoever handed it in knows it."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from evaluator.trainer.model import Parameters
from evaluator.trainer.slot import AskGradient, Slot, Step, Training


class Submission:
    """Waits until there is room for its slot; then it is trained, cancelled, or fails with an `error`.

    `on_done(submission)` is called once it has ended, or failed; never for one that was cancelled before it
    had a slot. `owner` is whom it trains for.
    """

    def __init__(
        self,
        training: Training,
        on_done: Callable[[Submission], None],
        ask_gradient: AskGradient | None = None,
        owner: Hashable = None,
    ) -> None:
        self.training = training
        self.on_done = on_done
        self.cancelled = False
        self._ask_gradient = ask_gradient
        self._owner = owner
        self._slot: Slot | None = None
        self._refused: str | None = None

    def begin(self) -> Slot:
        """Take the memory that a slot needs. Raises what torch raises where there is none."""
        self._slot = Slot(self.training, self._ask_gradient, self._owner)
        return self._slot

    def refuse(self, words: str) -> None:
        """There is no room for its slot, however long it waits."""
        self._refused = words

    def cancel(self) -> None:
        """Nobody waits for it any more: its slot, had or not had yet, is free."""
        self.cancelled = True
        if self._slot is not None:
            self._slot.cancelled = True

    @property
    def error(self) -> str | None:
        """Why it can't be trained, None where it can."""
        return self._refused or (self._slot.error if self._slot is not None else None)

    @property
    def parameters(self) -> Parameters:
        """Where its training has come to, by name. Raises RuntimeError before it has a slot."""
        return self._resident().parameters

    @property
    def history(self) -> list[Step]:
        """The logged steps so far. Raises RuntimeError before it has a slot."""
        return self._resident().history

    def _resident(self) -> Slot:
        if self._slot is None:
            raise RuntimeError("a training that has not begun has nothing to show: wait for on_done")
        return self._slot
