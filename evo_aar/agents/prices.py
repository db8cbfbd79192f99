"""What a model's tokens cost: a table shipped with its date, a user's own file or words instead of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from evo_aar.errors import UsageError

KINDS = ("input", "output", "cache_write", "cache_read")
"""What is counted of a reply, and paid for: tokens read anew, written, put into the provider's prompt cache,
read from it.
"""
MILLION = 1_000_000


@dataclass(frozen=True)
class Usage:
    """A reply's tokens."""

    input: int = 0
    output: int = 0
    cache_write: int = 0
    cache_read: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_write + self.cache_read

    @property
    def prompt(self) -> int:
        return self.total - self.output


@dataclass(frozen=True)
class Price:
    """Dollars a million tokens. `above` is for requests whose prompt has more than `above_tokens`."""

    input: float
    output: float
    cache_write: float
    cache_read: float
    above_tokens: int | None = None
    above: Price | None = None

    def usd(self, usage: Usage) -> float:
        """What a reply has cost."""
        if self.above is not None and usage.prompt > (self.above_tokens or 0):
            return self.above.usd(usage)
        return math.fsum(getattr(usage, kind) * getattr(self, kind) for kind in KINDS) / MILLION

    def most(self, prompt: int, output: int) -> float:
        """What a reply with at most so many tokens can cost."""
        dear = max(self.input, self.cache_write, self.cache_read)
        here = (prompt * dear + output * self.output) / MILLION
        if self.above is not None and prompt > (self.above_tokens or 0):
            return max(here, self.above.most(prompt, output))
        return here

    @classmethod
    def of(cls, facts: Mapping) -> Price:
        above = facts.get("above") if isinstance(facts, dict) else None
        own = {kind: float(facts[kind]) for kind in KINDS}
        return cls(
            **own,
            above_tokens=above and int(above["tokens"]),
            above=above and cls.of({**above, "above": None}),
        )


def shipped_date() -> str:
    """The day on which the shipped table was compiled, ISO 8601."""
    return _shipped()["date"]


def price_table(
    models: Sequence[str], file: Path | None = None, words: Sequence[str] = ()
) -> dict[str, dict]:
    """The prices of `models` as a search keeps them: from `words`, else from `file`, else from the shipped
    table.

    `file`: JSON of the shipped table's form, or its `models` alone. `words`:
    MODEL=INPUT/OUTPUT[/CACHE_WRITE/CACHE_READ]. Raises `UsageError` for a model without a price and for
    prices that can't be read.
    """
    table = {
        **_shipped()["models"],
        **(_from_file(file) if file else {}),
        **dict(_from_words(one) for one in words),
    }
    unknown = [model for model in models if model not in table]
    if unknown:
        raise UsageError(
            f"--model {unknown[0]}: no price is known for it. Give one in dollars a million tokens, such as"
            f" --price {unknown[0]}=3/15, or a file with --prices; --price {unknown[0]}=0/0 if it costs"
            " nothing."
        )
    return {model: table[model] for model in models}


def _shipped() -> dict:
    return json.loads(resources.files(__package__).joinpath("prices.json").read_text(encoding="utf-8"))


def _from_file(file: Path) -> dict[str, dict]:
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--prices {file}: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"--prices {file}: not JSON ({error}).") from None
    models = read.get("models", read) if isinstance(read, dict) else None
    if not isinstance(models, dict):
        raise UsageError(f"--prices {file}: an object of models is expected, each with {', '.join(KINDS)}.")
    for name, facts in models.items():
        _require(facts, f"--prices {file}, model {name}")
    return models


def _from_words(text: str) -> tuple[str, dict]:
    name, _, figures = text.partition("=")
    parts = figures.split("/")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not name or len(values) not in (2, 4):
        raise UsageError(
            f"--price {text}: write MODEL=INPUT/OUTPUT or MODEL=INPUT/OUTPUT/CACHE_WRITE/CACHE_READ, dollars"
            " a million tokens."
        )
    if (
        len(values) == 2
    ):  # without figures of its own, what goes through the cache costs as much as other input
        values += [values[0], values[0]]
    facts = dict(zip(KINDS, values, strict=True))
    _require(facts, f"--price {text}")
    return name, facts


def _require(facts: object, place: str) -> None:
    figures = [facts.get(kind) for kind in KINDS] if isinstance(facts, dict) else [None]
    if not all(isinstance(one, int | float) and 0 <= one < math.inf for one in figures):
        raise UsageError(f"{place}: {', '.join(KINDS)} must be numbers of dollars, 0 or more.")
    above = facts.get("above") if isinstance(facts, dict) else None
    if above is not None:
        if not isinstance(above, dict) or not isinstance(above.get("tokens"), int):
            raise UsageError(f"{place}: above needs `tokens`, a whole number.")
        _require({kind: above.get(kind) for kind in KINDS}, f"{place}, above")
