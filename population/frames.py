"""A store as pandas data frames, for notebooks and the status: one row an event, in an order that no timing
changes.
"""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from population.fitness import Fitness
from population.store import Store
from population.trial import FAILED, OK

_TRIAL_COLUMNS = (
    "source_hash",
    "testbed",
    "seed",
    "fidelity",
    "status",
    "reason",
    "message",
    "accuracy",
    "pgr",
    "tokens",
    "seconds",
)


def individuals_frame(store: Store, testbed: str, fidelity: float = 1.0) -> pd.DataFrame:
    """Everyone ever born, by id: birth, source, parents, idea, fitness at this fidelity, and the last fate.

    `pgr`, `standard_error` and `trials` are NaN, NaN and 0 for those without a fitness; `failed` says that a
    trial failed.
    """
    fates = {fate.individual: fate for fate in store.generations.fates()}
    rows = []
    for individual in store.individuals.all():
        trials = store.trials.of(individual.source_hash, testbed, fidelity)
        fitness = Fitness.of(trials)
        fate = fates.get(individual.id)
        rows.append(
            {
                **{
                    name: getattr(individual, name)
                    for name in ("id", "generation", "island", "child", "operator", "parents", "idea")
                },
                "source_hash": individual.source_hash,
                "source": individual.source,
                "pgr": fitness.mean if fitness else None,
                "standard_error": fitness.standard_error if fitness else None,
                "trials": fitness.trials if fitness else 0,
                "failed": any(not trial.ok for trial in trials),
                "fate": fate.kind if fate else None,
                "fate_reason": fate.reason if fate else None,
            }
        )
    columns = (
        "id generation island child operator parents idea source_hash source pgr standard_error trials failed"
        " fate fate_reason"
    )
    frame = pd.DataFrame(rows, columns=columns.split()).set_index("id")
    return frame.astype({"pgr": float, "standard_error": float})


def trials_frame(store: Store) -> pd.DataFrame:
    """Every trial, without its curves and pool predictions."""
    rows = [
        {
            **{name: getattr(trial, name, None) for name in _TRIAL_COLUMNS},
            "status": OK if trial.ok else FAILED,
        }
        for trial in store.trials.all()
    ]
    return pd.DataFrame(rows, columns=list(_TRIAL_COLUMNS)).astype({"accuracy": float, "pgr": float})


def generations_frame(store: Store) -> pd.DataFrame:
    """One row an island a generation: how many live, who is in the archive, and the generation's summary in
    columns of its own.
    """
    rows = [
        {
            "generation": generation.number,
            "island": island.number,
            "living": len(island.population),
            "population": island.population,
            "archive": island.archive,
            **generation.summary,
        }
        for generation in store.generations.all()
        for island in generation.islands
    ]
    return (
        pd.DataFrame(rows)
        if rows
        else pd.DataFrame(columns=["generation", "island", "living", "population", "archive"])
    )


def ledger_frame(store: Store) -> pd.DataFrame:
    """Every expense, in the order in which it was entered."""
    columns = ["kind", "amount", "individual", "island", "generation", "operator", "detail"]
    return pd.DataFrame([asdict(entry) for entry in store.ledger.all()], columns=columns)
