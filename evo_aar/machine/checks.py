"""What this machine has to have for a search, checked one by one."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from evo_aar.machine.places import cache_folder

DISTRIBUTION = "evo-aar"
FREE_GB = 2.0
SANDBOX_REMEDY = (
    "Linux on x86_64 or aarch64 with Landlock (kernel 5.13) and user namespaces: apt install bubblewrap,"
    " sysctl kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0; or"
    " a container with these rights"
)


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, where it isn't as it should be, the remedy."""

    what: str
    ok: bool
    found: str
    remedy: str = ""
    necessary: bool = True


def all_checks(runs: Path) -> Iterator[Check]:
    """Every check, the cheap ones first."""
    yield _python()
    yield from _packages()
    yield from _torch()
    yield _folder("cache", cache_folder(), "set EVO_AAR_CACHE to a folder that can be written to")
    yield _folder("runs", runs, "name another folder with --runs, or set EVO_AAR_RUNS")
    yield _sandbox()
    yield _git()


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    low = re.search(r">=(\d+)\.(\d+)", wanted)
    high = re.search(r"<(\d+)\.(\d+)", wanted)
    version = sys.version_info[:2]
    ok = (not low or version >= _pair(low)) and (not high or version < _pair(high))
    return Check("Python", ok, found, "" if ok else f"install a Python {wanted}")


def _pair(match: re.Match) -> tuple[int, int]:
    return int(match[1]), int(match[2])


def _packages() -> Iterator[Check]:
    for requirement in metadata.requires(DISTRIBUTION) or []:
        specification, _, marker = requirement.partition(";")
        if "extra ==" in marker and 'extra == "film"' not in marker.replace("'", '"'):
            continue
        if "sys_platform" in marker and sys.platform not in marker:
            continue
        necessary = "extra ==" not in marker
        (name, low), *_ = re.findall(r"([A-Za-z0-9._-]+)(?:.*?>=([\d.]+))?", specification.strip())
        wanted = f"{name}>={low}" if low else name
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            purpose = "" if necessary else " (for the testbed real/film)"
            yield Check(
                f"package {name}", False, "not installed", f"pip install '{wanted}'{purpose}", necessary
            )
            continue
        ok = not low or _numbers(found) >= _numbers(low)
        yield Check(f"package {name}", ok, found, "" if ok else f"pip install '{wanted}'", necessary)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.sub(r"[^\d.].*", "", version).strip(".").split(".") if part]


def _torch() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield Check("torch", False, f"can't be imported: {error}", "pip install torch")
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check(
        "processors",
        True,
        f"{cores} to use; torch would use {torch.get_num_threads()} threads, a worker uses 1",
    )
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        yield Check(
            "CUDA",
            True,
            f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / 2**30:.0f} GiB",
            necessary=False,
        )
    else:
        yield Check(
            "CUDA",
            False,
            "none: trainers run on processors",
            "for --device cuda: an NVIDIA GPU, its driver, a CUDA build of torch",
            False,
        )


def _folder(name: str, folder: Path, remedy: str) -> Check:
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(f"{name} folder", False, f"{folder}: {error.strerror}", remedy)
    free = shutil.disk_usage(existing).free / 2**30
    new = "" if existing == folder else ", will be made"
    ok = free >= FREE_GB
    return Check(
        f"{name} folder",
        ok,
        f"{folder}: can be written to{new}, {free:.1f} GiB free",
        "" if ok else f"free {FREE_GB:g} GiB, or {remedy}",
    )


def _sandbox() -> Check:
    """The sandbox attacks itself, level by level."""
    from evaluator.sandbox.levels import Level
    from evaluator.sandbox.probe import QUESTIONS, probe

    found = probe()
    what = "sandbox of recipes"
    if found.level is Level.A:
        held = ", ".join(QUESTIONS[canary.name] for canary in found.canaries)
        return Check(what, True, f"level A: {Level.A.words}. A process in it tried to, and could not: {held}")
    why = "; ".join(f"{level}: {reason}" for level, reason in found.refused.items())
    return Check(
        what, False, f"level {found.level}: {found.level.words} ({why})", SANDBOX_REMEDY, necessary=False
    )


def _git() -> Check:
    git = shutil.which("git")
    remedy = "" if git else "only for work on evo-aar itself: apt install git"
    return Check("git", git is not None, git or "not installed", remedy, necessary=False)
