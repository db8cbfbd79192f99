"""What a recipe's process may read: the interpreter, NumPy, torch, what importing them needs, and the
recipe's side of the protocol.

Never a whole site-packages: packages there may hold labelled data, as scikit-learn's data sets and the
built-in testbeds do. Everything lies at the same place inside the sandbox as outside, so one list serves
namespaces and Landlock alike.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import recipes
from evaluator.errors import EvaluatorError

RECIPE_MODULES = (
    "__init__",
    "canaries",
    "confinement",
    "contract",
    "fork_server",
    "losses",
    "main",
    "options",
    "process",
    "seccomp",
    "task_errors",
    "terms",
    "wire",
)
"""The modules of `recipes` that a recipe's process is made of. No seed, no direction, no testbed."""

NUMERIC = ("numpy", "torch", "landlockpy")
NOT_NEEDED = ("setuptools",)
"""Torch asks for it, and needs it to compile extensions only."""

OTHERS = ("/etc/ld.so.cache", "/sys/devices/system/cpu", "/dev/null", "/dev/zero", "/dev/urandom")
PROCESSORS = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat")
PACKAGES_FOLDERS = ("site-packages", "dist-packages")
LIBRARY_FOLDERS = ("/lib64", "/lib", "/usr/lib64", "/usr/lib")


@dataclass(frozen=True)
class Allowed:
    """`python`: the interpreter; `search`: what follows its standard library on `sys.path`; `standard`:
    folders of the standard library, without the `PACKAGES_FOLDERS` in them; `packages`: files and folders in
    those; `libraries`: from the name under which a shared library is looked for to the file.
    """

    python: str
    search: tuple[str, ...]
    standard: tuple[str, ...]
    packages: tuple[str, ...]
    libraries: dict[str, str]

    @property
    def readable(self) -> tuple[str, ...]:
        """Every file and folder that may be read, and nothing that holds one that may not."""
        entries = [
            entry.path
            for folder in self.standard
            for entry in os.scandir(folder)
            if entry.name not in PACKAGES_FOLDERS
        ]
        places = [
            self.python,
            *entries,
            *self.packages,
            *sorted(set(self.libraries.values())),
            *OTHERS,
            *PROCESSORS,
        ]
        return tuple(path for path in places if os.path.exists(path))

    @property
    def masked(self) -> tuple[str, ...]:
        """Folders of packages that lie in the standard library's."""
        places = (os.path.join(folder, name) for folder in self.standard for name in PACKAGES_FOLDERS)
        return tuple(path for path in places if os.path.isdir(path))


@functools.cache
def allowed() -> Allowed:
    """Found out from this process, which has NumPy and torch imported.

    Raises `EvaluatorError` where the interpreter isn't to be found.
    """
    for name in (
        "numpy",
        "torch",
        "bz2",
        "lzma",
        "zlib",
        "ssl",
        "ctypes",
        "hashlib",
    ):  # their libraries are mapped then
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    if not os.access(python, os.X_OK):
        raise EvaluatorError(
            f"the Python interpreter is not at {python}, where Python says it is. Reinstall Python."
        )
    standard = [os.path.dirname(os.path.realpath(os.__file__))]
    standard += [
        path
        for path in map(os.path.realpath, sys.path)
        if path.endswith("lib-dynload") and not _below(path, standard)
    ]
    packages = sorted(
        {os.path.realpath(path): path for name in _distributions() for path in _places(name)}.values()
    )
    own = Path(recipes.__path__[0]).resolve()
    packages += [str(own / f"{name}.py") for name in RECIPE_MODULES]
    search = dict.fromkeys(
        [*(os.path.dirname(path) for path in packages if not path.startswith(str(own))), str(own.parent)]
    )
    return Allowed(python, tuple(search), tuple(standard), tuple(packages), dict(_libraries(standard)))


def _below(path: str, folders: list[str]) -> bool:
    return any(path.startswith(folder + os.sep) for folder in folders)


def _distributions() -> Iterator[str]:
    """The names of the distributions in question, with all that they require on this machine."""
    open_names, seen = list(NUMERIC), set(NOT_NEEDED)
    while open_names:
        name = re.sub(r"[-_.]+", "-", open_names.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        yield name
        with contextlib.suppress(metadata.PackageNotFoundError):
            for requirement in metadata.requires(name) or ():
                required = re.match(r"[A-Za-z0-9._-]+", requirement)
                if required and "extra ==" not in requirement:
                    open_names.append(required[0])


def _places(name: str) -> Iterator[str]:
    """The files and folders in site-packages that a distribution consists of, but for its metadata and
    programs.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return
    tops = {
        file.parts[0]
        for file in distribution.files or ()
        if file.parts[0] not in ("..", "bin", "__pycache__")
    }
    tops = {top for top in tops if not top.endswith((".dist-info", ".egg-info", ".pth"))}
    if tops:
        found = [str(distribution.locate_file(top)) for top in tops]
    else:  # some packagers leave the list of files out
        spec = importlib.util.find_spec(name.replace("-", "_"))
        found = (
            []
            if spec is None or not spec.origin
            else [spec.origin if not spec.submodule_search_locations else os.path.dirname(spec.origin)]
        )
    yield from (os.path.abspath(path) for path in found if os.path.exists(path))


def _libraries(standard: list[str]) -> Iterator[tuple[str, str]]:
    """The system's shared libraries that this process has mapped, by each name that the dynamic linker may
    look for.
    """
    with open("/proc/self/maps") as file:
        mapped = {line.split(maxsplit=5)[-1].strip() for line in file}
    files = {
        path
        for path in mapped
        if re.search(r"\.so(\.|$)", path) and os.path.isfile(path) and not _below(path, standard)
        and not any(f"{os.sep}{name}{os.sep}" in path for name in PACKAGES_FOLDERS)
    }  # fmt: skip
    folders = {
        os.path.realpath(folder)
        for folder in (*LIBRARY_FOLDERS, *map(os.path.dirname, files))
        if os.path.isdir(folder)
    }
    yield from ((path, path) for path in files)
    for folder in sorted(folders):
        for entry in os.scandir(folder):
            if entry.is_symlink() and os.path.realpath(entry.path) in files:
                yield entry.path, os.path.realpath(entry.path)
