"""A search with everything around it: its folder and store, evaluators, progress, tracking, budgets,
Ctrl-C.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from evaluator.evaluator import Evaluator, check_device
from evaluator.sandbox.levels import Level
from evaluator.testbeds.prepared import Testbed
from evaluator.work import Work
from evaluator.workers import stop_workers
from evo_aar.errors import SearchStopped, UsageError
from evo_aar.machine.places import run_folder, store_path
from evo_aar.machine.sandbox import described, level_for
from evo_aar.machine.testbeds import prepared
from evo_aar.operators.offline import OfflineOperator
from evo_aar.runs.budgets import Budgets
from evo_aar.runs.evaluators import Workplace, begin_evaluator, evaluator_on
from evo_aar.runs.standing import existing, how_to_resume
from evo_aar.runs.versions import changes, decisive, versions
from evo_aar.search import finals
from evo_aar.search.audits import Auditor
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import Operator
from evo_aar.search.planning import Surroundings
from evo_aar.search.search import Search
from evo_aar.search.seeds import fresh_seeds, search_seeds
from evo_aar.search.selection import scheme_named
from evo_aar.search.settings import SearchSettings
from evo_aar.search.topologies import topology_named
from evo_aar.search.trials import TrialRunner
from evo_aar.tracking.tracker import Tracker
from evo_aar.views.forum_files import ForumFiles
from evo_aar.views.progress import SearchProgress, finals_table, islands_table
from evo_aar.views.tables import audits_table, plain
from population.store import Store

PATIENCE_SECONDS = 900.0


@dataclass(frozen=True)
class Engine:
    """What carries a search on: made once its testbed and models are there.

    `work`: what was trained, counted; `auditor`: None for a search without audits.
    """

    search: Search
    trials: TrialRunner
    tracker: Tracker
    work: Work
    auditor: Auditor | None


class SearchRun:
    """A run open for writing. Use as a context manager: leaving ends the workers and closes the store."""

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
        self._place = Workplace(folder / "spool", workers, device, level)
        self._console = console

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
    ) -> SearchRun:
        """A new run.

        Raises `UsageError` or `StoreError` where it can't be begun; nothing is left behind then.
        """
        _require_workers(workers)
        check_device(device)
        scheme_named(settings.selection)
        topology_named(settings.topology)
        level = _level(settings, unsandboxed)
        if Path(settings.testbed).is_dir():  # a run can be resumed from another folder
            settings = replace(settings, testbed=str(Path(settings.testbed).resolve()))
        path = prepared(settings.testbed, strong=settings.strong, weak=settings.weak)
        for other in settings.also:
            prepared(other)
        folder = run_folder(runs, name) if name else _free_folder(runs, settings)
        facts = {**versions(), "id": uuid.uuid4().hex, "testbed_hash": Testbed.load(path).content_hash}
        store = Store.create(store_path(folder), settings.to_json(), facts)
        return cls(
            store, settings, folder=folder, workers=workers, device=device, level=level, console=console
        )

    @classmethod
    def resume(
        cls, name: str, *, runs: Path, workers: int, device: str, console: Console, unsandboxed: bool = False
    ) -> SearchRun:
        """A run that exists.

        Raises `UsageError` where there is none or a later version began it, `StoreInUse` where another
        process has it.
        """
        _require_workers(workers)
        path = existing(runs, name)
        store = Store.open(path)
        try:
            settings = SearchSettings.from_json(store.settings)
            level = _level(settings, unsandboxed)
        except BaseException:
            store.close()
            raise
        return cls(
            store, settings, folder=path.parent, workers=workers, device=device, level=level, console=console
        )

    def run(self, budgets: Budgets, *, concurrency: int = 1, patience: float = PATIENCE_SECONDS) -> None:
        """Run to the end, to a budget, or to Ctrl-C, which exits with status 130 after saying how to go on.

        `concurrency`: calls of a language model at once; `patience`: seconds that one may take with all its
        retries. Raises `UsageError` where the model's server doesn't serve.
        """
        started, console = time.monotonic(), self._console
        self._announce()
        engine: Engine | None = None
        try:
            with SearchProgress(console, self._settings, len(self._store.trials)) as progress:
                progress.describe("baselines")
                engine = self._engine(progress, budgets, concurrency, patience)
                self._advance(engine, budgets, started, progress)
            engine.tracker.finish()
        except KeyboardInterrupt:
            self._pause(engine)
            console.print(f"\nstopped; nothing is lost. Go on with: {self._how_to_resume()}")
            raise SystemExit(130) from None
        except SearchStopped as stop:
            self._pause(engine)
            if not stop.within_budget:
                raise UsageError(f"{stop}. Nothing is lost; go on with: {self._how_to_resume()}") from None
            console.print(plain(f"{stop}. Go on with: {self._how_to_resume()}"))
            return
        self._conclude(engine)

    # ---- the course of a run

    def _announce(self) -> None:
        """What is run, in which sandbox, and with other versions than so far; all of it on record."""
        settings, console = self._settings, self._console
        named = "offline (syntax tree, no language model)"
        if settings.operator == "agents":
            named = f"agents ({', '.join(settings.models)})"
        console.print(
            f"run [bold]{self._folder.name}[/]: {settings.islands} islands on {settings.testbed}, operator:"
            f" {named}"
        )
        console.print(plain(f"sandbox: {described(self._place.level)}"))
        now = versions()
        before = [self._store.facts, *(one.versions for one in self._store.stints.all() if one.versions)][-1]
        if changed := changes(before, now):
            console.print(
                plain(
                    f"other versions than before: {'; '.join(changed)}. What is on record stays; what is"
                    " computed from here on may differ from what the former versions would have given. This"
                    " is on record."
                )
            )
        self._store.stints.begin(self._place.level, decisive(now))

    def _advance(self, engine: Engine, budgets: Budgets, started: float, progress: SearchProgress) -> None:
        """Generation by generation to the finals. Raises `SearchStopped` at a limit."""
        while not engine.search.done:
            if reached := budgets.reached(self._store, (time.monotonic() - started) / 3600):
                raise SearchStopped(f"{reached} is reached; stopped between generations", within_budget=True)
            progress.describe(f"generation {len(self._store.generations)} of {self._settings.generations}")
            engine.search.step()
        progress.describe("finals")
        if finals.crowned(self._store) is None:
            finals.run(self._store, self._settings, engine.trials, engine.auditor)

    def _pause(self, engine: Engine | None) -> None:
        stop_workers()
        if engine is not None:
            engine.tracker.pause()

    def _conclude(self, engine: Engine) -> None:
        console, testbed = self._console, engine.trials.testbed
        console.print(islands_table(self._store))
        console.print(finals_table(self._store, testbed))
        console.print(f"training: {engine.work}", highlight=False)
        best = finals.crowned(self._store)
        if best is not None and (audits := self._store.audits.of(best.source_hash, testbed)):
            console.print(audits_table(audits))
        console.print(
            f"look at it: evo-aar ui --runs {self._folder.parent}    export it: evo-aar export"
            f" {self._folder.name} --best -o DIR"
        )

    # ---- what it is run with

    def _engine(
        self, progress: SearchProgress, budgets: Budgets, concurrency: int, patience: float
    ) -> Engine:
        settings, store, console = self._settings, self._store, self._console
        place = self._place
        evaluator = begin_evaluator(store, settings, place)
        evaluator.warm_up(lambda done, total: progress.describe(f"hidden states {done}/{total}"))
        base = evaluator.baselines
        console.print(
            f"weak {base.weak_accuracy:.3f}, ceiling {base.ceiling_accuracy:.3f}, majority"
            f" {base.majority:.3f} (fitness split, {len(base.ceiling)} seeds)",
            highlight=False,
        )
        accuracies = {
            "weak": base.weak_accuracy,
            "ceiling": base.ceiling_accuracy,
            "majority": base.majority,
        }
        trials = TrialRunner(store, evaluator, progress.trial)
        tracker = Tracker(
            self._folder.parent, store, self._folder.name, warn=lambda line: console.print(plain(line))
        )
        operator: Operator = OfflineOperator()
        if settings.operator == "agents":
            operator = self._agents(evaluator, trials, accuracies, budgets, patience)
        also = {
            name: TrialRunner(store, evaluator_on(prepared(name), settings, place), progress.trial)
            for name in settings.also
        }
        search = Search(
            store,
            settings,
            operator,
            trials,
            Surroundings(evaluator.layers, evaluator.has_prior),
            reporters=(progress, ForumFiles(self._folder / "forum"), tracker),
            also=also,
            baselines=accuracies,
            concurrency=concurrency if operator.waits else 1,
        )
        return Engine(search, trials, tracker, evaluator.work, self._auditor(trials, progress.describe))

    def _agents(
        self,
        evaluator: Evaluator,
        trials: TrialRunner,
        accuracies: dict[str, float],
        budgets: Budgets,
        patience: float,
    ) -> Operator:
        from evo_aar.agents.briefs import Briefs
        from evo_aar.agents.laboratory import Laboratory
        from evo_aar.agents.meter import Meter
        from evo_aar.agents.operator import AgentOperator
        from evo_aar.agents.provider import Providers

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
            Briefs(self._store, settings, feedback, testbed=trials.testbed, student=evaluator.kind),
            Laboratory(evaluator, self._store, trials, settings.seed),
            provider=Providers(settings.models, patience),
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

    def _how_to_resume(self) -> str:
        return how_to_resume(self._folder.parent, self._folder.name)

    def close(self) -> None:
        stop_workers()
        self._store.close()

    def __enter__(self) -> SearchRun:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _require_workers(workers: int) -> None:
    if workers < 1:
        raise UsageError(f"--workers {workers}: give 1 or more.")


def _level(settings: SearchSettings, unsandboxed: bool) -> Level:
    """What language models write is foreign; what the offline operator makes of this package's seeds
    is not.
    """
    return level_for(written_here=settings.operator != "agents", unsandboxed=unsandboxed)


def _free_folder(runs: Path, settings: SearchSettings) -> Path:
    stem = Path(settings.testbed).name or "run"
    number = 1
    while run_folder(runs, f"{stem}-{number}").exists():
        number += 1
    return run_folder(runs, f"{stem}-{number}")
