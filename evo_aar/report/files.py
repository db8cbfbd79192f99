"""A report as files: report.md, report.json and pgr.svg, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from evo_aar.lineage.ticks import ticks
from evo_aar.report.measures import Estimate, Figures, Line
from evo_aar.views.markdown import code, escaped
from evo_aar.views.tables import NOTHING, number, plus_minus
from population.tables.integrity import Audit, Review

WIDTH, ROW, LEFT, RIGHT, TOP = 860, 34, 270, 120, 56
EXPLORATORY = (
    "**Exploratory.** The sealed split was opened before, so that whoever chose this short list may have"
    " known what is in it. Every figure here is a hint, and none a result."
)
CONFIRMATORY = (
    "The short list was frozen by its hash and put on the ledger before the sealed split was opened. The"
    " search has not read that split, and nothing was selected on it."
)


def report_folder(run: Path, number: int) -> Path:
    """Where in a run's folder the report of an opening lies."""
    return run / "report" / f"opening-{number}"


def write(figures: Figures, folder: Path) -> dict[str, Path]:
    """Write the report's files to `folder`; their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    made = contents(figures)
    for name, text in made.items():
        draft = folder / f".{name}.{os.getpid()}.tmp"
        draft.write_text(text, encoding="utf-8")
        draft.rename(folder / name)
    return {name: folder / name for name in made}


def contents(figures: Figures) -> dict[str, str]:
    """The report's files by name."""
    return {
        "report.md": markdown(figures),
        "report.json": json.dumps(as_json(figures), indent=1) + "\n",
        "pgr.svg": picture(figures),
    }


def as_json(figures: Figures) -> dict:
    """Everything in the report, for machines. `exploratory` stands beside every line."""
    facts = asdict(figures)
    opening = figures.opening
    facts["opening"] = {
        "number": opening.number,
        "of": figures.openings,
        "at": opening.at,
        "shortlist_hash": opening.shortlist_hash,
        "exploratory": opening.exploratory,
        **opening.facts,
    }
    facts["split"] = "sealed"
    for line in facts["lines"]:
        line["exploratory"] = opening.exploratory
    return facts


def markdown(figures: Figures) -> str:
    """The report for people."""
    opening, seeds = figures.opening, len(figures.opening.facts["seeds"])
    parts = [
        f"# {escaped(figures.run)} on the sealed split",
        (
            f"Testbed {escaped(figures.testbed)} (`{figures.testbed_hash}`). Opening {opening.number},"
            f" {opening.at}. Short list `{opening.shortlist_hash}`, each recipe trained anew with {seeds}"
            " seeds."
        ),
        EXPLORATORY if opening.exploratory else CONFIRMATORY,
        (
            f"Accuracies on the sealed split: weak model {_estimate(figures.weak)}, ceiling"
            f" {_estimate(figures.ceiling)} ({figures.weak.seeds} and {figures.ceiling.seeds} seeds). PGR is"
            " mean ± standard error over seeds."
        ),
        "![PGR on the sealed split](pgr.svg)",
        _scores(figures),
        _findings(figures),
        _recipes(figures),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _scores(figures: Figures) -> str:
    mark = " (exploratory)" if figures.opening.exploratory else ""
    columns = (
        "recipe",
        "individual",
        f"PGR{mark}",
        f"less vanilla, paired{mark}",
        f"less best seed recipe, paired{mark}",
        "accuracy",
        "PGR on fitness, final seeds",
    )
    rows = []
    for line in figures.lines:
        shown = f"failed: {escaped(line.failure)}" if line.failure else _estimate(line.pgr)
        if line.against_ensembles:
            shown += f" ({_estimate(line.against_ensembles)} against ceilings of {line.members} members)"
        fitness = plus_minus(line.fitness.mean, line.fitness.standard_error) if line.fitness else "not tried"
        rows.append(
            (
                line.role,
                line.individual or NOTHING,
                shown,
                _estimate(line.over_vanilla, sign=True),
                _estimate(line.over_seed, sign=True),
                _estimate(line.accuracy),
                fitness,
            )
        )
    return _table(columns, rows)


def _findings(figures: Figures) -> str:
    """What audits and people said of the finalists."""
    parts = ["## Audits and reviews"]
    for line in figures.lines:
        if line.individual is None:
            continue
        parts.append(f"### {line.individual}: {escaped(line.idea)}")
        if line.set_apart:
            parts.append(f"**Quarantined**: {escaped(line.set_apart)}.")
        parts.append(audits_table(line.audits) if line.audits else "Not audited.")
        parts.append(reviews_text(line.reviews))
    return "\n\n".join(parts)


def audits_table(audits: Sequence[Audit]) -> str:
    """Audits in Markdown."""
    return _table(
        ("audit", "verdict", "what it found", "p (Holm)"),
        [(one.audit, one.verdict, escaped(one.words), number(one.p)) for one in audits],
    )


def reviews_text(reviews: Sequence[Review]) -> str:
    """By whom and when an individual was reviewed, in Markdown; "Not reviewed." where it wasn't."""
    if not reviews:
        return "Not reviewed by a person."
    return "\n".join(
        f"* Reviewed by {escaped(one.reviewer)}, {one.at}: **{one.verdict}**"
        + (f". {escaped(one.remarks)}" if one.remarks else "")
        for one in reviews
    )


def _recipes(figures: Figures) -> str:
    parts = ["## The recipes"]
    for row in figures.opening.shortlist:
        if row["individual"]:
            parts += [
                f"`{row['individual']}`, source hash `{row['source_hash']}`:",
                code(row["source"].rstrip(), "python"),
            ]
    return "\n\n".join(parts)


def picture(figures: Figures) -> str:
    """PGR of every recipe with its standard error, as SVG; 0 is the weak model and 1 the ceiling."""
    ends = [0.0, 1.0]
    for pgr in (line.pgr for line in figures.lines if line.pgr):
        error = pgr.standard_error or 0.0
        ends += [pgr.mean - error, pgr.mean + error]
    marks = ticks(min(ends), max(ends))
    height = TOP + ROW * len(figures.lines) + 40

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - marks[0]) / (marks[-1] - marks[0])

    title = "PGR on the sealed split" + (" (exploratory)" if figures.opening.exploratory else "")
    bottom = height - 36
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH}'
            f' {height}" font-family="system-ui, sans-serif" font-size="13">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="16" y="22" font-weight="600">{title}</text>',
        (
            '<text x="16" y="40" fill="#5a6068">mean ± standard error over'
            f" {len(figures.opening.facts['seeds'])} seeds</text>"
        ),
    ]
    for mark in marks:
        colour = "#9aa0a6" if mark in (0, 1) else "#e3e6ea"
        parts.append(f'<path d="M{x(mark):g} {TOP - 6} V{bottom:g}" stroke="{colour}"/>')
        parts.append(
            f'<text x="{x(mark):g}" y="{bottom + 18:g}" text-anchor="middle" fill="#5a6068">{mark:g}</text>'
        )
    for place, line in enumerate(figures.lines):
        parts += _bar(line, TOP + ROW * place + ROW / 2, x)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(line: Line, y: float, x: Callable[[float], float]) -> list[str]:
    colour = "#1a6fb5" if line.individual else "#7d858d"
    name = f"{line.role} {line.individual or ''}".strip()
    parts = [f'<text x="{LEFT - 12}" y="{y + 4:g}" text-anchor="end">{escape(name)}</text>']
    if line.pgr is None:
        return [*parts, f'<text x="{LEFT + 6}" y="{y + 4:g}" fill="#5a6068">failed</text>']
    mean, error = line.pgr.mean, line.pgr.standard_error or 0.0
    left, right = sorted((x(0.0), x(mean)))
    parts.append(
        f'<rect x="{left:g}" y="{y - 9:g}" width="{right - left:g}" height="18" fill="{colour}"'
        ' opacity=".75"/>'
    )
    parts.append(
        f'<path d="M{x(mean - error):g} {y:g} H{x(mean + error):g}" stroke="#111" stroke-width="2"/>'
    )
    parts.append(
        f'<text x="{max(right, x(mean + error)) + 8:g}"'
        f' y="{y + 4:g}">{plus_minus(mean, line.pgr.standard_error)}</text>'
    )
    return parts


def _estimate(estimate: Estimate | None, sign: bool = False) -> str:
    if estimate is None:
        return NOTHING
    return ("+" if sign and estimate.mean >= 0 else "") + plus_minus(estimate.mean, estimate.standard_error)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))
