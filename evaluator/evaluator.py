"""The evaluator: takes trials, returns scored results. Knows nothing of search, islands or operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from evaluator import baselines as baselines_module
from evaluator.audits import worlds
from evaluator.baselines import Baselines
from evaluator.errors import EvaluatorError
from evaluator.grader import Grader
from evaluator.hidden_states import HiddenStates
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.sandbox.probe import level_here
from evaluator.testbeds.prepared import Testbed
from evaluator.trial import SEALED, Outcome, TrialRequest
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
class Result:
    """A trial's outcome with its score: transfer accuracy and PGR on the fitness split, and which of its rows
    were right; None for a failure.
    """

    request: TrialRequest
    outcome: Outcome
    accuracy: float | None
    pgr: float | None
    correct: np.ndarray | None = None


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
        self.testbed = Testbed.load(testbed_path)
        self.kind = kind or self.testbed.profile.student
        self.settings = WorkerSettings(
            Path(testbed_path), cache, self.kind, device, limits or Limits(), level or level_here()
        )
        self.workers = workers
        self.work = Work()
        self.grader = Grader(self.testbed.path)
        self._spool = spool
        self._baselines = baselines
        spool.mkdir(parents=True, exist_ok=True)

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
            spool=self._spool,
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

    def warm_up(self, progress: Callable[[int, int], None] | None = None, *, sealed: bool = False) -> None:
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
        trials: Sequence[TrialRequest],
        students: Path | None = None,
        on_question: Callable[[TrialRequest], None] = lambda trial: None,
    ) -> Iterator[Result]:
        """Results as they come, in no particular order; nothing about them depends on that order.

        `students`: a folder for the students of one recipe's trials, `seed-N` each (see
        `evaluator.trainer.save`); `on_question` is called before the grader is asked about a trial. Raises
        `EvaluatorError` if workers keep dying. Outcomes that were spooled by then are kept for the next call.
        """
        for purpose in {trial.purpose for trial in trials}:
            self._measure(purpose)  # trained before the workers are busy
        open_trials = {trial.key(self.testbed.content_hash): trial for trial in trials}
        for attempt in range(1, WORKER_ATTEMPTS + 1):
            yield from self._collect(open_trials, on_question)
            if not open_trials:
                return
            futures = self._submit(list(open_trials.values()), students)
            try:
                while wait(futures, timeout=POLL_SECONDS).not_done:
                    yield from self._collect(open_trials, on_question)
            except BaseException:
                stop_workers()
                raise
            error = next((future.exception() for future in futures if future.exception()), None)
            for future in futures:
                if not future.exception():
                    self.work.add(future.result())
            yield from self._collect(open_trials, on_question)
            if isinstance(error, TerminatedWorkerError) and attempt < WORKER_ATTEMPTS:
                continue
            if isinstance(error, TerminatedWorkerError):
                raise EvaluatorError(
                    f"worker processes were killed {WORKER_ATTEMPTS} times, last with {len(open_trials)}"
                    " trials open. Out of memory? Use fewer --workers and resume."
                ) from error
            if error is not None:
                raise error

    def run_ungraded(self, trial: TrialRequest) -> Outcome:
        """A trial whose purpose is not a score, run beside whatever else the workers are at.

        Raises `EvaluatorError` if it keeps killing them.
        """
        for attempt in range(1, WORKER_ATTEMPTS + 1):
            try:
                return workers_executor(self.workers).submit(run_ungraded, self.settings, trial).result()
            except TerminatedWorkerError as error:
                if attempt == WORKER_ATTEMPTS:
                    raise EvaluatorError(
                        f"worker processes were killed {WORKER_ATTEMPTS} times by a recipe that was looked"
                        " at. Out of memory? Use fewer --workers."
                    ) from error
        raise AssertionError("unreachable")

    def _submit(self, trials: list[TrialRequest], students: Path | None) -> list[Future]:
        """All trials over the workers: a recipe's seeds stay together, and every worker gets its share of
        every kind.
        """
        by_recipe: dict[str, list[TrialRequest]] = {}
        for trial in trials:
            by_recipe.setdefault(trial.source_hash, []).append(trial)
        recipes = list(by_recipe.values())
        chunks = [
            [trial for own in recipes[start :: self.workers] for trial in own]
            for start in range(self.workers)
        ]
        executor = workers_executor(self.workers)
        return [
            executor.submit(run_trials, self.settings, chunk, self._spool, students)
            for chunk in chunks
            if chunk
        ]

    def forget(self, trial: TrialRequest) -> None:
        """Drop a spooled outcome that its owner has put on record."""
        (self._spool / f"{trial.key(self.testbed.content_hash)}.npz").unlink(missing_ok=True)

    def _measure(self, purpose: str) -> tuple[Grader, Baselines]:
        return (
            (self.sealed_grader, self.sealed_baselines)
            if purpose == SEALED
            else (self.grader, self.baselines)
        )

    def _collect(
        self, open_trials: dict[str, TrialRequest], on_question: Callable[[TrialRequest], None]
    ) -> Iterator[Result]:
        for key in [key for key in open_trials if (self._spool / f"{key}.npz").exists()]:
            outcome = Outcome.load(self._spool / f"{key}.npz")
            trial = open_trials.pop(key)
            if not outcome.ok:
                yield Result(trial, outcome, None, None)
                continue
            on_question(trial)
            grader, baselines = self._measure(trial.purpose)
            correct = grader.correct(outcome.fitness)
            accuracy = float(correct.mean())
            yield Result(trial, outcome, accuracy, baselines.pgr(accuracy), correct)
