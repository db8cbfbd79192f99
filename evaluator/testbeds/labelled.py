"""Labelled rows of a user's files, as `datasets` tables, read line by line so that a mistake is told with its
file and line.

The JSON loader of `datasets` would guess types (a text like "2020-01-01" becomes a date), name no line, and
cache in the user's home; here the table is built in memory from checked rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from evaluator.errors import TestbedError
from evaluator.testbeds.prepared import FIELDS

FILES = ("train_label", "train_unlabel", "test")
_REMEDY = {
    "train_label": "it trains the weak model",
    "train_unlabel": "its labels train the ceiling, without which there is no PGR",
    "test": "its labels score the recipes",
}


def read_folder(folder: Path | str) -> DatasetDict:
    """The three files of `folder` as a DatasetDict: contract fields, "label" (0 or 1) and "line", nothing
    else.

    A file holds one JSON object a line: question, choice and label, or prompt, first, second and label; any
    other field is left behind. Raises TestbedError, with file and line, for whatever keeps them from being
    used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TestbedError(
            f"{folder}: no such folder; it should hold {', '.join(f'{name}.jsonl' for name in FILES)}."
        )
    kind = ""
    tables = {}
    for name in FILES:
        path = folder / f"{name}.jsonl"
        if not path.is_file():
            raise TestbedError(f"{path}: no such file; {_REMEDY[name]}, so every testbed needs it.")
        rows = []
        for line, row in _lines(path):
            kind = kind or _kind(row, f"{path}, line {line}")
            rows.append(_checked(row, kind, f"{path}, line {line}", _REMEDY[name]) | {"line": line})
        if not rows:
            raise TestbedError(f"{path} is empty; {_REMEDY[name]}: add rows, one JSON object a line.")
        found = {row["label"] for row in rows}
        if len(found) == 1:
            raise TestbedError(f"{path}: every label is {found.pop()}; add rows of the other class.")
        features = dict.fromkeys(FIELDS[kind], Value("string")) | {
            "label": ClassLabel(names=["0", "1"]),
            "line": Value("int32"),
        }
        tables[name] = Dataset.from_list(rows, features=Features(features))
    return DatasetDict(tables)


def kind_of(table: Dataset) -> str:
    """ "single" or "pair", by the table's fields."""
    return next(kind for kind, fields in FIELDS.items() if set(fields) <= set(table.column_names))


def inputs(table: Dataset) -> list[dict[str, str]]:
    """The contract fields of every row."""
    return table.select_columns(list(FIELDS[kind_of(table)])).to_list()


def labels(table: Dataset) -> np.ndarray:
    """[n] uint8."""
    return np.asarray(table["label"][:], np.uint8)


@dataclass(frozen=True)
class Duplicates:
    """The same input in two places. `count` rows of `second` also stand in `first` (the same file: rows that
    repeat an earlier one).

    `example`: lines of the first such pair. `contradictions`: how many of the rows carry another label there.
    """

    first: str
    second: str
    count: int
    contradictions: int
    example: tuple[int, int]

    def __str__(self) -> str:
        where = f"{self.count} rows of {self.second}.jsonl"
        where += (
            " repeat an earlier row" if self.first == self.second else f" also stand in {self.first}.jsonl"
        )
        against = f", {self.contradictions} of them with another label" if self.contradictions else ""
        return f"{where}{against} (lines {self.example[1]} and {self.example[0]})"


def keys(table: Dataset) -> list[tuple[str, ...]]:
    """What makes two inputs the same: their fields, but for case and white space."""
    return [tuple(" ".join(text.casefold().split()) for text in row.values()) for row in inputs(table)]


def duplicates(tables: DatasetDict) -> list[Duplicates]:
    """Every pair of files, and file with itself, that share inputs."""
    found = []
    seen: dict[str, dict[tuple[str, ...], tuple[int, int]]] = {}
    for second in FILES:
        places = list(
            zip(keys(tables[second]), tables[second]["line"][:], tables[second]["label"][:], strict=True)
        )
        own: dict[tuple[str, ...], tuple[int, int]] = {}
        repeats = []
        for key, line, label in places:
            if key in own:
                repeats.append((own[key], (line, label)))
            else:
                own[key] = (line, label)
        for first in [*seen, second]:
            matches = (
                repeats
                if first == second
                else [(seen[first][key], (line, label)) for key, line, label in places if key in seen[first]]
            )
            if matches:
                contradictions = sum(one[1] != other[1] for one, other in matches)
                found.append(
                    Duplicates(
                        first, second, len(matches), contradictions, (matches[0][0][0], matches[0][1][0])
                    )
                )
        seen[second] = own
    return found


def _lines(path: Path) -> Iterator[tuple[int, dict]]:
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            place = f"{path}, line {number}"
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                row = json.loads(text)
            except UnicodeDecodeError as error:
                raise TestbedError(
                    f"{place}: not UTF-8 (byte {error.start}); save the file as UTF-8."
                ) from None
            except json.JSONDecodeError as error:
                raise TestbedError(
                    f"{place}: not JSON ({error.msg}, column {error.colno}); write one object a line."
                ) from None
            if not isinstance(row, dict):
                raise TestbedError(
                    f"{place}: a {type(row).__name__} where an object was expected; write one object a line."
                )
            yield number, row


def _kind(row: dict, place: str) -> str:
    matching = [kind for kind, fields in FIELDS.items() if set(fields) <= set(row)]
    if len(matching) == 1:
        return matching[0]
    forms = " or ".join(", ".join(fields) for fields in FIELDS.values())
    raise TestbedError(
        f"{place}: fields {', '.join(row) or 'none'}; a row has the fields {forms}, and label."
    )


def _checked(row: dict, kind: str, place: str, purpose: str) -> dict:
    for field in FIELDS[kind]:
        if row.get(field) is None:
            raise TestbedError(
                f"{place}: no {field}; every row of these files has {', '.join(FIELDS[kind])} and label."
            )
        if not isinstance(row[field], str):
            raise TestbedError(f"{place}: {field} is {json.dumps(row[field])[:60]}; write it as a string.")
    label = row.get("label")
    if label is None:
        raise TestbedError(f"{place}: no label; {purpose}: write true or false.")
    if not isinstance(label, int | float) or label not in (0, 1):
        raise TestbedError(f"{place}: unknown label {json.dumps(label)[:60]}; write true or false (1 or 0).")
    return {field: row[field] for field in FIELDS[kind]} | {"label": int(label)}
