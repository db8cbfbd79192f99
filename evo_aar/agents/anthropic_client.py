"""One call to a Messages API through the `anthropic` SDK: streamed, retried within a deadline, and told as
plain data.

The stream is read event by event rather than through the SDK's helper or its tool runner: a reply is
journalled before it is used, one that breaks off leaves what it has cost, and tool input that is no JSON is
the model's mistake, not an error of the connection.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from evo_aar.agents.prices import Usage
from evo_aar.agents.provider import MALFORMED, Lost, ProviderKind, Rejected, Reply, register
from evo_aar.errors import SearchStopped, UsageError

if TYPE_CHECKING:
    from anthropic import APIStatusError

STALL_SECONDS = 180.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")

_REJECTED = (400, 413, 422)
_HOPELESS = {
    401: "the key is not accepted. Set ANTHROPIC_API_KEY to a valid one",
    402: "the account can't pay for it. See to its balance",
    403: "the key may not do this. Use a key that may use the model",
    404: "the model, or the address, is unknown. Check --model and ANTHROPIC_BASE_URL",
}


def has_key() -> bool:
    """Whether the environment holds what a Messages API asks for."""
    return any(os.environ.get(name) for name in KEYS)


def require_key() -> None:
    """Raises `UsageError` where there is no key."""
    if not has_key():
        raise UsageError(
            "agents need a key: set ANTHROPIC_API_KEY (any text, for a server that asks for none), or use"
            " --operator offline."
        )


class AnthropicClient:
    """Calls models.

    `patience`: seconds that a call may take with all its retries; `stall`: seconds without a sign of life.
    """

    def __init__(self, *, patience: float, stall: float = STALL_SECONDS) -> None:
        """Takes the key from the environment, and out of it: no process that is started later inherits it.

        Raises `UsageError` without one.
        """
        import anthropic
        import httpx2

        require_key()
        key, token = (os.environ.pop(name, None) for name in KEYS)
        self._patience = patience
        self._secrets = [secret for secret in (key, token) if secret]
        self._closed = threading.Event()
        timeout = httpx2.Timeout(stall, connect=min(stall, 30.0), pool=None)
        self._client = anthropic.Anthropic(api_key=key, auth_token=token, max_retries=0, timeout=timeout)

    def close(self) -> None:
        """Give up calls in flight."""
        self._closed.set()
        self._client.close()

    def call(self, request: Mapping[str, Any], lost: Callable[[Lost], object]) -> Reply:
        """Ask until there is a whole reply. `lost(Lost)` is told of every stream that broke off after it had
        begun.

        Raises `Rejected` where this request can't be served, `SearchStopped` where none can, or not within
        the patience.
        """
        import anthropic
        import httpx2

        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            stream, wait = _Stream(), None
            try:
                return self._stream(request, stream, began)
            except anthropic.APIStatusError as error:
                reason = self._clean(_explained(error))
                wait = _judge(error, reason)
            except (anthropic.APIConnectionError, httpx2.HTTPError, httpx2.StreamError) as error:
                reason = self._clean(_words(error))
            except (json.JSONDecodeError, anthropic.APIResponseValidationError, _Broken) as error:
                reason = self._clean(_words(error))
            except RuntimeError as error:  # a closed client's
                if not self._closed.is_set():
                    raise
                reason = self._clean(_words(error))
            if stream.usage.total:
                lost(Lost(stream.usage, reason))
            if self._closed.is_set():
                raise SearchStopped("the call was given up")
            pause = min(LONGEST_PAUSE, pause * 2)
            wait = pause * random.Random().uniform(0.5, 1.0) if wait is None else wait
            if time.monotonic() + wait - began > self._patience:
                raise SearchStopped(
                    f"the model's server doesn't answer: {reason}. Tried for {time.monotonic() - began:.0f} s"
                    + (f"; it asks to wait {wait:.0f} s more" if wait > LONGEST_PAUSE else "")
                )
            self._closed.wait(wait)

    def _clean(self, text: str) -> str:
        """A server may repeat what it was sent."""
        for secret in self._secrets:
            text = text.replace(secret, "(key)")
        return text

    def _stream(self, request: Mapping[str, Any], stream: _Stream, began: float) -> Reply:
        with self._client.messages.create(**request, stream=True) as events:
            for event in events:
                stream.take(event)
                if time.monotonic() - began > self._patience:
                    raise _Broken("the reply takes longer than the patience")
        return stream.reply(time.monotonic() - began)


def _judge(error: APIStatusError, reason: str) -> float | None:
    """How long to wait before the next try, None for the usual time. Raises where another try is no use."""
    status, kind = error.status_code, _kind(error)
    if status == 200:  # an error event in a stream
        status = {
            "invalid_request_error": 400,
            "authentication_error": 401,
            "permission_error": 403,
            "not_found_error": 404,
        }.get(kind, 500)
    if status in _HOPELESS:
        raise SearchStopped(f"the model's server answers {reason}: {_HOPELESS[status]}") from None
    if status in _REJECTED:
        raise Rejected(reason) from None
    after = error.response.headers.get("retry-after") if error.response is not None else None
    try:
        return max(0.0, float(after)) if after else None
    except ValueError:
        return None


class _Broken(Exception):
    """A stream that isn't a whole reply."""


class _Stream:
    """Puts a message together from its events."""

    def __init__(self) -> None:
        self._blocks: dict[int, dict] = {}
        self._json: dict[int, list[str]] = {}
        self._stop_reason: str | None = None
        self._model = ""
        self.usage = Usage()

    def take(self, event: Any) -> None:  # by its type; a server may leave out what the SDK's classes promise
        kind = event.type
        if kind == "message_start":
            self._model = event.message.model
            self._count(event.message.usage)
        elif kind == "content_block_start":
            self._blocks[event.index] = event.content_block.to_dict()
        elif kind == "content_block_delta":
            self._add(event.index, event.delta)
        elif kind == "message_delta":
            self._stop_reason = event.delta.stop_reason or self._stop_reason
            self._count(event.usage)

    def _add(self, index: int, delta: Any) -> None:
        if index not in self._blocks:
            raise _Broken("a part of a block that never began")
        block = self._blocks[index]
        if delta.type == "input_json_delta":
            self._json.setdefault(index, []).append(delta.partial_json)
        elif delta.type in ("text_delta", "thinking_delta", "signature_delta"):
            name = delta.type.removesuffix("_delta")
            block[name] = (block.get(name) or "") + getattr(delta, name)

    def _count(self, usage: object) -> None:
        """Usage comes cumulated; a later event leaves out, or repeats, what an earlier one said."""
        names = {
            "input": "input_tokens",
            "output": "output_tokens",
            "cache_write": "cache_creation_input_tokens",
            "cache_read": "cache_read_input_tokens",
        }
        found = {kind: getattr(usage, name, None) for kind, name in names.items()}
        self.usage = Usage(
            **{
                kind: int(value) if value is not None else getattr(self.usage, kind)
                for kind, value in found.items()
            }
        )

    def reply(self, seconds: float) -> Reply:
        if self._stop_reason is None:
            raise _Broken("the stream ended without a reason to stop: it was cut off")
        content = []
        for index in sorted(self._blocks):
            block = self._blocks[index]
            if block["type"] == "tool_use":
                block = {**block, "input": _input("".join(self._json.get(index, [])), block.get("input"))}
            elif block["type"] == "text" and not block["text"].strip():
                continue  # which the API would refuse to be sent back
            content.append(block)
        return Reply(content, self._stop_reason, self._model, self.usage, seconds)


def _input(text: str, whole: Any) -> dict:
    if not text:
        return whole if isinstance(whole, dict) else {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {MALFORMED: text}
    return value if isinstance(value, dict) else {MALFORMED: text}


def _body(error: APIStatusError) -> dict[str, Any]:
    """What the server says of the error."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    return inner if isinstance(inner, dict) else body


def _kind(error: APIStatusError) -> str:
    return str(_body(error).get("type", ""))


def _explained(error: APIStatusError) -> str:
    said = _body(error).get("message") or _words(error)
    return f"{error.status_code} {_kind(error)}: {_one_line(said)}".replace(" : ", ": ")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {_one_line(error)}" if str(error) else type(error).__name__


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:200]


register(ProviderKind("anthropic", require_key, lambda patience: AnthropicClient(patience=patience)))
