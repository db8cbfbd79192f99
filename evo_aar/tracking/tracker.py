"""From a search's store to its MLflow runs, after each generation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from evo_aar.lineage import lineage_page, pgr_chart
from evo_aar.machine.places import tracking_uri
from evo_aar.machine.sandbox import described, level_of
from evo_aar.tracking.individuals import individual_record
from evo_aar.tracking.islands import island_name, island_record, search_record
from evo_aar.tracking.record import KILLED, SEARCH, island_key
from evo_aar.tracking.runs import MlflowRuns, failures
from evo_aar.tracking.view import SearchView
from population.jsontext import digest
from population.store import Store


class Tracker:
    """Shows a search in MLflow, and never stops it: what fails is one warning, and made up for at the next
    opportunity.

    `runs`: the folder of all runs, which has MLflow's database and artifacts; `name`: the run's; `warn` is
    called with one line; `uri`: another MLflow store. Finds the runs of an interrupted search again and adds
    what they lack.
    """

    def __init__(
        self,
        runs: Path,
        store: Store,
        name: str,
        *,
        warn: Callable[[str], object] = print,
        uri: str | None = None,
    ) -> None:
        self._uri = uri or tracking_uri(runs)
        self._artifacts = Path(runs) / "mlartifacts"
        self._store = store
        self._name = name
        self._warn = warn
        self._warned: str | None = None
        self._began = time.time()
        self._runs: MlflowRuns | None = None
        self._shown: int | None = (
            None  # the last generation that MLflow shows wholly, as far as this tracker knows
        )

    def generation(self, store: Store, number: int) -> None:
        """Show all generations up to `number`, which has just been committed to `store`."""
        self._try(lambda: self._show(number, ended=False))

    def finish(self) -> None:
        """Show the search as ended, with its finals."""
        last = self._store.generations.last()
        if last is not None:
            self._try(lambda: self._show(last.number, ended=True))

    def pause(self) -> None:
        """Show the search as stopped; the next generation shows it as running again."""
        if self._runs is not None:  # opening MLflow takes seconds, which who presses Ctrl-C shall not wait
            self._try(self._stop)

    # ---- what may fail

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
            self._warned = None
        except failures() as error:
            self._runs = self._shown = None  # an error leaves open what has been written: it is read again
            said = " ".join(str(error).split())[:200]
            if said != self._warned:
                self._warn(
                    f"MLflow tracking failed ({type(error).__name__}: {said}). The search goes on, and"
                    " tracking catches up."
                )
            self._warned = said

    def _opened(self) -> MlflowRuns:
        if self._runs is None:
            # Another search of this name, after the first one's folder was deleted, is told from it by
            # settings, versions and id.
            identity = f"{self._name} {digest([self._store.settings, self._store.facts])[:12]}"
            self._runs = MlflowRuns(self._uri, self._artifacts, self._experiment(), identity)
        return self._runs

    def _experiment(self) -> str:
        testbed = str(self._store.settings["testbed"])
        if Path(testbed).is_dir():  # two folders may have the same name
            testbed = f"{Path(testbed).resolve().name} {self._store.facts['testbed_hash'][:8]}"
        return f"evo-aar {testbed}"

    def _stop(self) -> None:
        runs = self._opened()
        for key in [SEARCH, *(island_key(number) for number in range(int(self._store.settings["islands"])))]:
            runs.mark(key, KILLED)

    def _reports(self) -> dict[str, str]:
        """The reports on the sealed split, a folder for each opening."""
        from evo_aar.report import contents, figures  # whose pages are written with this package's Markdown

        made: dict[str, str] = {}
        for opening in self._store.openings.all():
            found = figures(self._store, opening)
            if found is not None:
                made |= {
                    f"report/opening-{opening.number}/{name}": text for name, text in contents(found).items()
                }
        return made

    def _show(self, number: int, ended: bool) -> None:
        runs, view = self._opened(), SearchView(self._store, number)
        runs.ensure(SEARCH, "search", self._name, None, self._began)
        for island in view.last.islands:
            runs.ensure(island_key(island.number), "island", island_name(view.last, island.number), SEARCH)
        touched = view.individuals.keys() if ended or self._shown is None else view.touched_since(self._shown)
        for identity in view.individuals:
            if identity in touched:
                runs.write(individual_record(view.life(identity), runs.link))
        points = view.island_points()
        for island in view.last.islands:
            lives = view.lives(island.population)
            record = island_record(island.number, view.last, points[island.number], lives, ended, runs.link)
            runs.write(replace(record, traces=view.unborn_traces(island.number)))
        genealogy = view.genealogy()
        artifacts = {
            "lineage.html": lineage_page(genealogy, self._name),
            "pgr.svg": pgr_chart(genealogy),
            **self._reports(),
        }
        if findings := view.forum():
            artifacts["forum.md"] = findings
        runs.write(
            search_record(
                name=self._name,
                settings=self._store.settings,
                facts=self._store.facts,
                sandbox=described(level_of(self._store)),
                generation=view.last,
                made=view.search_points(),
                baselines=view.baselines(),
                best=view.best(),
                final=view.final_table(),
                artifacts=artifacts,
                ended=ended,
                link=runs.link,
            )
        )
        self._shown = number
