"""What a recipe's process does to itself before the recipe's first line: it gives up, for good, whatever a
recipe has no need of.

The order matters and is tested. Landlock and seccomp hold for the thread that asks for them: a thread that
was there before stays free. So a process with a second thread refuses to be confined. Everything that needs a
forbidden system call (the event loop makes a pair of sockets) is made before the filter is loaded. Each step
that leaves no trace when it fails is tried out once it is done.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from recipes import seccomp

PR_SET_PDEATHSIG = 1
_CAPABILITIES_VERSION = 0x20080522


class ConfinementError(Exception):
    """The process could not be confined, and must not run a recipe."""


@dataclass(frozen=True)
class Confinement:
    """What a recipe's process is confined by.

    `landlock`, `seccomp`: whether each is used; `readable`: files and folders that may be read, the root
    folder never among them; `writable`: devices that may be written to.
    """

    landlock: bool
    seccomp: bool
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ("/dev/null",)

    def prepare(self) -> None:
        """Once, in the server: find the C library now, which the binding does by running programs."""
        if self.landlock:
            import landlockpy

            try:
                landlockpy.abi_version()
            except OSError as error:
                raise ConfinementError(f"no Landlock ({error})") from error

    def confine(self, scratch: str) -> None:
        """Confine this process; `scratch` is the one folder that it may write to.

        Raises `ConfinementError`.
        """
        if len(os.listdir("/proc/self/task")) != 1:
            raise ConfinementError("there is a second thread, which would stay free")
        if self.landlock:
            self._restrict_files(scratch)
        if self.seccomp:
            _drop_capabilities()
            try:
                seccomp.load()
            except (OSError, KeyError) as error:
                raise ConfinementError(f"no seccomp ({error!r})") from error
            _must_fail(lambda: socket.socket().close(), errno.EPERM, "seccomp")

    def _restrict_files(self, scratch: str) -> None:
        from landlockpy import AccessFS, LandlockError, Ruleset, Scope

        read = AccessFS.READ_FILE | AccessFS.READ_DIR
        own = (
            read
            | AccessFS.WRITE_FILE
            | AccessFS.TRUNCATE
            | AccessFS.MAKE_REG
            | AccessFS.MAKE_DIR
            | AccessFS.MAKE_SYM
        )
        own |= AccessFS.REMOVE_FILE | AccessFS.REMOVE_DIR | AccessFS.REFER
        try:
            with Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET) as ruleset:
                for path in (*self.readable, f"/proc/{os.getpid()}"):
                    ruleset.allow_path(path, read if os.path.isdir(path) else AccessFS.READ_FILE)
                for path in self.writable:
                    ruleset.allow_path(path, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
                ruleset.allow_path(scratch, own)
                ruleset.restrict()
        except (LandlockError, OSError) as error:
            raise ConfinementError(f"no Landlock ({error})") from error
        _must_fail(lambda: os.listdir("/"), errno.EACCES, "Landlock")


def _must_fail(attempt: Callable[[], object], number: int, what: str) -> None:
    try:
        attempt()
    except OSError as error:
        if error.errno == number:
            return
        raise ConfinementError(f"{what} refuses in an unexpected way ({error})") from error
    raise ConfinementError(f"{what} was asked for and does not hold")


def _drop_capabilities() -> None:
    """Where the engine runs as root, a recipe is a root without any of root's rights."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(header, none) != 0:
        raise ConfinementError(f"capabilities can't be dropped ({os.strerror(ctypes.get_errno())})")


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit(limits: dict) -> None:
    """Set the resource limits of this process and of all that it might start."""
    cpu = limits["cpu_seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"], limits["file_bytes"]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            total = int(file.read().split()[0]) * resource.getpagesize() + limits["memory_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (total, total))
