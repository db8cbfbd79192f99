"""A server that speaks the Messages API over real HTTP: streamed replies by a script, and every fault that a
network or a provider has.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from population.jsontext import digest


@dataclass(frozen=True)
class Answer:
    """A reply: `content` blocks, of which text and tool_use are streamed in pieces.

    `fault`: see `MessagesServer`.
    """

    content: tuple = ()
    stop_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    fault: str = ""

    @property
    def reason(self):
        calls = any(block["type"] == "tool_use" for block in self.content)
        return self.stop_reason or ("tool_use" if calls else "end_turn")


@dataclass(frozen=True)
class Refusal:
    """An HTTP error before the first byte of a reply."""

    status: int
    kind: str = "api_error"
    message: str = "no"
    headers: dict = field(default_factory=dict)


def text(words):
    return {"type": "text", "text": words}


def use(name, number=0, **given):
    """A call of a tool; its id follows from what it is, so that a script is a function of its request."""
    return {
        "type": "tool_use",
        "id": f"toolu_{digest([name, number, given])[:16]}",
        "name": name,
        "input": given,
    }


class MessagesServer:
    """`script(request, number)` gives an `Answer` or a `Refusal` for the number-th request; the same request
    may be given another one later.

    An answer's `fault` strikes in mid-stream: "overloaded" (an error event), "reset", "truncated" (the stream
    ends early), "stall", "not json" (a malformed event), "bad input" (a tool's input that is no JSON);
    "silent" strikes before the first byte.
    """

    def __init__(self, script, stall=3.0):
        self.script = script
        self.stall = stall
        self.requests = []  # whole replies alone: (path, headers, body)
        self.seen = []
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    number = len(server.seen)
                    server.seen.append((self.path, dict(self.headers), body))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    server._serve(self, body, number)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]

    def _serve(self, handler, body, number):
        answer = self.script(body, number)
        if isinstance(answer, Refusal):
            self._refuse(handler, answer)
            return
        if answer.fault == "silent":
            time.sleep(self.stall)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for event in self._events(body, answer):
            handler.wfile.write(event)
            handler.wfile.flush()
        if answer.fault in ("", "bad input"):
            with self._lock:
                self.requests.append((handler.path, dict(handler.headers), body))
        elif answer.fault == "reset":
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        elif answer.fault == "stall":
            time.sleep(self.stall)
        handler.close_connection = True

    def _refuse(self, handler, refusal):
        said = json.dumps(
            {"type": "error", "error": {"type": refusal.kind, "message": refusal.message}}
        ).encode()
        handler.send_response(refusal.status)
        for name, value in refusal.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    def _events(self, body, answer):
        prompt = len(json.dumps(body)) // 4
        usage = {
            "input_tokens": answer.input_tokens if answer.input_tokens is not None else prompt // 10,
            "cache_creation_input_tokens": 0 if answer.input_tokens is not None else prompt // 10,
            "cache_read_input_tokens": 0 if answer.input_tokens is not None else prompt - 2 * (prompt // 10),
            "output_tokens": 1,
        }
        start = {
            "id": f"msg_{digest(body)[:20]}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [],
        }
        yield _event(
            "message_start",
            {"message": {**start, "stop_reason": None, "stop_sequence": None, "usage": usage}},
        )
        yield _event("ping", {})
        for index, block in enumerate(answer.content):
            pieces = _pieces(block, answer.fault)
            yield _event("content_block_start", {"index": index, "content_block": pieces[0]})
            for piece in pieces[1:]:
                yield _event("content_block_delta", {"index": index, "delta": piece})
                if answer.fault == "overloaded":
                    yield _event("error", {"error": {"type": "overloaded_error", "message": "Overloaded"}})
                    return
                if answer.fault == "not json":
                    yield b"event: content_block_delta\ndata: {not json\n\n"
                    return
                if answer.fault in ("reset", "truncated", "stall"):
                    return
            yield _event("content_block_stop", {"index": index})
        written = (
            answer.output_tokens
            if answer.output_tokens is not None
            else max(1, len(json.dumps(answer.content)) // 4)
        )
        yield _event(
            "message_delta",
            {
                "delta": {"stop_reason": answer.reason, "stop_sequence": None},
                "usage": {"output_tokens": written},
            },
        )
        yield _event("message_stop", {})


def _pieces(block, fault):
    if block["type"] == "text":
        middle = len(block["text"]) // 2
        return [
            {"type": "text", "text": ""},
            *(
                {"type": "text_delta", "text": part}
                for part in (block["text"][:middle], block["text"][middle:])
            ),
        ]
    if block["type"] == "tool_use":
        given = json.dumps(block["input"])
        if fault == "bad input":
            given = given[: len(given) // 2] + "\x01"
        middle = len(given) // 2
        parts = (
            {"type": "input_json_delta", "partial_json": part} for part in (given[:middle], given[middle:])
        )
        return [{**block, "input": {}}, *parts]
    return [block]


def _event(kind, data):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()
