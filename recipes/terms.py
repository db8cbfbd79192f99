"""The contract's terms: the names and bounds that a recipe and the trainer have in common."""

from __future__ import annotations

SCHEDULES = ("constant", "linear", "cosine")
"""Learning-rate schedules: no decay, linear decay to zero, half a cosine to zero."""

OPTIMISERS = ("adamw", "adam", "sgd", "adagrad")
"""Optimisers: AdamW, Adam with the decay in the gradient, gradient descent with momentum 0.9, Adagrad; each
as in `torch.optim`.
"""

FAILURES = (
    "syntax",
    "contract",
    "exception",
    "memory",
    "deadlock",
    "invalid_request",
    "not_available",
    "budget",
    "task_error",
    "protocol",
)
"""The reasons that a recipe's process gives when it ends without a student; the trainer has others (cpu_time,
wall_time, killed, ...).
"""

MAX_ENSEMBLE = 8
MAX_IN_FLIGHT = 64
