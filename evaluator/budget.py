"""What a trial may spend: tokens, trained and forwarded, measured against vanilla fine-tuning."""

from __future__ import annotations

import math

from evaluator.testbeds.prepared import Profile


class OverBudget(Exception):
    """A request that the rest of the budget doesn't cover."""


class Budget:
    """Counts tokens. A token trained by another kind of student than the default costs in proportion to
    vanilla's epochs.

    So a LoRA training of vanilla's length costs as much as a head training of vanilla's length, whichever is
    the default.
    """

    def __init__(self, profile: Profile, kind: str, pool_tokens: int) -> None:
        self._profile = profile
        self._kind = kind
        self.total = math.ceil(profile.budget * (profile.hyperparameters(kind).epochs + 1) * pool_tokens)
        self.spent = 0

    @property
    def left(self) -> int:
        return self.total - self.spent

    def charge_training(self, kind: str, tokens: float) -> None:
        epochs = self._profile.hyperparameters
        self._charge(tokens * epochs(self._kind).epochs / epochs(kind).epochs)

    def charge_forward(self, tokens: float) -> None:
        self._charge(tokens)

    def _charge(self, tokens: float) -> None:
        cost = math.ceil(tokens)
        if cost > self.left:
            raise OverBudget(
                f"this request costs {cost:,} tokens; {self.left:,} of the trial's {self.total:,} are left"
            )
        self.spent += cost
