"""Run a command as a user without rights: `python other_user.py FOLDER... -- COMMAND...`, from root.

In a mount namespace of its own, where each folder that the command needs can be reached even if it lies in
root's home: what hides it is covered by an empty folder, and it is mounted again at its own place. Nothing
outside of the namespace changes.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

NOBODY = 65534
CLONE_NEWNS = 0x20000
UNAVAILABLE = 77


def main(folders: list[str], command: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        print("this needs root, with the right to make mount namespaces")
        raise SystemExit(UNAVAILABLE)
    try:
        mount("--make-rprivate", "/")
        reach([Path(folder).resolve() for folder in folders])
    except subprocess.CalledProcessError as error:
        print(f"no mounts here: {error}")
        raise SystemExit(UNAVAILABLE) from None
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    os.execvp(command[0], command)


def reach(folders: list[Path]) -> None:
    hiding: dict[Path, list[Path]] = {}
    for folder in folders:
        closed = next((above for above in reversed(folder.parents) if not above.stat().st_mode & 0o001), None)
        if closed is not None:
            hiding.setdefault(closed, []).append(folder)
    aside = Path(tempfile.mkdtemp(prefix="reach-"))
    for closed, hidden in hiding.items():
        for number, folder in enumerate(hidden):
            place = aside / f"{closed.name}-{number}"
            place.mkdir()
            mount("--bind", str(folder), str(place))
        mount("-t", "tmpfs", "-o", "mode=755", "none", str(closed))
        for number, folder in enumerate(hidden):
            folder.mkdir(parents=True, exist_ok=True)
            mount("--bind", str(aside / f"{closed.name}-{number}"), str(folder))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    split = sys.argv.index("--")
    main(sys.argv[1:split], sys.argv[split + 1 :])
