"""The recipe's side: a fork server that holds nothing secret, and the process in which one trial of a recipe runs.

`python -m recipes.process FD` serves a control socket (seqpacket, JSON): {"op": "spawn", "id", "limits"} with the child's end of a
connection attached, and {"op": "kill", "id"}; it answers {"spawned", "pid"} and {"exited", "status"}. The server imports NumPy and torch once,
with one thread, and has never opened a multi-threaded region, so a fork is safe. It is started with a clean environment, in a
network namespace of its own where the system allows it.

A child leads a process group of its own, under resource limits, in a scratch folder. What this does not stop: it can read the
files that the user can read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import json
import os
import random
import resource
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
import types

import numpy as np
import torch

from recipes.contract import ERRORS, Batch, Loss, Student, Task, TaskError
from recipes.wire import Connection, Message, WireError

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG = 1
LONGEST_OUTPUT = 10_000


class Deadlock(Exception):
    """The recipe waits for something that no answer will ever bring."""


class _Answers(selectors.SelectSelector):
    """The event loop's selector: when every coroutine waits, it hands out the next answer, in call order.

    The loop asks its selector with no timeout exactly when nothing can run. Delivering one answer at a time, always the one to the
    oldest open request, makes the recipe's course a function of the answers alone, never of their timing.
    """

    def __init__(self, channel: TrainerChannel) -> None:
        super().__init__()
        self._channel = channel

    def select(self, timeout: float | None = None) -> list:
        if timeout is None:
            self._channel.deliver()
        elif timeout > 0:
            raise Deadlock("the recipe sleeps on a timer; wait for requests only")
        return []


class Printed(io.TextIOBase):
    """The beginning of what a recipe prints, for whoever wrote it."""

    def __init__(self) -> None:
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text[: max(0, LONGEST_OUTPUT - len(self.text))]
        return len(text)


class TrainerChannel:
    """Numbers requests in call order, sends them, and resolves their futures in that order."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._count = 0
        self._open: dict[int, asyncio.Future[Message]] = {}
        self._losses: dict[int, Loss] = {}
        self._early: dict[int, Message] = {}

    def ask(self, kind: str, fields: dict, arrays: dict[str, np.ndarray], loss: Loss | None = None) -> asyncio.Future[Message]:
        number = self.tell(kind, fields, arrays)
        self._open[number] = asyncio.get_running_loop().create_future()
        if loss is not None:
            self._losses[number] = loss
        return self._open[number]

    def tell(self, kind: str, fields: dict, arrays: dict[str, np.ndarray]) -> int:
        self._count += 1
        self._connection.send(Message(kind, self._count, fields, arrays))
        return self._count

    def deliver(self) -> None:
        """Block until the oldest open request is answered and resolve it; serve the recipe's own losses meanwhile."""
        if not self._open:
            raise Deadlock("the recipe waits, but not for an answer of the task's")
        number = next(iter(self._open))
        while number not in self._early:
            message = self._connection.receive()
            if message.kind == "loss":
                self._answer_loss(message)
            else:
                self._early[message.number] = message
        answer, future = self._early.pop(number), self._open.pop(number)
        self._losses.pop(number, None)
        if future.cancelled():
            return
        if answer.kind == "error":
            future.set_exception(ERRORS[answer.fields["type"]](answer.fields["message"]))
        else:
            future.set_result(answer)

    def _answer_loss(self, message: Message) -> None:
        gradient = self._losses[message.number](Batch(progress=message.fields["progress"], **message.arrays))
        logits, hidden = gradient if isinstance(gradient, tuple) else (gradient, None)
        arrays = {"logits": np.asarray(logits, np.float32)}
        if hidden is not None:
            arrays["hidden"] = np.asarray(hidden, np.float32)
        self._connection.send(Message("gradient", message.number, {}, arrays))


def run_trial(connection: Connection) -> None:
    """Read the start message, run the recipe, tell the trainer how it ended."""
    start = connection.receive()
    printed = Printed()
    try:
        with contextlib.redirect_stdout(printed):
            outcome = _run_recipe(connection, start)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except MemoryError:
        outcome = Message("failed", 0, {"reason": "memory", "message": "the recipe ran out of its memory"})
    except BaseException as error:  # whatever foreign code raises, SystemExit too, is the recipe's failure, and is reported
        reason, message = _explain(error)
        outcome = Message("failed", 0, {"reason": reason, "message": message})
    outcome.fields["output"] = printed.text
    with contextlib.suppress(OSError):
        connection.send(outcome)


def _run_recipe(connection: Connection, start: Message) -> Message:
    seed = start.fields["seed"]
    random.seed(seed)
    np.random.seed(seed % 2**32)  # a recipe that ignores task.rng is still repeatable
    torch.manual_seed(seed)
    channel = TrainerChannel(connection)
    loop = asyncio.SelectorEventLoop(_Answers(channel))
    module = types.ModuleType("recipe")
    sys.modules["recipe"] = module  # dataclasses look their module up
    exec(compile(start.fields["source"], "recipe.py", "exec", dont_inherit=True), module.__dict__)
    task = Task(channel, start.fields, start.arrays["weak_labels"])
    student = loop.run_until_complete(module.recipe(task))
    if not isinstance(student, Student):
        return Message("failed", 0, {"reason": "contract", "message": f"recipe() returned {type(student).__name__}, not a Student"})
    return Message("done", 0, {"student": student._number})


def _explain(error: BaseException) -> tuple[str, str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "recipe.py"]
    place = f" (recipe.py, line {frames[-1].lineno})" if frames else ""
    name = type(error).__name__
    reason = {"BudgetExceeded": "budget", "InvalidRequest": "invalid_request", "NotAvailable": "not_available"}.get(name)
    reason = reason or (
        "deadlock" if isinstance(error, Deadlock) else "task_error" if isinstance(error, TaskError) else "exception"
    )
    if isinstance(error, SyntaxError):
        reason, place = "syntax", f" (recipe.py, line {error.lineno})"
    if isinstance(error, WireError):
        reason = "protocol"
    return reason, f"{name}: {str(error)[:500]}{place}"


# ---- the fork server


def leave_network() -> None:
    """Move this process to a network namespace of its own, which has no network. Does nothing where the system doesn't allow it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _limit(limits: dict) -> None:
    cpu, memory = limits["cpu_seconds"], limits["memory_bytes"]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"], limits["file_bytes"]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        total = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (total, total))


def _child(connection_fd: int, control_fd: int, scratch: str, limits: dict) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.close(control_fd)
    os.mkdir(scratch)
    os.chdir(scratch)
    os.environ["HOME"] = os.environ["TMPDIR"] = scratch
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    kept = socket.socket(fileno=os.dup2(connection_fd, 3))
    os.closerange(4, 256)
    _limit(limits)
    run_trial(Connection(kept))


class ForkServer:
    """Forks one child per trial and reaps it, with everything that it left behind in its process group."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._pids: dict[int, int] = {}
        self._folder = tempfile.mkdtemp(prefix="evo-aar-recipe-")

    def serve(self) -> None:
        wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._control, selectors.EVENT_READ)
                selector.register(wake, selectors.EVENT_READ)
                while True:
                    ready = {key.fileobj for key, _ in selector.select()}
                    if wake in ready:
                        os.read(wake, 4096)
                        self._reap()
                    if self._control in ready:
                        try:
                            order, fds, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
                        except ConnectionResetError:
                            return
                        if not order:
                            return
                        self._serve_order(json.loads(order), fds)
        finally:
            for number in list(self._pids):
                self._kill(number)
            shutil.rmtree(self._folder, ignore_errors=True)

    def _serve_order(self, order: dict, fds: list[int]) -> None:
        if order["op"] == "kill":
            self._kill(order["id"])
            return
        fd, scratch = fds[0], os.path.join(self._folder, str(order["id"]))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                _child(fd, self._control.fileno(), scratch, order["limits"])
                status = 0
            finally:
                os._exit(status)
        os.close(fd)
        self._pids[order["id"]] = pid
        self._tell({"spawned": order["id"], "pid": pid})

    def _kill(self, number: int) -> None:
        pid = self._pids.get(number)
        if pid is None:
            return
        for kill in (os.killpg, os.kill):  # the group may not exist yet: the child makes it first thing
            with contextlib.suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            # WNOWAIT keeps the leader's number taken, so the group that is killed can't be somebody else's.
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            del self._pids[number]
            shutil.rmtree(os.path.join(self._folder, str(number)), ignore_errors=True)
            self._tell({"exited": number, "status": status})

    def _tell(self, answer: dict) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.send(json.dumps(answer).encode())


def main() -> None:
    leave_network()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    torch.set_num_threads(1)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.send(b'{"ready": true}')
    ForkServer(control).serve()


if __name__ == "__main__":
    main()
