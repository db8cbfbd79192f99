"""The forum: what the operators' agents tell one another.

An agent sees the forum as it stood when its generation began, whatever others post meanwhile; a snapshot, its
order and the ranking of a search in it depend on nothing posted later, so a replayed conversation reads the
same to the letter.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
import unicodedata
from dataclasses import dataclass

from population.database import Database
from population.errors import PopulationError, StoreError
from population.jsontext import printable

SEARCHED_WORDS = 64


@dataclass(frozen=True)
class Finding:
    """What `author` (an individual's id) of `island` posted in `generation`; `source_hash` is a recipe
    attached to it.
    """

    author: str
    island: int
    generation: int
    title: str
    text: str
    source_hash: str | None = None

    def __post_init__(self) -> None:
        for name in ("title", "text"):
            object.__setattr__(self, name, printable(getattr(self, name)))
        if not self.words:
            raise PopulationError(
                f"the finding {self.title!r} of {self.author} has no text. Say what was found."
            )

    @property
    def words(self) -> str:
        """The text without case, punctuation and spacing: equal words are one finding."""
        return " ".join(_words(self.text))

    @property
    def text_hash(self) -> str:
        return hashlib.sha256(self.words.encode()).hexdigest()[:32]


class Forum:
    """Findings, in the order of generation, island, author and posting.

    Of findings with equal words the first is shown alone.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mutex = threading.Lock()
        self._index: sqlite3.Connection | None = None
        self._indexed: tuple[int | None, int] | None = None
        self._findings: list[Finding] = []

    def post(self, finding: Finding) -> bool:
        """Put a finding on record. True where it says something that the author's snapshot did not: the
        answer to its author.

        An author's repeated posting is a no-op; another one with equal words is on record, but never shown.
        """
        row = {
            "author": finding.author,
            "island": finding.island,
            "generation": finding.generation,
            "title": finding.title,
            "text": finding.text,
            "text_hash": finding.text_hash,
            "source_hash": finding.source_hash,
        }
        # An author who posts the same words under another title has said nothing new: the first posting
        # stays.
        self._database.append_once(
            "findings", row, f"a finding of {finding.author}", ignored=("title", "text", "source_hash")
        )
        sql = "SELECT 1 FROM findings WHERE text_hash = ? AND generation < ?"
        return not self._database.query(sql, (finding.text_hash, finding.generation))

    def as_of(self, generation: int | None = None) -> list[Finding]:
        """What was posted before `generation` began (default: everything), each finding once."""
        where = "?1 IS NULL OR generation < ?1"
        shown: dict[str, Finding] = {}
        for row in self._database.select("findings", where, (generation,), "generation, island, author, seq"):
            finding = Finding(
                row["author"], row["island"], row["generation"], row["title"], row["text"], row["source_hash"]
            )
            shown.setdefault(finding.text_hash, finding)
        return list(shown.values())

    def search(self, words: str, generation: int | None = None, limit: int = 10) -> list[Finding]:
        """The findings of the snapshot that share words with `words`, best match (BM25 over title and text)
        first.

        `words` is no query language: any text will do, and one without words finds nothing. Its first
        SEARCHED_WORDS words count.
        """
        terms = " OR ".join(f'"{word}"' for word in list(dict.fromkeys(_words(words)))[:SEARCHED_WORDS])
        if not terms or limit < 1:
            return []
        with self._mutex:
            index = self._index_of(generation)
            sql = "SELECT rowid FROM findings WHERE findings MATCH ? ORDER BY bm25(findings), rowid LIMIT ?"
            return [self._findings[row] for (row,) in index.execute(sql, (terms, limit))]

    def __len__(self) -> int:
        return self._database.query("SELECT COUNT(*) FROM findings")[0][0]

    def _index_of(self, generation: int | None) -> sqlite3.Connection:
        """An FTS5 index of one snapshot, in memory: BM25 weighs words by all that is indexed, so nothing
        later may be in it.
        """
        count = self._database.query(
            "SELECT COUNT(*) FROM findings WHERE ?1 IS NULL OR generation < ?1", (generation,)
        )[0][0]
        if self._index is None or self._indexed != (generation, count):
            index = sqlite3.connect(":memory:", check_same_thread=False)
            try:
                index.execute(
                    "CREATE VIRTUAL TABLE findings USING fts5 (title, text, tokenize = 'porter unicode61')"
                )
            except sqlite3.OperationalError as error:
                raise StoreError(
                    f"the forum cannot be searched: {error}. Use a Python whose SQLite has FTS5."
                ) from None
            self._findings = self.as_of(generation)
            index.executemany(
                "INSERT INTO findings (rowid, title, text) VALUES (?, ?, ?)",
                [(row, finding.title, finding.text) for row, finding in enumerate(self._findings)],
            )
            self._index, self._indexed = index, (generation, count)
        return self._index


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())
