"""What one command may spend of a search, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass

from evo_aar.errors import UsageError
from population.store import Store


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """Limits; None is none. Trials, questions and hours are looked at between generations, hours of this
    command alone.

    `max_usd`, `max_tokens`: of language models, over the whole search; they hold with calls in flight, within
    a generation.
    """

    max_trials: int | None = None
    max_questions: int | None = None
    max_hours: float | None = None
    max_usd: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_usd", "max_hours"):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name):g}: give 0 or more.")

    def reached(self, store: Store, hours: float) -> str | None:
        """The limit, as the option was written, at which no further generation begins."""
        spent = {
            "max_trials": len(store.trials),
            "max_questions": store.ledger.total("grader_questions"),
            "max_hours": hours,
        }
        for name, amount in spent.items():
            limit = getattr(self, name)
            if limit is not None and amount >= limit:
                return f"--{name.replace('_', '-')} {limit:g}"
        return None
