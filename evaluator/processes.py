"""Recipe processes as the trainer sees them: start one per trial, end it for certain, hear that
it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluator.errors import EvaluatorError
from evaluator.sandbox.levels import Level
from evaluator.sandbox.probe import level_here
from evaluator.sandbox.server import Server, start

START_SECONDS = 120
END_SECONDS = 10


@dataclass(frozen=True)
class Limits:
    """What one recipe process may use. CPU time is what ends an endless loop; wall time is a fault of the
    infrastructure's.

    `file_bytes` bounds one file, `scratch_bytes` and `scratch_files` all that lies in the scratch folder.
    """

    cpu_seconds: int = 120
    memory_bytes: int = 2 << 30
    file_bytes: int = 64 << 20
    wall_seconds: float = 900.0
    gradient_seconds: float = 120.0
    scratch_bytes: int = 64 << 20
    scratch_files: int = 1024


@dataclass(frozen=True)
class Exit:
    """A recipe process that has ended: its status as `subprocess` gives it, negative for a signal; `scratch`:
    for what it had stored.
    """

    number: int
    status: int
    scratch: bool


class RecipeProcesses:
    """Servers of `recipes.process`, and their children. Use as a context manager; leaving ends them all.

    `level`: of the sandbox; None for the best that this machine has. One server forks every trial's process,
    but at level C, where each trial has a server of its own.
    """

    def __init__(self, limits: Limits, level: Level | None = None) -> None:
        self._limits = limits
        self.level = level or level_here()
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="evo-aar-")
        self._news = selectors.DefaultSelector()
        self._servers: dict[int, Server] = {}  # by the number of the trial; one for all is number 0
        if not self.level.one_server_each:
            self._start(0)

    def fileno(self) -> int:
        """A descriptor that is readable when `exits` has something to tell."""
        return self._news.fileno()

    @property
    def pids(self) -> list[int]:
        """The servers' processes."""
        return [server.process.pid for server in self._servers.values()]

    def _start(self, number: int) -> None:
        server = start(self.level, "recipes.process", Path(self._folder.name), self._limits.scratch_bytes)
        self._servers[number] = server
        server.control.settimeout(START_SECONDS)
        if not _received(server).get("ready"):
            raise EvaluatorError("the recipe processes' server did not start; its own message stands above.")
        server.control.settimeout(None)
        self._news.register(server.control, selectors.EVENT_READ, number)

    def _server_number(self, number: int) -> int:
        """The server of a trial's process: its own, or the one for all."""
        return number if self.level.one_server_each else 0

    def spawn(self) -> tuple[int, socket.socket]:
        """Fork a process; its number, and the trainer's end of the connection to it."""
        self._count += 1
        if self.level.one_server_each:
            self._start(self._count)
        ours, theirs = socket.socketpair()
        order = {"op": "spawn", "id": self._count, "limits": asdict(self._limits)}
        with theirs:
            control = self._servers[self._server_number(self._count)].control
            socket.send_fds(control, [json.dumps(order).encode()], [theirs.fileno()])
        ours.setblocking(False)
        return self._count, ours

    def kill(self, number: int) -> None:
        """End a process and its group. An `Exit` follows when it is gone."""
        server = self._servers.get(self._server_number(number))
        if server is not None:
            server.control.send(json.dumps({"op": "kill", "id": number}).encode())

    def exits(self) -> Iterator[Exit]:
        """The exits that there are to tell of now; raises `EvaluatorError` if a server is gone."""
        for key, _ in self._news.select(0):
            news = _received(self._servers[key.data])
            if self.level.one_server_each:
                self._end(key.data)
            yield Exit(news["exited"], news["status"], news["scratch"])

    def _end(self, number: int) -> None:
        server = self._servers.pop(number)
        with contextlib.suppress(KeyError):
            self._news.unregister(server.control)
        server.control.close()  # the server reads the end of its orders, kills its children and leaves
        try:
            server.process.wait(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()

    def close(self) -> None:
        for number in list(self._servers):
            self._end(number)
        self._news.close()
        self._folder.cleanup()

    def __enter__(self) -> RecipeProcesses:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _received(server: Server) -> dict:
    data = server.control.recv(1 << 16)
    if not data:
        raise EvaluatorError(
            f"the recipe processes' server ended (exit status {server.process.wait()}). Resume the search."
        )
    return json.loads(data)
