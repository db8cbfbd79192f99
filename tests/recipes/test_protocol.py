"""Whatever a recipe's process sends, it ends that recipe with a reason, or is answered, and touches nobody
else.
"""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_testbeds import small_testbed

from evaluator import conversation as conversations
from evaluator.conversation import VERBS, Conversation
from evaluator.processes import Limits
from evaluator.requests import ProtocolBreach
from evaluator.sandbox.levels import Level
from evaluator.service import Service
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest
from recipes.contract import MAX_IN_FLIGHT
from recipes.wire import MAGIC, PREFIX, Decoder, Message, WireError, encode

pytestmark = pytest.mark.slow

NEIGHBOUR = (
    '"""A neighbour."""\nasync def recipe(task):\n    return await task.finetune(task.weak_labels,'
    " epochs=0.2)\n"
)
RAW = """\"\"\"Sends bytes.\"\"\"
async def recipe(task):
    send = task._line._channel._connection._socket.sendall
"""
FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocol")
    return Trainer(Testbed.load(small_testbed(folder / "testbed")), cache=folder / "cache")


@pytest.fixture(scope="module")
def service(trainer):
    service = Service(trainer, Limits(cpu_seconds=10, wall_seconds=60), "head")
    yield service
    service.close()


def run(service: Service, *sources: str) -> list:
    found = {}
    trials = [TrialRequest(source, seed) for seed, source in enumerate(sources)]
    service.run(trials, lambda trial, conversation: found.setdefault(trial, conversation.outcome))
    return [found[trial] for trial in trials]


@pytest.fixture(scope="module")
def undisturbed(service):
    (outcome,) = run(service, NEIGHBOUR)
    return outcome


def attacked(service: Service, undisturbed, body: str):
    """How a recipe with this body ends, whose neighbour must end as it would alone."""
    neighbour, attacker = run(service, NEIGHBOUR, RAW + body)
    assert neighbour.ok and (neighbour.fitness == undisturbed.fitness).all(), "a neighbour was touched"
    assert attacker.fitness is None
    return attacker


# ---- raw bytes, through real processes


@FEW
@given(data=st.binary(min_size=1, max_size=300), framed=st.booleans())
def test_bytes_that_are_no_message_end_the_recipe(service, undisturbed, data, framed):
    if framed:
        data = PREFIX.pack(MAGIC, len(data), 0) + data
    outcome = attacked(service, undisturbed, f"    send({data!r} + b'x' * 20)\n    raise SystemExit\n")
    assert outcome.reason in (
        "protocol",
        "exception",
    ), outcome.message  # half a prefix waits until the process ends


HEADER = {"kind": "train", "number": 1, "fields": {}, "arrays": []}


@pytest.mark.parametrize(
    ("header", "payload", "words"),
    [
        pytest.param(HEADER | {"arrays": [["a", "float32", [-1]]]}, 0, "non-negative", id="a negative size"),
        pytest.param(
            HEADER | {"arrays": [["a", "float32", [1 << 60]]]}, 0, "non-negative", id="an absurd size"
        ),
        pytest.param(
            HEADER | {"arrays": [["a", "float32", [1 << 28, 1 << 28]]]}, 0, "add up", id="an absurd product"
        ),
        pytest.param(HEADER | {"arrays": [["a", "float32", [1] * 50]]}, 4, "four", id="fifty dimensions"),
        pytest.param(HEADER | {"arrays": [["a", "object", [1]]]}, 8, "dtype", id="an array of objects"),
        pytest.param(
            HEADER | {"arrays": [["a", "float32", [1]]] * 2}, 8, "one name", id="two arrays of one name"
        ),
        pytest.param(HEADER | {"arrays": [["a", "float32", [True]]]}, 4, "integers", id="a size of true"),
        pytest.param(HEADER | {"number": -1}, 0, "another number", id="a negative number"),
        pytest.param(HEADER | {"number": 10**400}, 0, "another number", id="a number of 400 digits"),
        pytest.param(HEADER | {"number": 7}, 0, "another number", id="a number out of turn"),
        pytest.param(HEADER | {"kind": "__init__"}, 0, "unknown", id="a method that isn't a verb"),
        pytest.param(HEADER | {"kind": "trained"}, 0, "unknown", id="an answer instead of a question"),
        pytest.param(HEADER | {"kind": "ready"}, 0, "unknown", id="ready a second time"),
        pytest.param(HEADER | {"kind": "gradient"}, 0, "nobody asked", id="a gradient that nobody asked for"),
        pytest.param({"kind": "train"}, 0, "malformed", id="half a header"),
        pytest.param([1, 2], 0, "malformed", id="a list"),
    ],
)
def test_a_lie_in_a_header_ends_the_recipe_and_says_which(service, undisturbed, header, payload, words):
    data = json.dumps(header).encode()
    frame = PREFIX.pack(MAGIC, len(data), payload) + data + b"\0" * payload
    outcome = attacked(
        service, undisturbed, f"    send({frame!r})\n    import asyncio; await asyncio.Event().wait()\n"
    )
    assert outcome.reason == "protocol" and words in outcome.message, (outcome.reason, outcome.message)


@pytest.mark.parametrize("sizes", [(1 << 31, 0), (10, 1 << 40)], ids=["header", "payload"])
def test_a_frame_that_says_it_is_too_large_is_refused_before_it_comes(service, undisturbed, sizes):
    frame = PREFIX.pack(MAGIC, *sizes)
    outcome = attacked(service, undisturbed, f"    send({frame!r})\n    import time; time.sleep(50)\n")
    assert outcome.reason == "protocol" and "over the limit" in outcome.message


def test_a_header_that_comes_byte_by_byte_is_read_once(monkeypatch):
    from recipes import wire

    calls = []
    monkeypatch.setattr(
        wire, "_decode_header", lambda data, real=wire._decode_header: calls.append(1) or real(data)
    )
    frame, decoder = encode(Message("train", 1, {}, {"a": np.zeros(1000)})), Decoder()
    assert [message.kind for cut in range(len(frame)) for message in decoder.feed(frame[cut : cut + 1])] == [
        "train"
    ]
    assert len(calls) == 1


# ---- floods


def test_who_asks_without_reading_is_made_to_wait_then_ended(service, undisturbed, monkeypatch):
    """Answers are some hundred times as long as the questions: they must not pile up in the trainer."""
    body = """
    from recipes.wire import Message, encode
    for number in range(1, 10**7):
        send(encode(Message("hidden", number, {"layer": 4, "student": None, "template": 0, "swap": False, "x": "y" * 20000})))
"""  # noqa: E501
    seen = []
    hidden = VERBS["hidden"]

    def counted(conversation):
        seen.append(conversation)
        return hidden.handler(conversation)

    monkeypatch.setitem(VERBS, "hidden", replace(hidden, handler=counted))
    outcome = attacked(service, undisturbed, body)
    assert outcome.reason == "protocol" and "no answer read" in outcome.message
    assert len(seen) < 2000, "answers piled up"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("    for _ in range(2000): task.untrained()\n", "students", id="of students"),
        pytest.param(
            "    import asyncio\n    await asyncio.gather(*(task.finetune(task.weak_labels, epochs=0.1) for"
            f" _ in range({MAX_IN_FLIGHT + 1})))\n",
            "in flight",
            id="of trainings",
        ),
        pytest.param(
            "    s = [await task.session().__aenter__() for _ in range(50)]\n", "sessions", id="of sessions"
        ),
    ],
)
def test_a_flood_of_requests_ends_the_recipe(service, undisturbed, body, words):
    assert words in attacked(service, undisturbed, body).message


def test_the_number_of_requests_has_an_end(service, undisturbed, monkeypatch):
    monkeypatch.setattr(conversations, "MAX_REQUESTS", 50)
    outcome = attacked(service, undisturbed, "    for _ in range(60): await task.prior()\n")
    assert outcome.reason == "protocol" and "requests" in outcome.message


# ---- structured messages, straight to a conversation with the real trainer

NUMBERS = st.one_of(
    st.integers(-(10**400), 10**400), st.integers(-3, 40), st.floats(allow_subnormal=False), st.booleans()
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        NUMBERS,
        st.text(max_size=5),
        st.sampled_from(["head", "lora", "linear", "cross_entropy", "exception"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = (
    "student",
    "start",
    "layers",
    "layer",
    "template",
    "swap",
    "hidden_size",
    "standardise",
    "loss",
    "loss_options",
    "schedule",
    "optimiser",
    "learning_rate",
    "epochs",
    "batch_size",
    "weight_decay",
    "session",
    "sets",
    "students",
    "weights",
    "bias",
    "reason",
    "message",
)
SANE = {
    "student": "head",
    "layers": [4],
    "layer": 4,
    "template": 0,
    "swap": False,
    "hidden_size": 0,
    "standardise": True,
} | {
    "loss": "cross_entropy",
    "loss_options": {},
    "schedule": "linear",
    "optimiser": "adamw",
    "epochs": 0.1,
    "session": 1,
    "sets": 0,
    "students": [1, 2],
    "weights": [1, 1],
    "bias": 0.5,
    "learning_rate": 0.01,
    "batch_size": 8,
    "weight_decay": 0.0,
}
SHAPES = st.lists(st.sampled_from([0, 1, 2, 8, 16, 64, 400]), max_size=3).map(tuple)
ARRAYS = st.builds(
    lambda shape, dtype, value: np.full(shape, value).astype(dtype),
    SHAPES,
    st.sampled_from(["float32", "float64", "int64", "bool"]),
    st.sampled_from([0, 1, 0.5, -1, np.nan, np.inf, 1e300, 1e-320]),
)
MESSAGES = st.builds(
    lambda kind, fields, sane, arrays: (kind, {**{name: SANE[name] for name in sane}, **fields}, arrays),
    st.sampled_from(sorted(VERBS)),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
    st.sets(st.sampled_from(sorted(SANE))) | st.just(set(SANE)),
    st.dictionaries(
        st.sampled_from(
            [
                "targets",
                "rows",
                "weights",
                "order",
                "weight",
                "gradients",
                "logits",
                "hidden",
                "parameters.weight_2",
                "weight_2",
                "bias_2",
            ]
        ),
        ARRAYS,
        max_size=3,
    ),
)


@MANY
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@given(st.lists(MESSAGES, min_size=1, max_size=6))
def test_no_message_gets_past_the_checks_into_the_trainer(trainer, messages):
    """Every message is answered, or ends the conversation with a reason, or is a breach; what is answered can
    be encoded.
    """
    sent = []
    conversation = Conversation(TrialRequest(NEIGHBOUR, 0), trainer, sent.append, "head")
    head = [
        ("untrained", {"template": 0, "swap": False}, {}),
        ("session.open", {"student": "head"}, {}),
    ]
    number = 0
    try:
        for kind, fields, arrays in [*head, *messages]:
            own = (
                0 if kind in ("done", "failed") else number if kind == "gradient" else (number := number + 1)
            )
            with contextlib.suppress(
                WireError, ValueError
            ):  # a number of 400 digits is no JSON of ours, NaN is a WireError
                message = Decoder().feed(encode(Message(kind, own, fields, arrays)))
                for one in message:
                    conversation.receive(one)
            if conversation.outcome is not None:
                break
            for _ in range(3):
                if trainer.busy:
                    trainer.step()
    except ProtocolBreach:
        pass
    finally:
        conversation.close()
        while trainer.busy:
            trainer.step()
    for answer in sent:
        encode(answer)
    if conversation.outcome is not None:
        assert conversation.outcome.ok or conversation.outcome.message
        str(conversation.outcome.message).encode()


def test_a_student_of_another_trial_is_refused(service):
    """Numbers are each trial's own: there is no name for what belongs to somebody else."""
    thief = (
        '"""A thief."""\nfrom recipes.contract import Student\nasync def recipe(task):\n    return await'
        ' task.predict(Student(1, "head"))\n'
    )
    owner, thief = run(service, NEIGHBOUR, thief)
    assert owner.ok and thief.reason == "invalid_request" and "not a student of this trial" in thief.message


def test_a_loss_that_answers_with_hidden_gradients_of_a_wrong_width_ends_its_recipe(service, undisturbed):
    body = (
        "    return await task.finetune(task.weak_labels, loss=lambda b: (b.logits * 0, b.hidden[:, :1] *"
        " 0))\n"
    )
    outcome = attacked(service, undisturbed, body)
    assert outcome.reason == "invalid_request" and "hidden" in outcome.message


def test_silence_is_ended_by_the_clock_and_the_neighbour_never_waits(trainer):
    service = Service(trainer, Limits(wall_seconds=2), "head", Level.A)
    try:
        silent, neighbour = run(
            service, RAW + "    send(b'E')\n    import time; time.sleep(600)\n", NEIGHBOUR
        )
    finally:
        service.close()
    assert silent.reason == "wall_time" and neighbour.ok
