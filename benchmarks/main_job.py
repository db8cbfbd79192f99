"""Where the wall time of the main job goes: `evo-aar evolve` with its defaults, and how it compares with
another version.

    python benchmarks/main_job.py [--chart FILE.svg] [--write docs/FILE.md] [evolve's own options]
    python benchmarks/main_job.py --against PYTHON [--chart FILE.svg] [evolve's own options]

The first runs a search and prints a table of its time by part; the workers' time is told apart as they report
it (`evaluator.work`). The second runs this version and another one, installed in the environment of another
PYTHON, at once, each on an empty cache of its own, and prints wall and CPU time, trials and the best, and
this one's table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import wraps
from pathlib import Path

COLOURS = (
    "#4269d0",
    "#efb118",
    "#ff725c",
    "#6cc5b0",
    "#3ca951",
    "#ff8ab7",
    "#a463f2",
    "#97bbf5",
    "#9c6b4e",
    "#9498a0",
    "#c0c0c0",
)
COMMAND = ["-c", "from evo_aar.cli import main; main()", "evolve"]


class Clock:
    """Time by part. What happens inside of an inner part is not the outer one's."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._parts = ["other"]
        self._since = time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self._parts.append(name)
        try:
            yield
        finally:
            self._switch()
            self._parts.pop()

    def _switch(self) -> None:
        now = time.perf_counter()
        self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def times(self, owner: object, name: str, part: str) -> None:
        """Have every call of a function or method count as this part."""
        inner = getattr(owner, name)

        @wraps(inner)
        def timed(*arguments, **options):
            with self.part(part):
                return inner(*arguments, **options)

        setattr(owner, name, timed)


def profile(arguments: list[str]) -> dict[str, float]:
    """Seconds by part of one search in this process and its workers."""
    clock = Clock()
    with clock.part("imports"):
        from evaluator import baselines, evaluator, workers
        from evo_aar.cli import main
        from evo_aar.runs import evaluators
        from evo_aar.search import breeding
        from evo_aar.tracking.tracker import Tracker
        from population.database import Database
    made: list[evaluator.Evaluator] = []
    begin = evaluator.Evaluator.__init__
    evaluator.Evaluator.__init__ = lambda self, *some, **options: (
        made.append(self),
        begin(self, *some, **options),
    )[1]
    clock.times(evaluators, "prepared", "testbed")
    clock.times(evaluator.Evaluator, "warm_up", "hidden states")
    clock.times(baselines, "load_or_train", "ceilings")
    clock.times(evaluator, "wait", "workers")
    clock.times(workers, "stop_workers", "workers")
    clock.times(breeding.Breeding, "propose", "operators")
    clock.times(breeding.Breeding, "repair", "operators")
    for name in ("generation", "finish", "pause"):
        clock.times(Tracker, name, "tracking")
    for name in ("select", "query", "append", "append_once"):
        clock.times(Database, name, "store")
    sys.argv = ["evo-aar", "evolve", *arguments]
    try:
        main()
    except SystemExit as ending:
        if ending.code:
            raise
    clock._switch()
    return apportioned(dict(clock.seconds), [one for one in made if one.work.steps])


def apportioned(seconds: dict[str, float], evaluators: list) -> dict[str, float]:
    """The wall time in which the main process waited for its workers, shared out as these spent theirs."""
    waited = seconds.pop("workers", 0.0)
    names = {
        "training": "training",
        "answering": "requests but training",
        "starting": "starting recipes",
        "waiting": "waiting for recipes",
    }
    spent: dict[str, float] = defaultdict(float)
    for one in evaluators:
        for part, name in names.items():
            spent[name] += one.work.seconds[part] / one.workers
    idle = max(0.0, waited - sum(spent.values()))
    scale = (waited - idle) / max(1e-9, sum(spent.values()))
    return (
        {name: value * scale for name, value in spent.items()}
        | {"workers begin, or have no trial left": idle}
        | seconds
    )


def table(seconds: dict[str, float]) -> list[str]:
    whole = sum(seconds.values())
    lines = ["| part | seconds | share |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {value:.1f} | {value / whole:.0%} |"
        for name, value in sorted(seconds.items(), key=lambda one: -one[1])
    ]
    return [*lines, f"| all | {whole:.1f} | |"]


def chart(seconds: dict[str, float], path: Path) -> None:
    """A stacked bar."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "main-job"
    from matplotlib import pyplot

    whole = sum(seconds.values())
    figure, axes = pyplot.subplots(figsize=(9, 2.6))
    left = 0.0
    for (name, value), colour in zip(sorted(seconds.items(), key=lambda one: -one[1]), COLOURS, strict=False):
        share = 100 * value / whole
        axes.barh([0], [share], left=left, color=colour, label=f"{name} ({share:.0f}%)")
        left += share
    axes.set(xlim=(0, 100), yticks=[], xlabel="share of wall time, %")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=3, frameon=False, fontsize=8)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def compare(other: Path, arguments: list[str], chart_path: Path | None) -> list[str]:
    """Both versions at once, so that whatever else the machine does slows them alike; and where this one's
    time went.
    """
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as name:
        folders = {version: Path(name) / version for version in ("other", "this")}
        parts = Path(name) / "parts.md"
        own = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--write",
            str(parts),
            "--keep",
            "runs",
            *arguments,
        ]
        own += ["--chart", str(chart_path.resolve())] if chart_path else []
        commands = {
            "other": [str(other), *COMMAND, "--runs", "runs", "--run", "job", *arguments],
            "this": own,
        }
        running, lines = (
            {},
            [
                "| version | wall, s | CPU, s | trials | best evolved child |",
                "| --- | --- | --- | --- | --- |",
            ],
        )
        begun = time.perf_counter()
        for version, command in commands.items():
            folder = folders[version]
            folder.mkdir()
            environment = os.environ | {"EVO_AAR_CACHE": str(folder / "cache")}
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdout=open(folder / "printed", "w"),  # noqa: SIM115
            )
            running[process.pid] = version
        spent = {}
        while running:
            pid, status, used = os.wait4(-1, 0)
            version = running.pop(pid)
            if status:
                raise SystemExit(
                    f"{version} ended with status {os.waitstatus_to_exitcode(status)}; its message stands"
                    " above."
                )
            spent[version] = (time.perf_counter() - begun, used.ru_utime + used.ru_stime)
        for version, (wall, cpu) in spent.items():
            trials = _trials(folders[version] / "runs" / "job" / "search.sqlite")
            best = _best((folders[version] / "printed").read_text())
            lines.append(f"| {version} | {wall:.0f} | {cpu:.0f} | {trials} | {best} |")
        wall, cpu = (spent["this"][clock] / spent["other"][clock] for clock in (0, 1))
        lines += ["", f"This version's time as a share of the other's: wall {wall:.2f}, CPU {cpu:.2f}.", ""]
        return lines + parts.read_text().splitlines()[2:]


def _trials(path: Path) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        return connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0]


def _best(printed: str) -> str:
    line = next(
        (line for line in printed.splitlines() if "best evolved child" in line and "less" not in line), ""
    )
    return " ".join(line.replace("│", " ").split()[3:7])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--chart", type=Path, help="write a stacked bar chart to this .svg file")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument("--against", type=Path, help="the interpreter of another version's environment")
    parser.add_argument("--keep", type=Path, help=argparse.SUPPRESS)
    options, arguments = parser.parse_known_args()
    if options.against:
        lines = compare(options.against, arguments, options.chart)
    else:
        with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as runs:
            seconds = profile(["--runs", str(options.keep or runs), "--run", "job", *arguments])
        lines = table(seconds)
        if options.chart:
            chart(seconds, options.chart)
    import torch

    from evaluator.trainer.fusion import device_name

    lines = [
        f"Measured {date.today()} on {device_name(torch.device('cpu'))} ({os.cpu_count()} cores), torch"
        f" {torch.__version__}; `evo-aar evolve {' '.join(arguments)}`".rstrip("` ")
        + "`.",
        "",
        *lines,
    ]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
