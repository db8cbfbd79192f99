"""The evaluator: takes trials, returns scored results. Knows nothing of search, islands or operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

import numpy as np
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from evaluator import baselines as baselines_module
from evaluator import kinds, plugins
from evaluator.audits import worlds
from evaluator.baselines import Baselines
from evaluator.errors import EvaluatorError
from evaluator.grader import Grader
from evaluator.hidden_states import HiddenStates
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.sandbox.probe import level_here
from evaluator.spool import Spool
from evaluator.testbeds.prepared import Testbed
from evaluator.trial import SEALED, Failure, Look, Success, TrialRequest
from evaluator.work import Work
from evaluator.worker import WorkerSettings, run_trials, run_ungraded
from evaluator.workers import stop_workers, workers_executor

POLL_SECONDS = 0.1
WORKER_ATTEMPTS = 3
SMALL_MODEL = 512
"""Hidden size up to which states are computed on one thread: threads gain little there, and one rounds the
same everywhere.
"""


def check_device(device: str) -> None:
    """Raises `EvaluatorError` for a device that trainers can't run on here."""
    if device not in ("cpu", "cuda"):
        raise EvaluatorError(f"--device {device}: cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise EvaluatorError(
            "--device cuda: torch finds no CUDA device here. `evo-aar doctor` says what is missing; or use"
            " --device cpu."
        )


@dataclass(frozen=True)
class Scored:
    """A trial that succeeded: transfer accuracy and PGR on the split that it is graded on, and which of its
    rows were right, [m] bool.
    """

    ok: ClassVar[Literal[True]] = True
    request: TrialRequest
    outcome: Success
    accuracy: float
    pgr: float
    correct: np.ndarray


@dataclass(frozen=True)
class Unscored:
    """A trial that failed: it has no score, which is not a score of zero."""

    ok: ClassVar[Literal[False]] = False
    accuracy: ClassVar[None] = None
    pgr: ClassVar[None] = None
    correct: ClassVar[None] = None
    request: TrialRequest
    outcome: Failure


Result: TypeAlias = Scored | Unscored
"""A trial's outcome, graded; `ok` tells which."""


class Evaluator:
    """Scores recipes on one testbed, over `workers` processes, each a whole trainer.

    `work` tells what the workers did so far, for people to look at. `spool` is the folder in which outcomes
    appear as trials end. A trial whose outcome lies there already is graded, not run. `level`: of the sandbox
    that recipes run in; None for the best that this machine has. `baselines`: the fixed points of PGR, where
    they are another testbed's (a changed world is measured by the real one's).
    """

    def __init__(
        self,
        testbed_path: Path,
        *,
        cache: Path,
        spool: Path,
        workers: int = 1,
        kind: str | None = None,
        device: str = "cpu",
        limits: Limits | None = None,
        level: Level | None = None,
        baselines: Baselines | None = None,
    ) -> None:
        if workers < 1:
            raise EvaluatorError(f"--workers {workers}: at least one worker is needed.")
        check_device(device)
        plugins.load()
        self.testbed = Testbed.load(testbed_path)
        self.kind = kinds.kind(kind or self.testbed.profile.student).name
        self.settings = WorkerSettings(
            Path(testbed_path), cache, self.kind, device, limits or Limits(), level or level_here()
        )
        self.workers = workers
        self.work = Work()
        self.grader = Grader(self.testbed.path)
        self._spool = Spool(spool)
        self._baselines = baselines

    @property
    def baselines(self) -> Baselines:
        """Weak and ceiling accuracy over many seeds, trained once and cached by the testbed's content."""
        if self._baselines is None:
            self._baselines = baselines_module.load_or_train(
                self.settings, self.grader, self.testbed, self.workers
            )
        return self._baselines

    @cached_property
    def sealed_grader(self) -> Grader:
        """The grader of the sealed split.

        Asking for it reads that split's labels: for a search's report alone.
        """
        return Grader(self.testbed.path, "sealed")

    @cached_property
    def sealed_baselines(self) -> Baselines:
        """The baselines on the sealed split."""
        return baselines_module.load_or_train(self.settings, self.sealed_grader, self.testbed, self.workers)

    @cached_property
    def _states(self) -> HiddenStates:
        return HiddenStates(self.testbed, self.settings.cache, self.settings.device)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose hidden states recipes are offered."""
        return self._states.layers

    @property
    def has_prior(self) -> bool:
        """Whether the strong model can answer zero-shot here."""
        return self._states.has_prior()

    def in_world(self, name: str, progress: Callable[[int, int], object] | None = None) -> Evaluator:
        """An evaluator like this one in a changed world (`evaluator.audits.worlds`), measured against this
        one's baselines.
        """
        folder = worlds.world(
            self.testbed, name, self.settings.cache, device=self.settings.device, progress=progress
        )
        return Evaluator(
            folder,
            cache=self.settings.cache,
            spool=self._spool.folder,
            workers=self.workers,
            kind=self.kind,
            device=self.settings.device,
            limits=self.settings.limits,
            level=self.settings.level,
            baselines=self.baselines,
        )

    def ensemble_accuracies(self, members: int, sealed: bool = False) -> list[float]:
        """What ensembles of ceilings reach on a split, for random choices of as many seeds
        (`Grader.ensemble_accuracies`).
        """
        grader = self.sealed_grader if sealed else self.grader
        ceilings = baselines_module.ceiling_probabilities(self.settings, grader, self.testbed, self.workers)
        return grader.ensemble_accuracies(ceilings, members)

    def warm_up(self, progress: Callable[[int, int], object] | None = None, *, sealed: bool = False) -> None:
        """Compute the hidden states that every search reads, where the cache lacks them; `progress(done,
        total)` in texts.

        `sealed`: those of the sealed split too, for a search's report alone.
        """
        if self._states.description.hidden_size <= SMALL_MODEL:
            torch.set_num_threads(1)
        self._states.progress = progress
        self._states.fill(("train", "fitness", "sealed") if sealed else ("train", "fitness"))

    def evaluate(
        self,
        requests: Sequence[TrialRequest],
        students: Path | None = None,
        on_question: Callable[[TrialRequest], None] = lambda request: None,
    ) -> Iterator[Result]:
        """Results as they come, in no particular order; nothing about them depends on that order.

        `students`: a folder for the students of one recipe's trials, `seed-N` each (see
        `evaluator.trainer.save`); `on_question` is called before the grader is asked about a trial. Raises
        `EvaluatorError` if workers keep dying. Outcomes that were spooled by then are kept for the next call.
        """
        for purpose in {request.purpose for request in requests}:
            self._measure(purpose)  # trained before the workers are busy
        open_requests = {request.key(self.testbed.content_hash): request for request in requests}
        for attempt in range(1, WORKER_ATTEMPTS + 1):
            yield from self._collect(open_requests, on_question)
            if not open_requests:
                return
            futures = self._submit(list(open_requests.values()), students)
            try:
                while wait(futures, timeout=POLL_SECONDS).not_done:
                    yield from self._collect(open_requests, on_question)
            except BaseException:
                stop_workers()
                raise
            error = next((future.exception() for future in futures if future.exception()), None)
            for future in futures:
                if not future.exception():
                    self.work.add(future.result())
            yield from self._collect(open_requests, on_question)
            if isinstance(error, TerminatedWorkerError) and attempt < WORKER_ATTEMPTS:
                continue
            if isinstance(error, TerminatedWorkerError):
                raise EvaluatorError(
                    f"worker processes were killed {WORKER_ATTEMPTS} times, last with {len(open_requests)}"
                    " trials open. Out of memory? Use fewer --workers and resume."
                ) from error
            if error is not None:
                raise error

    def run_ungraded(self, request: TrialRequest) -> Look:
        """A trial whose purpose is not a score, run beside whatever else the workers are at.

        Raises `EvaluatorError` if it keeps killing them.
        """
        for attempt in range(1, WORKER_ATTEMPTS + 1):
            try:
                return workers_executor(self.workers).submit(run_ungraded, self.settings, request).result()
            except TerminatedWorkerError as error:
                if attempt == WORKER_ATTEMPTS:
                    raise EvaluatorError(
                        f"worker processes were killed {WORKER_ATTEMPTS} times by a recipe that was looked"
                        " at. Out of memory? Use fewer --workers."
                    ) from error
        raise AssertionError("unreachable")

    def _submit(self, requests: list[TrialRequest], students: Path | None) -> list[Future]:
        """All trials over the workers: a recipe's seeds stay together, and every worker gets its share of
        every kind.
        """
        by_recipe: dict[str, list[TrialRequest]] = {}
        for request in requests:
            by_recipe.setdefault(request.source_hash, []).append(request)
        recipes = list(by_recipe.values())
        chunks = [
            [request for own in recipes[start :: self.workers] for request in own]
            for start in range(self.workers)
        ]
        executor = workers_executor(self.workers)
        return [
            executor.submit(run_trials, self.settings, chunk, self._spool.folder, students)
            for chunk in chunks
            if chunk
        ]

    def forget(self, request: TrialRequest) -> None:
        """Drop a spooled outcome that its owner has put on record."""
        self._spool.forget(request.key(self.testbed.content_hash))

    def _measure(self, purpose: str) -> tuple[Grader, Baselines]:
        return (
            (self.sealed_grader, self.sealed_baselines)
            if purpose == SEALED
            else (self.grader, self.baselines)
        )

    def _collect(
        self, open_requests: dict[str, TrialRequest], on_question: Callable[[TrialRequest], None]
    ) -> Iterator[Result]:
        for key in list(open_requests):
            outcome = self._spool.get(key)
            if outcome is None:
                continue
            request = open_requests.pop(key)
            if not outcome.ok:
                yield Unscored(request, outcome)
                continue
            on_question(request)
            grader, baselines = self._measure(request.purpose)
            correct = grader.correct(outcome.fitness)
            accuracy = float(correct.mean())
            yield Scored(request, outcome, accuracy, baselines.pgr(accuracy), correct)
