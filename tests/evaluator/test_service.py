"""The evaluator's service with real recipe processes: what recipes may do works, and what they may not ends
them with a reason.
"""

import os
import signal
import time

import numpy as np
import pytest

from evaluator.processes import Limits
from evaluator.service import Service
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest

pytestmark = pytest.mark.slow

LIMITS = Limits(cpu_seconds=3, memory_bytes=512 << 20, wall_seconds=60)


@pytest.fixture(scope="module")
def service(math_testbed, cache):
    service = Service(Trainer(Testbed.load(math_testbed), cache=cache), LIMITS, "head")
    yield service
    service.close()


def run(service: Service, *bodies: str, seed: int = 0, fidelity: float = 1.0) -> list:
    """The conversations of recipes with these bodies, run side by side."""
    head = '"""A test."""\nimport asyncio\nimport numpy as np\n'
    trials = [TrialRequest(head + body, seed + number, fidelity) for number, body in enumerate(bodies)]
    found = {}
    service.run(trials, lambda trial, conversation: found.setdefault(trial, conversation))
    assert len(found) == len(trials)
    return [found[trial] for trial in trials]


def outcome(service: Service, body: str, **options):
    return run(service, body, **options)[0].outcome


QUICK = "epochs=0.2"
VANILLA = f"async def recipe(task):\n    return await task.finetune(task.weak_labels, {QUICK})\n"


def test_a_recipe_gets_a_student_with_predictions_for_pool_and_fitness(service):
    found = outcome(service, VANILLA)
    sizes = service.trainer.testbed.sizes
    assert found.ok
    assert found.fitness.shape == (sizes["fitness"], 2) and found.pool.shape == (sizes["train"],)
    assert np.allclose(found.fitness.sum(1), 1, atol=1e-5)
    assert found.history[0]["steps"][0]["loss"] > 0


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        pytest.param("async def recipe(task)\n    pass\n", "syntax", "line 4", id="does not parse"),
        pytest.param("x = 1\n", "exception", "recipe", id="has no recipe"),
        pytest.param(
            "async def recipe(task):\n    return np.zeros((task.size, 2))\n",
            "contract",
            "ndarray",
            id="returns predictions",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels[:1],"
            " rows=[task.size])\n",
            "invalid_request",
            "between 0 and",
            id="rows out of range",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels * np.nan)\n",
            "invalid_request",
            "NaN",
            id="NaN targets",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels[:5])\n",
            "invalid_request",
            "5 targets",
            id="too few targets",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, loss='mystery')\n",
            "invalid_request",
            "cross_entropy",
            id="unknown loss",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, optimiser='mystery',"
            " learning_rate=1.0)\n",
            "invalid_request",
            "adagrad",
            id="unknown optimiser",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, optimiser='sgd')\n",
            "invalid_request",
            "learning_rate",
            id="gradient descent at AdamW's learning rate",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, epochs=1e9)\n",
            "invalid_request",
            "epochs",
            id="absurd epochs",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, epochs=9000)\n",
            "budget",
            "tokens",
            id="over budget",
        ),
        pytest.param(
            "async def recipe(task):\n    while True: pass\n", "cpu_time", "3 s", id="loops for ever"
        ),
        pytest.param(
            "async def recipe(task):\n    x = np.ones((1 << 30,))\n",
            "memory",
            "memory",
            id="takes all memory",
        ),
        pytest.param(
            "async def recipe(task):\n    await asyncio.Event().wait()\n",
            "deadlock",
            "waits",
            id="waits for nothing",
        ),
        pytest.param(
            "async def recipe(task):\n    await asyncio.sleep(1)\n", "deadlock", "timer", id="sleeps"
        ),
        pytest.param(
            "async def recipe(task):\n    raise SystemExit(0)\n", "exception", "SystemExit", id="exits"
        ),
        pytest.param(
            "import os\nasync def recipe(task):\n    os._exit(0)\n", "crashed", "status 0", id="exits at once"
        ),
        pytest.param(
            "import os\nasync def recipe(task):\n    os.kill(os.getpid(), 9)\n",
            "killed",
            "SIGKILL",
            id="kills itself",
        ),
        pytest.param(
            "async def recipe(task):\n    return await task.finetune(task.weak_labels, learning_rate=10,"
            " loss=lambda b: b.logits * 1e38)\n",
            "invalid_request",
            "NaN or inf",
            id="a loss that overflows",
        ),
        pytest.param(
            f"async def recipe(task):\n    return await task.finetune(task.weak_labels, {QUICK}, loss=lambda"
            " b: b.logits[:1])\n",
            "invalid_request",
            "gradient",
            id="a loss of the wrong shape",
        ),
        pytest.param(
            "from recipes.contract import Student\nasync def recipe(task):\n    return Student(77, 'head')\n",
            "contract",
            "never made",
            id="forges a student",
        ),
        pytest.param(
            "async def recipe(task):\n    task._line._channel._connection._socket.sendall(b'x' * 100)\n"
            "    await asyncio.Event().wait()\n",
            "protocol",
            "not a frame",
            id="speaks another protocol",
        ),
        pytest.param(
            "async def recipe(task):\n    return task.ensemble([])\n",
            "invalid_request",
            "1 to 8",
            id="an empty ensemble",
        ),
        pytest.param(
            "async def recipe(task):\n    return task.linear([-1], [1.0])\n",
            "invalid_request",
            "weight",
            id="a short direction",
        ),
    ],
)
def test_what_breaks_the_contract_ends_the_trial_with_a_reason_and_no_score(service, body, reason, words):
    broken, fine = run(service, body, VANILLA)
    assert broken.outcome.reason == reason, broken.outcome.message
    assert words in broken.outcome.message
    assert broken.outcome.fitness is None
    assert fine.outcome.ok, "a neighbour was touched"


def test_every_primitive_of_the_contract_works(service):
    body = """
async def recipe(task):
    assert task.weak_labels.shape == (task.size, 2) and task.has_prior and task.budget > 0
    states = await task.hidden(-1)
    assert states.shape[0] == task.size and states.dtype == np.float32
    statement = task.statements[0]
    yes, no = await asyncio.gather(task.hidden(-1, template=statement), task.hidden(-1, template=statement, swap=True))
    assert np.abs(yes - no).max() > 0
    prior = await task.prior()
    assert np.allclose(prior.sum(1), 1, atol=1e-5)
    hard = task.weak_labels.argmax(1)
    rows = np.arange(0, task.size, 2)
    first, second = await asyncio.gather(
        task.finetune(hard, epochs=0.5), task.finetune(task.weak_labels[rows], rows=rows, weights=np.arange(len(rows)) + 1.0, epochs=0.5)
    )
    again = await task.finetune(hard, start=first, order=np.arange(task.size), epochs=0.5, schedule="cosine", loss="generalised_cross_entropy")
    probe = await task.probe(list(task.layers), task.weak_labels, hidden_size=8, epochs=0.5)
    line = task.linear([-1], states.mean(0) / 100, 0.1)
    shifted = task.shift(probe, -0.3)
    a, b = await task.predict(probe), await task.predict(shifted)
    assert (b[:, 1] <= a[:, 1] + 1e-6).all() and (b[:, 1] < a[:, 1]).any()
    zero = task.untrained()
    assert np.allclose(await task.predict(zero), prior, atol=1e-5)
    async with task.session(start=again) as s:
        parameters = await s.parameters()
        before = task.budget
        logits = await s.forward(rows[:50])
        assert task.budget < before
        many = await s.forward(rows[:50], [parameters, {k: v * 0 for k, v in parameters.items()}])
        assert np.allclose(many[0], logits, atol=1e-5) and np.abs(many[1]).max() == 0
        gradients = await s.backward(np.ones((50, 2)) / 50)
        assert set(gradients) == set(parameters)
        await s.step(1e-3)
        moved = await s.parameters()
        assert any((moved[k] != parameters[k]).any() for k in moved)
        await s.load(parameters)
        student = await s.student()
    assert np.allclose(await task.predict(student), await task.predict(again), atol=1e-6)
    return task.ensemble([first, second, line, student], [1, 2, 3, 4])
"""  # noqa: E501
    found = outcome(service, body)
    assert found.ok, found.message
    assert found.members == 4


def test_a_recipes_own_loss_trains_as_the_named_one_does(service):
    body = """
def loss(batch):
    odds = np.exp(batch.logits - batch.logits.max(1, keepdims=True))
    return (odds / odds.sum(1, keepdims=True) - batch.targets) * batch.weights[:, None] / len(odds)
async def recipe(task):
    return await task.finetune(task.weak_labels, loss=loss, epochs=0.5)
"""
    named = "async def recipe(task):\n    return await task.finetune(task.weak_labels, epochs=0.5)\n"
    own = outcome(service, body)
    assert own.ok, own.message
    assert np.abs(own.fitness - outcome(service, named).fitness).max() < 1e-3


def test_the_course_of_a_recipe_does_not_depend_on_which_training_ends_first(service):
    """Chains of unequal length side by side, alone and among neighbours: the same numbers, the same call
    order.
    """
    body = """
async def chain(task, epochs):
    total = 0.0
    for _ in range(3):
        student = await task.finetune(task.weak_labels, epochs=epochs)
        total += float((await task.predict(student))[:, 1].sum()) * task.rng.random()
    return total, student
async def recipe(task):
    found = await asyncio.gather(*(chain(task, epochs) for epochs in (0.9, 0.1, 0.5)))
    best = max(found, key=lambda pair: pair[0])
    return best[1]
"""
    alone = outcome(service, body)
    among = run(service, body, *[VANILLA] * 6)[0].outcome
    assert alone.ok, alone.message
    assert (alone.fitness == among.fitness).all() and (alone.pool == among.pool).all()


def test_trials_differ_by_seed_and_agree_with_themselves(service):
    a, b, c = (outcome(service, VANILLA, seed=seed) for seed in (1, 1, 2))
    assert (a.fitness == b.fitness).all()
    assert (a.fitness != c.fitness).any()


def test_a_low_fidelity_trial_sees_a_part_of_the_pool_and_is_scored_in_full(service):
    body = (
        "async def recipe(task):\n    assert task.size == 600\n    assert (await task.hidden(-1)).shape[0] =="
        " 600\n    return await task.finetune(task.weak_labels, epochs=1)\n"
    )
    found = outcome(service, body, fidelity=0.2)
    assert found.ok, found.message
    assert len(found.pool) == service.trainer.testbed.sizes["train"]


def test_a_budget_that_is_spent_still_lets_the_recipe_return_a_student(service):
    body = """
from recipes.contract import BudgetExceeded
async def recipe(task):
    student = await task.finetune(task.weak_labels, epochs=1)
    try:
        await task.finetune(task.weak_labels, epochs=5000)
    except BudgetExceeded as error:
        assert "left" in str(error)
        return student
"""
    assert outcome(service, body).ok


def test_a_recipe_sees_no_environment_of_its_parent_no_label_and_no_network(service, monkeypatch):
    body = """
import os, socket
async def recipe(task):
    found = [name for name in os.environ if "SECRET" in name or "EVO" in name or "KEY" in name]
    try:
        socket.create_connection(("127.0.0.1", %d), timeout=1).close()
        found.append("network")
    except OSError:
        pass
    # 0 to 2 are the null device, 3 the connection; the event loop has made a pair of sockets for itself
    for number in os.listdir("/proc/self/fd"):
        if not os.path.lexists(f"/proc/self/fd/{number}"):
            continue  # the listing's own
        target = os.readlink(f"/proc/self/fd/{number}")
        if int(number) > 2 and not target.startswith("socket:"):
            found.append(target)
    found += ["sockets"] * (len(os.listdir("/proc/self/fd")) > 7)
    raise RuntimeError(repr(found))
"""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        message = outcome(service, body % listener.getsockname()[1]).message
        listener.setblocking(False)
        reached = True
        try:
            listener.accept()
        except BlockingIOError:
            reached = False
    if os.geteuid() == 0:  # unprivileged users may lack network namespaces; `doctor` says so
        assert not reached
        assert "RuntimeError: []" in message, message


def test_what_a_recipe_leaves_behind_is_gone_with_it(service, tmp_path):
    body = f"""
import os, time
async def recipe(task):
    if os.fork() == 0:
        while True:
            time.sleep(0.05)
            open({str(tmp_path / "alive")!r}, "w").write(str(time.time()))
    time.sleep(0.3)
    return await task.finetune(task.weak_labels, {QUICK})
"""
    outcome(service, body)
    time.sleep(0.5)
    last = (tmp_path / "alive").read_text() if (tmp_path / "alive").exists() else ""
    time.sleep(0.5)
    assert last == ((tmp_path / "alive").read_text() if (tmp_path / "alive").exists() else "")


def test_a_trial_that_hangs_is_tried_again_then_fails_for_its_wall_time(math_testbed, cache):
    service = Service(Trainer(Testbed.load(math_testbed), cache=cache), Limits(wall_seconds=1.5), "head")
    try:
        (hung,) = run(service, "import time\nasync def recipe(task):\n    time.sleep(100)\n")
    finally:
        service.close()
    assert hung.outcome.reason == "wall_time" and "2 times" in hung.outcome.message


def test_a_loss_that_gives_no_gradient_holds_up_nobody_and_fails_its_trial(math_testbed, cache):
    """It sleeps, so no limit of processor time ends it; the others' trainings go on and end meanwhile."""
    slow = f"""
import time
def loss(batch):
    time.sleep(100 if batch.progress > 0.3 else 0)
    return np.zeros_like(batch.logits)
async def recipe(task):
    return await task.finetune(task.weak_labels, {QUICK}, loss=loss)
"""
    own = f"""
def loss(batch):
    p = np.exp(batch.logits - batch.logits.max(1, keepdims=True))
    return ((p / p.sum(1, keepdims=True) - batch.targets) / len(batch.rows)).astype(np.float32)
async def recipe(task):
    return await task.finetune(task.weak_labels, {QUICK}, loss=loss)
"""
    service = Service(Trainer(Testbed.load(math_testbed), cache=cache), Limits(gradient_seconds=2.0), "head")
    head, ended = '"""A test."""\nimport numpy as np\n', []
    bodies = {"slow": slow, "own": own, "vanilla": VANILLA}
    trials = {TrialRequest(head + body, 0): name for name, body in bodies.items()}
    try:
        service.run(trials, lambda trial, conversation: ended.append((trials[trial], conversation.outcome)))
    finally:
        service.close()
    outcomes = dict(ended)
    assert ended[-1][0] == "slow"
    assert outcomes["slow"].reason == "loss_time" and "within 2 s, 2 times" in outcomes["slow"].message
    assert outcomes["own"].ok and outcomes["vanilla"].ok
    np.testing.assert_allclose(outcomes["own"].fitness, outcomes["vanilla"].fitness, atol=1e-4)
    assert service.trainer.work.mixed > 0, "own and named losses were never in one batch"


def test_the_fork_server_ends_with_the_one_that_started_it(math_testbed, cache):
    service = Service(Trainer(Testbed.load(math_testbed), cache=cache), LIMITS, "head")
    (pid,) = service.processes.pids
    service.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


def test_the_history_of_trainings_is_in_call_order_and_holds_what_the_recipe_knows_of(service):
    """Which of two trainings ends first, and whether a third had ended when the recipe did, is a matter of
    timing.
    """
    body = """
async def recipe(task):
    long, short = task.finetune(task.weak_labels, epochs=3), task.finetune(task.weak_labels[:8], rows=range(8), epochs=1)
    students = await asyncio.gather(long, short)
    late = asyncio.ensure_future(task.finetune(task.weak_labels, epochs=0.1))
    await asyncio.sleep(0)
    %s
"""  # noqa: E501
    for end in ("return students[0]", "raise RuntimeError"):
        found = outcome(service, body % end)
        assert [training["request"] for training in found.history] == [1, 2], found.message
