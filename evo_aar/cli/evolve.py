"""`evo-aar evolve` and `evo-aar resume`: one search, begun or continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evo_aar.cli.options import Device, Price, Prices, Run, Runs, Strong, Student, Unsandboxed, Weak, spread
from evo_aar.machine.places import default_workers
from evo_aar.runs.budgets import Budgets
from evo_aar.search.settings import SearchSettings

if TYPE_CHECKING:
    from evo_aar.runs.search_run import SearchRun

DEFAULTS = SearchSettings(testbed="mini/math")
MODELS = ["claude-opus-5-5"]


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """How one command works on a search: what `evolve` and `resume` have in common."""

    runs: Runs = Path("runs")
    workers: Annotated[int, typer.Option(help="Worker processes, each a whole trainer.")] = default_workers()
    max_trials: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop cleanly before the generation that would begin past this many trials."
        ),
    ] = None
    max_questions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop cleanly before the generation that would begin past this many questions to the"
            " grader.",
        ),
    ] = None
    max_hours: Annotated[
        float | None,
        typer.Option(help="Stop cleanly before the generation that would begin past this many hours."),
    ] = None
    max_usd: Annotated[
        float | None,
        typer.Option(
            help="Stop cleanly before language models have cost more than this, calls in flight counted."
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Stop cleanly before language models have read and written more tokens than this."
        ),
    ] = None
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Calls of a language model at once.")] = 9
    patience: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds that a call may take, with all its retries, before the search stops to be resumed.",
        ),
    ] = 900.0
    device: Device = "cpu"
    unsandboxed: Unsandboxed = False

    @property
    def budgets(self) -> Budgets:
        """Raises `UsageError` for a negative limit."""
        return Budgets(
            max_trials=self.max_trials,
            max_questions=self.max_questions,
            max_hours=self.max_hours,
            max_usd=self.max_usd,
            max_tokens=self.max_tokens,
        )

    def carry_on(self, open_run: Callable[..., SearchRun]) -> None:
        """Open a run by `open_run`, one of `SearchRun`'s, and run it."""
        from evo_aar.views.tables import output

        budgets = self.budgets
        with open_run(
            runs=self.runs,
            workers=self.workers,
            device=self.device,
            unsandboxed=self.unsandboxed,
            console=output(),
        ) as run:
            run.run(budgets, concurrency=self.concurrency, patience=self.patience)


@spread(work=WorkOptions)
def evolve(
    islands: Annotated[
        int, typer.Option(help="Islands, each seeded with one of the nine directions.")
    ] = DEFAULTS.islands,
    testbed: Annotated[
        str, typer.Option(help="mini/chat, mini/math, mini/code, real/film, or a folder of jsonl files.")
    ] = DEFAULTS.testbed,
    population: Annotated[
        int, typer.Option(help="Individuals that live on an island.")
    ] = DEFAULTS.population,
    children: Annotated[int, typer.Option(help="Births on an island in a generation.")] = DEFAULTS.children,
    generations: Annotated[
        int, typer.Option(help="Generations after the seed recipes.")
    ] = DEFAULTS.generations,
    seeds: Annotated[
        int, typer.Option(help="Trials of a recipe, paired by seed across recipes.")
    ] = DEFAULTS.seeds,
    race: Annotated[
        bool,
        typer.Option(
            help=(
                "Spare children the rest of their seeds that are clearly behind as many others as their"
                " island has places."
            )
        ),
    ] = DEFAULTS.race,
    final_seeds: Annotated[
        int, typer.Option(help="Fresh seeds on which the finalists are compared.")
    ] = DEFAULTS.final_seeds,
    audit_seeds: Annotated[
        int,
        typer.Option(
            help="Trials in each changed world in which who is to be crowned is audited; 0 for no audits."
        ),
    ] = DEFAULTS.audit_seeds,
    migrate_every: Annotated[
        int, typer.Option(help="Generations between migrations; 0 for none.")
    ] = DEFAULTS.migrate_every,
    topology: Annotated[
        str, typer.Option(help="Along which routes the islands' elites migrate.")
    ] = DEFAULTS.topology,
    selection: Annotated[
        str, typer.Option(help="The scheme by which individuals breed and live.")
    ] = DEFAULTS.selection,
    seed: Annotated[int, typer.Option(help="The search's own seed.")] = DEFAULTS.seed,
    student: Student = None,
    strong: Strong = None,
    weak: Weak = None,
    operator: Annotated[
        str | None,
        typer.Option(
            help="agents (language models) or offline; default: agents where there is an API key.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str], typer.Option(help="A model for agents; give several to have them compared.")
    ] = MODELS,
    allocation: Annotated[
        str,
        typer.Option(
            help="How births are dealt out to operators and models: bandit (by gain per dollar) or uniform."
        ),
    ] = DEFAULTS.allocation,
    tries: Annotated[
        int, typer.Option(help="Low-fidelity trials that an island's agents may spend in a generation.")
    ] = DEFAULTS.tries,
    turns: Annotated[int, typer.Option(help="Replies of a model for one child.")] = DEFAULTS.turns,
    reply_tokens: Annotated[
        int, typer.Option(help="The longest reply of a model, in tokens.")
    ] = DEFAULTS.reply_tokens,
    price: Price = [],  # noqa: B006 - typer copies it
    prices: Prices = None,
    also: Annotated[
        str,
        typer.Option(
            help="Testbeds, by comma, on which each generation's elites are evaluated too; never selected on."
        ),
    ] = "",
    run: Annotated[
        str | None, typer.Option(help="The run's name; default: the testbed's and a number.")
    ] = None,
    *,
    work: WorkOptions,
) -> None:
    """Evolve training recipes on islands, and compare the best with the seed recipes and with vanilla
    fine-tuning.
    """
    from evo_aar.runs.search_run import SearchRun

    settings = SearchSettings(
        testbed=testbed,
        strong=strong,
        weak=weak,
        student=student,
        islands=islands,
        population=population,
        children=children,
        generations=generations,
        seeds=seeds,
        race=race,
        migrate_every=migrate_every,
        final_seeds=final_seeds,
        audit_seeds=audit_seeds,
        seed=seed,
        also=tuple(name for name in also.split(",") if name),
        allocation=allocation,
        topology=topology,
        selection=selection,
        **_operators(operator, model, tries, turns, reply_tokens, prices, price),
    )
    work.carry_on(partial(SearchRun.create, settings, name=run))


def _operators(
    operator: str | None,
    models: list[str],
    tries: int,
    turns: int,
    reply_tokens: int,
    prices: Path | None,
    price: list[str],
) -> dict:
    """The settings that say who makes children."""
    from evo_aar.agents.anthropic_client import has_key
    from evo_aar.agents.prices import price_table
    from evo_aar.agents.provider import kind_of

    operator = operator or ("agents" if has_key() else "offline")
    if operator != "agents":
        return {"operator": operator}
    for model in models:
        kind_of(model).require()
    return {
        "operator": operator,
        "models": tuple(models),
        "prices": price_table(models, prices, price),
        "tries": tries,
        "turns": turns,
        "reply_tokens": reply_tokens,
    }


@spread(work=WorkOptions)
def resume(run: Run, *, work: WorkOptions) -> None:
    """Continue a search from its store, wherever it was interrupted."""
    from evo_aar.runs.search_run import SearchRun

    work.carry_on(partial(SearchRun.resume, run))


def register(app: typer.Typer) -> None:
    app.command()(evolve)
    app.command()(resume)
