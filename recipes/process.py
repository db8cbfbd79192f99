"""The recipe's side: the process in which one trial of a recipe runs. It is a fork of a server that has
imported NumPy and torch once.

The order: the event loop, which makes a pair of sockets; confinement, after which no socket can be made; the
word "ready"; and only then the recipe's source is read. What cannot be confined says "unconfined" and runs
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import selectors
import socket
import sys
import traceback
import types
from collections.abc import Callable

import numpy as np
import torch

from recipes.confinement import Confinement, ConfinementError
from recipes.contract import ERRORS, MAX_IN_FLIGHT, Batch, InvalidRequest, Loss, Student, Task, TaskError
from recipes.fork_server import ForkServer
from recipes.wire import Connection, Message, WireError

LONGEST_OUTPUT = 10_000


class Deadlock(Exception):
    """The recipe waits for something that no answer will ever bring."""


class _Answers(selectors.SelectSelector):
    """The event loop's selector: when every coroutine waits, it hands out the next answer, in call order.

    The loop asks its selector with no timeout exactly when nothing can run. Delivering one answer at a time,
    always the one to the oldest open request, makes the recipe's course a function of the answers alone,
    never of their timing.
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
        self._trainings: set[int] = set()
        self.delivered = 0  # the last request whose answer the recipe has been given

    def ask(
        self, kind: str, fields: dict, arrays: dict[str, np.ndarray], loss: Loss | None = None
    ) -> asyncio.Future[Message]:
        # The trainer refuses these too; but how many it still has in flight depends on its speed, and this
        # doesn't.
        if kind == "train" and len(self._trainings) >= MAX_IN_FLIGHT:
            raise InvalidRequest(f"{MAX_IN_FLIGHT} trainings in flight at once are the most")
        number = self.tell(kind, fields, arrays)
        if kind == "train":
            self._trainings.add(number)
        self._open[number] = asyncio.get_running_loop().create_future()
        if loss is not None:
            self._losses[number] = loss
        return self._open[number]

    def tell(self, kind: str, fields: dict, arrays: dict[str, np.ndarray]) -> int:
        self._count += 1
        self._connection.send(Message(kind, self._count, fields, arrays))
        return self._count

    def deliver(self) -> None:
        """Block until the oldest open request is answered and resolve it; serve the recipe's own losses
        meanwhile.
        """
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
        self.delivered = max(self.delivered, number)
        self._losses.pop(number, None)
        self._trainings.discard(number)
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


def run_trial(connection: Connection, confine: Callable[[], None]) -> None:
    """Give up what a recipe has no need of, read the start message, run the recipe, tell the trainer how it
    ended.
    """
    channel = TrainerChannel(connection)
    loop = asyncio.SelectorEventLoop(_Answers(channel))
    try:
        confine()
    except ConfinementError as error:
        connection.send(Message("unconfined", 0, {"message": str(error)}))
        return
    connection.send(Message("ready", 0))
    start = connection.receive()
    printed = Printed()
    try:
        with contextlib.redirect_stdout(printed):
            outcome = _run_recipe(channel, loop, start)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except MemoryError:
        outcome = Message("failed", 0, {"reason": "memory", "message": "the recipe ran out of its memory"})
    except (
        BaseException
    ) as error:  # whatever foreign code raises, SystemExit too, is the recipe's failure, and is reported
        reason, message = _explain(error)
        outcome = Message("failed", 0, {"reason": reason, "message": message})
    outcome.fields.update(output=printed.text, delivered=channel.delivered)
    with contextlib.suppress(OSError):
        connection.send(outcome)


def _run_recipe(channel: TrainerChannel, loop: asyncio.AbstractEventLoop, start: Message) -> Message:
    seed = start.fields["seed"]
    random.seed(seed)
    np.random.seed(seed % 2**32)  # a recipe that ignores task.rng is still repeatable
    torch.manual_seed(seed)
    module = types.ModuleType("recipe")
    sys.modules["recipe"] = module  # dataclasses look their module up
    exec(compile(start.fields["source"], "recipe.py", "exec", dont_inherit=True), module.__dict__)
    task = Task(channel, start.fields, start.arrays["weak_labels"])
    student = loop.run_until_complete(module.recipe(task))
    if not isinstance(student, Student):
        return Message(
            "failed",
            0,
            {"reason": "contract", "message": f"recipe() returned {type(student).__name__}, not a Student"},
        )
    return Message("done", 0, {"student": student.number})


def _explain(error: BaseException) -> tuple[str, str]:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "recipe.py"]
    place = f" (recipe.py, line {frames[-1].lineno})" if frames else ""
    name = type(error).__name__
    reason = {
        "BudgetExceeded": "budget",
        "InvalidRequest": "invalid_request",
        "NotAvailable": "not_available",
    }.get(name)
    reason = reason or (
        "deadlock"
        if isinstance(error, Deadlock)
        else "task_error"
        if isinstance(error, TaskError)
        else "exception"
    )
    if isinstance(error, SyntaxError):
        reason, place = "syntax", f" (recipe.py, line {error.lineno})"
    if isinstance(error, WireError):
        reason = "protocol"
    return reason, f"{name}: {str(error)[:500]}{place}"


def main(confinement: Confinement, control: socket.socket, scratch: str) -> None:
    """Serve trials until the control socket is closed.

    One thread, now and for good: what forks after this can be confined.
    """
    torch.set_num_threads(1)
    ForkServer(
        control, confinement, scratch, lambda connection, confine: run_trial(Connection(connection), confine)
    ).serve()
