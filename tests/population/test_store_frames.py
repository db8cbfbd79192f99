"""A store as data frames."""

import math

from store_examples import a_failure, a_trial, an_individual

from population.frames import generations_frame, individuals_frame, ledger_frame, trials_frame
from population.island import Generation, Island
from population.store import Store
from population.tables.generations import Fate


def test_an_empty_store_gives_empty_frames_with_their_columns(tmp_path):
    with Store.create(tmp_path / "s", {}) as store:
        assert "pgr" in individuals_frame(store, "mini").columns
        assert "pgr" in trials_frame(store).columns
        assert "archive" in generations_frame(store).columns
        assert "amount" in ledger_frame(store).columns
        assert {
            len(f)
            for f in (
                individuals_frame(store, "mini"),
                trials_frame(store),
                generations_frame(store),
                ledger_frame(store),
            )
        } == {0}


def test_frames_show_fitness_failures_and_fates(tmp_path):
    with Store.create(tmp_path / "s", {}) as store:
        good, bad = an_individual(), an_individual(child=1, source_hash="bad")
        for individual in (good, bad, an_individual(child=2, source_hash="untried")):
            store.individuals.add(individual)
        for trial in (
            a_trial(0, 0.2),
            a_trial(1, 0.4),
            a_trial(2, 9.0, fidelity=0.5),
            a_failure(0, source_hash="bad"),
        ):
            store.trials.record(trial)
        store.ledger.add("usd", 2, individual=good.id)
        generation = Generation(0, (Island(0, (good.id,), (good.id,)), Island(1)), {"best": 0.3})
        store.generations.commit(
            generation, [Fate(good.id, 0, 0, "survived"), Fate(bad.id, 0, 0, "failed", "timeout")]
        )

        frame = individuals_frame(store, "mini")
        assert math.isclose(frame.pgr[good.id], 0.3) and math.isclose(frame.standard_error[good.id], 0.1)
        assert frame.trials.tolist() == [2, 0, 0]
        assert frame.failed.tolist() == [False, True, False]
        assert math.isnan(frame.pgr[bad.id])
        assert frame.fate[bad.id] == "failed" and frame.fate_reason[bad.id] == "timeout"
        assert trials_frame(store).status.tolist() == ["ok", "ok", "ok", "failed"]
        assert generations_frame(store)[["island", "living", "best"]].values.tolist() == [
            [0, 1, 0.3],
            [1, 0, 0.3],
        ]
        assert ledger_frame(store).amount.sum() == 2
