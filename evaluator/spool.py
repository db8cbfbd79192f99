"""Outcomes on their way from a worker to whoever keeps them: one file a trial, whole or absent.

A file is named by the trial's key. It holds "facts" (JSON: how the trial ended) and, of a success, the arrays
"fitness" and "pool". One that this version can't read counts as absent: its trial is run again.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.trial import Failure, Outcome, Success


class Spool:
    """The outcomes in a folder, which is made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npz"

    def keep(self, key: str, outcome: Outcome) -> None:
        """Bring an outcome to the disk, and only then give it its name."""
        facts: dict[str, Any] = {
            "reason": outcome.reason,
            "message": outcome.message,
            "tokens": outcome.tokens,
            "seconds": outcome.seconds,
            "members": outcome.members,
            "history": outcome.history,
            "output": outcome.output,
        }
        told, buffer = np.frombuffer(json.dumps(facts).encode(), np.uint8), io.BytesIO()
        if outcome.ok:
            np.savez(buffer, facts=told, fitness=outcome.fitness, pool=outcome.pool)
        else:
            np.savez(buffer, facts=told)
        temporary = self.folder / f"{key}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._path(key))

    def get(self, key: str) -> Outcome | None:
        """The outcome of this trial, None where it hasn't come yet."""
        try:
            with np.load(self._path(key), allow_pickle=False) as file:
                return _outcome(json.loads(file["facts"].tobytes()), file)
        except (FileNotFoundError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
            return None

    def forget(self, key: str) -> None:
        """Drop an outcome that its owner has put on record."""
        self._path(key).unlink(missing_ok=True)


def _outcome(facts: dict[str, Any], arrays: np.lib.npyio.NpzFile) -> Outcome:
    """Raises KeyError or TypeError for what no version has written."""
    told = {name: facts[name] for name in ("tokens", "seconds", "history", "output")}
    if facts["reason"] is not None:
        return Failure(reason=facts["reason"], message=facts["message"], **told)
    return Success(fitness=arrays["fitness"], pool=arrays["pool"], members=facts["members"], **told)
