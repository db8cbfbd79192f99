"""A search with everything around it: its folder and store, evaluators, progress, tracking,
budgets, Ctrl-C.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from rich.console import Console

from evaluator.evaluator import Evaluator, check_device
from evaluator.sandbox.levels import Level
from evaluator.testbeds.prepared import Testbed
from evaluator.work import Work
from evaluator.workers import stop_workers
from evo_aar.search import finals
from evo_aar.search.audits import Auditor
from evo_aar.runs.budgets import Budgets
from evo_aar.errors import SearchStopped, UsageError
from evo_aar.search.feedback import Feedback
from evo_aar.views.forum_files import ForumFiles
from evo_aar.agents.laboratory import Laboratory
from evo_aar.operators.offline import OfflineOperator
from evo_aar.search.operator import Operator
from evo_aar.machine.places import cache_folder, run_folder, store_path
from evo_aar.views.progress import SearchProgress, finals_table, islands_table
from evo_aar.machine.sandbox import described, level_for
from evo_aar.search.planning import Surroundings
from evo_aar.search.search import Search
from evo_aar.search.settings import SearchSettings
from evo_aar.views.tables import audits_table, plain
from evo_aar.machine.testbeds import prepared
from evo_aar.tracking.tracker import Tracker
from evo_aar.search.seeds import fresh_seeds, search_seeds
from evo_aar.search.trials import TrialRunner
from population.store import Store

PATIENCE_SECONDS = 900.0
PACKAGES = ("evo-aar", "torch", "transformers", "numpy", "deap", "joblib", "libcst", "anthropic")


class SearchSession:
    """Opens a run for writing. Use as a context manager: leaving ends the workers and closes the store."""

    def __init__(
        self,
        store: Store,
        settings: SearchSettings,
        *,
        folder: Path,
        workers: int,
        device: str,
        level: Level,
        console: Console,
    ) -> None:
        self._store = store
        self._settings = settings
        self._folder = folder
        self._workers = workers
        self._device = device
        self._level = level
        self._console = console
        self._tracker: Tracker | None = None
        self._work = Work()

    @classmethod
    def create(
        cls,
        settings: SearchSettings,
        *,
        runs: Path,
        name: str | None,
        workers: int,
        device: str,
        console: Console,
        unsandboxed: bool = False,
    ) -> SearchSession:
        """A new run.

        Raises `UsageError` or `StoreError` where it can't be begun; nothing is left behind then.
        """
        if workers < 1:
            raise UsageError(f"--workers {workers}: give 1 or more.")
        check_device(device)
        level = _level(settings, unsandboxed)
        if Path(settings.testbed).is_dir():  # a run can be resumed from another folder
            settings = replace(settings, testbed=str(Path(settings.testbed).resolve()))
        path = prepared(settings.testbed, strong=settings.strong, weak=settings.weak)
        for other in settings.also:
            prepared(other)
        folder = run_folder(runs, name) if name else _free_folder(runs, settings)
        facts = {package: metadata.version(package) for package in PACKAGES}
        facts |= {
            "id": uuid.uuid4().hex,
            "python": sys.version.split()[0],
            "testbed_hash": Testbed.load(path).content_hash,
        }
        store = Store.create(store_path(folder), settings.to_json(), facts)
        return cls(
            store, settings, folder=folder, workers=workers, device=device, level=level, console=console
        )

    @classmethod
    def resume(
        cls, name: str, *, runs: Path, workers: int, device: str, console: Console, unsandboxed: bool = False
    ) -> SearchSession:
        """A run that exists.

        Raises `UsageError` where there is none, `StoreInUse` where another process has it.
        """
        if workers < 1:
            raise UsageError(f"--workers {workers}: give 1 or more.")
        folder = run_folder(runs, name)
        if not store_path(folder).exists():
            known = sorted(path.parent.name for path in runs.glob("*/search.sqlite")) if runs.is_dir() else []
            raise UsageError(f"there is no run {name!r} in {runs}. Runs there: {', '.join(known) or 'none'}.")
        store = Store.open(store_path(folder))
        try:
            settings = SearchSettings.from_json(store.settings)
            level = _level(settings, unsandboxed)
        except BaseException:
            store.close()
            raise
        return cls(
            store, settings, folder=folder, workers=workers, device=device, level=level, console=console
        )

    def run(self, budgets: Budgets, *, concurrency: int = 1, patience: float = PATIENCE_SECONDS) -> None:
        """Run to the end, to a budget, or to Ctrl-C, which exits with status 130 after saying how to go on.

        `concurrency`: calls of a language model at once; `patience`: seconds that one may take with all its
        retries. Raises `UsageError` where the model's server doesn't serve.
        """
        started, settings, console = time.monotonic(), self._settings, self._console
        named = (
            f"agents ({', '.join(settings.models)})"
            if settings.operator == "agents"
            else "offline (syntax tree, no language model)"
        )
        console.print(
            f"run [bold]{self._folder.name}[/]: {settings.islands} islands on {settings.testbed}, operator:"
            f" {named}"
        )
        console.print(plain(f"sandbox: {described(self._level)}"))
        self._store.sessions.begin(self._level)
        try:
            with SearchProgress(console, settings, len(self._store.trials)) as progress:
                progress.describe("baselines")
                search, trials = self._search(progress, budgets, concurrency, patience)
                while not search.done:
                    if reached := budgets.reached(self._store, (time.monotonic() - started) / 3600):
                        raise SearchStopped(
                            f"{reached} is reached; stopped between generations", within_budget=True
                        )
                    progress.describe(f"generation {len(self._store.generations)} of {settings.generations}")
                    search.step()
                progress.describe("finals")
                if finals.crowned(self._store) is None:
                    finals.run(self._store, settings, trials, self._auditor(trials, progress.describe))
            self._tracker.finish()
        except KeyboardInterrupt:
            stop_workers()
            self._pause()
            console.print(f"\nstopped; nothing is lost. Go on with: {self._how_to_resume()}")
            raise SystemExit(130) from None
        except SearchStopped as stop:
            stop_workers()
            self._pause()
            if not stop.within_budget:
                raise UsageError(f"{stop}. Nothing is lost; go on with: {self._how_to_resume()}") from None
            console.print(plain(f"{stop}. Go on with: {self._how_to_resume()}"))
            return
        console.print(islands_table(self._store))
        console.print(finals_table(self._store, trials.testbed))
        console.print(f"training: {self._work}", highlight=False)
        best = finals.crowned(self._store)
        if best is not None and (audits := self._store.audits.of(best.source_hash, trials.testbed)):
            console.print(audits_table(audits))
        console.print(
            f"look at it: evo-aar ui --runs {self._folder.parent}    export it: evo-aar export"
            f" {self._folder.name} --best -o DIR"
        )

    def _pause(self) -> None:
        if self._tracker is not None:
            self._tracker.pause()

    def _search(
        self, progress: SearchProgress, budgets: Budgets, concurrency: int, patience: float
    ) -> tuple[Search, TrialRunner]:
        settings = self._settings
        path = prepared(settings.testbed, strong=settings.strong, weak=settings.weak)
        evaluator = self._evaluator(path)
        expected = self._store.facts["testbed_hash"]
        if evaluator.testbed.content_hash != expected:
            raise UsageError(
                f"the testbed {settings.testbed} is now {evaluator.testbed.content_hash}, but run"
                f" {self._folder.name} was begun on {expected}. Restore the files or the version that it was"
                " begun with."
            )
        self._work = evaluator.work
        evaluator.warm_up(lambda done, total: progress.describe(f"hidden states {done}/{total}"))
        base = evaluator.baselines
        self._console.print(
            f"weak {base.weak_accuracy:.3f}, ceiling {base.ceiling_accuracy:.3f}, majority"
            f" {base.majority:.3f} (fitness split, {len(base.ceiling)} seeds)",
            highlight=False,
        )
        trials = TrialRunner(self._store, evaluator, progress.trial)
        also = {
            name: TrialRunner(self._store, self._evaluator(prepared(name)), progress.trial)
            for name in settings.also
        }
        self._tracker = Tracker(
            self._folder.parent,
            self._store,
            self._folder.name,
            warn=lambda line: self._console.print(plain(line)),
        )
        surroundings = Surroundings(evaluator.layers, evaluator.has_prior)
        accuracies = {"weak": base.weak_accuracy, "ceiling": base.ceiling_accuracy, "majority": base.majority}
        reporters = (progress, ForumFiles(self._folder / "forum"), self._tracker)
        operator: Operator = OfflineOperator()
        if settings.operator == "agents":
            operator = self._agents(evaluator, trials, accuracies, budgets, patience)
        calls = concurrency if operator.waits else 1
        return (
            Search(
                self._store,
                settings,
                operator,
                trials,
                surroundings,
                reporters=reporters,
                also=also,
                baselines=accuracies,
                concurrency=calls,
            ),
            trials,
        )

    def _agents(
        self, evaluator: Evaluator, trials: TrialRunner, accuracies: dict, budgets: Budgets, patience: float
    ) -> Operator:
        from evo_aar.agents.client import ModelClient
        from evo_aar.agents.meter import Meter
        from evo_aar.agents.operator import AgentOperator

        settings = self._settings
        feedback = Feedback(
            self._store,
            trials.testbed,
            seeds=search_seeds(settings.seed, settings.seeds),
            islands=settings.islands,
            weak=accuracies["weak"],
            ceiling=accuracies["ceiling"],
        )
        deadline = None if budgets.max_hours is None else time.monotonic() + budgets.max_hours * 3600
        return AgentOperator(
            self._store,
            settings,
            Laboratory(evaluator, self._store, trials, settings.seed),
            feedback,
            testbed=trials.testbed,
            student=evaluator.kind,
            client=ModelClient(patience=patience),
            meter=Meter(
                self._store, max_usd=budgets.max_usd, max_tokens=budgets.max_tokens, deadline=deadline
            ),
            say=lambda line: self._console.print(plain(line)),
        )

    def _auditor(self, trials: TrialRunner, say: Callable[[str], object]) -> Auditor | None:
        settings = self._settings
        if not settings.audit_seeds:
            return None
        return Auditor(
            self._store,
            trials,
            chosen_on=search_seeds(settings.seed, settings.seeds),
            seeds=fresh_seeds(settings.seed, settings.audit_seeds),
            say=say,
        )

    def _evaluator(self, path: Path) -> Evaluator:
        return Evaluator(
            path,
            cache=cache_folder(),
            spool=self._folder / "spool",
            workers=self._workers,
            kind=self._settings.student,
            device=self._device,
            level=self._level,
        )

    def _how_to_resume(self) -> str:
        return f"evo-aar resume {self._folder.name} --runs {self._folder.parent}"

    def close(self) -> None:
        stop_workers()
        self._store.close()

    def __enter__(self) -> SearchSession:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _level(settings: SearchSettings, unsandboxed: bool) -> Level:
    """What language models write is foreign; what the offline operator makes of this package's
    seeds is not.
    """
    return level_for(written_here=settings.operator != "agents", unsandboxed=unsandboxed)


def _free_folder(runs: Path, settings: SearchSettings) -> Path:
    stem = Path(settings.testbed).name or "run"
    number = 1
    while run_folder(runs, f"{stem}-{number}").exists():
        number += 1
    return run_folder(runs, f"{stem}-{number}")
