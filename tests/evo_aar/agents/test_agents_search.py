"""A search by agents, whole: the real command against a real server that plays the model."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from messages_server import MessagesServer
from scripted_agent import ScriptedAgent

from population.jsontext import digest
from population.store import Store

pytestmark = pytest.mark.slow

KEY = "sk-ant-never-to-be-seen-again-7f3a"
NINE = [
    "--islands",
    "9",
    "--generations",
    "3",
    "--children",
    "1",
    "--population",
    "2",
    "--seeds",
    "1",
    "--final-seeds",
    "1",
    "--audit-seeds",
    "0",
    "--tries",
    "1",
]
SMALL = [
    "--islands",
    "2",
    "--generations",
    "1",
    "--children",
    "2",
    "--population",
    "2",
    "--seeds",
    "1",
    "--final-seeds",
    "1",
    "--audit-seeds",
    "0",
    "--tries",
    "1",
]


def start(server, *arguments):
    environment = {**os.environ, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": server.url}
    return subprocess.Popen(
        [sys.executable, "-c", "from evo_aar.cli import main; main()", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def evolve(server, *arguments):
    process = start(server, *arguments)
    out, err = process.communicate(timeout=900)
    return process.returncode, out, err


def opened(runs, name):
    return Store.open(runs / name / "search.sqlite", writable=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, math_testbed) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def nine(runs):
    """Nine islands, three generations, a fifth of the children broken at first."""
    with MessagesServer(ScriptedAgent(broken=0.2)) as server:
        status, out, err = evolve(server, "evolve", *NINE, "--runs", str(runs), "--run", "nine")
    assert status == 0, err
    return server, out


def test_it_says_who_makes_children(nine):
    assert "operator: agents (claude-opus-5-5)" in nine[1]
    assert "best evolved child" in nine[1]


def test_children_of_every_island_are_evaluated_and_their_lineage_is_known(runs, nine):
    with opened(runs, "nine") as store:
        children = [one for one in store.individuals.all() if one.generation]
        assert {one.island for one in children} == set(range(9)) and len(children) == 27
        assert all(
            one.operator.split()[0] == "agent" and one.detail["model"] == "claude-opus-5-5"
            for one in children
        )
        verbs = Counter(one.detail["arm"].split()[0] for one in children)
        assert verbs["mutation"] and verbs["crossover"]
        crossed = [one for one in children if len(one.parents) > 1]
        homes = [{store.individuals.get(parent).island for parent in one.parents} for one in crossed]
        assert any(len(islands) == 2 for islands in homes), "no crossover across islands"
        assert all(one.detail["reasons"] for one in crossed)
        failed = {fate.individual for fate in store.generations.fates(kind="failed")}
        tried = [one for one in children if one.id not in failed]
        assert all(any(trial.ok for trial in store.trials.of(one.source_hash)) for one in tried)


def test_a_broken_child_went_back_to_its_agent_and_lives(runs, nine):
    with opened(runs, "nine") as store:
        mended = [one for one in store.individuals.all() if one.detail.get("repairs")]
        assert mended and all("broken on purpose" not in one.source for one in mended)
        assert all(
            one.operator == "agent repair" and store.trials.of(one.source_hash, fidelity=1.0)[0].ok
            for one in mended
        )
        assert not [one for one in store.individuals.all() if "broken on purpose" in one.source], (
            "a withdrawn source was born"
        )


def test_tools_were_used_and_answered(nine):
    used = Counter(
        block["name"]
        for body in nine[0].bodies
        for message in body["messages"]
        for block in message["content"]
        if block["type"] == "tool_use"
    )
    assert set(used) >= {
        "read_history",
        "read_recipe",
        "run_python",
        "search_forum",
        "write",
        "check",
        "try_draft",
        "post_finding",
    }
    said = "\n".join(str(body["messages"][-1]["content"]) for body in nine[0].bodies)
    assert "rows 3000" in said, "the sandbox's output did not come back"
    assert "It runs" in said and "told in steps of" in said


def test_each_island_posts_and_reads_only_what_it_may(runs, nine):
    with opened(runs, "nine") as store:
        posted = store.forum.as_of()
        assert {finding.island for finding in posted if finding.title == "A constant moved"} == set(range(9))
        assert len(list((runs / "nine" / "forum").glob("*.md"))) == len(posted)
    for body in nine[0].bodies:
        said = str([message for message in body["messages"] if message["role"] == "user"])
        figures = re.findall(r"PGR -?\d+\.\d+", said)
        assert len(figures) == len(re.findall(r"PGR -?\d+\.\d\d, told in steps of \d+\.\d\d", said)), (
            "a score was told exactly"
        )


def test_the_ledger_holds_what_the_server_counted(runs, nine):
    with opened(runs, "nine") as store:
        replies = [
            reply for one in places(store) for _, reply, _ in store.replies.of(one) if "answers" not in reply
        ]
        assert len(replies) == len(nine[0].bodies)
        for kind, amount in (
            ("usd", sum(reply["usd"] for reply in replies)),
            ("tokens", sum(sum(reply["usage"].values()) for reply in replies)),
        ):
            assert store.ledger.total(kind) == pytest.approx(amount)
        children = [one for one in store.individuals.all() if one.generation]
        assert sum(one.detail["usd"] for one in children) == pytest.approx(store.ledger.total("usd"))
        tallies = store.generations.last().summary["allocation"]
        assert sum(tally["births"] for tally in tallies.values()) == 27
        assert sum(tally["usd"] for tally in tallies.values()) == pytest.approx(store.ledger.total("usd"))


def places(store):
    return {entry.individual for entry in store.ledger.all() if entry.kind == "usd"}


def test_every_conversation_is_a_trace_of_its_childs_run(runs, nine):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "evo-aar mini/math"]
    traces = client.search_traces(locations=[experiment.experiment_id], max_results=200)
    with opened(runs, "nine") as store:
        children = [one for one in store.individuals.all() if one.generation]
        repaired = sum(one.detail["repairs"] for one in children)
    assert len(traces) == len(children) + repaired
    for trace in traces:
        run = client.get_run(trace.info.trace_metadata["mlflow.sourceRun"])
        assert run.data.tags["key"] == trace.info.tags["individual"]
        kinds = Counter(span.span_type for span in trace.data.spans)
        assert kinds["AGENT"] == 1 and kinds["CHAT_MODEL"] >= 2 and kinds["TOOL"] >= 2
        assert trace.info.token_usage["output_tokens"] > 0


def test_what_operators_do_and_cost_is_charted(runs, nine):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "evo-aar mini/math"]
    found = client.search_runs(
        [experiment.experiment_id], "tags.kind = 'search' and attributes.run_name = 'nine'"
    )
    metrics = found[0].data.metrics
    assert metrics["allocation_probability/mutation claude-opus-5-5"] > 0
    assert metrics["spent/usd/agent crossover"] > 0 and 0 < metrics["spent/cache_hit_rate/agent mutation"] < 1
    assert {"diversity/founder_share", "diversity/within", "diversity/between", "diversity/sources"} <= set(
        metrics
    )
    assert "forum.md" in {artifact.path for artifact in client.list_artifacts(found[0].info.run_id)}


def test_the_key_reaches_the_server_and_nothing_else(runs, nine):
    server, out = nine
    # The SDK sends it as a bearer token, earlier versions in a header of its own.
    assert all(any(KEY in value for value in headers.values()) for _, headers, _ in server.requests)
    assert KEY not in out and all(KEY not in str(body) for body in server.bodies)
    written = [path for path in runs.rglob("*") if path.is_file()]
    assert len(written) > 100
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_children_cannot_find_the_key(runs, math_testbed):
    """What a recipe, and the process that trains for it, could read of an environment."""
    look = (
        "import os\nprint(sorted(name for name in os.environ if 'KEY' in name or 'TOKEN' in name),"
        " os.environ.get('ANTHROPIC_API_KEY'))"
    )

    class Looking(ScriptedAgent):
        def _look(self, request):
            from messages_server import use

            return [use("run_python", code=f"exec({look!r})")]

    with MessagesServer(Looking()) as server:
        status, _, err = evolve(
            server,
            "evolve",
            *SMALL,
            "--islands",
            "1",
            "--children",
            "1",
            "--runs",
            str(runs),
            "--run",
            "looking",
        )
    assert status == 0, err
    said = "\n".join(str(body["messages"][-1]["content"]) for body in server.bodies)
    assert "[] None" in said and KEY not in said


@pytest.fixture(scope="module")
def straight(runs):
    """A small search, one call at a time: its fingerprint, and the requests that were served."""
    with MessagesServer(ScriptedAgent(broken=0.3)) as server:
        status, _, err = evolve(
            server, "evolve", *SMALL, "--runs", str(runs), "--run", "straight", "--concurrency", "1"
        )
    assert status == 0, err
    with opened(runs, "straight") as store:
        return store.fingerprint(), [digest(body) for body in server.bodies]


def test_calls_at_once_give_the_population_that_one_at_a_time_gives(runs, straight):
    with MessagesServer(ScriptedAgent(broken=0.3)) as server:
        status, _, err = evolve(
            server,
            "evolve",
            *SMALL,
            "--runs",
            str(runs),
            "--run",
            "parallel",
            "--concurrency",
            "4",
            "--workers",
            "1",
        )
    assert status == 0, err
    with opened(runs, "parallel") as store:
        assert store.fingerprint() == straight[0]
    assert sorted(digest(body) for body in server.bodies) == sorted(straight[1])


def test_killed_within_a_conversation_no_completed_call_is_made_again(runs, straight):
    """kill -9 of the whole process group as the 3rd, then as the 8th request arrives."""
    agent, processes, served = ScriptedAgent(broken=0.3), [], []
    for deadly in (3, 5, None):

        def script(request, number, deadly=deadly):
            if number == deadly:
                os.killpg(processes[-1].pid, signal.SIGKILL)
            return agent(request, number)

        arguments = ["evolve", *SMALL, "--run", "killed"] if not processes else ["resume", "killed"]
        with MessagesServer(script) as server:
            processes.append(start(server, *arguments, "--runs", str(runs), "--concurrency", "1"))
            _, err = processes[-1].communicate(timeout=900)
            assert processes[-1].returncode == (0 if deadly is None else -signal.SIGKILL), err
            served += [digest(body) for body in server.bodies[:deadly]]
    assert served == straight[1]
    with opened(runs, "killed") as store:
        assert store.fingerprint() == straight[0]


def test_a_budget_stops_the_search_with_calls_in_flight_and_it_goes_on(runs, straight):
    with MessagesServer(ScriptedAgent(broken=0.3)) as server:
        status, out, err = evolve(
            server,
            "evolve",
            *SMALL,
            "--runs",
            str(runs),
            "--run",
            "poor",
            "--concurrency",
            "4",
            "--max-usd",
            "0.5",
        )
        assert status == 0 and "--max-usd 0.5 would be passed" in out and "evo-aar resume poor" in out, err
        with opened(runs, "poor") as store:
            assert 0 < store.ledger.total("usd") <= 0.5
        status, _, err = evolve(server, "resume", "poor", "--runs", str(runs))
    assert status == 0, err
    with opened(runs, "poor") as store:
        assert store.fingerprint() == straight[0]
    assert sorted(digest(body) for body in server.bodies) == sorted(straight[1])


def test_ctrl_c_waits_for_what_is_paid_for(runs, straight):
    """The signal comes while a reply is on its way: the reply is kept."""
    process, agent, arrived = None, ScriptedAgent(broken=0.3), threading.Event()

    def script(request, number):
        if number == 3:
            os.killpg(process.pid, signal.SIGINT)
            arrived.wait(1.0)
        return agent(request, number)

    with MessagesServer(script) as server:
        process = start(
            server, "evolve", *SMALL, "--runs", str(runs), "--run", "waited", "--concurrency", "1"
        )
        out, err = process.communicate(timeout=900)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "being paid for" in out and "evo-aar resume waited" in out
    with opened(runs, "waited") as store:
        assert (
            len(
                [
                    1
                    for one in places(store)
                    for _, reply, _ in store.replies.of(one)
                    if "answers" not in reply
                ]
            )
            == 4
        )
    assert len(server.bodies) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "gpt-x"], "no price is known"),
        (["--model", "m", "--price", "m=cheap"], "--price m=cheap"),
        (["--prices", "/nowhere/prices.json"], "/nowhere/prices.json"),
        (["--operator", "wizard"], "--operator wizard"),
        (["--allocation", "fair"], "--allocation fair"),
        (["--tries", "-1"], "--tries -1"),
        (["--max-usd", "-1"], "--max-usd -1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_gets_one_line_and_leaves_nothing(arguments, words, tmp_path, math_testbed, monkeypatch):
    from command import evo_aar

    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert words in evo_aar("evolve", *arguments, "--runs", tmp_path / "runs").error
    assert not (tmp_path / "runs").exists()


def test_agents_without_a_key_are_refused_and_without_a_wish_the_offline_operator_works(
    tmp_path, math_testbed, monkeypatch
):
    from command import evo_aar

    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert "ANTHROPIC_API_KEY" in evo_aar("evolve", "--operator", "agents", "--runs", tmp_path / "runs").error
    done = evo_aar(
        "evolve",
        "--islands",
        "1",
        "--generations",
        "0",
        "--seeds",
        "1",
        "--max-trials",
        "1",
        "--final-seeds",
        "1",
        "--runs",
        tmp_path / "runs",
    )
    assert "operator: offline" in done.out
