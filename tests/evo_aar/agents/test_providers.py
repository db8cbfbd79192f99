"""A provider of language models from outside of the package: one object and one registration."""

import json

import numpy as np
import pytest
from synthetic_search import TESTBED_HASH, SyntheticSearch

from evo_aar.agents.briefs import Briefs
from evo_aar.agents.meter import Meter
from evo_aar.agents.operator import AgentOperator
from evo_aar.agents.prices import Usage
from evo_aar.agents.provider import ProviderKind, Providers, Reply, kind_of, register
from evo_aar.errors import UsageError
from evo_aar.search.feedback import Feedback
from evo_aar.search.operator import OperatorContext, Parent
from evo_aar.search.settings import SearchSettings

MODEL = "toy:parrot-1"
PRICE = dict.fromkeys(("input", "output", "cache_write", "cache_read"), 1.0)


class Toy:
    """Renames a constant of the parent, and hands it in, in two replies."""

    def __init__(self, patience):
        self.patience, self.asked, self.closed = patience, [], False

    def call(self, request, lost):
        self.asked.append(json.loads(json.dumps(request)))
        turns = sum(message["role"] == "assistant" for message in request["messages"])
        calls = [
            ("edit", {"old": "import numpy as np", "new": "import numpy as np\n\nKEEP = 0.5"}),
            ("submit", {"changes": ["a constant more"], "reasons": "a parrot would"}),
        ]
        block = {"type": "tool_use", "id": f"call-{turns}", "name": calls[turns][0], "input": calls[turns][1]}
        return Reply([block], "tool_use", request["model"], Usage(input=100, output=10))

    def close(self):
        self.closed = True


@pytest.fixture
def toys():
    made = []

    def make(patience):
        made.append(Toy(patience))
        return made[-1]

    register(ProviderKind("toy", lambda: None, make))
    return made


def test_a_models_prefix_names_its_provider(toys):
    assert kind_of(MODEL).name == "toy"
    assert kind_of("claude-opus-5-5").name == "anthropic"
    assert kind_of("llama3:8b").name == "anthropic"  # a local server's name for a model, colon and all


def test_a_key_is_asked_for_where_the_provider_needs_one(toys, monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Providers([MODEL], patience=5)
    assert toys[0].patience == 5
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
        Providers([MODEL, "claude-opus-5-5"], patience=5)


def test_its_model_makes_a_child(toys, tmp_path):
    search = SyntheticSearch(tmp_path / "search.sqlite")
    search.advance()
    store = search.store
    settings = SearchSettings(testbed="mini/math", operator="agents", models=(MODEL,), prices={MODEL: PRICE})
    feedback = Feedback(store, TESTBED_HASH, seeds=(0, 1, 2), islands=2, weak=0.6, ceiling=0.9)
    providers = Providers([MODEL], patience=5)
    operator = AgentOperator(
        store,
        settings,
        Briefs(store, settings, feedback, testbed=TESTBED_HASH, student="head"),
        laboratory=None,  # which neither editing nor handing in needs
        provider=providers,
        meter=Meter(store),
    )
    one = next(one for one in store.individuals.all() if "import numpy as np" in one.source)
    direction = one.detail["direction"]
    context = OperatorContext(
        one.island,
        1,
        0,
        direction,
        np.random.default_rng(0),
        (Parent(one.id, one.source, direction),),
        model=MODEL,
    )
    child = operator.mutate(context)
    assert "KEEP = 0.5" in child.source and child.notes["model"] == "parrot-1" and child.notes["turns"] == 2
    assert store.ledger.total("tokens") == 220
    first, second = toys[0].asked
    assert first["model"] == "parrot-1" and [tool["name"] for tool in first["tools"]][-1] == "submit"
    assert second["messages"][-1]["content"][0]["type"] == "tool_result"
    operator.abandon()
    assert toys[0].closed
    store.close()
