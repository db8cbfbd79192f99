"""Recipe processes as the trainer sees them: start one per trial, end it for certain, hear that it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass

from evaluator.errors import EvaluatorError

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",  # the order of a recipe's sets must not differ between runs
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
}


@dataclass(frozen=True)
class Limits:
    """What one recipe process may use. CPU time is what ends an endless loop; wall time is a fault of the infrastructure's."""

    cpu_seconds: int = 120
    memory_bytes: int = 2 << 30
    file_bytes: int = 64 << 20
    wall_seconds: float = 900.0


@dataclass(frozen=True)
class Exit:
    """A recipe process that has ended: its status as `subprocess` gives it, negative for a signal."""

    number: int
    status: int


class RecipeProcesses:
    """A fork server of `recipes.process`, and its children. Use as a context manager; leaving ends them all."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="evo-aar-")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-I", "-m", "recipes.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=CLEAN_ENVIRONMENT | {"HOME": self._folder.name, "TMPDIR": self._folder.name},
                cwd=self._folder.name,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.control.settimeout(120)
        if not self._receive().get("ready"):
            raise EvaluatorError("the recipe processes' fork server did not start; its own message stands above.")
        self.control.settimeout(None)

    def _receive(self) -> dict:
        data = self.control.recv(1 << 16)
        if not data:
            raise EvaluatorError(f"the recipe processes' fork server ended (exit status {self._server.wait()}). Resume the search.")
        return json.loads(data)

    def spawn(self) -> tuple[int, socket.socket]:
        """Fork a process; its number, and the trainer's end of the connection to it."""
        self._count += 1
        ours, theirs = socket.socketpair()
        order = {"op": "spawn", "id": self._count, "limits": asdict(self._limits)}
        with theirs:
            socket.send_fds(self.control, [json.dumps(order).encode()], [theirs.fileno()])
        ours.setblocking(False)
        return self._count, ours

    def kill(self, number: int) -> None:
        """End a process and its group. An `Exit` follows when it is gone."""
        self.control.send(json.dumps({"op": "kill", "id": number}).encode())

    def exits(self) -> list[Exit]:
        """The exits that one readable event of `control` brings; raises `EvaluatorError` if the fork server is gone."""
        news = self._receive()
        return [Exit(news["exited"], news["status"])] if "exited" in news else []

    def close(self) -> None:
        self.control.close()  # the server reads the end of its orders, kills its children and leaves
        try:
            self._server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
        self._folder.cleanup()

    def __enter__(self) -> RecipeProcesses:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
