"""A fork server that holds nothing secret: one process per trial, limited, confined, watched, and reaped with
all it left behind.

It serves a control socket (seqpacket, JSON): {"op": "spawn", "id", "limits"} with the child's end of a
connection attached, and {"op": "kill", "id"}; it answers {"ready"}, and {"exited", "status", "scratch"} when
a child is gone, `scratch` saying whether it was ended for what it had stored. It has one thread and has never
opened a multi-threaded region, so a fork is safe and its children can be confined.

A child leads a process group of its own. Its scratch folder is one of `SLOTS`, handed on when it has been
wiped. How much lies in it is looked at `WATCHED` seconds apart: where the folder is a file system of its own
(levels A and C), that has its own bound too.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from recipes.confinement import Confinement, die_with_parent, limit

SLOTS = 48
WATCHED = 0.1

Body = Callable[[socket.socket, Callable[[], None]], None]
"""What a child does: it gets its connection, and a function that confines it, to be called before anything
foreign runs.
"""


@dataclass
class _Child:
    pid: int
    slot: int
    limits: dict
    overstocked: bool = False


class ForkServer:
    """Forks one child per trial.

    `scratch` is the folder of the slots' folders; they are made where they are missing.
    """

    def __init__(self, control: socket.socket, confinement: Confinement, scratch: str, body: Body) -> None:
        self._control = control
        self._confinement = confinement
        self._scratch = scratch
        self._body = body
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        """Until the control socket's other end is closed; then every child is ended."""
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._control, selectors.EVENT_READ)
                selector.register(wake, selectors.EVENT_READ)
                self._tell({"ready": True})
                while True:
                    ready = {key.fileobj for key, _ in selector.select(WATCHED if self._children else None)}
                    if wake in ready:
                        os.read(wake, 4096)
                        self._reap()
                    self._watch()
                    if self._control in ready:
                        try:
                            order, fds, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
                        except ConnectionResetError:
                            return
                        if not order:
                            return
                        self._serve_order(json.loads(order), fds)
        finally:
            for number in list(self._children):
                self._kill(number)
            while self._children:
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
                self._reap()

    def _serve_order(self, order: dict, fds: list[int]) -> None:
        if order["op"] == "kill":
            self._kill(order["id"])
            return
        fd, slot = fds[0], self._free_slot()
        os.makedirs(self._folder(slot), mode=0o700, exist_ok=True)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._control.close()
                self._child(fd, self._folder(slot), order["limits"])
                status = 0
            finally:
                os._exit(status)
        os.close(fd)
        self._children[order["id"]] = _Child(pid, slot, order["limits"])

    def _child(self, connection: int, scratch: str, limits: dict) -> None:
        os.setsid()
        die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(scratch)
        os.environ["HOME"] = os.environ["TMPDIR"] = scratch
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        kept = socket.socket(fileno=os.dup2(connection, 3))
        os.closerange(4, 1024)
        limit(limits)
        self._body(kept, lambda: self._confinement.confine(scratch))

    def _free_slot(self) -> int:
        """The first free one; where all are taken by children that were just killed, the first of them to go
        gives up its own.
        """
        while True:
            taken = {child.slot for child in self._children.values()}
            free = next((slot for slot in range(SLOTS) if slot not in taken), None)
            if free is not None:
                return free
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            self._reap()

    def _folder(self, slot: int) -> str:
        return os.path.join(self._scratch, str(slot))

    def _kill(self, number: int) -> None:
        child = self._children.get(number)
        if child is None:
            return
        for kill in (os.killpg, os.kill):  # the group may not exist yet: the child makes it first thing
            with contextlib.suppress(ProcessLookupError):
                kill(child.pid, signal.SIGKILL)

    def _watch(self) -> None:
        for number, child in self._children.items():
            if (
                not child.overstocked
                and _stored(self._folder(child.slot), child.pid, child.limits["scratch_files"])
                > (child.limits["scratch_bytes"])
            ):
                child.overstocked = True
                self._kill(number)

    def _reap(self) -> None:
        for number, child in list(self._children.items()):
            # WNOWAIT keeps the leader's number taken, so the group that is killed can't be somebody else's.
            if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            wipe(self._folder(child.slot))
            del self._children[number]
            self._tell({"exited": number, "status": status, "scratch": child.overstocked})

    def _tell(self, news: dict) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(json.dumps(news).encode())


def _stored(folder: str, pid: int, most: int) -> float:
    """Bytes on the disk under `folder` and in files that this process has open and no folder holds; infinite
    for more than `most` files.
    """
    total, files, folders = 0, 0, [folder]
    for place in folders:
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                files += 1
                if files > most:
                    return float("inf")
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = os.stat(entry.path)
                total += status.st_blocks * 512 * (status.st_nlink == 0)
    return total


def wipe(folder: str) -> None:
    """Empty a folder that a foreign process has filled, however deep: what lies in a folder of it is first
    moved up.
    """
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)  # a folder that is moved must be open to its owner
                os.rename(inner.path, os.path.join(folder, os.urandom(16).hex()))
            os.rmdir(entry.path)
