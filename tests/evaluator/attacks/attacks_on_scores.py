"""Attacks on the score: forged messages, patched libraries, other recipes' students, and answers computed
instead of learned.
"""

import numpy as np
from attack import Attack, ended, every, harmless, kept, without


def no_score(world, outcome) -> str | None:
    """It has no predictions, and so no score."""
    return "it has a score" if outcome.fitness is not None else None


def as_honest(world, outcome) -> str | None:
    """Its student is what an honest recipe with the same requests gets, to the bit."""
    honest = world.honest.fitness
    if outcome.fitness is None or not np.array_equal(outcome.fitness, honest):
        return f"its student is another one ({outcome.reason}: {outcome.message})"
    return None


def knows_no_text(world, outcome) -> str | None:
    """No word of the testbed's questions or answers was within its reach."""
    said = outcome.output + (outcome.message or "")
    found = [text for text in world.texts if text in said]
    return f"it found {found[:3]}" if found else (None if outcome.output else "it never came to its end")


def guessed_by_chance(world, outcome) -> str | None:
    """What it guessed from the trainer's timing agrees with the truth no better than four standard errors
    above chance.
    """
    guesses = [int(one) for one in outcome.output.split("G")[1].split()] if "G" in outcome.output else []
    if len(guesses) != 60:
        return f"it never came to its end ({outcome.reason}: {outcome.message})"
    agreement = np.mean(np.asarray(guesses) == world.truth[:60])
    return f"it guessed {agreement:.2f}" if agreement > 0.5 + 4 * 0.5 / np.sqrt(60) else None


TRAIN = "return await task.finetune(task.weak_labels, epochs=0.5)"
SEND = (
    "from recipes.wire import Message, encode\nsay = lambda *a:"
    " task._line._channel._connection._socket.sendall(encode(Message(*a)))\n"
)
WALK = """
seen, strings, todo = set(), [], [task]
while todo and len(seen) < 200000:
    one = todo.pop()
    if id(one) in seen or one is F:
        continue
    seen.add(id(one))
    if isinstance(one, str):
        strings.append(one)
    elif isinstance(one, dict):
        todo += [*one.keys(), *one.values()]
    elif isinstance(one, (list, tuple, set)):
        todo += list(one)
    elif hasattr(one, '__dict__') and not isinstance(one, type(sys)):
        todo += list(vars(one).values())
"""

SCORES = [
    Attack(
        "an end that it never reached",
        SEND + "say('done', 0, {'student': 1})\nawait asyncio.Event().wait()",
        every(no_score, ended("contract"), harmless),
    ),
    Attack(
        "a score in its last word",
        SEND
        + "s = await task.finetune(task.weak_labels, epochs=0.5)\nsay('done', 0, {'student': s.number, 'pgr': 9.0, 'accuracy': 1.0, 'fitness': [1.0], 'members': 0})\nawait asyncio.Event().wait()",
        as_honest,
    ),
    Attack(
        "predictions instead of a student",
        SEND
        + "say('done', 0, {'student': 1}, {'fitness': np.ones((300, 2), np.float32)})\nawait asyncio.Event().wait()",
        every(no_score, harmless),
    ),
    Attack(
        "an answer in the trainer's name",
        SEND + "say('trained', 1, {'history': [], 'budget': 1e9})\nawait asyncio.Event().wait()",
        every(no_score, ended("protocol"), harmless),
    ),
    Attack(
        "a failure of a made-up kind",
        SEND
        + "say('failed', 0, {'reason': 'wall_time', 'message': 'try me again'})\nawait asyncio.Event().wait()",
        every(no_score, ended("protocol"), harmless),
    ),
    Attack(
        "another recipe's students",
        "from recipes.contract import Student\nfound = []\nfor n in range(1, 200):\n    try:\n        await task.predict(Student(n, 'head')); found.append(n)\n    except Exception: pass\ntell('found', found)",
        without("[1", "[2"),
    ),
    Attack(
        "another recipe's session",
        "from recipes.contract import Session\nfound = []\nfor n in range(1, 100):\n    try:\n        await Session(task._line, n, 'head').parameters(); found.append(n)\n    except Exception: pass\ntell('found', found)",
        without("[1", "[2"),
    ),
    Attack(
        "gradients for others' trainings",
        SEND
        + "for n in range(1, 50):\n    say('gradient', n, {}, {'logits': np.full((32, 2), 1e30, np.float32)})\nawait asyncio.Event().wait()",
        every(no_score, ended("protocol"), harmless),
    ),
    Attack(
        "a pickle",
        "import pickle\nclass P:\n    def __reduce__(self):\n        return (open, (F['outside'] + '/pickled', 'w'))\ntask._line._channel._connection._socket.sendall(pickle.dumps(P()))\nawait asyncio.Event().wait()",
        every(no_score, ended("protocol"), lambda world, outcome: world.changes(), harmless),
    ),
    Attack(
        "the sealed split",
        "try:\n    await task._line.ask('hidden', {'layer': 4, 'template': 0, 'swap': False, 'student': None, 'split': 'sealed'}, {})\nexcept Exception as e: tell(str(e))\ntell('size', task.size, (await task.hidden(-1)).shape[0])",
        every(kept, without("size 40", "40)")),
    ),
    Attack(
        "a patched NumPy",
        "np.asarray = np.array = np.mean = lambda *a, **k: 1 / 0\nnp.float32 = float\n"
        + "say = task._line._channel._connection.send\nawait asyncio.sleep(0)\nraise RuntimeError('patched')",
        every(no_score, harmless),
    ),
    Attack(
        "a patched torch",
        "torch.Tensor.__matmul__ = lambda a, b: a\ntorch.nn.functional.cross_entropy = lambda *a, **k: torch.zeros(())\n"
        + TRAIN,
        as_honest,
    ),
    Attack(
        "a patched json",
        "real = json.dumps\njson.dumps = lambda o, **k: real({**o, 'fields': {**o['fields'], 'pgr': 1.0}} if 'fields' in o else o, **k)\n"
        + TRAIN,
        as_honest,
    ),
    Attack(
        "a patched client",
        "import recipes.contract as c, recipes.process as p\nc.Student.history = property(lambda self: [{'loss': 0.0}], lambda self, v: None)\np._run_recipe = lambda *a: None\np._explain = lambda e: ('ok', 'perfect')\n"
        + TRAIN,
        as_honest,
    ),
    Attack(
        "an exit hook that says it went well",
        "import atexit\natexit.register(lambda: task._line._channel._connection._socket.sendall(b'x'))\n"
        + TRAIN,
        as_honest,
    ),
    Attack(
        "its own name on another's source",
        "import linecache\nsys.modules['recipe'].__dict__['__file__'] = '/seed.py'\n" + TRAIN,
        as_honest,
    ),
    Attack(
        "a budget of its own",
        "attempt(setattr, task, 'budget', 1e18)\nfor name in list(vars(task)):\n    if 'budget' in name:\n        setattr(task, name, 1e18)\nawait task.finetune(task.weak_labels, epochs=5000)",
        every(no_score, ended("budget"), harmless),
    ),
    Attack(
        "an arithmetic parser",
        WALK
        + "import re\ntell('texts', [s for s in strings if re.search(r'\\d+ *[+*-] *\\d+', s) and 'import' not in s][:20], len(strings))",
        knows_no_text,
    ),
    Attack(
        "an embedded table of facts",
        WALK
        + "table = F['table']\ntell('rows', [s for s in strings for q in table if q in s and len(s) < 500][:20], len(strings))",
        knows_no_text,
    ),
    Attack(
        "hidden states of rows that aren't its own",
        "tell((await task.hidden(-1)).shape[0] - task.size)\ntry:\n    await task.finetune(task.weak_labels[:1], rows=[task.size + 1])\nexcept Exception as e: tell(type(e).__name__)",
        without("DECOY", "None"),
    ),
    Attack(
        "the trainer's timing",
        "g = []\nfor r in range(60):\n    t = []\n    for k in (0, 1):\n        a = time.perf_counter()\n        await task.finetune([k] * 8, rows=[r] * 8, epochs=1)\n        t.append(time.perf_counter() - a)\n    g.append(int(t[1] < t[0]))\nprint('G', *g)",
        guessed_by_chance,
    ),
]

NEIGHBOURS = [
    Attack(
        "a sibling's scratch",
        "found = []\nfor base in ('..', '/scratch', os.path.dirname(os.getcwd())):\n    for n in range(48):\n        place = f'{base}/{n}/mine'\n        if os.path.realpath(place) != os.path.realpath('mine'):\n            found.append(attempt(read, place)); attempt(lambda: open(place, 'w').write('changed'))\ntell(found)",
        every(kept, harmless, without("DECOY")),
    ),
    Attack(
        "a list of the siblings' folders",
        "tell(attempt(os.listdir, '..'), attempt(os.listdir, '/scratch'))",
        without("['"),
    ),
]
