"""Whether a recipe's rank on a part of the training pool tells its rank on all of it.

    python benchmarks/fidelity.py [--seeds 3] [--fidelities 0.25,0.5] [--domains chat,math,code] \\
        [--workers 2] [--write docs/FILE.md]

Runs all baselines and seed recipes with heads on the built-in testbeds, and prints Spearman's correlation of
their mean PGR between each fidelity and the whole pool, with a bootstrap interval over recipes. Below 0.6 a
search had better race on seeds alone.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from evaluator.evaluator import Evaluator
from evaluator.testbeds.mini.prepare import prepare
from evaluator.trainer.fusion import device_name
from evaluator.trial import TrialRequest
from recipes.directions import baseline_sources, directions

FULL = 1.0
RESAMPLES = 2000


def measure(
    evaluator: Evaluator, sources: dict[str, str], fidelities: list[float], seeds: int
) -> dict[float, dict[str, float]]:
    """Mean PGR by fidelity and recipe; recipes that failed anywhere are left out of all."""
    trials = {
        TrialRequest(source, seed, fidelity): (fidelity, name)
        for name, source in sources.items()
        for fidelity in [*fidelities, FULL]
        for seed in range(seeds)
    }
    scores, failed = defaultdict(list), set()
    for result in evaluator.evaluate(list(trials)):
        fidelity, name = trials[result.request]
        if result.pgr is None:
            failed.add(name)
        else:
            scores[fidelity, name].append(result.pgr)
    names = [name for name in sources if name not in failed]
    return {
        fidelity: {name: float(np.mean(scores[fidelity, name])) for name in names}
        for fidelity in [*fidelities, FULL]
    }


def interval(low: np.ndarray, full: np.ndarray) -> tuple[float, float]:
    """The central 95% of Spearman's correlation over resampled recipes."""
    rng, count = np.random.default_rng(0), len(low)
    drawn = (rng.integers(0, count, count) for _ in range(RESAMPLES))
    found = [spearmanr(low[some], full[some]).statistic for some in drawn if len(set(some)) > 2]
    return tuple(np.nanpercentile(found, [2.5, 97.5]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fidelities", default="0.25,0.5")
    parser.add_argument("--domains", default="chat,math,code")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    fidelities = [float(one) for one in options.fidelities.split(",")]
    sources = baseline_sources() | {one.name: one.seed_source for one in directions()}
    out = [
        (
            f"Measured {date.today()} on {device_name(torch.device('cpu'))} ({os.cpu_count()} cores), torch"
            f" {torch.__version__}, heads, {options.seeds} seeds."
        ),
        "",
        "| testbed | recipes | " + " | ".join(f"fidelity {one:g}" for one in fidelities) + " |",
        "| --- | --- |" + " --- |" * len(fidelities),
    ]
    means = []
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as folder:
        work = Path(folder)
        for domain in options.domains.split(","):
            prepare(domain, work / domain)
            evaluator = Evaluator(
                work / domain, cache=work / "cache", spool=work / "spool" / domain, workers=options.workers
            )
            evaluator.warm_up()
            found = measure(evaluator, sources, fidelities, options.seeds)
            full = np.array(list(found[FULL].values()))
            cells = []
            for fidelity in fidelities:
                low = np.array(list(found[fidelity].values()))
                least, most = interval(low, full)
                cells.append(f"{spearmanr(low, full).statistic:.2f} ({least:.2f} to {most:.2f})")
            out.append(f"| mini/{domain} | {len(full)} | " + " | ".join(cells) + " |")
            print(out[-1], flush=True)
            head = [
                "",
                f"### Mean PGR by fidelity, mini/{domain}",
                "",
                "| | " + " | ".join(f"{one:g}" for one in found) + " |",
            ]
            rows = [
                f"| {name} | " + " | ".join(f"{found[one][name]:.2f}" for one in found) + " |"
                for name in found[FULL]
            ]
            means += [*head, "| --- |" + " --- |" * len(found), *rows]
    out += means
    print("\n".join(out))
    if options.write:
        options.write.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
