"""The self-attack: whether the sandbox holds on this machine, found out by trying, never by asking for
version numbers.

At each level from the best down, two processes are confined as recipes are. One keeps a secret in its scratch
folder; the other tries to reach it, and everything else that a recipe must not reach. A level is this
machine's if every canary survives. It costs some tenths of a second a level: neither NumPy nor torch is
imported in there.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluator.errors import EvaluatorError
from evaluator.sandbox.levels import Level
from evaluator.sandbox.server import Server, start

SECONDS = 30
FILE_BYTES = 1 << 20
LIMITS = {
    "cpu_seconds": 20,
    "memory_bytes": 256 << 20,
    "file_bytes": FILE_BYTES,
    "scratch_bytes": 16 << 20,
    "scratch_files": 64,
}
QUESTIONS = {
    "label_file": "read a label file",
    "tcp": "reach a TCP listener on this machine",
    "udp": "send a UDP datagram on this machine",
    "environ": "read the trainer's environment",
    "memory": "read the trainer's memory",
    "write_outside": "write outside of its scratch folder",
    "fork": "make a process",
    "large_file": "write a file past its limit",
    "sibling": "reach another recipe's scratch folder",
}
"""What a recipe's process tries, by the name that `recipes.canaries` has for it."""


@dataclass(frozen=True)
class Canary:
    """One thing that a recipe must not do: its name in `QUESTIONS`, and whether it was kept from it."""

    name: str
    held: bool


@dataclass(frozen=True)
class Probe:
    """The level that this machine has; its canaries, all held, or none at level D; and by each better level
    why it isn't that.
    """

    level: Level
    canaries: tuple[Canary, ...]
    refused: dict[Level, str]


def level_here() -> Level:
    """The sandbox's level on this machine."""
    return probe().level


@functools.cache
def probe() -> Probe:
    """Attack every level from the best down until one holds. Once in a process's life."""
    refused: dict[Level, str] = {}
    for level in (Level.A, Level.B, Level.C):
        if sys.platform != "linux":
            refused[level] = "not Linux"
            continue
        try:
            canaries = attack(level)
        except EvaluatorError as error:
            refused[level] = str(error)
            continue
        broken = [canary.name for canary in canaries if not canary.held]
        if not broken:
            return Probe(level, tuple(canaries), refused)
        refused[level] = "a process in it could " + ", ".join(QUESTIONS[name] for name in broken)
    return Probe(Level.D, (), refused)


def attack(level: Level) -> list[Canary]:
    """The self-attack at one level.

    Raises `EvaluatorError` where the level can't be had on this machine, saying what is missing.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evo-aar-probe-")))
        secret = {name: secrets.token_hex(8) for name in ("labels", "memory", "mine")}
        labels, outside = folder / "labels.txt", folder / "outside.txt"
        labels.write_text(secret["labels"])
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        environment = Path("/proc/self/environ").read_text(errors="replace")
        memory = ctypes.create_string_buffer(secret["memory"].encode())
        scratch = folder / "scratch"
        scratch.mkdir()
        facts = {
            "labels": str(labels),
            "outside": str(outside),
            "tcp": tcp.getsockname()[1],
            "udp": udp.getsockname()[1],
        }
        facts |= {
            "trainer": os.getpid(),
            "address": ctypes.addressof(memory),
            "length": len(secret["memory"]),
        }
        facts["file_bytes"] = FILE_BYTES
        victim = stack.enter_context(_running(level, scratch))
        attacker = stack.enter_context(_running(level, scratch)) if level.one_server_each else victim
        with _child(victim, 1) as one, _child(attacker, 2) as two:
            place = _asked(one, {"mine": secret["mine"]})
            got = _asked(two, facts | {"sibling": place["scratch"]})
            kept = _asked(one, {})
        for listener in (tcp, udp):
            listener.setblocking(False)
        held = {
            "label_file": secret["labels"] not in got["label_file"],
            "tcp": not got["tcp"] and _silent(tcp.accept),
            "udp": not got["udp"] and _silent(lambda: udp.recv(16)),
            "environ": not environment or environment not in got["environ"],
            "memory": secret["memory"] not in got["memory"],
            "write_outside": not got["write_outside"] and not outside.exists(),
            "fork": not got["fork"],
            "large_file": not got["large_file"],
            "sibling": secret["mine"] not in got["sibling"] and kept == {"mine": secret["mine"]},
        }
        return [Canary(name, held[name]) for name in QUESTIONS]


@contextlib.contextmanager
def _running(level: Level, scratch: Path) -> Iterator[Server]:
    """A server of canaries. What it says on its way out is the reason where it doesn't start."""
    with tempfile.TemporaryFile() as said:
        server = start(level, "recipes.canaries", scratch, LIMITS["scratch_bytes"], said.fileno())
        try:
            server.control.settimeout(SECONDS)
            ready = _received(server.control.recv, 1 << 16)
            if b"ready" not in ready:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise EvaluatorError(
                    lines[-1] if lines else f"its server ended with status {server.process.wait()}"
                )
            yield server
        finally:
            server.control.close()
            try:
                server.process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(server.process.pid, signal.SIGKILL)
                server.process.wait()


@contextlib.contextmanager
def _child(server: Server, number: int) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    with ours:
        with theirs:
            order = {"op": "spawn", "id": number, "limits": LIMITS}
            socket.send_fds(server.control, [json.dumps(order).encode()], [theirs.fileno()])
        yield ours


def _asked(connection: socket.socket, facts: dict) -> dict:
    """The answer to one line of JSON.

    Raises `EvaluatorError` where none comes, or the process says that it isn't confined.
    """
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(json.dumps(facts).encode() + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        some = _received(connection.recv, 1 << 16)
        if not some:
            raise EvaluatorError("a process of the self-attack ended without a word")
        data += some
    answer = json.loads(data)
    if "unconfined" in answer:
        raise EvaluatorError(answer["unconfined"])
    return answer


def _received(receive: Callable[[int], bytes], size: int) -> bytes:
    try:
        return receive(size)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        raise EvaluatorError(f"no word from the self-attack within {SECONDS} s") from None


def _silent(receive: Callable[[], object]) -> bool:
    """Whether a listener that doesn't wait has nothing."""
    try:
        receive()
    except BlockingIOError:
        return True
    return False
