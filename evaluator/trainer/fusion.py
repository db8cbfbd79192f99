"""How many slots one fused step holds: a budget of tokens, tuned once per device and structure, and kept in
the cache.

Fusing spreads a step's fixed cost over its slots. Once the products themselves fill the device it gains
nothing, and on a CPU it loses, as the slots' states leave the cache; beyond the budget slots take turns
instead. The budget decides when things happen, never what comes out.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evaluator.trainer import memory
from evaluator.trainer.fused import FusedBatch
from evaluator.trainer.slot import Slot, Training

ROUNDS = 5
MOST_SLOTS = 64
MOST_SECONDS = 1.0  # of one trial step: sizes beyond it aren't tried
# the smallest batch whose time per slot is within this factor of the best: less than that is measuring noise
WORTHWHILE = 1.05


class Fusion:
    """Budgets by structure. `tokens`: one budget for all instead of tuned ones."""

    def __init__(self, cache: Path, device: torch.device, tokens: int | None = None) -> None:
        self._folder = cache / "fused-steps" / f"{_slug(device_name(device))}-torch-{torch.__version__}"
        self._device = device
        self._tokens = tokens
        self._known: dict[str, int] = {}

    def most(self, training: Training, resident: int) -> int:
        """How many slots such as this training's run in one fused step, at least one; not looked into while
        only one is resident.
        """
        if resident < 2:
            return 1
        tokens = self._tokens if self._tokens is not None else self._tuned(training)
        return max(1, tokens // tokens_of(training))

    def _tuned(self, training: Training) -> int:
        name = structure(training)
        if name not in self._known:
            path = self._folder / f"{name}.json"
            try:
                found = json.loads(path.read_text())["tokens"]
            except (FileNotFoundError, NotADirectoryError, ValueError, KeyError):
                seconds = time_per_slot(training, self._device)
                found = budget(seconds) * tokens_of(training)
                _write(
                    path,
                    {
                        "tokens": found,
                        "microseconds_per_slot": {str(k): round(v * 1e6, 1) for k, v in seconds.items()},
                    },
                )
            self._known[name] = found
        return self._known[name]


def tokens_of(training: Training) -> int:
    """What one slot's step counts as."""
    return training.batch * training.model.tokens_per_row


def structure(training: Training) -> str:
    """A name for trainings that cost alike: kind of student, parameters, memory and tokens of a step, to
    powers of two.
    """
    sizes = [
        sum(math.prod(shape) for shape in training.model.shapes().values()),
        training.model.bytes_per_row,
        training.model.tokens_per_row,
        training.batch,
    ]
    return "-".join([training.model.kind, *(str(round(math.log2(max(1, size)))) for size in sizes)])


def budget(seconds: dict[int, float]) -> int:
    """Slots per fused step, by the time that a slot's share of one takes."""
    best = min(seconds.values())
    return min(slots for slots, time in seconds.items() if time <= WORTHWHILE * best)


def time_per_slot(training: Training, device: torch.device) -> dict[int, float]:
    """Seconds per slot of a fused step of 1, 2, 4, ... slots: the best of some rounds, in which the sizes
    take turns.
    """
    free = memory.SHARE[device.type] * memory.free_bytes(device)
    cost = memory.slot_bytes(training) + memory.step_bytes(training)
    batches, best = {}, {}
    slots = 1
    while slots <= MOST_SLOTS and 2 * slots * cost <= free:
        batches[slots] = FusedBatch([_sample(training, seed) for seed in range(slots)])
        batches[slots].advance()
        best[slots] = _step_seconds(batches[slots], device)
        if best[slots] > MOST_SECONDS:
            break
        slots *= 2
    for _ in range(ROUNDS):
        for slots, batch in batches.items():
            best[slots] = min(best[slots], _step_seconds(batch, device))
    return {slots: seconds / slots for slots, seconds in best.items()} or {1: 1.0}


def _sample(training: Training, seed: int) -> Slot:
    """A slot that costs what the training's does, on rows of its own."""
    rows = np.random.default_rng(seed).choice(training.rows, training.batch * (ROUNDS + 4))
    count = len(rows)
    sample = replace(
        training,
        rows=rows,
        targets=np.full((count, 2), 0.5, np.float32),
        weights=np.ones(count, np.float32),
        order=None,
        loss="cross_entropy",
        loss_options={},
        epochs=1.0,
        batch_size=training.batch,
        seed=seed,
        start=None,
    )
    return Slot(sample)


def _step_seconds(batch: FusedBatch, device: torch.device) -> float:
    # On a CPU the step's own processor time: what else the machine does must not look like the step's cost.
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = clock()
    batch.advance()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def device_name(device: torch.device) -> str:
    """The device's model, as far as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _slug(name: str) -> str:
    return "-".join("".join(one if one.isalnum() else " " for one in name).split()).lower()


def _write(path: Path, facts: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(facts, indent=1) + "\n")
    temporary.replace(path)
