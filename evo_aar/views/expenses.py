"""What language models have cost a search, tabulated from its ledger."""

from __future__ import annotations

import pandas as pd

from population.store import Store

TOKENS = ("input", "output", "cache_write", "cache_read")


def expenses(store: Store) -> pd.DataFrame:
    """A row a reply: operator, model, island, generation, `calls` (0 for a reply that was lost), `usd`, and
    tokens by TOKENS.
    """
    rows, dollars = [], []
    for entry in store.ledger.all():
        if entry.kind == "usd":
            dollars.append(entry.amount)
        elif entry.kind == "tokens":
            rows.append(
                {
                    "operator": entry.operator,
                    "model": entry.detail.get("model", ""),
                    "island": entry.island,
                    "generation": entry.generation,
                    "calls": int("lost" not in entry.detail),
                    **{kind: entry.detail[kind] for kind in TOKENS},
                }
            )
    made = pd.DataFrame(rows, columns=["operator", "model", "island", "generation", "calls", *TOKENS])
    made["usd"] = dollars  # each reply's tokens and dollars are entered together, in this order
    return made


def by(store: Store, *columns: str) -> pd.DataFrame:
    """Sums by `columns`, with `hit_rate`: the share of prompt tokens that came from the provider's cache."""
    found = expenses(store).groupby(list(columns), as_index=False)[["calls", "usd", *TOKENS]].sum()
    prompt = found["input"] + found["cache_write"] + found["cache_read"]
    found["hit_rate"] = (found["cache_read"] / prompt.where(prompt > 0)).fillna(0.0)
    return found
