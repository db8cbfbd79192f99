"""What runs in a worker process: a whole trainer, kept from one call to the next."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from evaluator.conversation import Conversation, request_seed
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.service import Service
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer import save
from evaluator.trainer.slot import Training
from evaluator.trainer.students import Trained
from evaluator.trainer.trainer import Trainer
from evaluator.trial import Outcome, TrialRequest
from evaluator.work import Work


@dataclass(frozen=True)
class WorkerSettings:
    """Where a worker finds its testbed and caches, what student is the default, and how recipes
    are confined.
    """

    testbed: Path
    cache: Path
    kind: str
    device: str
    limits: Limits
    level: Level


@lru_cache(maxsize=4)
def _trainer(testbed: Path, cache: Path, device: str) -> Trainer:
    return Trainer(Testbed.load(testbed), cache=cache, device=device)


_services: dict[tuple[Limits, Level], Service] = {}


def _service(settings: WorkerSettings) -> Service:
    """The service on this testbed; its recipe processes' server, which takes seconds to start, outlives a
    change of testbed.
    """
    trainer = _trainer(settings.testbed, settings.cache, settings.device)
    confined = settings.limits, settings.level
    if confined not in _services:
        _services[confined] = Service(trainer, settings.limits, settings.kind, settings.level)
    service = _services[confined]
    service.trainer, service.kind = trainer, settings.kind
    return service


def run_trials(
    settings: WorkerSettings, trials: list[TrialRequest], spool: Path, students: Path | None = None
) -> Work:
    """Run trials and write each outcome to `spool` as it ends, named by the trial's key; its student, before,
    to `students`/seed-N.

    What the worker did for them.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the main process's to handle; it ends its workers
    service = _service(settings)
    testbed_hash = service.trainer.testbed.content_hash

    def keep(trial: TrialRequest, conversation: Conversation) -> None:
        if students is not None and conversation.outcome.ok:
            save.save(conversation.student, students / f"seed-{trial.seed}", service.trainer.states)
        conversation.outcome.save(spool / f"{trial.key(testbed_hash)}.npz")

    service.trainer.work = Work()
    service.run(trials, keep)
    return service.trainer.work


def run_ungraded(settings: WorkerSettings, trial: TrialRequest) -> Outcome:
    """Run a trial whose outcome nobody grades."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found: list[Outcome] = []
    _service(settings).run([trial], lambda _, conversation: found.append(conversation.outcome))
    return found[0]


def train_ceilings(
    settings: WorkerSettings, labels: np.ndarray, seeds: list[int], split: str
) -> list[np.ndarray]:
    """Vanilla fine-tuning on ground truth, by seed: probabilities [m, 2] on the split.

    No recipe's process is involved.
    """
    trainer = _trainer(settings.testbed, settings.cache, settings.device)
    profile, model = trainer.testbed.profile, trainer.default(settings.kind)
    slots = {
        seed: trainer.submit(
            Training(
                model=model,
                rows=np.arange(len(labels)),
                targets=np.eye(2, dtype=np.float32)[labels],
                weights=np.ones(len(labels), np.float32),
                order=None,
                loss="cross_entropy",
                loss_options={},
                learning_rate=profile.learning_rate[settings.kind],
                weight_decay=profile.weight_decay[settings.kind],
                schedule="linear",
                epochs=profile.epochs[settings.kind],
                batch_size=profile.batch_size[settings.kind],
                seed=request_seed(seed, 1),
                start=None,
            ),
            lambda slot: None,
        )
        for seed in seeds
    }
    while trainer.busy:
        trainer.step()
    return [trainer.probabilities(Trained(model, slots[seed].parameters), split) for seed in seeds]
