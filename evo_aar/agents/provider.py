"""Providers of language models: what agents ask of one, which there are, and which a model belongs to.

Requests and replies have the form of Anthropic's Messages API, whoever serves them: a provider of another
form is an adapter in a module of its own that translates. `register` makes it known; a model is its own if
its name begins with the provider's and a colon ("local:qwen3"). All others are Anthropic's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from evaluator import plugins
from evo_aar.agents.prices import Usage

MALFORMED = "_malformed"
"""In place of a tool's input that is no JSON object: its text."""
DEFAULT = "anthropic"


class Rejected(Exception):
    """The server won't serve this request, now or later. The message says why."""


@dataclass(frozen=True)
class Reply:
    """`content`: blocks as the Messages API gives them, to be sent back as they are; `seconds`: from asking
    to the last event.
    """

    content: list[dict[str, Any]]
    stop_reason: str
    model: str
    usage: Usage
    seconds: float = 0.0


@dataclass
class Lost:
    """What a stream that broke off had cost by then, as far as it said so."""

    usage: Usage = field(default_factory=Usage)
    reason: str = ""


class Provider(Protocol):
    """Serves models."""

    def call(self, request: Mapping[str, Any], lost: Callable[[Lost], object]) -> Reply:
        """Ask until there is a whole reply. `lost` is told of every stream that broke off after it had begun.

        Raises `Rejected` where this request can't be served, `SearchStopped` where none can, or not in time.
        """
        ...

    def close(self) -> None:
        """Give up calls in flight."""
        ...


@dataclass(frozen=True)
class ProviderKind:
    """A provider that can be had.

    `require` raises `UsageError` where something that it needs isn't there (a key); `make` makes one, with
    the seconds that a call may take with all its retries.
    """

    name: str
    require: Callable[[], object]
    make: Callable[[float], Provider]


_KINDS: dict[str, ProviderKind] = {}


def register(kind: ProviderKind) -> None:
    """Make a provider known under its name."""
    _KINDS[kind.name] = kind


def kind_of(model: str) -> ProviderKind:
    """The provider that a model belongs to.

    A prefix that is no provider's is part of the model's name, as local servers have them ("llama3:8b").
    """
    from evo_aar.agents import anthropic_client  # noqa: F401 - registers itself

    plugins.load()
    prefix, colon, _ = model.partition(":")
    return _KINDS[prefix] if colon and prefix in _KINDS else _KINDS[DEFAULT]


class Providers:
    """The providers of several models, as one: a request goes to whose its model is."""

    def __init__(self, models: Iterable[str], patience: float) -> None:
        """Raises `UsageError` where a model's provider lacks what it needs."""
        kinds = {model: kind_of(model) for model in models}
        for kind in kinds.values():
            kind.require()
        self._made = {kind.name: kind.make(patience) for kind in kinds.values()}

    def call(self, request: Mapping[str, Any], lost: Callable[[Lost], object]) -> Reply:
        """As `Provider.call`."""
        model = str(request["model"])
        name = kind_of(model).name
        return self._made[name].call({**request, "model": model.removeprefix(f"{name}:")}, lost)

    def close(self) -> None:
        for one in self._made.values():
            one.close()
