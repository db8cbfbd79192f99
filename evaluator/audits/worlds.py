"""Changed worlds: prepared testbeds derived from another one, in which a recipe that wins by something else
than it claims gives itself away.

    weak labels shuffled       each training row carries another row's weak label: there is no supervision
    polarity flipped           weak labels of class 0 and 1 are exchanged: the supervision says the opposite
    pool permuted              the training rows come in another order, with weak labels and hidden states
    states rotated             a random orthogonal matrix turns each layer's hidden states, and the rows come
                               in yet another order
    untrained strong model     the strong model's architecture and tokenizer with weights as they are before
                               pretraining

A world keeps the fitness rows and their labels, so that its scores are measured against the same two fixed
points. It has no sealed split. It is made once and kept in the cache, under a content hash of its own; hidden
states are derived, not computed again, but for the last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from evaluator.descriptions import describe, load_tokenizer
from evaluator.hidden_states import HiddenStates
from evaluator.strong import no_progress_bar
from evaluator.testbeds.prepared import Testbed

VERSION = 1
SHUFFLED, FLIPPED, PERMUTED, ROTATED, UNTRAINED = WORLDS = (
    "weak labels shuffled",
    "polarity flipped",
    "pool permuted",
    "states rotated",
    "untrained strong model",
)
_SEEDS = {world: 7_000 + number for number, world in enumerate(WORLDS)}


def world(
    testbed: Testbed,
    name: str,
    cache: Path,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """The folder of this world of a testbed, made where the cache lacks it.

    `progress(done, total)` in texts of the untrained model.
    """
    content_hash = hashlib.sha256(f"{VERSION} {name} {testbed.content_hash}".encode()).hexdigest()[:16]
    folder = cache / "audits" / f"{testbed.content_hash}-{name.replace(' ', '-')}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "testbed.json").exists():
            states = HiddenStates(testbed, cache, device)
            states.fill()
            facts = json.loads((testbed.path / "testbed.json").read_text())
            facts |= {"name": f"{testbed.name}: {name}", "content_hash": content_hash}
            if name == UNTRAINED:
                facts["strong"] = str(_untrained(testbed.strong, cache))
            order = _order(name, testbed.sizes["train"])
            _write_inputs(testbed, name, order, folder)
            if name != UNTRAINED:
                _derive_states(
                    states,
                    dataclasses.replace(testbed, content_hash=content_hash),
                    name,
                    order,
                    cache,
                    device,
                )
            draft = folder / "testbed.json.tmp"
            draft.write_text(json.dumps(facts, indent=1) + "\n")
            draft.rename(folder / "testbed.json")
    HiddenStates(Testbed.load(folder), cache, device, progress=progress).fill()
    return folder


def _order(name: str, size: int) -> np.ndarray:
    """Which row of the original pool stands at each place."""
    return (
        np.random.default_rng(_SEEDS[name]).permutation(size)
        if name in (PERMUTED, ROTATED)
        else np.arange(size)
    )


def _write_inputs(testbed: Testbed, name: str, order: np.ndarray, folder: Path) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    lines = (testbed.path / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "train.jsonl").write_text("".join(lines[row] for row in order), encoding="utf-8")
    for file in ("fitness.jsonl", "labels/fitness.npy"):
        shutil.copyfile(testbed.path / file, folder / file)
    weak = testbed.weak_labels()[order]
    if name == SHUFFLED:
        weak = weak[np.random.default_rng(_SEEDS[name]).permutation(len(weak))]
    if name == FLIPPED:
        weak = np.ascontiguousarray(weak[:, ::-1])
    np.save(folder / "weak_labels.npy", weak)


def _derive_states(
    states: HiddenStates, derived: Testbed, name: str, order: np.ndarray, cache: Path, device: str
) -> None:
    target = HiddenStates(derived, cache, device).folder
    target.mkdir(parents=True, exist_ok=True)
    moved, turned = name in (PERMUTED, ROTATED), {}
    if name == ROTATED:
        turned = {
            layer: _rotation(_SEEDS[name] + layer, states.description.hidden_size) for layer in states.layers
        }
    for path in states.folder.glob("*.npy"):
        split, what = path.stem.split("-")[0], path.stem.split("-")[-1]
        if split not in ("train", "fitness"):
            continue
        layer = int(what.removeprefix("layer")) if what.startswith("layer") else None
        if layer not in turned and not (moved and split == "train"):
            _link(path, target / path.name)
            continue
        values = np.load(path)
        if layer in turned:
            values = (values @ turned[layer]).astype(np.float32)
        draft = target / f"{path.name}.{os.getpid()}.tmp"
        with open(draft, "wb") as file:
            np.save(file, values[order] if split == "train" else values)
        draft.rename(target / path.name)


def _rotation(seed: int, size: int) -> np.ndarray:
    """A random orthogonal matrix [d, d], from the Haar measure (Mezzadri 2007, "How to generate random
    matrices", section 5).
    """
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    return q * np.sign(np.diagonal(r))


def _link(path: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, target)


def _untrained(strong: str, cache: Path) -> Path:
    """A folder with the strong model's architecture and tokenizer and freshly drawn weights."""
    description = describe(strong)
    folder = cache / "audits" / f"untrained-{description.fingerprint[:16]}"
    if not (folder / "config.json").exists():
        draft = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        config = AutoConfig.from_pretrained(description.folder)
        with torch.random.fork_rng(devices=[]), no_progress_bar():
            torch.manual_seed(_SEEDS[UNTRAINED])
            model = (AutoModelForCausalLM if description.causal else AutoModel).from_config(config)
            model.save_pretrained(draft)
        load_tokenizer(description).save_pretrained(draft)
        draft.rename(folder)
    return folder
