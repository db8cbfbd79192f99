"""The audits' false flags: every baseline and seed recipe on a testbed, all of them honest.

python benchmarks/audits.py [--testbed mini/math] [--seeds 3] [--workers 2]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from evo_aar.runs.evaluation import Setup
from evo_aar.search.audits import Auditor
from evo_aar.search.seeds import fresh_seeds, search_seeds
from evo_aar.search.trials import Candidate, TrialRunner
from evo_aar.views import tables
from population.store import Store
from recipes.directions import baseline_sources, directions
from recipes.source import source_hash


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--testbed", default="mini/math")
    parser.add_argument("--student", default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    sources = baseline_sources() | {one.name: one.seed_source for one in directions()}
    rows, names = [], []
    setup = Setup(chosen.testbed, student=chosen.student, workers=chosen.workers)
    with (
        setup.evaluator(tables.notices()) as evaluator,
        tempfile.TemporaryDirectory() as folder,
        Store.create(Path(folder) / "audits.sqlite", {}) as store,
    ):
        trials = TrialRunner(store, evaluator)
        auditor = Auditor(
            store,
            trials,
            chosen_on=search_seeds(0, chosen.seeds),
            seeds=fresh_seeds(0, chosen.seeds),
            say=lambda words: None,
        )
        for name, source in sources.items():
            audits = auditor.audit(Candidate(source, source_hash(source)))
            names = [one.audit for one in audits] if len(audits) > len(names) else names
            rows.append((name, {one.audit: one for one in audits}))
            print(
                name,
                *(
                    f"\n    {one.verdict:5} {one.audit}: {one.words} (p {tables.number(one.p)})"
                    for one in audits
                ),
                flush=True,
            )
    print(f"\n{chosen.testbed}, {chosen.seeds} seeds; PGR or its loss where there is one\n")
    print(f"| | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for name, audits in rows:
        cells = [
            (
                f"{audits[one].verdict} {tables.number(audits[one].value, 2)}"
                if one in audits
                else tables.NOTHING
            )
            for one in names
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    for verdict in ("flag", "fail"):
        hit = sum(any(one.verdict == verdict for one in audits.values()) for _, audits in rows)
        print(
            f"\n{verdict}: {hit} of {len(rows)} recipes,"
            f" {sum(one.verdict == verdict for _, audits in rows for one in audits.values())} audits"
        )


if __name__ == "__main__":
    main()
