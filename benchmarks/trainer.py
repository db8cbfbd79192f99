"""What the batched trainer gains: the same trainings in four ways, interleaved in one run.

    python benchmarks/trainer.py [--repeats 3] [--kinds head,lora] [--steps 200,6] [--device cpu] \\
        [--write docs/FILE.md]

1. one process per training, with Hugging Face's Trainer (and peft)    2. one trainer, one training after
  another
3. resident slots that take turns, never fused    4. fused slots, as the tuned budget has them
On a GPU also 5: as many trainers side by side as there are trainings, on a randomly initialised model of the
Qwen3 architecture.

Prints Markdown tables: a cell's times are medians over repeats; errors are the largest difference of a
parameter from way 2. Run it with OMP_NUM_THREADS=1 on a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from evaluator.testbeds.mini.prepare import prepare
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.fusion import device_name
from evaluator.trainer.slot import Training
from evaluator.trainer.trainer import Trainer

HEAD_BATCHES, LORA_TOKENS = (32, 64, 256), (64, 512, 4096)
HEAD_SLOTS, LORA_SLOTS = (1, 4, 16, 64), (1, 4, 16)
MOST_PROCESSES = 4
NOTHING_FUSED = 1  # token


@dataclass(frozen=True)
class Spec:
    """A training, and where it finds its testbed. `size`: batch of a head, tokens of a LoRA student's step.

    `result`: a file.
    """

    testbed: str
    cache: str
    kind: str
    size: int
    steps: int
    device: str
    seed: int = 0
    result: str = ""
    model: str = ""

    @classmethod
    def read(cls, path: Path) -> Spec:
        return cls(**json.loads(path.read_text()))

    def training(self, trainer: Trainer, seed: int) -> Training:
        """The training of this seed: soft targets, linear decay, no weight decay."""
        model = trainer.default(self.kind)
        batch = max(1, round(self.size / model.tokens_per_row))
        rng = np.random.default_rng([seed, 7])
        rows = rng.choice(trainer.testbed.sizes["train"], batch * self.steps)
        return Training(
            model=model,
            rows=rows,
            targets=rng.dirichlet([1, 1], len(rows)).astype(np.float32),
            weights=np.ones(len(rows), np.float32),
            order=None,
            loss="cross_entropy",
            loss_options={},
            learning_rate=2e-3,
            weight_decay=0.0,
            schedule="linear",
            epochs=1.0,
            batch_size=batch,
            seed=seed,
            start=None,
        )


def ours(spec: Spec, tokens_per_step: int | None = None) -> Trainer:
    """A trainer for the spec."""
    testbed = Testbed.load(Path(spec.testbed))
    if spec.model:
        profile = dataclasses.replace(
            testbed.profile, trainable_layers=None, precision="bfloat16", layers=(-1,), head_layers=(-1,)
        )
        testbed = dataclasses.replace(
            testbed, strong=spec.model, profile=profile, content_hash=f"random-{testbed.content_hash}"
        )
    return Trainer(testbed, cache=Path(spec.cache), device=spec.device, tokens_per_step=tokens_per_step)


@dataclass
class Time:
    """Seconds of wall and of this process's (or its children's) CPU."""

    wall: float
    cpu: float


def timed(act: Callable[[], object], who: int = resource.RUSAGE_SELF) -> Time:
    def cpu() -> float:
        used = resource.getrusage(who)
        return used.ru_utime + used.ru_stime

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall, before = time.perf_counter(), cpu()
    act()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Time(time.perf_counter() - wall, cpu() - before)


def one_by_one(trainer: Trainer, trainings: list[Training]) -> list[dict]:
    return [parameters for training in trainings for parameters in together(trainer, [training])]


def together(trainer: Trainer, trainings: list[Training]) -> list[dict]:
    slots = [trainer.submit(training) for training in trainings]
    while trainer.busy:
        trainer.step()
    return [slot.parameters for slot in slots]


def in_processes(spec: Spec, seed: int, folder: Path) -> tuple[Time, Time, dict]:
    """Way 1: the time of the whole process, that of the training alone, and its parameters."""
    result, path = folder / f"hf-{seed}.safetensors", folder / "spec.json"
    path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(spec, seed=seed, result=str(result)))))
    found: list[subprocess.CompletedProcess] = []
    whole = timed(
        lambda: found.append(
            subprocess.run(
                [sys.executable, str(Path(__file__).with_name("huggingface_trial.py")), str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
        ),
        resource.RUSAGE_CHILDREN,
    )
    if found[0].returncode:
        raise SystemExit(found[0].stderr)
    return whole, Time(**json.loads(found[0].stdout.splitlines()[-1])), load_file(result)


def side_by_side(spec: Spec, seeds: int, folder: Path) -> Time:
    """Way 5: a trainer per training, all at once; the time from their common start to the last end."""
    path = folder / "side.json"
    path.write_text(json.dumps(dataclasses.asdict(spec)))
    command = [sys.executable, __file__, "--side", str(path)]
    running = [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(seeds)
    ]
    for one in running:
        one.stdout.readline()  # it is ready
    start = time.perf_counter()
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in running:
        one.wait()
    return Time(time.perf_counter() - start, float("nan"))


def side(path: Path, seed: int) -> None:
    """One of way 5's trainers: says when it is ready, and trains when told."""
    spec = Spec.read(path)
    trainer = ours(spec)
    together(trainer, [dataclasses.replace(spec, steps=2).training(trainer, seed)])
    print("ready", flush=True)
    sys.stdin.readline()
    together(trainer, [spec.training(trainer, seed)])


def _keep(made: dict, way: int, act: Callable, trainer: Trainer, trainings: list[Training]) -> None:
    made[way] = act(trainer, trainings)


def error(found: list[dict], wanted: list[dict]) -> float:
    return max(
        float((one[name] - other[name]).abs().max())
        for one, other in zip(found, wanted, strict=True)
        for name in other
    )


def measure(
    spec: Spec, slots: tuple[int, ...], repeats: int, processes: bool, folder: Path
) -> dict[int, dict]:
    """By number of slots: lists of times by way, and errors."""
    trainers = {2: ours(spec), 3: ours(spec, NOTHING_FUSED), 4: ours(spec)}
    cells: dict[int, dict] = {
        k: {"errors": {}, "fused": 0.0, **{way: [] for way in ("1", "1 alone", "2", "3", "4", "5")}}
        for k in slots
    }
    for way, trainer in trainers.items():  # tune, load, cache
        together(
            trainer,
            [
                dataclasses.replace(spec, steps=2).training(trainer, seed)
                for seed in range(1 if way == 2 else 2)
            ],
        )
    for _ in range(repeats):
        outside = in_processes(spec, 0, folder) if processes else None
        for k, cell in cells.items():
            made: dict[int, list[dict]] = {}
            for way, trainer in trainers.items():
                trainings = [spec.training(trainer, seed) for seed in range(k)]
                before = (trainer.work.steps, trainer.work.slots)
                act = one_by_one if way == 2 else together
                cell[str(way)].append(timed(partial(_keep, made, way, act, trainer, trainings)))
                if way == 4:
                    cell["fused"] = (trainer.work.slots - before[1]) / (trainer.work.steps - before[0])
            for way in (3, 4):
                cell["errors"][way] = max(cell["errors"].get(way, 0.0), error(made[way], made[2]))
            if outside and k <= MOST_PROCESSES:  # one after another: k of them take k times as long
                for name, one in (("1", outside[0]), ("1 alone", outside[1])):
                    cell[name].append(Time(k * one.wall, k * one.cpu))
                cell["errors"][1] = max(cell["errors"].get(1, 0.0), error([outside[2]], made[2][:1]))
            if spec.device == "cuda":
                cell["5"].append(side_by_side(spec, k, folder))
    return cells


def median(times: list[Time], clock: str) -> float:
    return statistics.median(getattr(one, clock) for one in times) if times else float("nan")


def table(kind: str, results: dict[int, dict[int, dict]], clock: str) -> list[str]:
    """A row a cell. Ratios are of medians of that clock."""
    unit = "batch" if kind == "head" else "tokens"
    head = [
        unit,
        "K",
        "slots a step",
        *(f"{way}, ms" for way in ("1", "1 alone", "2", "3", "4")),
        "4/2",
        "4/3",
        "4/1",
        "4/1 alone",
    ]
    if kind == "lora":
        head.append("share of saturated")
    head += ["error 1", "error 3", "error 4"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    per_second = {
        (size, k): k * size / median(cell["4"], clock)
        for size, cells in results.items()
        for k, cell in cells.items()
    }
    for size, cells in results.items():
        for k, cell in cells.items():
            times = {way: median(cell[way], clock) for way in ("1", "1 alone", "2", "3", "4")}
            row = [str(size), str(k), f"{cell['fused']:.1f}", *(_ms(value) for value in times.values())]
            row += [_ratio(times[way] / times["4"]) for way in ("2", "3", "1", "1 alone")]
            if kind == "lora":
                unfused = cells[1]
                possible = max(per_second.values()) / (size / median(unfused["2"], clock))
                row.append(_ratio(times["2"] / times["4"] / possible))
            row += [_error(cell["errors"].get(way)) for way in (1, 3, 4)]
            lines.append("| " + " | ".join(row) + " |")
    return lines


def _ms(seconds: float) -> str:
    return "" if seconds != seconds else f"{1000 * seconds:,.0f}"


def _ratio(value: float) -> str:
    return "" if value != value else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _error(value: float | None) -> str:
    return "" if value is None else "0" if value == 0 else f"{value:.0e}"


def random_model(folder: Path) -> str:
    """Some 0.6 billion random parameters of the Qwen3 architecture with the built-in model's tokenizer."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    from evaluator.testbeds.mini.weak import WEIGHTS

    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default="head,lora")
    parser.add_argument("--steps", default="200,6", help="steps of a head's and of a LoRA student's training")
    parser.add_argument("--sizes", default="", help="only these batches or tokens, by comma")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-processes", action="store_true", help="leave out way 1")
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        return side(Path(options.side[0]), int(options.side[1]))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    steps = dict(zip(("head", "lora"), map(int, options.steps.split(",")), strict=True))
    out = [
        f"Measured {date.today()} on {device_name(torch.device(options.device))} ({os.cpu_count()} cores, one"
        f" thread used), torch {torch.__version__}; medians of {options.repeats} interleaved repeats;"
        f" {steps['head']} steps a head, {steps['lora']} a LoRA student."
    ]
    with tempfile.TemporaryDirectory(prefix="evo-aar-benchmark-") as name:
        folder = Path(name)
        prepare("math", folder / "math")
        model = random_model(folder / "qwen3") if options.device == "cuda" else ""
        only = [int(size) for size in options.sizes.split(",") if size]
        for kind in options.kinds.split(","):
            sizes, slots = (HEAD_BATCHES, HEAD_SLOTS) if kind == "head" else (LORA_TOKENS, LORA_SLOTS)
            results = {}
            for size in [size for size in sizes if not only or size in only]:
                spec = Spec(
                    str(folder / "math"),
                    str(folder / "cache"),
                    kind,
                    size,
                    steps[kind],
                    options.device,
                    model=model,
                )
                results[size] = measure(spec, slots, options.repeats, not options.no_processes, folder)
                print(f"<!-- {kind} {size} done -->", flush=True)
            for clock in ("cpu", "wall"):
                out += ["", f"### {kind}, by {clock} time", "", *table(kind, results, clock)]
            if options.device == "cuda":
                out += [
                    "",
                    "Way 5, wall time, ms: "
                    + "; ".join(
                        f"{size}, K = {k}: {_ms(median(c['5'], 'wall'))}"
                        for size, r in results.items()
                        for k, c in r.items()
                    ),
                ]
        out += ["", "Tuned budgets, microseconds of a fused step per slot by number of slots:", ""]
        for path in sorted((folder / "cache").rglob("fused-steps/*/*.json")):
            facts = json.loads(path.read_text())
            out.append(f"- `{path.stem}`: {facts['tokens']} tokens; {facts['microseconds_per_slot']}")
    print("\n".join(out))
    if options.write:
        options.write.write_text("\n".join(out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
