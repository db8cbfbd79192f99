"""What a person sees while a search runs: a bar with an estimate of the rest, a line a generation, tables at
the end.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from evo_aar.search.finals import finalists, lead
from evo_aar.search.record import GenerationRecord
from evo_aar.search.settings import SearchSettings
from evo_aar.views.tables import NOTHING, plain, plus_minus
from population.store import Store
from population.trial import Trial


class SearchProgress:
    """A progress bar over all trials of a search.

    Its total is an estimate: migrations and repairs add, failures save.
    """

    def __init__(self, console: Console, settings: SearchSettings, done: int) -> None:
        self.console = console
        births = settings.islands * (1 + settings.children * settings.generations)
        finals = 3 * settings.final_seeds + 10 * settings.seeds
        total = (
            births * settings.seeds * (1 + len(settings.also) * (settings.generations + 1) // max(1, births))
            + finals
        )
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeElapsedColumn(),
            TextColumn("rest about"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=max(total, done), completed=done)

    def describe(self, words: str) -> None:
        self._progress.update(self._task, description=words)

    def trial(self, trial: Trial) -> None:
        self._progress.advance(self._task)

    def generation(self, store: Store, number: int) -> None:
        """A line for a generation on record."""
        figures = GenerationRecord.of(store.generations.get(number)).figures
        born = sum(island.born for island in figures.islands.values())
        failed = sum(island.failed for island in figures.islands.values())
        distinct = figures.diversity.sources if figures.diversity else 0
        self.console.print(
            f"generation {number}: best PGR {plus_minus(figures.best_pgr, figures.best_se)}"
            f" ({figures.best}), {born} born, {failed} failed, {distinct} distinct recipes alive",
            highlight=False,
        )

    def __enter__(self) -> SearchProgress:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()


def islands_table(store: Store) -> Table:
    """The islands as the last generation left them."""
    number = len(store.generations) - 1
    table = Table(title=f"Islands after generation {number} (PGR on the fitness split)")
    table.add_column("", justify="right")
    table.add_column("direction", no_wrap=True)
    table.add_column("seed's PGR", justify="right", no_wrap=True)
    table.add_column("best PGR", justify="right", no_wrap=True)
    table.add_column("best", no_wrap=True)
    table.add_column("its idea", ratio=1)
    first, last = (GenerationRecord.of(store.generations.get(each)) for each in (0, number))
    for island, figures in last.figures.islands.items():
        best, seed = last.state.best[island], first.figures.islands[island]
        table.add_row(
            str(island),
            figures.direction,
            plus_minus(seed.best_pgr, seed.best_se),
            plus_minus(figures.best_pgr, figures.best_se),
            best or NOTHING,
            plain(store.individuals.get(best).idea if best else ""),
        )
    return table


def finals_table(store: Store, testbed: str) -> Table:
    """Vanilla, best seed recipe and best evolved child on the final seeds."""
    rows = finalists(store, testbed)
    seeds = rows[0].fitness.trials if rows and rows[0].fitness else 0
    table = Table(title=f"On {seeds} fresh seeds, fitness split", caption=_verdict(rows))
    table.add_column("", no_wrap=True)
    table.add_column("individual", no_wrap=True)
    table.add_column("PGR ± SE", justify="right", no_wrap=True)
    table.add_column("idea", ratio=1)
    for row in rows:
        table.add_row(
            row.role,
            row.individual or NOTHING,
            plus_minus(row.fitness.mean, row.fitness.standard_error) if row.fitness else "failed",
            plain(row.idea),
        )
    return table


def _verdict(rows: list) -> str:
    by_role = {row.role: row for row in rows}
    child, seed = by_role.get("best evolved child"), by_role.get("best seed recipe")
    return f"best evolved child less best seed recipe: {lead(child, seed)}" if child and seed else ""
