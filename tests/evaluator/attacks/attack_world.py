"""The world that attacks run in: `python attack_world.py LEVEL RESULTS [reaching]`, as whichever user.

It lays out decoys, starts a real service at that level of the sandbox, runs every attack beside honest
neighbours, looks at the effects and writes {attack: what it reached, or null} to RESULTS as JSON. With
`reaching`, only attacks that would reach their aim unsandboxed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from attack import Attack
from attacks_on_files import READING, WRITING
from attacks_on_limits import LIMITS
from attacks_on_processes import LOOKING, NETWORK, SPAWNING
from attacks_on_scores import NEIGHBOURS, SCORES
from small_testbeds import small_testbed

import recipes.process
from evaluator.errors import EvaluatorError
from evaluator.processes import Limits
from evaluator.sandbox import probe
from evaluator.sandbox.levels import Level
from evaluator.service import Service
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest

# Slow ones first; those that look for neighbours among the first, too, for they are there from the beginning.
ATTACKS: list[Attack] = [*NEIGHBOURS, *LIMITS, *SPAWNING, *LOOKING, *NETWORK, *READING, *SCORES, *WRITING]
SEED = 7
SCRATCH_BYTES = 16 << 20
LIMITS_HERE = Limits(
    cpu_seconds=2,
    memory_bytes=384 << 20,
    wall_seconds=150,
    file_bytes=8 << 20,
    scratch_bytes=SCRATCH_BYTES,
    scratch_files=256,
)
HONEST = (
    '"""Honest."""\nasync def recipe(task):\n    return await task.finetune(task.weak_labels, epochs=0.5)\n'
)
VICTIM = (
    '"""Honest, and keeps something in its scratch folder for a while."""\nimport time\nasync def'
    " recipe(task):\n    open('mine', 'w').write('{secret}')\n    for _ in range(80):\n       "
    " time.sleep(0.05)\n    assert open('mine').read() == '{secret}', 'my file was changed'\n    return await"
    " task.finetune(task.weak_labels, epochs=0.5)\n"
)


def main(level: str, results: str, reaching: bool) -> None:
    try:
        if Level(level) is not Level.D:
            probe.attack(Level(level))
    except EvaluatorError as error:
        Path(results).write_text(json.dumps({"unavailable": str(error)}))
        return
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        attacks = [attack for attack in ATTACKS if attack.reaches or not reaching]
        world = World(Path(folder))
        found = world.run(Level(level), attacks)
    Path(results).write_text(json.dumps({"uid": os.getuid(), "attacks": found}))


def secret() -> str:
    return f"DECOY-{secrets.token_hex(8)}"


class World:
    """Decoys that all attacks have in common, and what is seen of them together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        testbed = small_testbed(folder / "testbed")
        self.trainer = Trainer(Testbed.load(testbed), cache=folder / "cache")
        self.labels = folder / "testbed" / "labels" / "decoy-labels.txt"
        self.secrets = {name: secret() for name in ("labels", "memory", "victim", "key", "movable")}
        self.secrets["environment"] = os.environ["EVO_AAR_DECOY"]
        self.labels.write_text(self.secrets["labels"])
        self.memory = ctypes.create_string_buffer(self.secrets["memory"].encode())
        (folder / "key").write_text(self.secrets["key"])
        truth = folder / "testbed" / "labels" / "train.npy"
        self.truth = np.load(truth)
        self.secrets["truth"] = repr(self.truth.tolist()[:60])
        site, own = Path(np.__file__).parent.parent, Path(recipes.process.__file__).parent
        corpus, seed, iris = (
            own.parent / "evaluator/testbeds/mini/corpus.py",
            own / "seeds/label_posterior.py",
            site / "sklearn/datasets/data/iris.csv",
        )
        for name, path in (("corpus", corpus), ("seed", seed), ("iris", iris)):
            self.secrets[name] = path.read_text()[3:30].split("\n")[0]
        self.texts = self._texts()
        self.common = {
            "labels": str(self.labels),
            "truth": str(truth),
            "key": str(folder / "key"),
            "facts": str(corpus),
            "seed": str(seed),
            "iris": str(iris),
            "trainer": os.getpid(),
            "address": ctypes.addressof(self.memory),
            "table": self.texts[:40],
        }
        self.left: list[int] = []
        self.most_stored, self.storable = 0, SCRATCH_BYTES + (1 << 30)
        self.disturbance: str | None = None
        self.honest = None
        self._own_code = [(path, path.read_bytes()) for path in (own / "process.py", Path(np.__file__))]

    def _texts(self) -> list[str]:
        lines = [
            line
            for path in (self.folder / "testbed").rglob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        texts = {
            str(value)
            for line in lines
            for value in json.loads(line).values()
            if isinstance(value, str) and len(value) > 4
        }
        assert texts, "the testbed's questions are the decoys of two attacks"
        return sorted(texts)

    def run(self, level: Level, attacks: list[Attack]) -> dict[str, str | None]:
        scenes = [
            Scene(self, attack, self.folder / f"scene-{number}") for number, attack in enumerate(attacks)
        ]
        sources = [scene.source for scene in scenes]
        beside = [HONEST, VICTIM.format(secret=self.secrets["victim"])]
        middle = len(sources) // 2
        trials = [*beside, *sources[:middle], *beside[:1], *sources[middle:], *beside[:1]]
        service = Service(self.trainer, LIMITS_HERE, "head", level)
        try:
            before = set(descendants())
            (self.honest,) = self._outcomes(service, [HONEST]).values()
            stop = threading.Event()
            watch = threading.Thread(target=self._watch, args=(service, stop), daemon=True)
            watch.start()
            found = self._outcomes(service, trials)
            stop.set()
            self._judge_neighbours([outcome for place, outcome in found.items() if trials[place] in beside])
            deadline = time.monotonic() + 20
            while (left := set(descendants()) - before) and time.monotonic() < deadline:
                time.sleep(0.1)
            self.left = sorted(left)
        finally:
            service.close()
        own = {trials[place]: outcome for place, outcome in found.items()}
        return {scene.attack.name: scene.attack.effect(scene, own[scene.source]) for scene in scenes}

    def _outcomes(self, service: Service, sources: list[str]) -> dict[int, object]:
        found: dict[int, object] = {}
        trials = [TrialRequest(source, SEED) for source in sources]
        places = {id(trial): place for place, trial in enumerate(trials)}
        service.run(
            trials, lambda trial, conversation: found.setdefault(places[id(trial)], conversation.outcome)
        )
        return found

    def _judge_neighbours(self, outcomes: list) -> None:
        for outcome in outcomes:
            if not outcome.ok:
                self.disturbance = f"a neighbour ended with {outcome.reason}: {outcome.message}"
            elif not np.array_equal(outcome.fitness, self.honest.fitness):
                self.disturbance = "a neighbour's student is another one"

    def _watch(self, service: Service, stop: threading.Event) -> None:
        folder = Path(service.processes._folder.name)
        while not stop.wait(0.02):
            for slot in os.scandir(folder):
                sizes = []
                for entry in os.scandir(slot.path):
                    with contextlib.suppress(OSError):
                        sizes.append(entry.stat(follow_symlinks=False).st_blocks * 512)
                self.most_stored = max(self.most_stored, sum(sizes))


class Scene:
    """One attack's own decoys; everything else it shares with the others."""

    def __init__(self, world: World, attack: Attack, folder: Path) -> None:
        self.attack = attack
        self._world = world
        self._folder = folder
        folder.mkdir()
        self.secrets = world.secrets
        for name in ("changeable", "removable", "movable"):
            (folder / name).write_text(world.secrets["movable"])
        facts = (
            world.common
            | {name: str(folder / name) for name in ("changeable", "removable", "movable")}
            | {"outside": str(folder)}
        )
        self._listeners: list[socket.socket] = []
        for name in ("tcp", "udp", "unix", "abstract"):
            if f"F['{name}']" in attack.body:
                facts[name] = self._listen(name)
        self.source = attack.source(json.dumps(facts))
        self._before = self._snapshot()

    def __getattr__(self, name: str):
        return getattr(self._world, name)

    def _listen(self, kind: str) -> object:
        if kind in ("tcp", "udp"):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            made.bind(("127.0.0.1", 0))
            place = made.getsockname()[1]
        else:
            place = str(self._folder) + ".sock" if kind == "unix" else secrets.token_hex(8)
            made = socket.socket(socket.AF_UNIX)
            made.bind(place if kind == "unix" else "\0" + place)
        if kind != "udp":
            made.listen()
        made.setblocking(False)
        self._listeners.append(made)
        return place

    def callers(self) -> str | None:
        for listener in self._listeners:
            try:
                if listener.type == socket.SOCK_DGRAM:
                    listener.recv(10)
                else:
                    listener.accept()
            except BlockingIOError:
                continue
            return f"a listener at {listener.getsockname()!r} was reached"
        return None

    def _snapshot(self) -> list[tuple]:
        found = []
        for path in sorted(self._folder.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else b""
            found.append((path.name, status.st_mode, status.st_uid, status.st_mtime_ns, content))
        return found

    def changes(self) -> str | None:
        after = self._snapshot()
        if after != self._before:
            return f"the decoys were changed: {sorted({one[0] for one in set(after) ^ set(self._before)})}"
        changed = [path.name for path, content in self._own_code if path.read_bytes() != content]
        return f"{changed} were changed" if changed else None


def descendants() -> list[int]:
    """The numbers of all processes that descend from this one."""
    parents: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [os.getpid()]
    while todo:
        todo += (children := parents.get(todo.pop(), []))
        found += children
    return found


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(
        36, 1, 0, 0, 0
    )  # PR_SET_CHILD_SUBREAPER: orphans become children of this process, and are seen
    main(sys.argv[1], sys.argv[2], "reaching" in sys.argv[3:])
