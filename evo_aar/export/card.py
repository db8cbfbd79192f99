"""The card of an exported individual, in Markdown: everything that one has to know to judge it and to run it
again.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from evo_aar.export.ancestry import Ancestor
from evo_aar.views.markdown import code, escaped
from evo_aar.views.tables import number, plus_minus

EXPLANATION = (
    "PGR, the performance gap recovered: (student - weak) / (ceiling - weak), in accuracy. 0 is no better"
    " than the weak teacher, 1 is as good as training on ground truth. Figures are mean ± standard error over"
    " seeds."
)
FITNESS_NOTE = (
    "All figures are from the **fitness split**. The search selected on this split with the search's seeds,"
    " so that row is too good on average; the final seeds are new ones, on the same rows."
)
APPLY = """\
from evaluator.saved import SavedStudent

student = SavedStudent.load("{folder}")
student.probabilities([{row}])  # [n, 2]: P(class 0), P(class 1)"""


def card(metrics: dict, lineage: Sequence[Ancestor]) -> str:
    """README.md. `metrics` as in metrics.json; `lineage` the youngest first."""
    parts = [
        f"# {escaped(metrics['idea'])}",
        f"Recipe `{metrics['individual']}` of the search `{metrics['run']}`"
        + (f", direction `{metrics['direction']}`" if metrics["direction"] else "")
        + ", found by evo-aar.",
        "## How good it is",
        EXPLANATION,
        FITNESS_NOTE,
        _scores(metrics),
        _baselines(metrics),
        _trials(metrics),
        "## Audits and reviews",
        _judgement(metrics),
        "## How to run it",
        _commands(metrics),
        "## Lineage",
        _lineage(lineage),
        "## Settings of the search",
        _table(
            ("setting", "value"),
            [(escaped(name), _setting(value)) for name, value in metrics["settings"].items()],
        ),
        "## Versions",
        _versions(metrics),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(metrics: dict) -> str:
    rows = []
    for name, own, vanilla in (
        ("the search's seeds", "pgr", "vanilla_pgr"),
        ("final seeds", "final_pgr", "vanilla_final_pgr"),
    ):
        if metrics[own]:
            count = len(metrics[own]["seeds"])
            rows.append((f"{name} ({count})", _pgr(metrics[own]), _pgr(metrics[vanilla])))
    return _table(("fitness split", "PGR of this recipe", "PGR of vanilla fine-tuning"), rows)


def _pgr(fitness: dict | None) -> str:
    return plus_minus(fitness["mean"], fitness["standard_error"]) if fitness else "not tried"


def _baselines(metrics: dict) -> str:
    base = metrics["baselines"]
    ceiling = plus_minus(base["ceiling_accuracy"], base["ceiling_standard_error"])
    return (
        f"Accuracies on the fitness split: weak model {number(base['weak_accuracy'])}, ceiling {ceiling}"
        f" ({base['ceiling_seeds']} seeds), majority class {number(base['majority_accuracy'])}. The search's"
        f" recipes ran in the sandbox at {metrics['sandbox']}; these students' at"
        f" {metrics['sandbox_of_this_export']}. Testbed {escaped(metrics['testbed'])}, content hash"
        f" `{metrics['testbed_hash']}`, student `{metrics['student']}`."
    )


def _trials(metrics: dict) -> str:
    rows = [
        (
            str(one["seed"]),
            number(one["accuracy"]),
            number(one["pgr"]),
            f"{one['tokens']:,}",
            "yes" if one["same_again"] else "no",
        )
        for one in metrics["trials"]
    ]
    return _table(("seed", "accuracy", "PGR", "tokens", "trained again for this export: same student"), rows)


def _judgement(metrics: dict) -> str:
    parts = []
    if metrics["set_apart"]:
        parts.append(f"**It failed an audit and is set apart**: {escaped(metrics['set_apart'])}.")
    parts += [f"**Flagged**: {escaped(reason)}." for reason in metrics["flags"]]
    if metrics["audits"]:
        rows = [
            (one["audit"], one["verdict"], escaped(one["words"]), number(one["p"]))
            for one in metrics["audits"]
        ]
        parts.append(_table(("audit", "verdict", "what it found", "p (Holm)"), rows))
    else:
        parts.append("Not audited.")
    if not metrics["reviews"]:
        return "\n\n".join([*parts, "Not reviewed by a person."])
    said = [
        f"* Reviewed by {escaped(one['reviewer'])}, {one['at']}: **{one['verdict']}**"
        + (f". {escaped(one['remarks'])}" if one["remarks"] else "")
        for one in metrics["reviews"]
    ]
    return "\n\n".join([*parts, "\n".join(said)])


def _commands(metrics: dict) -> str:
    settings = metrics["settings"]
    words = [
        "evo-aar",
        "evaluate",
        "recipe.py",
        "--testbed",
        settings["testbed"],
        "--seeds",
        str(len(metrics["trials"])),
    ]
    words += ["--first-seed", str(metrics["trials"][0]["seed"])]
    for option in ("student", "strong", "weak"):
        if settings[option]:
            words += [f"--{option}", settings[option]]
    row = (
        '{"question": "...", "choice": "..."}'
        if metrics["kind"] == "single"
        else '{"prompt": "...", "first": "...", "second": "..."}'
    )
    apply = APPLY.format(folder=f"students/seed-{metrics['trials'][0]['seed']}", row=row)
    return "\n\n".join(
        [
            "This gives the PGR above, seed for seed:",
            code(shlex.join(words), "sh"),
            (
                "The students of these seeds lie in `students/`, one folder a seed; `student.json` says what"
                " each is made of. A LoRA adapter is in PEFT's format. To ask one:"
            ),
            code(apply, "python"),
        ]
    )


def _setting(value: object) -> str:
    if isinstance(value, list):
        return escaped(", ".join(map(str, value))) or "none"
    return "default" if value is None else escaped(str(value))


def _lineage(lineage: Sequence[Ancestor]) -> str:
    rows = []
    for one in lineage:
        individual, fitness = one.individual, one.fitness
        files = f"[recipe](lineage/{individual.id}.py)" + (
            f", [diff](lineage/{individual.id}.diff)" if one.diff else ""
        )
        score = plus_minus(fitness.mean, fitness.standard_error) if fitness else "failed or not tried"
        parents = ", ".join(individual.parents) or "none"
        rows.append(
            (individual.id, parents, escaped(individual.operator), score, escaped(individual.idea), files)
        )
    listed = _table(("individual", "parents", "operator", "PGR ± SE", "idea", "files"), rows)
    if not lineage[0].diff:
        return f"{listed}\n\nIt is a seed recipe: nothing was changed."
    return f"{listed}\n\nWhat it changed of its first parent:\n\n{code(lineage[0].diff.rstrip(), 'diff')}"


def _versions(metrics: dict) -> str:
    rows = [("Python", metrics["python"] or "", "")]
    rows += [(name, found["search"], found["export"]) for name, found in metrics["versions"].items()]
    return _table(("", "the search", "this export"), [tuple(escaped(cell) for cell in row) for row in rows])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))
