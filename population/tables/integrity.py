"""What was found of recipes after they were scored: audits, people's reviews, openings of the sealed split
and what they gave.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from population.database import Database
from population.errors import PopulationError, StoreError
from population.jsontext import canonical, digest, printable

REVIEW_VERDICTS = ("approve", "doubt", "reject")


@dataclass(frozen=True)
class Audit:
    """One audit of a recipe on a testbed: pass, flag or fail, the figure with its standard error, p after
    Holm's correction, and what they say.
    """

    source_hash: str
    testbed: str
    audit: str
    verdict: str
    value: float | None
    standard_error: float | None
    p: float | None
    words: str


class Audits:
    """A recipe is audited once on a testbed; the verdicts come in the order of the audits."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, audit: Audit) -> bool:
        """False where the same is on record; raises StoreConflict where another outcome is."""
        row = {name: getattr(audit, name) for name in Audit.__dataclass_fields__}
        return self._database.append_once("audits", row, f"audit {audit.audit!r} of {audit.source_hash}")

    def of(self, source_hash: str, testbed: str) -> list[Audit]:
        rows = self._database.select("audits", "source_hash = ? AND testbed = ?", (source_hash, testbed))
        return [Audit(**{name: row[name] for name in Audit.__dataclass_fields__}) for row in rows]

    def all(self) -> list[Audit]:
        return [
            Audit(**{name: row[name] for name in Audit.__dataclass_fields__})
            for row in self._database.select("audits")
        ]


@dataclass(frozen=True)
class Review:
    """A person's word on an individual: approve, doubt or reject. `at`: when, UTC."""

    individual: str
    reviewer: str
    verdict: str
    remarks: str = ""
    at: str = ""

    def __post_init__(self) -> None:
        for name in ("reviewer", "remarks"):
            object.__setattr__(self, name, printable(getattr(self, name)).strip())
        if self.verdict not in REVIEW_VERDICTS:
            raise PopulationError(f"{self.verdict!r} is no verdict. Verdicts: {', '.join(REVIEW_VERDICTS)}.")
        if not self.reviewer:
            raise PopulationError("a review has a reviewer. Give a name.")


class Reviews:
    """All reviews in the order in which they were given; a later one of the same person doesn't delete an
    earlier one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, review: Review) -> None:
        """Raises StoreError where there is no such individual."""
        if not self._database.query("SELECT 1 FROM individuals WHERE id = ?", (review.individual,)):
            raise StoreError(
                f"{self._database.path} has no individual {review.individual!r}. Ids look like g002-i3-c01."
            )
        self._database.append(
            "reviews",
            {name: getattr(review, name) for name in ("individual", "reviewer", "verdict", "remarks")},
        )

    def of(self, individual: str) -> list[Review]:
        return [_review(row) for row in self._database.select("reviews", "individual = ?", (individual,))]

    def all(self) -> list[Review]:
        return [_review(row) for row in self._database.select("reviews")]


@dataclass(frozen=True)
class Opening:
    """An opening of the sealed split, on record before it is opened.

    `shortlist`: rows of role, individual, idea and source hash.
    """

    number: int
    shortlist: tuple[dict[str, Any], ...]
    facts: dict[str, Any]
    at: str = ""

    @property
    def shortlist_hash(self) -> str:
        return digest(self.shortlist)

    @property
    def exploratory(self) -> bool:
        """Whether it is a later one, whose figures prove nothing: the first one's were known when it was
        chosen.
        """
        return self.number > 1


@dataclass(frozen=True)
class SealedScore:
    """What one recipe gave on the sealed split with one seed; no accuracy where it failed."""

    opening: int
    source_hash: str
    seed: int
    status: str
    accuracy: float | None
    members: int = 1
    message: str | None = None


class Openings:
    """The sealed split's openings and scores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, opening: Opening) -> bool:
        """False where the same one is on record; raises StoreConflict where another shortlist
        has its number.
        """
        row = {
            "number": opening.number,
            "shortlist": canonical(opening.shortlist),
            "shortlist_hash": opening.shortlist_hash,
            "facts": canonical(opening.facts),
        }
        return self._database.append_once("openings", row, f"opening {opening.number} of the sealed split")

    def all(self) -> list[Opening]:
        return [
            Opening(row["number"], tuple(json.loads(row["shortlist"])), json.loads(row["facts"]), row["at"])
            for row in self._database.select("openings", order="number")
        ]

    def record_score(self, score: SealedScore) -> bool:
        row = {name: getattr(score, name) for name in SealedScore.__dataclass_fields__}
        return self._database.append_once(
            "sealed_scores",
            row,
            f"the sealed score of {score.source_hash}, seed {score.seed}, in opening {score.opening}",
        )

    def scores(self, opening: int) -> list[SealedScore]:
        rows = self._database.select("sealed_scores", "opening = ?", (opening,), "source_hash, seed")
        return [SealedScore(**{name: row[name] for name in SealedScore.__dataclass_fields__}) for row in rows]


def _review(row: Any) -> Review:
    return Review(row["individual"], row["reviewer"], row["verdict"], row["remarks"], row["at"])
