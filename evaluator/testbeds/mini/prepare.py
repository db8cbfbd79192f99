"""Write a domain of `mini` as a prepared testbed."""

from __future__ import annotations

import functools
import hashlib
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluator.errors import TestbedError
from evaluator.testbeds.mini.weak import WEIGHTS, features, teachers
from evaluator.testbeds.mini.world import CLAIMS, DOMAINS, FACTS, chat_claim, templates
from evaluator.testbeds.prepared import Profile, write

SIZES = {"weak": 2_000, "train": 3_000, "fitness": 2_000, "sealed": 4_000}
# Where a core goes, by its checksum modulo 100: up to these bounds. No core is in two splits.
BOUNDS = {"weak": 15, "train": 50, "fitness": 70, "sealed": 100}
SAME_TONE = 0.25  # the share of pairs whose replies are both confident or both hesitant

PROFILE = Profile(
    layers=(1, 2, 3, 4),
    head_layers=(4,),
    trainable_layers=1,
    learning_rate={"head": 2e-3, "lora": 3e-3},
    epochs={"head": 6.0, "lora": 2.0},
    batch_size={"head": 64, "lora": 64},
)


@dataclass(frozen=True)
class Knobs:
    """What makes a domain easy or hard.

    `cue`: the share of filler words whose tone fits the label. `weak_labels`: how many labels a weak teacher
    is given. `weak_strength`: its C.
    """

    cue: float
    weak_labels: int
    weak_strength: float
    profile: Profile = PROFILE


KNOBS = {"chat": Knobs(0.78, 600, 0.01), "math": Knobs(0.68, 200, 0.1), "code": Knobs(0.65, 150, 0.3)}


def split_of(core: tuple) -> str:
    """The split that a core belongs to, the same on every machine."""
    place = zlib.crc32(repr(core).encode()) % 100
    return next(split for split, bound in BOUNDS.items() if place < bound)


@functools.cache
def _facts_of(split: str) -> list[tuple[str, str]]:
    return [fact for fact in FACTS if split_of(fact) == split]


def _single(
    rng: random.Random, domain: str, split: str, label: int, cue: float
) -> tuple[dict[str, str], tuple]:
    while True:
        claim = CLAIMS[domain](rng, bool(label), cue if label else 1 - cue)
        if split_of(claim.core) == split:
            return claim.fields, claim.core


def _pair(rng: random.Random, split: str, label: int, cue: float) -> tuple[dict[str, str], tuple]:
    fact = rng.choice(_facts_of(split))
    confident = (
        rng.random() < cue
    )  # both words of a reply are of one tone; mostly the other reply's are of the other
    same = rng.random() < SAME_TONE
    right, wrong = (
        chat_claim(rng, True, float(confident), fact),
        chat_claim(rng, False, float(confident == same), fact),
    )
    first, second = (right, wrong) if label else (wrong, right)
    return {
        "prompt": right.fields["prompt"],
        "first": first.fields["reply"],
        "second": second.fields["reply"],
    }, fact


def generate(
    domain: str, split: str, seed: int = 0, knobs: Knobs | None = None
) -> tuple[list[dict[str, str]], np.ndarray, list[tuple]]:
    """The rows of a split, all different, with their labels [n] uint8 (as many 0 as 1) and cores."""
    knobs = knobs or KNOBS[domain]
    rng, size = random.Random(f"{seed}/{domain}/{split}"), SIZES[split]
    labels = [0, 1] * (size // 2)
    rng.shuffle(labels)
    rows, cores, seen = [], [], set()
    for label in labels:
        while True:
            row, core = (
                _pair(rng, split, label, knobs.cue)
                if domain == "chat"
                else _single(rng, domain, split, label, knobs.cue)
            )
            if tuple(row.values()) not in seen:
                break
        seen.add(tuple(row.values()))
        rows.append(row)
        cores.append(core)
    return rows, np.array(labels, np.uint8), cores


def prepare(domain: str, path: Path | str, seed: int = 0, knobs: Knobs | None = None) -> str:
    """Write `mini/<domain>` to the folder `path` and return its content hash. `seed` draws the rows and the
    weak teachers' labels.

    Raises TestbedError for an unknown domain.
    """
    if domain not in DOMAINS:
        raise TestbedError(f"mini has no domain {domain!r}. Choose one of {', '.join(DOMAINS)}.")
    knobs = knobs or KNOBS[domain]
    rows, labels = {}, {}
    for split in SIZES:
        rows[split], labels[split], _ = generate(domain, split, seed, knobs)
    wordings = templates(domain)
    chosen = teachers(
        features(rows.pop("weak"), wordings[0]),
        labels.pop("weak"),
        knobs.weak_labels,
        seed,
        knobs.weak_strength,
    )
    seen = {split: features(rows[split], wordings[0]) for split in rows}
    weak = {
        split: np.stack([teacher.predict_proba(seen[split])[:, 1] for teacher in chosen])
        for split in ("fitness", "sealed")
    }
    return write(
        Path(path),
        name=f"mini/{domain}",
        kind="pair" if domain == "chat" else "single",
        strong=str(WEIGHTS),
        templates=wordings,
        profile=knobs.profile,
        rows=rows,
        labels=labels,
        weak_labels=chosen[0].predict_proba(seen["train"]),
        weak_fitness=weak["fitness"],
        weak_sealed=weak["sealed"],
        strong_hash=hashlib.sha256((WEIGHTS / "model.safetensors").read_bytes()).hexdigest(),
    )
