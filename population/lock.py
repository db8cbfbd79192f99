"""One writer a store: an fcntl lock on a file beside it, which the kernel releases however its holder ends.

The lock file stays; its content (the last writer's process id) serves the error message alone. A fork does
not inherit the lock. SQLite's own locks live on the store itself, which is why ours does not.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from population.errors import StoreError, StoreInUse

# fcntl locks exclude other processes only, and closing any descriptor of the file would give up the process's
# lock: a second attempt within this process must be seen before the file is opened.
_held: set[tuple[int, int, int]] = set()


class WriterLock:
    """Held from construction to `release`.

    Raises StoreInUse, or StoreError where the lock file cannot be written.
    """

    def __init__(self, store: Path) -> None:
        path = store.with_name(store.name + ".lock")
        busy = f"{store} is in use by {{}}. Wait for it to end, or open the store with writable=False."
        try:
            if path.exists() and _identity(path.stat()) in _held:
                raise StoreInUse(busy.format("this process"))
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"{store} cannot be locked for writing ({error.strerror}). Choose a folder that exists and"
                " can be written to."
            ) from None
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise StoreInUse(busy.format(f"process {holder}" if holder else "another process")) from None
        self._identity = _identity(os.fstat(self._file))
        _held.add(self._identity)
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds all the same, and the first event will say what is wrong

    def release(self) -> None:
        if self._identity in _held:
            _held.discard(self._identity)
            os.close(self._file)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return os.getpid(), status.st_dev, status.st_ino


def is_locked(store: Path) -> bool:
    """Whether some process has `store` open for writing.

    Asks with a shared lock that is given back at once.
    """
    path = store.with_name(store.name + ".lock")
    try:
        if _identity(path.stat()) in _held:
            return True
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # never locked, or by somebody whose file we may not read
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(file)
