"""Messages between a recipe's process and the trainer: a JSON header and raw arrays. Never pickle, in either
direction.

A frame is `EAR1`, the header's length (uint32), the payload's length (uint64), both big-endian, the header,
the payload. The header is `{"kind", "number", "fields", "arrays": [[name, dtype, shape], ...]}`; the payload
is the arrays' bytes in that order, C-contiguous and little-endian. Every length is checked before anything is
allocated for it.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

MAGIC = b"EAR1"
PREFIX = struct.Struct(">4sIQ")
DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
    "int64": np.dtype("<i8"),
    "bool": np.dtype("?"),
}
MAX_HEADER = 1 << 20
MAX_PAYLOAD = 1 << 30
MAX_ARRAYS = 4096
MAX_DIMENSIONS = 4


class WireError(Exception):
    """The peer sent something that is not a message."""


@dataclass(frozen=True)
class Message:
    """`kind` says what is asked or answered, `number` which request it belongs to."""

    kind: str
    number: int
    fields: dict = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The frame of a message. Raises `WireError` for an array that the protocol has no dtype for."""
    table, chunks = [], []
    for name, array in message.arrays.items():
        array = np.asarray(array)
        dtype = DTYPES.get(array.dtype.name)
        if dtype is None:
            raise WireError(f"array {name!r} has dtype {array.dtype}; send one of {', '.join(DTYPES)}")
        table.append([name, array.dtype.name, list(array.shape)])
        chunks.append(np.ascontiguousarray(array, dtype).tobytes())
    header = json.dumps(
        {"kind": message.kind, "number": message.number, "fields": message.fields, "arrays": table}
    ).encode()
    payload = b"".join(chunks)
    if len(header) > MAX_HEADER or len(payload) > MAX_PAYLOAD or len(table) > MAX_ARRAYS:
        raise WireError(
            f"message {message.kind!r} is too large: {len(header)} bytes of header, {len(payload)} of arrays"
        )
    return PREFIX.pack(MAGIC, len(header), len(payload)) + header + payload


def _refuse_constant(name: str) -> None:
    raise WireError(f"{name} in a header")


def _decode_header(data: bytes) -> tuple[str, int, dict, list[tuple[str, np.dtype, tuple[int, ...], int]]]:
    try:
        header = json.loads(data, parse_constant=_refuse_constant)
        kind, number, fields, table = header["kind"], header["number"], header["fields"], header["arrays"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise WireError(f"malformed header ({type(error).__name__})") from None
    if (
        not isinstance(kind, str)
        or type(number) is not int
        or not isinstance(fields, dict)
        or not isinstance(table, list)
    ):
        raise WireError(
            "a header's kind, number, fields and arrays must be a string, an integer, an object and a list"
        )
    if len(table) > MAX_ARRAYS:
        raise WireError(f"{len(table)} arrays in one message, at most {MAX_ARRAYS} allowed")
    arrays = []
    for entry in table:
        if not isinstance(entry, list) or len(entry) != 3:
            raise WireError("an array's entry must be [name, dtype, shape]")
        name, dtype, shape = entry
        if (
            not isinstance(name, str)
            or not isinstance(dtype, str)
            or dtype not in DTYPES
            or not isinstance(shape, list)
        ):
            raise WireError("an array's name, dtype or shape is malformed")
        if len(shape) > MAX_DIMENSIONS or any(
            type(size) is not int or not 0 <= size <= MAX_PAYLOAD for size in shape
        ):
            raise WireError("an array's shape must hold at most four non-negative integers")
        arrays.append((name, DTYPES[dtype], tuple(shape), math.prod(shape) * DTYPES[dtype].itemsize))
    if len({name for name, *_ in arrays}) != len(arrays):
        raise WireError("two arrays of one name")
    return kind, number, fields, arrays


class Decoder:
    """Turns bytes, however they were cut, into messages."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD) -> None:
        self._buffer = bytearray()
        self._max_payload = max_payload
        self._header: tuple | None = None  # of the frame whose payload is being waited for

    @property
    def held(self) -> int:
        """Bytes that were added and not taken yet."""
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> Message | None:
        """The next message, or None where it isn't whole yet.

        Raises `WireError`; the connection is of no use after that.
        """
        if len(self._buffer) < PREFIX.size:
            return None
        magic, header_size, payload_size = PREFIX.unpack_from(self._buffer)
        start = PREFIX.size + header_size
        if self._header is None:
            if magic != MAGIC:
                raise WireError("not a frame of this protocol")
            if header_size > MAX_HEADER or payload_size > self._max_payload:
                raise WireError(f"a frame of {header_size} + {payload_size} bytes is over the limit")
            if len(self._buffer) < start:
                return None
            # The header is read before the payload is waited for, and once: a lie about sizes ends here.
            self._header = _decode_header(bytes(self._buffer[PREFIX.size : start]))
            if sum(size for *_, size in self._header[3]) != payload_size:
                raise WireError("the arrays' sizes don't add up to the payload's")
        end = start + payload_size
        if len(self._buffer) < end:
            return None
        kind, number, fields, table = self._header
        arrays = {}
        for name, dtype, shape, size in table:
            arrays[name] = np.frombuffer(bytes(self._buffer[start : start + size]), dtype).reshape(shape)
            start += size
        del self._buffer[:end]
        self._header = None
        return Message(kind, number, fields, arrays)

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes."""
        self.add(data)
        while (message := self.take()) is not None:
            yield message


class Connection:
    """A blocking end of the protocol: what a recipe's process uses."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._decoder = Decoder()
        self._ready: list[Message] = []

    def send(self, message: Message) -> None:
        self._socket.sendall(encode(message))

    def receive(self) -> Message:
        """The next message. Raises `EOFError` when the peer is gone."""
        while not self._ready:
            data = self._socket.recv(1 << 20)
            if not data:
                raise EOFError("the trainer closed the connection")
            self._ready.extend(self._decoder.feed(data))
        return self._ready.pop(0)
