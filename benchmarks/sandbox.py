"""What the sandbox costs: one search as a whole process, in the sandbox and without it, by turns.

    python benchmarks/sandbox.py --pairs 2 -- --islands 9

What follows `--` goes to `evo-aar evolve`. The searches are the same but for `--unsandboxed`, and end in the
same populations, which is checked. Printed are wall-clock seconds and processor seconds, of the command with
all its descendants, and the ratios of the pairs. Processor seconds are what to read on a machine that has
other work.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evo_aar.machine.places import run_folder, store_path
from evo_aar.machine.sandbox import described, level_of
from population.store import Store

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("options", nargs="*", help="of evo-aar evolve")
    chosen = parser.parse_args()
    ctypes.CDLL(None).prctl(
        PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0
    )  # orphans' processor time is counted here, too
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as folder:
        runs = Path(folder)
        measured(
            runs, "warm-up", [*chosen.options, "--islands", "1", "--generations", "0", "--audit-seeds", "0"]
        )  # hidden states and baselines are cached then
        ratios: dict[str, list[float]] = {"wall": [], "processor": []}
        print("| pair | sandbox | wall s | processor s |\n| --- | --- | --- | --- |")
        for pair in range(1, chosen.pairs + 1):
            ways = [("in", []), ("out", ["--unsandboxed"])]
            found = {}
            for name, options in ways if pair % 2 else reversed(ways):
                found[name] = measured(runs, f"{name}-{pair}", [*chosen.options, *options])
                print(
                    f"| {pair} | {found[name][2]} | {found[name][0]:.1f} | {found[name][1]:.1f} |", flush=True
                )
            if found["in"][3] != found["out"][3]:
                raise SystemExit("the two searches ended in different populations")
            for place, name in enumerate(ratios):
                ratios[name].append(found["in"][place] / found["out"][place])
        for name, values in ratios.items():
            print(
                f"{name} time, with / without: median {statistics.median(values):.3f} of"
                f" {', '.join(f'{one:.3f}' for one in values)}"
            )


def measured(runs: Path, name: str, options: list[str]) -> tuple[float, float, str, str]:
    """Wall seconds, processor seconds, the sandbox's level in words, and the population's fingerprint."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [
        sys.executable,
        "-c",
        "from evo_aar.cli import main; main()",
        "evolve",
        "--runs",
        str(runs),
        "--run",
        name,
    ]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = time.monotonic() - began
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Store.open(store_path(run_folder(runs, name)), writable=False) as store:
        facts = described(level_of(store)), store.fingerprint()
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, *facts


if __name__ == "__main__":
    main()
