"""Whatever the wire or the model does wrong: the conversation goes on, ends without a child, or stops the
search with one line. Nothing is paid for twice.
"""

import numpy as np
import pytest
from messages_server import Answer, MessagesServer, Refusal, text, use
from scripted_agent import replies, tool_results
from synthetic_search import TESTBED_HASH, SyntheticSearch

from evo_aar.agents.anthropic_client import AnthropicClient
from evo_aar.agents.briefs import Briefs
from evo_aar.agents.meter import Meter
from evo_aar.agents.operator import AgentOperator
from evo_aar.errors import SearchStopped
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import OperatorContext, OperatorError, Parent
from evo_aar.search.settings import SearchSettings
from population.individual import individual_id
from recipes.source import source_hash

pytestmark = pytest.mark.slow

MODEL = "claude-opus-5-5"
PRICE = {"input": 4.0, "output": 20.0, "cache_write": 5.0, "cache_read": 0.2}
CHILD = (
    '"""A new idea.\n\nDirection: unsupervised_elicitation\n"""\n\n\nasync def recipe(task):\n    return'
    " await task.finetune(task.weak_labels)\n"
)
SUBMIT = use("submit", changes=["something else"], reasons="to see")
WHOLE = Answer((use("write", source=CHILD), SUBMIT))


class Bench:
    """A search of one generation by made-up scores, and an agent operator that talks to a real server."""

    def __init__(self, folder, patch):
        self.search = SyntheticSearch(folder / "search.sqlite", islands=2, generations=1)
        self.search.advance()
        self.store = self.search.store
        self.patch = patch

    def operator(self, server, patience=20.0, turns=6, **limits):
        self.patch.setenv("ANTHROPIC_API_KEY", "sk-secret-of-the-test")
        self.patch.setenv("ANTHROPIC_BASE_URL", server.url)
        settings = SearchSettings(
            testbed="mini/math",
            operator="agents",
            models=(MODEL,),
            prices={MODEL: PRICE},
            turns=turns,
            reply_tokens=4_000,
        )
        feedback = Feedback(self.store, TESTBED_HASH, seeds=(0, 1, 2), islands=2, weak=0.6, ceiling=0.9)
        return AgentOperator(
            self.store, settings,
            Briefs(self.store, settings, feedback, testbed=TESTBED_HASH, student="head"), None,
            provider=AnthropicClient(patience=patience, stall=0.5), meter=Meter(self.store, **limits),
        )  # fmt: skip

    @property
    def context(self):
        parent = self.store.individuals.all(generation=0)[0]
        born = frozenset(self.store.individuals.source_hashes())
        one = Parent(parent.id, parent.source, "unsupervised_elicitation")
        return OperatorContext(
            0,
            1,
            0,
            "unsupervised_elicitation",
            np.random.default_rng(0),
            (one,),
            born,
            archive=(one,),
            model=MODEL,
        )

    def mutate(self, script, **options):
        """The outcome, twice: what the operator does, and what it does again from the journal alone."""
        with MessagesServer(script) as server:
            found = outcome(self.operator(server, **options), self.context)
            asked = len(server.seen)
            if not isinstance(found, SearchStopped):
                again = outcome(self.operator(server, **options), self.context)
                assert len(server.seen) == asked, "a reply on record was asked for again"
                assert str(again) == str(found)
            return found, server

    @property
    def journalled(self):
        return [
            reply
            for turn, reply, _ in self.store.replies.of(individual_id(1, 0, 0))
            if "answers" not in reply
        ]

    @property
    def lost(self):
        return [
            entry.detail["lost"]
            for entry in self.store.ledger.all()
            if entry.kind == "usd" and "lost" in entry.detail
        ]


def outcome(operator, context):
    try:
        return operator.mutate(context)
    except (OperatorError, SearchStopped) as error:
        return error


@pytest.fixture
def bench(tmp_path, monkeypatch):
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.store.close()


def first(fault):
    """The fault at first, then a whole conversation."""
    return lambda request, number: fault if number == 0 else WHOLE


def second(fault):
    """A turn of reading, then the fault, then whole replies."""

    def script(request, number):
        return [Answer((use("show_draft"),)), fault][number] if number < 2 else WHOLE

    return script


TRANSIENT = {
    "429": Refusal(429, "rate_limit_error"),
    "429 with Retry-After": Refusal(429, "rate_limit_error", headers={"Retry-After": "0"}),
    "500": Refusal(500),
    "503": Refusal(503),
    "529": Refusal(529, "overloaded_error"),
    "silence": Answer(fault="silent"),
    "overloaded in mid-stream": Answer((text("so far so good"),), fault="overloaded"),
    "reset in mid-stream": Answer((text("so far so good"),), fault="reset"),
    "stall in mid-stream": Answer((text("so far so good"),), fault="stall"),
    "truncated stream": Answer((use("write", source=CHILD),), fault="truncated"),
    "malformed JSON in the stream": Answer((text("so far so good"),), fault="not json"),
}


@pytest.mark.parametrize("place", [first, second], ids=["first reply", "second reply"])
@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_passes_is_tried_again(bench, fault, place):
    found, server = bench.mutate(place(fault))
    assert source_hash(found.source) == source_hash(CHILD)
    assert len(server.seen) == len(bench.journalled) + 1
    assert len(bench.lost) == (isinstance(fault, Answer) and fault.fault != "silent")
    paid = sum(reply["usd"] for reply in bench.journalled)
    assert found.usd == pytest.approx(paid)
    assert bench.store.ledger.total("usd") >= paid


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT.keys())
def test_what_does_not_pass_stops_the_search_with_a_line(bench, fault):
    found, _ = bench.mutate(lambda request, number: fault, patience=1.0)
    assert isinstance(found, SearchStopped) and not found.within_budget
    assert "doesn't answer" in str(found) and "\n" not in str(found)
    assert not bench.journalled


def test_a_server_that_asks_for_more_patience_than_there_is_is_not_waited_for(bench):
    found, server = bench.mutate(lambda *_: Refusal(429, "rate_limit_error", headers={"Retry-After": "3600"}))
    assert isinstance(found, SearchStopped) and "3600 s more" in str(found)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, "invalid_request_error", "credit"),
        (401, "authentication_error", "ANTHROPIC_API_KEY"),
        (403, "permission_error", "may use the model"),
        (404, "not_found_error", "--model"),
        (413, "request_too_large", "413"),
    ],
)
def test_a_server_that_refuses_the_first_request_stops_the_search(bench, status, kind, words):
    found, server = bench.mutate(
        lambda *_: Refusal(status, kind, "your credit is too low, key sk-secret-of-the-test")
    )
    assert isinstance(found, SearchStopped) and words in str(found) and "\n" not in str(found)
    assert "sk-secret" not in str(found)
    assert len(server.seen) == 1 and not bench.journalled


@pytest.mark.parametrize("status", [400, 413])
def test_a_conversation_that_is_refused_later_ends_without_a_child(bench, status):
    found, server = bench.mutate(second(Refusal(status, "request_too_large", "too long")))
    assert isinstance(found, OperatorError) and "too long" in str(found) and found.usd > 0
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer((text("I'd rather not."),), stop_reason="refusal"), "refused"),
        (Answer((), stop_reason="refusal"), "refused"),
        (Answer((text("hm"),), stop_reason="model_context_window_exceeded"), "context window"),
        (Answer((text("Here is the recipe: train well."),)), "without using a tool"),
        (Answer((text("blah " * 40_000),)), "without using a tool"),
        (Answer(()), "without using a tool"),
        (Answer((text("  \n "),)), "without using a tool"),
        (Answer((text("cut o"),), stop_reason="max_tokens"), "without using a tool"),
        (Answer((use("show_draft"),)), "no recipe was submitted in 6 replies"),
        (Answer((use("no_such_tool"),)), "no recipe was submitted in 6 replies"),
        (Answer((text("wait"),), stop_reason="pause_turn"), "no recipe was submitted in 6 replies"),
    ],
    ids=[
        "refusal",
        "empty refusal",
        "context",
        "prose",
        "200,000 characters",
        "empty",
        "blank",
        "cut prose",
        "endless loop",
        "unknown tool",
        "pauses",
    ],
)
def test_a_model_that_hands_nothing_in_leaves_its_place_empty(bench, answer, words):
    found, server = bench.mutate(lambda *_: answer)
    assert (
        isinstance(found, OperatorError)
        and words in str(found)
        and "island 0, generation 1, child 0" in str(found)
    )
    assert found.usd == pytest.approx(sum(reply["usd"] for reply in bench.journalled)) and found.usd > 0
    assert len(server.seen) == len(bench.journalled)
    assert not bench.lost


MISTAKES = {
    "malformed tool input": (Answer((use("write", source=CHILD),), fault="bad input"), "no JSON object"),
    "tool input cut off": (
        Answer((use("write", source=CHILD),), stop_reason="max_tokens", fault="bad input"),
        "cut off",
    ),
    "unknown tool": (Answer((use("browse", url="http://x"),)), "There is no tool 'browse'"),
    "missing argument": (Answer((use("edit", old="x"),)), "doesn't fit. Its arguments: old, new"),
    "wrong type": (Answer((use("read_finding", number="first"),)), "doesn't fit"),
    "code that doesn't parse": (Answer((use("write", source="def recipe(:"), SUBMIT)), "breaks the contract"),
    "prose instead of code": (
        Answer((use("write", source="Train on the confident half."), SUBMIT)),
        "breaks the contract",
    ),
    "code that breaks the contract": (
        Answer((use("write", source=CHILD.replace("async def", "import os\nasync def")), SUBMIT)),
        "import of os",
    ),
    "a table of answers": (
        Answer(
            (
                use("write", source=CHILD.replace("async def", f"TABLE = {list(range(100))}\n\n\nasync def")),
                SUBMIT,
            )
        ),
        "set apart",
    ),
    "another island's direction": (
        Answer((use("write", source=CHILD.replace("unsupervised_elicitation", "distillation")), SUBMIT)),
        "your island's",
    ),
    "a duplicate of the parent": (Answer((SUBMIT,)), "born before as g000-i0-c00"),
    "a file of a megabyte": (Answer((use("write", source="#" * 1_000_000),)), "at most 32,768 bytes"),
    "an edit that fits nowhere": (Answer((use("edit", old="nowhere to be found", new="x"),)), "0 times"),
    "a recipe of another island": (Answer((use("read_recipe", recipe="g000-i1-c00"),)), "You can't read"),
    "a submission without changes": (
        Answer((use("write", source=CHILD), use("submit", changes=[], reasons="none"))),
        "Say in `changes`",
    ),
}


@pytest.mark.parametrize(("answer", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_model_is_told_its_mistake_and_goes_on(bench, answer, words):
    told = []

    def script(request, number):
        if replies(request):
            told.append(tool_results(request))
            return WHOLE
        return answer

    found, _ = bench.mutate(script)
    assert words in told[0] and '"is_error": true' in told[0]
    assert source_hash(found.source) == source_hash(CHILD) and found.parents == ("g000-i0-c00",)


def test_blank_text_is_not_sent_back_and_every_call_is_answered(bench):
    requests = []

    def script(request, number):
        requests.append(request)
        return WHOLE if replies(request) else Answer((text(" "), use("show_draft"), use("list_findings")))

    bench.mutate(script)
    blocks = requests[1]["messages"][1]["content"]
    assert [block["type"] for block in blocks] == ["tool_use", "tool_use"]
    answers = requests[1]["messages"][2]["content"]
    assert [answer["tool_use_id"] for answer in answers] == [block["id"] for block in blocks]
    assert requests[1]["messages"][2]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert all("cache_control" in block for block in requests[0]["system"])


def test_a_pause_is_gone_on_from(bench):
    def script(request, number):
        if not replies(request):
            return Answer((text("Let me think"),), stop_reason="pause_turn")
        assert request["messages"][-1]["role"] == "assistant"
        return WHOLE

    found, _ = bench.mutate(script)
    assert found.notes["turns"] == 2


def test_another_request_than_the_journalled_one_stops_the_resume(bench):
    from population.errors import StoreConflict

    bench.mutate(lambda *_: WHOLE)
    with (
        MessagesServer(lambda *_: WHOLE) as server,
        pytest.raises(StoreConflict, match="answers another request"),
    ):
        bench.operator(server, turns=7).mutate(bench.context)  # the prompt says how many turns there are
    assert not server.seen


def test_a_thinking_models_thoughts_go_back_as_they_came(bench):
    thought = {"type": "thinking", "thinking": "hm", "signature": "s1gn3d"}

    def script(request, number):
        if not replies(request):
            return Answer((thought, use("show_draft")))
        assert request["messages"][1]["content"][0] == thought
        return WHOLE

    bench.mutate(script)


def test_without_a_key_there_is_no_client(monkeypatch):
    from evo_aar.errors import UsageError

    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
        AnthropicClient(patience=1)


@pytest.mark.parametrize(("kind", "limit"), [("max_usd", 0.2), ("max_tokens", 30_000)])
def test_a_budget_is_not_passed(bench, kind, limit):
    found, server = bench.mutate(
        lambda *_: Answer((use("show_draft"),), input_tokens=3_000, output_tokens=100), **{kind: limit}
    )
    assert isinstance(found, SearchStopped) and found.within_budget
    assert f"--{kind.replace('_', '-')}" in str(found)
    assert 1 <= len(server.seen) < 6
    assert 0 < bench.store.ledger.total(kind.removeprefix("max_")) <= limit


def test_calls_in_flight_count_against_a_budget(bench):
    """Two conversations at once, and money for the most that one call can cost: one waits for the other."""
    from concurrent.futures import ThreadPoolExecutor
    from dataclasses import replace

    with MessagesServer(
        lambda *_: Answer((use("show_draft"),), input_tokens=10_000, output_tokens=4_000)
    ) as server:
        operator = bench.operator(server, max_usd=0.2)
        places = [replace(bench.context, child=child) for child in range(4)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda context: outcome(operator, context), places))
    assert all(isinstance(one, SearchStopped) and one.within_budget for one in found)
    assert 0 < bench.store.ledger.total("usd") <= 0.2


def test_a_deadline_stops_before_the_next_call(bench):
    import time

    found, server = bench.mutate(lambda *_: WHOLE, deadline=time.monotonic() - 1)
    assert isinstance(found, SearchStopped) and found.within_budget and "--max-hours" in str(found)
    assert not server.seen
