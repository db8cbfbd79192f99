"""From what a user calls a testbed to a prepared one in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from evo_aar.errors import UsageError
from evo_aar.places import cache_folder

MINI = ("mini/chat", "mini/math", "mini/code")
FILM = "real/film"


def prepared(name: str, *, strong: str | None = None, weak: str | None = None) -> Path:
    """The folder of the prepared testbed: `mini/...`, `real/film`, a folder of jsonl files, or a folder that is prepared already.

    What isn't in the cache yet is made. Raises `UsageError` for an unknown name, `EvaluatorError` for files that can't be used.
    """
    if name in MINI:
        from evaluator.testbeds.mini.prepare import prepare

        _refuse_models(name, strong, weak)
        return _once(f"{name}-{_version('mini')}", lambda path: prepare(name.removeprefix("mini/"), path))
    if name == FILM:
        from evaluator.testbeds.film import prepare_film

        _refuse_models(name, strong, weak)
        return _once(f"{name}-{_version('')}", lambda path: prepare_film(cache_folder(), path))
    folder = Path(name)
    if (folder / "testbed.json").exists():
        _refuse_models(name, strong, weak)
        return folder
    if folder.is_dir():
        from evaluator.testbeds.files import prepare_files

        if strong is None:
            raise UsageError(
                f"--testbed {name} is a folder of files: name the model to fine-tune with --strong (hub name or local folder)."
            )
        key = hashlib.sha256()
        for file in sorted(folder.glob("*.jsonl")):
            key.update(file.name.encode() + file.read_bytes())
        key.update(repr((strong, weak)).encode())
        return _once(
            f"files/{folder.resolve().name}-{key.hexdigest()[:12]}",
            lambda path: prepare_files(folder, path, strong, weak or "tfidf"),
        )
    raise UsageError(f"--testbed {name}: no such testbed or folder. Built in: {', '.join((*MINI, FILM))}.")


def _refuse_models(name: str, strong: str | None, weak: str | None) -> None:
    if strong or weak:
        raise UsageError(f"--strong and --weak go with a folder of files; {name} has its own models.")


def _version(part: str) -> str:
    """Changes with the installed code and, for `part`, with the data that the code of that testbed makes it from."""
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
                f"the cache {cache_folder()} can't be written to ({error.strerror}). Set EVO_AAR_CACHE to another folder."
            ) from None
        try:
            make(draft)
            if not (path / "testbed.json").exists():  # another process may have been faster
                shutil.rmtree(path, ignore_errors=True)
                draft.rename(path)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return path
