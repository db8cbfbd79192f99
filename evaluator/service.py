"""The evaluator's service: any number of recipe processes talk to one trainer at once.

One thread, one loop: read what recipes ask, take one fused step, send what is ready. Which trial is served first changes when
things happen, never what comes out.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable

from evaluator.conversation import Conversation, ProtocolBreach
from evaluator.processes import Limits, RecipeProcesses
from evaluator.trainer.trainer import Trainer
from evaluator.trial import Outcome, Trial
from recipes.wire import Decoder, Message, WireError, encode

RESIDENTS = 32
MAX_RECIPE_PAYLOAD = 256 << 20
WALL_TIME_ATTEMPTS = 2


class _Peer:
    """A recipe's process, the connection to it, and its conversation."""

    def __init__(self, service: Service, trial: Trial, attempt: int) -> None:
        self.trial = trial
        self.attempt = attempt
        self.number, self.socket = service.processes.spawn()
        self.deadline = time.monotonic() + service.limits.wall_seconds
        self.conversation = Conversation(trial, service.trainer, self.send, service.kind)
        self.outgoing: deque[memoryview] = deque()
        self._decoder = Decoder(max_payload=MAX_RECIPE_PAYLOAD)
        self.send(self.conversation.start())

    def send(self, message: Message) -> None:
        self.outgoing.append(memoryview(encode(message)))

    def flush(self) -> None:
        """Send what the socket takes."""
        while self.outgoing:
            try:
                sent = self.socket.send(self.outgoing[0])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                self.outgoing.clear()  # its exit will say why
                return
            if sent < len(self.outgoing[0]):
                self.outgoing[0] = self.outgoing[0][sent:]
            else:
                self.outgoing.popleft()

    def read(self) -> bool:
        """Act on what has arrived; False when the process has closed its end or is done with."""
        try:
            data = self.socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not data:
            return False
        try:
            for message in self._decoder.feed(data):
                self.conversation.receive(message)
                if self.conversation.outcome is not None:
                    return False
        except (WireError, ProtocolBreach) as error:
            self.conversation.fail("protocol", str(error))
            return False
        return True


class Service:
    """Runs trials on a trainer, each in a process of its own. `kind` is the default student, "head" or "lora"."""

    def __init__(self, trainer: Trainer, limits: Limits, kind: str) -> None:
        self.trainer = trainer
        self.limits = limits
        self.kind = kind
        self.processes = RecipeProcesses(limits)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.processes.control, selectors.EVENT_READ)
        self._peers: dict[int, _Peer] = {}

    def run(self, trials: Iterable[Trial], on_outcome: Callable[[Trial, Conversation], None]) -> None:
        """Run all trials, at most `RESIDENTS` at once; `on_outcome` is called as each ends, in no particular order."""
        waiting = deque((trial, 1) for trial in trials)
        then = time.monotonic()
        while waiting or self._peers:
            now = time.monotonic()
            for peer in self._peers.values():
                peer.conversation.seconds += (now - then) / len(self._peers)
            then = now
            while waiting and len(self._peers) < RESIDENTS:
                self._admit(*waiting.popleft())
            self._poll()
            if self.trainer.busy:
                self.trainer.step()
            for peer in [peer for peer in self._peers.values() if peer.outgoing]:
                self._flush(peer)
            for peer in self._overdue():
                if peer.attempt < WALL_TIME_ATTEMPTS:
                    waiting.append((peer.trial, peer.attempt + 1))
                    peer.conversation.close()
                    peer.conversation.outcome = Outcome(reason="retried")
                else:
                    peer.conversation.fail("wall_time", f"no end after {self.limits.wall_seconds:g} s, {peer.attempt} times")
                self._finish(peer, on_outcome)
            for peer in [peer for peer in self._peers.values() if peer.conversation.outcome is not None]:
                self._finish(peer, on_outcome)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.socket.close()
        self._selector.close()
        self.processes.close()

    def _admit(self, trial: Trial, attempt: int) -> None:
        peer = _Peer(self, trial, attempt)
        self._peers[peer.number] = peer
        self._selector.register(peer.socket, selectors.EVENT_READ, peer)
        self._flush(peer)

    def _poll(self) -> None:
        timeout = 0.0
        if not self.trainer.busy and self._peers:
            nearest = min(peer.deadline for peer in self._peers.values())
            timeout = max(0.0, min(nearest - time.monotonic(), 60.0))
        for key, events in self._selector.select(timeout):
            if key.data is None:
                for gone in self.processes.exits():
                    self._exited(gone.number, gone.status)
                continue
            peer: _Peer = key.data
            if events & selectors.EVENT_WRITE:
                self._flush(peer)
            if events & selectors.EVENT_READ and not peer.read():
                # Closed without a last word: the exit's status, which follows, tells why.
                self._selector.modify(peer.socket, selectors.EVENT_WRITE, peer) if peer.outgoing else self._forget(peer.socket)

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
        return [peer for peer in self._peers.values() if peer.deadline < now and peer.conversation.outcome is None]

    def _exited(self, number: int, status: int) -> None:
        peer = self._peers.get(number)
        if peer is None:
            return
        while peer.conversation.outcome is None and peer.read():  # the last words may still lie in the socket
            if not _readable(peer.socket):
                break
        if peer.conversation.outcome is None:
            peer.conversation.fail(*_explain_exit(status, self.limits))

    def _finish(self, peer: _Peer, on_outcome: Callable[[Trial, Conversation], None]) -> None:
        self._forget(peer.socket)
        peer.socket.close()
        self.processes.kill(peer.number)
        del self._peers[peer.number]
        if peer.conversation.outcome.reason != "retried":
            on_outcome(peer.trial, peer.conversation)


def _readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))


def _explain_exit(status: int, limits: Limits) -> tuple[str, str]:
    if status == -signal.SIGXCPU:
        return "cpu_time", f"the recipe used up its {limits.cpu_seconds} s of processor time"
    if status == -signal.SIGXFSZ:
        return "file_size", f"the recipe wrote a file of more than {limits.file_bytes >> 20} MiB"
    if status < 0:
        return "killed", f"the recipe's process was ended by {signal.Signals(-status).name}"
    return "crashed", f"the recipe's process ended with status {status} and no word"
