"""What runs in a worker process: a whole trainer, kept from one call to the next."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from evaluator import plugins
from evaluator.bench import request_seed
from evaluator.conversation import Conversation
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.service import Service
from evaluator.spool import Spool
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer import save
from evaluator.trainer.slot import Training
from evaluator.trainer.students import Trained
from evaluator.trainer.trainer import Trainer
from evaluator.trial import Failure, Look, Success, TrialRequest, Ungraded
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
    plugins.load()
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
    service.use(trainer, settings.kind)
    return service


def run_trials(
    settings: WorkerSettings, requests: list[TrialRequest], spool: Path, students: Path | None = None
) -> Work:
    """Run trials that are to be graded, and keep each outcome in `spool` as it ends, under the trial's key;
    its student, before, in `students`/seed-N.

    What the worker did for them. Raises ValueError for a trial that is not to be graded.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is the main process's to handle; it ends its workers
    service = _service(settings)
    testbed_hash = service.trainer.testbed.content_hash

    kept = Spool(spool)

    def keep(request: TrialRequest, conversation: Conversation) -> None:
        outcome = conversation.outcome
        if not isinstance(outcome, Success | Failure):
            raise ValueError(f"a trial to {request.purpose} is not graded: run it by run_ungraded")
        if students is not None and conversation.student is not None:
            save.save(conversation.student, students / f"seed-{request.seed}", service.trainer.states)
        kept.keep(request.key(testbed_hash), outcome)

    service.trainer.work = Work()
    service.run(requests, keep)
    return service.trainer.work


def run_ungraded(settings: WorkerSettings, request: TrialRequest) -> Look:
    """Run a trial whose outcome nobody grades. Raises ValueError for one that is to be graded."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    found: list[Look] = []

    def keep(request: TrialRequest, conversation: Conversation) -> None:
        outcome = conversation.outcome
        if not isinstance(outcome, Ungraded | Failure):
            raise ValueError(f"a trial to {request.purpose} is graded: run it by run_trials")
        found.append(outcome)

    _service(settings).run([request], keep)
    return found[0]


def train_ceilings(
    settings: WorkerSettings, labels: np.ndarray, seeds: list[int], split: str
) -> list[np.ndarray]:
    """Vanilla fine-tuning on ground truth, by seed: probabilities [m, 2] on the split.

    No recipe's process is involved.
    """
    trainer = _trainer(settings.testbed, settings.cache, settings.device)
    vanilla = trainer.testbed.profile.hyperparameters(settings.kind)
    model = trainer.default(settings.kind)
    submissions = {
        seed: trainer.submit(
            Training(
                model=model,
                rows=np.arange(len(labels)),
                targets=np.eye(2, dtype=np.float32)[labels],
                weights=np.ones(len(labels), np.float32),
                order=None,
                loss="cross_entropy",
                loss_options={},
                learning_rate=vanilla.learning_rate,
                weight_decay=vanilla.weight_decay,
                schedule="linear",
                epochs=vanilla.epochs,
                batch_size=vanilla.batch_size,
                seed=request_seed(seed, 1),
                start=None,
            )
        )
        for seed in seeds
    }
    while trainer.busy:
        trainer.step()
    return [trainer.probabilities(Trained(model, submissions[seed].parameters), split) for seed in seeds]
