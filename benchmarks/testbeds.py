"""What the built-in testbeds look like: weak, ceiling, majority, and the PGR of every baseline and seed
recipe, with heads and with LoRA.

    python benchmarks/testbeds.py [--seeds 5] \\
        [--workers 2] [--students head,lora] [--domains chat,math,code] [--write docs/FILE.md]

Prints Markdown tables and, where both kinds of student were run, the rank correlation between them. LoRA
takes many times as long as heads.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from evaluator.baselines import standard_error
from evaluator.evaluator import Evaluator
from evaluator.processes import Limits
from evaluator.testbeds.mini.prepare import prepare
from evaluator.trial import TrialRequest
from recipes.directions import baseline_sources, directions


def measure(
    testbed: Path, kind: str, sources: dict[str, str], seeds: int, workers: int, work: Path, device: str
) -> tuple[Evaluator, dict[str, list[float]]]:
    """PGR by recipe and seed; a recipe with a failed trial has an empty list."""
    limits = Limits(cpu_seconds=1200, wall_seconds=7200)
    evaluator = Evaluator(
        testbed,
        cache=work / "cache",
        spool=work / "spool" / kind / testbed.name,
        workers=workers,
        kind=kind,
        limits=limits,
        device=device,
    )
    evaluator.warm_up()
    trials = {TrialRequest(source, seed): name for name, source in sources.items() for seed in range(seeds)}
    found: dict[str, list[float]] = {name: [] for name in sources}
    failed = set()
    for result in evaluator.evaluate(list(trials)):
        name = trials[result.request]
        if result.pgr is None:
            failed.add(name)
            print(
                f"<!-- {testbed.name} {kind} {name}: {result.outcome.reason}: {result.outcome.message} -->",
                flush=True,
            )
        else:
            found[name].append(result.pgr)
    return evaluator, {name: [] if name in failed else values for name, values in found.items()}


def table(evaluators: dict[str, Evaluator], figures: dict[str, dict[str, list[float]]]) -> list[str]:
    """A Markdown table: a row a recipe, a column a domain."""
    domains = list(evaluators)
    lines = ["| | " + " | ".join(domains) + " |", "| --- |" + " --- |" * len(domains)]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    base = [evaluators[domain].baselines for domain in domains]
    row("majority accuracy", [f"{one.majority:.3f}" for one in base])
    row(
        "weak accuracy (16 seeds)",
        [f"{one.weak_accuracy:.3f} ± {standard_error(one.weak):.3f}" for one in base],
    )
    row(
        "ceiling accuracy (16 seeds)",
        [f"{one.ceiling_accuracy:.3f} ± {standard_error(one.ceiling):.3f}" for one in base],
    )
    row("gap", [f"{one.gap:.3f}" for one in base])
    for name in next(iter(figures.values())):
        row(
            name,
            [
                (
                    f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
                    if (values := figures[domain][name])
                    else "failed"
                )
                for domain in domains
            ],
        )
    spread = []
    for domain in domains:
        known = [values for values in figures[domain].values() if values]
        within = np.sqrt(np.mean([np.var(values, ddof=1) for values in known]))
        spread.append(f"{within:.3f} / {np.std([np.mean(values) for values in known], ddof=1):.3f}")
    row("sd over seeds / between recipes", spread)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--students", default="head,lora")
    parser.add_argument("--domains", default="chat,math,code")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    options = parser.parse_args()
    sources = baseline_sources() | {one.name: one.seed_source for one in directions()}
    out = [
        f"Measured {date.today()} on {platform.machine()}, torch {torch.__version__}, {options.device},"
        f" {options.seeds} seeds; PGR ± sd over seeds, fitness split."
    ]
    means: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as folder:
        work = Path(folder)
        for domain in options.domains.split(","):
            prepare(domain, work / domain)
        for kind in options.students.split(","):
            evaluators, figures = {}, {}
            for domain in options.domains.split(","):
                evaluators[domain], figures[domain] = measure(
                    work / domain, kind, sources, options.seeds, options.workers, work, options.device
                )
            out += ["", f"### Student: {kind}", "", *table(evaluators, figures)]
            means[kind] = [
                np.mean(values) if (values := figures[domain][name]) else np.nan
                for domain in figures
                for name in sources
            ]
            print("\n".join(out), flush=True)
        if len(means) == 2:
            a, b = (np.array(values) for values in means.values())
            per = len(sources)
            parts = []
            for index, domain in enumerate(options.domains.split(",")):
                some = slice(index * per, (index + 1) * per)
                known = np.isfinite(a[some]) & np.isfinite(b[some])
                parts.append(f"{domain} {spearmanr(a[some][known], b[some][known]).statistic:.2f}")
            out += ["", f"Rank correlation (Spearman) between {' and '.join(means)}: {', '.join(parts)}."]
            print(out[-1])
    if options.write:
        options.write.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
