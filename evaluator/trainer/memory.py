"""What a slot costs in memory, what there is, and whether an error means that there was none left."""

from __future__ import annotations

import math
import resource
from pathlib import Path

import torch

from evaluator.trainer.slot import Training

SHARE = {"cpu": 0.25, "cuda": 0.8}
"""Of the memory that is free when a trainer begins: several trainers may share a machine's, and one has a
GPU's.
"""


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out. On a CPU torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def release() -> None:
    """Give back what a failed step had taken."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """Memory that this process could still take on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) << 10
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, KeyError, ValueError):  # no Linux
        return 4 << 30
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return free if limit == resource.RLIM_INFINITY else min(free, max(0, limit - used))


def slot_bytes(training: Training) -> int:
    """What a slot holds on its device while it is resident: state and gradient, twice while a batch is
    rebuilt, and its data order.
    """
    parameters = sum(math.prod(shape) for shape in training.model.shapes().values())
    return 2 * 4 * 4 * parameters + training.steps * training.batch * (8 + 2 * 4)


def step_bytes(training: Training) -> int:
    """What one step of the slot takes besides, for as long as it lasts."""
    return training.batch * training.model.bytes_per_row


def too_large(training: Training) -> str:
    """What to say of a training that has no room even alone."""
    need = (slot_bytes(training) + step_bytes(training)) >> 20
    return (
        f"memory ran out in a training of batch size {training.batch} that was alone in its step (some"
        f" {need:,} MiB). Give it a smaller batch_size or hidden_size, or fewer --workers."
    )
