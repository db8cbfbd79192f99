"""The run of an individual: how it was made, how it did, what became of it."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from evo_aar.search.record import BirthRecord, direction_of
from evo_aar.search.scores import Scores, step
from evo_aar.tracking.record import FAILED, FINISHED, NOTE_LENGTH, Link, Point, RunRecord, island_key, points
from evo_aar.tracking.traces import traces_of
from evo_aar.views.markdown import bullet, code, escaped, measured, table
from population.individual import Individual
from population.tables.generations import Fate
from population.tables.integrity import Audit, Review
from population.trial import successful

# The fate that tells most: these, wherever and whenever they came, then what happened last.
_FINAL_FATES = ("quarantined", "crowned", "failed", "duplicate")
_FATES = ("elite", "survived", "died", "flagged")
_HISTORY = "history.json"
_HISTORY_COLUMNS = ("step", "loss", "gradient_norm", "agreement")


@dataclass(frozen=True)
class Life:
    """All that the store knows of an individual.

    `expenses` are sums of its own ledger entries by kind; `journal` as `Replies.of` has it.
    """

    individual: Individual
    parents: tuple[Individual, ...]
    scores: Scores
    fates: tuple[Fate, ...]
    expenses: dict[str, float]
    journal: tuple = ()
    audits: tuple[Audit, ...] = ()
    reviews: tuple[Review, ...] = ()

    @property
    def fate(self) -> Fate | None:
        """The fate that tells most of it."""
        for kind in _FINAL_FATES:
            for fate in self.fates:
                if fate.kind == kind:
                    return fate
        last = (
            [fate for fate in self.fates if fate.generation == self.fates[-1].generation]
            if self.fates
            else []
        )
        return min(last, key=lambda fate: _FATES.index(fate.kind), default=None)

    @property
    def judged(self) -> bool:
        """Has a fitness of its own: a duplicate's is that of the individual that had the recipe first."""
        return self.scores.fitness is not None and (self.fate is None or self.fate.kind != "duplicate")


def individual_record(life: Life, link: Link) -> RunRecord:
    """The run of an individual, nested in that of the island where it was born."""
    one, scores = life.individual, life.scores
    fate = life.fate
    failed = fate is not None and fate.kind in ("failed", "quarantined")
    duplicate = fate is not None and fate.kind == "duplicate"
    tags = {
        "generation": str(one.generation),
        "island": str(one.island),
        "source_hash": one.source_hash,
        "parents": ", ".join(one.parents),
        "fate": fate.kind if fate else "",
        "mlflow.loggedArtifacts": json.dumps([{"path": _HISTORY, "type": "table"}]),
    }
    params = {
        "operator": one.operator,
        "generation": str(one.generation),
        "island": str(one.island),
        "direction": direction_of(one),
        "idea": one.idea,
    }
    trials = () if duplicate else scores.selected + scores.final
    return RunRecord(
        key=one.id,
        kind="individual",
        name=one.id,
        parent=island_key(one.island),
        params=params,
        points=tuple(_points(life)),
        tags=tags,
        note=_note(life, link)[:NOTE_LENGTH],
        artifacts=_artifacts(life),
        status=FAILED if failed else FINISHED,
        seconds=math.fsum(trial.seconds for trial in trials),
        traces=traces_of(life.journal),
    )


def _points(life: Life) -> list[Point]:
    born, scores = life.individual.generation, life.scores
    made = points(born, {f"operator/{kind}": amount for kind, amount in life.expenses.items()})
    if life.fate is not None and life.fate.kind == "duplicate":
        return made
    tried = scores.selected + scores.final
    made += points(
        born,
        {
            "trials": len(tried),
            "tokens": sum(trial.tokens for trial in tried),
            "seconds": math.fsum(trial.seconds for trial in tried),
        },
    )
    fitness = scores.fitness
    if life.judged and fitness is not None:
        accuracy = math.fsum(trial.accuracy for trial in successful(scores.selected)) / fitness.trials
        made += points(born, {"pgr": fitness.mean, "pgr_se": fitness.standard_error, "accuracy": accuracy})
    if final := scores.final_fitness:
        made += points(born, {"final_pgr": final.mean, "final_pgr_se": final.standard_error})
    for name, trials in (
        ("pgr_by_seed", scores.search),
        ("pgr_by_fresh_seed", scores.fresh),
        ("final_pgr_by_seed", scores.final),
    ):
        made += [Point(name, step(trial), trial.pgr) for trial in successful(trials)]
    return made


def _note(life: Life, link: Link) -> str:
    one, fate = life.individual, life.fate
    birth = BirthRecord.of(one)
    story = birth.story
    lines = [f"**{escaped(one.idea) or one.id}**", ""]
    lines.append(
        bullet(
            "operator",
            escaped(one.operator)
            + (f" ({'; '.join(map(escaped, changes))})" if (changes := story.changes) else ""),
        )
    )
    if reasons := story.notes.get("reasons"):
        lines.append(bullet("reasons", escaped(str(reasons))))
    if model := story.notes.get("model"):
        spent = f", {story.notes['turns']} replies, {birth.state.usd:.4f} USD"
        lines.append(bullet("model", f"{escaped(str(model))}, prompt {story.notes.get('prompt', '')}{spent}"))
    for number, parent in enumerate(life.parents):
        role = "parent" if len(life.parents) == 1 else ("edited parent", "other parent")[min(number, 1)]
        lines.append(bullet(role, f"[{parent.id}]({link(parent.id)}) {escaped(parent.idea)}"))
    lines.append(bullet("island", f"[{one.island}]({link(island_key(one.island))}) {story.direction}"))
    if fate:
        # Who survives again is told of as before, and so isn't written again.
        when = "" if fate.kind == "survived" else f" in generation {fate.generation}"
        lines.append(
            bullet("fate", f"{fate.kind}{when}" + (f": {escaped(fate.reason)}" if fate.reason else ""))
        )
    if life.judged:
        lines.append(bullet("PGR", measured(life.scores.fitness)))
    if final := life.scores.final_fitness:
        lines.append(bullet("PGR on the final seeds", measured(final)))
    for review in life.reviews:
        lines.append(
            bullet(
                f"reviewed by {escaped(review.reviewer)}",
                f"{review.verdict}, {review.at} {escaped(review.remarks)}",
            )
        )
    if life.audits:
        rows = [[audit.audit, audit.verdict, escaped(audit.words)] for audit in life.audits]
        lines += ["", table(["audit", "verdict", "what it found"], rows)]
    if failure := life.scores.failure:
        lines += ["", f"Failed: {escaped(failure.reason)}", "", code(failure.message or "", "text")]
    elif life.judged:
        rows = [
            [
                purpose,
                str(step(trial)),
                f"{trial.pgr:.3f}",
                f"{trial.accuracy:.3f}",
                f"{trial.tokens:,}",
                f"{trial.seconds:.1f}",
            ]
            for purpose, trials in (
                ("search", life.scores.search),
                ("fresh", life.scores.fresh),
                ("final", life.scores.final),
            )
            for trial in successful(trials)
        ]
        lines += ["", table(["seeds", "seed", "PGR", "accuracy", "tokens", "seconds"], rows)]
    return "\n".join(lines)


def _artifacts(life: Life) -> dict[str, str]:
    one = life.individual
    made = {"recipe.py": one.source}
    if life.parents:
        made["changes.diff.txt"] = "\n".join(_diff(parent, one) for parent in life.parents)
    if any(trial.history for trial in life.scores.selected):
        made[_HISTORY] = _history(life)
    if set(one.detail) - {"direction"}:
        made["birth.json"] = json.dumps(one.detail, indent=1, ensure_ascii=False)
    return made


def _diff(parent: Individual, child: Individual) -> str:
    lines = difflib.unified_diff(
        parent.source.splitlines(), child.source.splitlines(), parent.id, child.id, lineterm=""
    )
    return "\n".join(lines) + "\n"


def _history(life: Life) -> str:
    """The curves of all trainings, in the form of MLflow's tables."""
    rows = [
        [
            step(trial),
            training.get("request"),
            training.get("student"),
            *(_plain(entry.get(name)) for name in _HISTORY_COLUMNS),
        ]
        for trial in life.scores.search
        for training in trial.history
        for entry in training.get("steps", ())
    ]
    return json.dumps({"columns": ["seed", "request", "student", *_HISTORY_COLUMNS], "data": rows})


def _plain(value: object) -> object:
    """Rounded for people; JSON has no NaN, so what diverged is empty."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.5g}") if math.isfinite(value) else None


def sort_fates(fates: Sequence[Fate]) -> dict[str, tuple[Fate, ...]]:
    """Fates by individual, in the order of generations."""
    found: dict[str, list[Fate]] = {}
    for fate in sorted(fates, key=lambda one: (one.generation, one.island, one.kind)):
        found.setdefault(fate.individual, []).append(fate)
    return {individual: tuple(ones) for individual, ones in found.items()}
