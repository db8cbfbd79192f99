"""The evaluator's service: any number of recipe processes talk to one trainer at once.

One thread, one loop: read what recipes ask, take one fused step, send what is ready. Which trial is served
first changes when things happen, never what comes out.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from evaluator.conversation import Conversation
from evaluator.errors import EvaluatorError
from evaluator.processes import Exit, Limits, RecipeProcesses
from evaluator.requests import ProtocolBreach
from evaluator.sandbox.levels import Level
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest
from recipes.wire import Decoder, Message, WireError, encode

RESIDENTS = 32
MAX_RECIPE_PAYLOAD = 256 << 20
MAX_WAITING = MAX_RECIPE_PAYLOAD + (64 << 20)
"""Bytes of a recipe's requests that may wait for it to read its answers."""
UNREAD = 64 << 20
"""Bytes of answers that a recipe hasn't read, from which on its next requests wait."""
TURN = 64
"""Requests of one recipe that are served before the others have their turn."""
WALL_TIME_ATTEMPTS = 2


class _Peer:
    """A recipe's process, the connection to it, and its conversation.

    A recipe that asks faster than it reads is made to wait, and one that goes on asking is ended: the trainer
    keeps neither its answers nor its requests beyond a bound.
    """

    def __init__(self, service: Service, request: TrialRequest, attempt: int) -> None:
        self.request = request
        self.attempt = attempt
        self.number, self.socket = service.processes.spawn()
        self._wall_seconds, self._gradient_seconds = (
            service.limits.wall_seconds,
            service.limits.gradient_seconds,
        )
        self.deadline = time.monotonic() + self._wall_seconds
        self.conversation = Conversation(request, service.trainer, self.send, service.kind)
        self.outgoing: deque[memoryview] = deque()
        self.ready = False
        self._unread = 0
        self._arrived = False  # whether there may be a whole request among the bytes that the decoder holds
        self._decoder = Decoder(max_payload=MAX_RECIPE_PAYLOAD)
        self.send(self.conversation.start())

    @property
    def can_be_served(self) -> bool:
        """Whether a request of its may be waiting, and be answered."""
        return self._arrived and self._unread < UNREAD and self.conversation.outcome is None

    @property
    def due(self) -> float:
        """When it has taken too long: as a whole, or over one gradient of a loss of its own."""
        asked = self.conversation.asked_since
        return self.deadline if asked is None else min(self.deadline, asked + self._gradient_seconds)

    def be_late(self) -> None:
        """End the trial for having taken too long."""
        if self.due < self.deadline:
            words = f"its own loss gave no gradient within {self._gradient_seconds:g} s, {self.attempt} times"
            self.conversation.fail("loss_time", words)
        else:
            self.conversation.fail(
                "wall_time", f"no end after {self._wall_seconds:g} s, {self.attempt} times"
            )

    def send(self, message: Message) -> None:
        frame = memoryview(encode(message))
        self.outgoing.append(frame)
        self._unread += len(frame)

    def flush(self) -> None:
        """Send what the socket takes."""
        while self.outgoing:
            try:
                sent = self.socket.send(self.outgoing[0])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self.outgoing.clear()  # its exit will say why
                self._unread = 0
                return
            self._unread -= sent
            if sent < len(self.outgoing[0]):
                self.outgoing[0] = self.outgoing[0][sent:]
            else:
                self.outgoing.popleft()

    def read(self) -> bool:
        """Take what has arrived; False when the process has closed its end or is done with."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        self._decoder.add(data)
        self._arrived = True
        if self._decoder.held > MAX_WAITING:
            self.conversation.fail(
                "protocol", f"more than {MAX_WAITING >> 20} MiB of requests, and no answer read"
            )
        return self.conversation.outcome is None

    def serve(self, most: int = TURN) -> None:
        """Act on its next requests, at most so many, as long as it reads its answers."""
        try:
            for _ in range(most):
                if not self.can_be_served:
                    return
                message = self._decoder.take()
                if message is None:
                    self._arrived = False
                elif self.ready:
                    self.conversation.receive(message)
                else:
                    self._started(message)
        except (WireError, ProtocolBreach) as error:
            self.conversation.fail("protocol", str(error))

    def hear_last_words(self) -> None:
        """Act on all that a process which has ended had still to say."""
        while self.conversation.outcome is None and self.read() and _readable(self.socket):
            pass
        while self._arrived and self.conversation.outcome is None:
            self.outgoing.clear()
            self._unread = 0
            self.serve(1)

    def _started(self, message: Message) -> None:
        """The process's first word comes from the engine's own code: no recipe has been read yet."""
        if message.kind == "unconfined":
            raise EvaluatorError(
                f"a recipe's process could not be confined: {message.fields['message']}. See what `evo-aar"
                " doctor` says."
            )
        self.ready = True


class Service:
    """Runs trials on a trainer, each in a process of its own. `kind` is the default kind of student.

    `level`: of the sandbox; None for the best that this machine has.
    """

    def __init__(self, trainer: Trainer, limits: Limits, kind: str, level: Level | None = None) -> None:
        self.trainer = trainer
        self.limits = limits
        self.kind = kind
        self.processes = RecipeProcesses(limits, level)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.processes, selectors.EVENT_READ)
        self._peers: dict[int, _Peer] = {}

    def run(
        self, requests: Iterable[TrialRequest], on_outcome: Callable[[TrialRequest, Conversation], None]
    ) -> None:
        """Run all trials, at most `RESIDENTS` at once; `on_outcome` is called as each ends, in no particular
        order.
        """
        waiting = deque((request, 1) for request in requests)
        then = time.monotonic()
        while waiting or self._peers:
            now = time.monotonic()
            for peer in self._peers.values():
                peer.conversation.seconds += (now - then) / len(self._peers)
            then = now
            work = self.trainer.work
            with work.timed("starting"):
                while waiting and len(self._peers) < RESIDENTS:
                    self._admit(*waiting.popleft())
            with work.timed("waiting"):
                self._poll()
            with work.timed("answering"):
                for peer in [peer for peer in self._peers.values() if peer.can_be_served]:
                    peer.serve()
            if self.trainer.busy:
                with work.timed("training"):
                    self.trainer.step()
            for peer in [peer for peer in self._peers.values() if peer.outgoing]:
                self._flush(peer)
            for peer in self._overdue():
                if peer.attempt < WALL_TIME_ATTEMPTS:
                    waiting.append((peer.request, peer.attempt + 1))
                    peer.conversation.close()
                    self._dismiss(peer)
                else:
                    peer.be_late()
            for peer in [peer for peer in self._peers.values() if peer.conversation.outcome is not None]:
                self._dismiss(peer)
                on_outcome(peer.request, peer.conversation)

    def use(self, trainer: Trainer, kind: str) -> None:
        """Run what comes next on another trainer, with another default kind of student."""
        self.trainer, self.kind = trainer, kind

    def close(self) -> None:
        """End all recipe processes."""
        for peer in self._peers.values():
            peer.socket.close()
        self._selector.close()
        self.processes.close()

    def _admit(self, request: TrialRequest, attempt: int) -> None:
        peer = _Peer(self, request, attempt)
        self._peers[peer.number] = peer
        self._selector.register(peer.socket, selectors.EVENT_READ, peer)
        self._flush(peer)

    def _poll(self) -> None:
        timeout = 0.0
        if (
            not self.trainer.busy
            and self._peers
            and not any(peer.can_be_served for peer in self._peers.values())
        ):
            nearest = min(peer.due for peer in self._peers.values())
            timeout = max(0.0, min(nearest - time.monotonic(), 60.0))
        for key, events in self._selector.select(timeout):
            if key.data is None:
                for gone in self.processes.exits():
                    self._exited(gone)
                continue
            peer: _Peer = key.data
            if events & selectors.EVENT_WRITE:
                self._flush(peer)
            if events & selectors.EVENT_READ and not peer.read():
                # Closed without a last word: the exit's status, which follows, tells why.
                (
                    self._selector.modify(peer.socket, selectors.EVENT_WRITE, peer)
                    if peer.outgoing
                    else self._forget(peer.socket)
                )

    def _flush(self, peer: _Peer) -> None:
        peer.flush()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.outgoing else 0)
        key = self._selector.get_map().get(peer.socket)
        if key is not None and key.events != events:
            self._selector.modify(peer.socket, events, peer)

    def _forget(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def _overdue(self) -> list[_Peer]:
        now = time.monotonic()
        return [peer for peer in self._peers.values() if peer.due < now and peer.conversation.outcome is None]

    def _exited(self, gone: Exit) -> None:
        peer = self._peers.get(gone.number)
        if peer is None:
            return
        peer.hear_last_words()
        if not peer.ready:
            raise EvaluatorError(
                f"a recipe's process ended before it was confined (status {gone.status}). Out of memory? Use"
                " fewer --workers and resume."
            )
        if peer.conversation.outcome is None:
            peer.conversation.fail(*_explain_exit(gone, self.limits))

    def _dismiss(self, peer: _Peer) -> None:
        """Have done with a process."""
        self._forget(peer.socket)
        peer.socket.close()
        self.processes.kill(peer.number)
        del self._peers[peer.number]


def _readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _explain_exit(gone: Exit, limits: Limits) -> tuple[str, str]:
    status = gone.status
    if gone.scratch:
        bound = f"{limits.scratch_bytes >> 20} MiB or {limits.scratch_files} files"
        return "scratch", f"the recipe stored more than {bound} in its scratch folder"
    if status == -signal.SIGXCPU:
        return "cpu_time", f"the recipe used up its {limits.cpu_seconds} s of processor time"
    if status == -signal.SIGXFSZ:
        return "file_size", f"the recipe wrote a file of more than {limits.file_bytes >> 20} MiB"
    if status < 0:
        return "killed", f"the recipe's process was ended by {signal.Signals(-status).name}"
    return "crashed", f"the recipe's process ended with status {status} and no word"
