"""The protocol: whatever is sent arrives, however the bytes are cut; whatever is no message ends the
connection with a reason.
"""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recipes.wire import MAX_ARRAYS, PREFIX, Decoder, Message, WireError, encode

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
arrays = st.sampled_from(["float32", "float64", "int64", "bool"]).flatmap(
    # no subnormal numbers: a trainer in the same process flushes them to zero
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements={"allow_subnormal": False} if dtype.startswith("float") else None,
    )
)
messages = st.builds(
    Message,
    kind=st.text(max_size=12),
    number=st.integers(0, 2**31),
    fields=st.dictionaries(st.text(max_size=8), json_values, max_size=4),
    arrays=st.dictionaries(st.text(max_size=8), arrays, max_size=4),
)


def same(a: Message, b: Message) -> bool:
    return (
        (a.kind, a.number, a.fields) == (b.kind, b.number, b.fields)
        and list(a.arrays) == list(b.arrays)
        and all(
            a.arrays[name].dtype == b.arrays[name].dtype
            and a.arrays[name].shape == b.arrays[name].shape
            and a.arrays[name].tobytes() == b.arrays[name].tobytes()
            for name in a.arrays
        )
    )


@settings(max_examples=200, deadline=None)
@given(sent=st.lists(messages, min_size=1, max_size=3), cuts=st.lists(st.integers(1, 200), max_size=30))
def test_messages_arrive_as_they_were_sent_however_the_bytes_are_cut(sent, cuts):
    data, decoder, received = b"".join(map(encode, sent)), Decoder(), []
    for cut in cuts:
        received += decoder.feed(data[:cut])
        data = data[cut:]
    received += decoder.feed(data)
    assert len(received) == len(sent)
    assert all(map(same, received, sent))


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_or_waited_on_and_never_a_message(data):
    with contextlib.suppress(WireError):
        assert list(Decoder().feed(data)) == []


@settings(max_examples=300, deadline=None)
@given(message=messages, position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_damaged_byte_gives_a_message_or_a_reason_and_no_other_error(message, position, value):
    data = bytearray(encode(message))
    data[position % len(data)] = value
    try:
        list(Decoder(max_payload=1 << 20).feed(bytes(data)))
    except WireError as error:
        assert str(error)


def frame(header: object, payload: bytes = b"", *, payload_size: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (
        PREFIX.pack(b"EAR1", len(raw), len(payload) if payload_size is None else payload_size) + raw + payload
    )


def header(arrays=(), **changes):
    return {"kind": "k", "number": 1, "fields": {}, "arrays": list(arrays)} | changes


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(PREFIX.pack(b"EAR1", 1 << 31, 0), id="a header of 2 GiB"),
        pytest.param(PREFIX.pack(b"EAR1", 10, 1 << 62), id="a payload of 4 EiB"),
        pytest.param(frame(b"{not json"), id="no JSON"),
        pytest.param(frame(b"[" * 100_000), id="deep JSON"),
        pytest.param(frame(header(number=1.5)), id="a number that is no integer"),
        pytest.param(
            frame(b'{"kind": "k", "number": 1, "fields": {"x": NaN}, "arrays": []}'), id="NaN in the header"
        ),
        pytest.param(frame(header([["x", "object", [1]]]), b"12345678"), id="an object array"),
        pytest.param(frame(header([["x", "float32", [-1]]])), id="a negative size"),
        pytest.param(frame(header([["x", "float32", [1 << 40, 1 << 40]]]), b""), id="sizes that overflow"),
        pytest.param(frame(header([["x", "float32", [2]]]), b"1234"), id="fewer bytes than the shape needs"),
        pytest.param(
            frame(header([["x", "float32", [1]], ["x", "float32", [1]]]), b"12345678"), id="one name twice"
        ),
        pytest.param(frame(header([["x", "bool", [0]]] * (MAX_ARRAYS + 1))), id="a flood of arrays"),
        pytest.param(frame(header([["x", "float32", [1, 1, 1, 1, 1]]]), b"1234"), id="five dimensions"),
    ],
)
def test_what_breaks_the_protocol_is_refused_before_anything_is_allocated(data):
    with pytest.raises(WireError):
        list(Decoder().feed(data))


def test_an_array_without_a_dtype_of_the_protocol_is_refused_at_the_sender():
    with pytest.raises(WireError, match="complex128"):
        encode(Message("k", 1, {}, {"x": np.zeros(2, complex)}))
