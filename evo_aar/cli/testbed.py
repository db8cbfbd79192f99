"""`evo-aar testbed`: which testbeds there are, what is in one, and making one ready."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evo_aar.cli.options import Json, Strong, Weak

testbeds = typer.Typer(help="List, show, fetch and prepare testbeds.", no_args_is_help=True)
Name = Annotated[
    str,
    typer.Argument(
        help="mini/chat, mini/math, mini/code, real/film, or a folder of jsonl files.",
        metavar="NAME",
        show_default=False,
    ),
]


@testbeds.command("list")
def list_testbeds() -> None:
    """List the built-in testbeds and where those that are prepared lie."""
    from evo_aar.machine.testbeds import FILM, MINI, in_cache
    from evo_aar.views import tables

    what = {
        "mini/chat": "generated: which of two replies is right",
        "mini/math": "generated: sums that are right or wrong",
    }
    what |= {
        "mini/code": "generated: programs' results, right or wrong",
        FILM: "film reviews, positive or not; downloaded once",
    }
    made = tables.table(
        "Testbeds",
        "name",
        "what",
        "prepared in",
        caption="a folder of your own jsonl files is a testbed, too",
    )
    for name in (*MINI, FILM):
        path = in_cache(name)
        made.add_row(
            name, what[name], tables.plain(path) if path else f"not yet: evo-aar testbed prepare {name}"
        )
    tables.output().print(made)


@testbeds.command()
def show(name: Name, strong: Strong = None, weak: Weak = None, as_json: Json = False) -> None:
    """Show a testbed: sizes, class balance, models, templates, hash, where it lies.

    It is prepared if it isn't yet.
    """
    import json

    from evo_aar.views import tables

    path = _ready(name, strong, weak)
    facts = _facts(path)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    rows = [
        (key.replace("_", " "), value)
        for key, value in facts.items()
        if key not in ("templates", "splits", "profile")
    ]
    console = tables.output()
    console.print(tables.facts(f"testbed {facts['name']}", rows))
    splits = tables.table("Splits", "split", "rows", "share of class 1", right=("rows", "share of class 1"))
    for split, own in facts["splits"].items():
        splits.add_row(split, f"{own['rows']:,}", tables.number(own["share_of_class_1"]))
    console.print(splits)
    templates = tables.table("Templates", "", "pattern", "class 0, class 1", right=("",))
    for place, template in enumerate(facts["templates"]):
        templates.add_row(
            str(place),
            tables.plain(repr(template["pattern"])),
            tables.plain(template["verdicts"] or "no zero-shot answer"),
        )
    console.print(templates)
    console.print(tables.facts("Profile", [(key, value) for key, value in facts["profile"].items()]))


@testbeds.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(help="film: the one testbed whose data and model are downloaded.", show_default=False),
    ],
) -> None:
    """Download what a testbed is made from, prepare it, and compute its hidden states."""
    from evo_aar.errors import UsageError
    from evo_aar.machine.testbeds import FILM

    if name not in ("film", FILM):
        raise UsageError(
            f"testbed fetch {name}: nothing of it is downloaded. Only film is; `evo-aar testbed prepare`"
            " makes the others."
        )
    path = _ready(FILM, None, None)
    _fill(path)
    typer.echo(path)


@testbeds.command()
def prepare(name: Name, strong: Strong = None, weak: Weak = None) -> None:
    """Prepare a testbed and print its folder: rows, labels, weak labels."""
    typer.echo(_ready(name, strong, weak))


def _ready(name: str, strong: str | None, weak: str | None) -> Path:
    from evo_aar.machine.testbeds import prepared, warnings
    from evo_aar.views import tables

    console = tables.notices()
    with tables.progress(console) as bar:
        task = bar.add_task(f"testbed {name}", total=None)
        path = prepared(
            name,
            strong=strong,
            weak=weak,
            progress=lambda what, done, total: bar.update(
                task, description=what, completed=done, total=total or None
            ),
        )
    for line in warnings(path):
        console.print(tables.plain(line))
    return path


def _fill(path: Path) -> None:
    """Compute the hidden states that a search on this testbed reads, where the cache lacks them."""
    from evaluator.hidden_states import HiddenStates
    from evaluator.testbeds.prepared import Testbed
    from evo_aar.machine.places import cache_folder
    from evo_aar.views import tables

    with tables.progress(tables.notices()) as bar:
        task = bar.add_task("hidden states", total=None)
        states = HiddenStates(
            Testbed.load(path),
            cache_folder(),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
        states.fill()


def _facts(path: Path) -> dict:
    from dataclasses import asdict

    from evaluator.testbeds.prepared import SPLITS, Testbed, load_labels

    testbed = Testbed.load(path)
    # The sealed split is opened by a search's final report alone: not even its balance is looked at here.
    balance = {
        split: float(load_labels(path, split).mean()) if split != "sealed" else None for split in SPLITS
    }
    return {
        "name": testbed.name,
        "kind": {"single": "single: is this choice right?", "pair": "pair: which reply is better?"}[
            testbed.kind
        ],
        "strong_model": testbed.strong,
        "content_hash": testbed.content_hash,
        "folder": str(path),
        "weak_labels_for_class_1": float(testbed.weak_labels().argmax(1).mean()),
        "splits": {
            split: {"rows": testbed.sizes[split], "share_of_class_1": balance[split]} for split in SPLITS
        },
        "templates": [asdict(template) for template in testbed.templates],
        "profile": asdict(testbed.profile),
    }


def register(app: typer.Typer) -> None:
    app.add_typer(testbeds, name="testbed")
