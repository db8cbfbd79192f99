"""What this machine has to have for a search, checked one by one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from evo_aar.places import cache_folder

DISTRIBUTION = "evo-aar"
FREE_GB = 2.0
ISOLATION = """
import os
from recipes.process import leave_network
before = os.readlink("/proc/self/ns/net")
leave_network()
print("open" if os.readlink("/proc/self/ns/net") == before else "closed")
"""


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
    yield _isolation()
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
        necessary = "extra ==" not in marker
        name, low = re.match(r"([A-Za-z0-9._-]+)(?:.*?>=([\d.]+))?", specification.strip()).groups()
        wanted = f"{name}>={low}" if low else name
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            purpose = "" if necessary else " (for the testbed real/film)"
            yield Check(f"package {name}", False, "not installed", f"pip install '{wanted}'{purpose}", necessary)
            continue
        ok = not low or _numbers(found) >= _numbers(low)
        yield Check(f"package {name}", ok, found, "" if ok else f"pip install '{wanted}'", necessary)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.match(r"[\d.]*", version)[0].strip(".").split(".") if part]


def _torch() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield Check("torch", False, f"can't be imported: {error}", "pip install torch")
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("processors", True, f"{cores} to use; torch would use {torch.get_num_threads()} threads, a worker uses 1")
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        yield Check(
            "CUDA", True, f"{torch.cuda.device_count()} x {device.name}, {device.total_memory / 2**30:.0f} GiB", necessary=False
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


def _isolation() -> Check:
    """Does what the recipe processes' fork server does on its start."""
    done = subprocess.run([sys.executable, "-I", "-c", ISOLATION], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return Check("recipe processes", False, f"don't start: {lines[-1]}", "reinstall evo-aar")
    if done.stdout.strip() == "closed":
        return Check(
            "network isolation of recipes", True, "recipe processes have a network namespace of their own, without a network"
        )
    return Check(
        "network isolation of recipes",
        False,
        "recipe processes can reach the network: this system lets no unprivileged process leave it",
        "sysctl kernel.unprivileged_userns_clone=1 (on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0), or a container with that right",
        necessary=False,
    )


def _git() -> Check:
    git = shutil.which("git")
    remedy = "" if git else "only for work on evo-aar itself: apt install git"
    return Check("git", git is not None, git or "not installed", remedy, necessary=False)
