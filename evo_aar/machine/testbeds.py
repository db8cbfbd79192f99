"""From what a user calls a testbed to a prepared one in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from evo_aar.errors import UsageError
from evo_aar.machine.places import cache_folder

MINI = ("mini/chat", "mini/math", "mini/code")
FILM = "real/film"
REPORT = "report.json"

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is in all (0: unknown)."""


def prepared(
    name: str, *, strong: str | None = None, weak: str | None = None, progress: Progress | None = None
) -> Path:
    """The folder of the prepared testbed: `mini/...`, `real/film`, a folder of jsonl files, or a folder that
    is prepared already.

    What isn't in the cache yet is made. Raises `UsageError` for an unknown name, `EvaluatorError` for files
    that can't be used.
    """
    folder = Path(name)
    if name not in (*MINI, FILM) and folder.is_dir() and not (folder / "testbed.json").exists():
        return _from_files(folder, strong, weak, progress)
    if strong or weak:
        raise UsageError(f"--strong and --weak go with a folder of files; {name} has its own models.")
    if name in MINI:
        from evaluator.testbeds.mini.prepare import prepare

        return _once(_key(name), lambda path: prepare(name.removeprefix("mini/"), path))
    if name == FILM:
        from evaluator.testbeds.film import prepare_film

        return _once(_key(name), lambda path: prepare_film(path, cache_folder(), progress=progress))
    if (folder / "testbed.json").exists():
        return folder
    raise UsageError(f"--testbed {name}: no such testbed or folder. Built in: {', '.join((*MINI, FILM))}.")


def in_cache(name: str) -> Path | None:
    """The folder of a built-in testbed that has been prepared by this version, or None."""
    path = cache_folder() / "testbeds" / _key(name)
    return path if (path / "testbed.json").exists() else None


def warnings(path: Path) -> list[str]:
    """What whoever prepared the testbed had to remark on its data, a line each."""
    try:
        return json.loads((path / REPORT).read_text(encoding="utf-8"))["warnings"]
    except FileNotFoundError:
        return []


def _from_files(folder: Path, strong: str | None, weak: str | None, progress: Progress | None) -> Path:
    from evaluator.strong import describe
    from evaluator.testbeds.files import prepare_files

    if strong is None:
        raise UsageError(
            f"--testbed {folder} is a folder of files: name the model to fine-tune with --strong (hub name or"
            " local folder)."
        )
    weak = weak or "tfidf"
    key = hashlib.sha256(repr((_version(""), strong, weak)).encode())
    for model in (strong, weak):
        if Path(model).is_dir():  # another model may lie there tomorrow
            key.update(describe(model).fingerprint.encode())
    for file in sorted(folder.glob("*.jsonl")):
        key.update(file.name.encode() + file.read_bytes())

    def told(done: int, total: int) -> None:
        if progress is not None:
            progress("the weak model reads", done, total)

    return _once(
        f"files/{folder.resolve().name}-{key.hexdigest()[:12]}",
        lambda path: prepare_files(folder, path, strong=strong, weak=weak, progress=told),
    )


def _key(name: str) -> str:
    return f"{name}-{_version('mini' if name in MINI else '')}"


def _version(part: str) -> str:
    """Changes with the installed code and, for `part`, with the data that the code of that testbed makes it
    from.
    """
    import evaluator.testbeds

    digest = hashlib.sha256(metadata.version("evo-aar").encode())
    root = Path(evaluator.testbeds.__file__).parent
    for file in sorted([*root.glob("*.py"), *(root / part).rglob("*")] if part else root.glob("*.py")):
        if file.is_file() and "__pycache__" not in file.parts:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _once(key: str, make: Callable[[Path], object]) -> Path:
    path = cache_folder() / "testbeds" / key
    if not (path / "testbed.json").exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
        except OSError as error:
            raise UsageError(
                f"the cache {cache_folder()} can't be written to ({error.strerror}). Set EVO_AAR_CACHE to"
                " another folder."
            ) from None
        try:
            report = make(draft)
            if dataclasses.is_dataclass(report) and not isinstance(report, type):
                (draft / REPORT).write_text(
                    json.dumps(dataclasses.asdict(report), default=str, indent=1) + "\n", encoding="utf-8"
                )
            if not (path / "testbed.json").exists():  # another process may have been faster
                shutil.rmtree(path, ignore_errors=True)
                draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return path
