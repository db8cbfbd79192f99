"""A testbed's hidden states and zero-shot priors, computed once and read from a cache of memory-mapped .npy
files.

    <cache_dir>/<content hash of the testbed>-<fingerprint of the strong model>[-bfloat16]/
        <split>-template<t>[-swapped]-layer<l>.npy     [n, d] float32
        <split>-template<t>-margin.npy                 [n] float32, logit of class 1 minus class 0
        <split>-template<t>-tokens.npy                 [n] float32, tokens of the row's text or a pair's two

The first to ask for a template of a split reads its texts, all layers of the profile and the prior in one
forward pass; it holds a file lock, so that other processes wait instead of computing the same. A file is
whole or absent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from scipy.special import expit

from evaluator.descriptions import describe
from evaluator.errors import EvaluatorError
from evaluator.strong import Progress, StrongModel, native_bfloat16
from evaluator.testbeds.prepared import Template, Testbed


class HiddenStates:
    """What the frozen strong model says about a testbed's inputs.

    `progress(done, total)` is called while texts are read; nothing is called where the cache has all. Raises
    EvaluatorError if the testbed's strong model cannot be found.
    """

    def __init__(
        self,
        testbed: Testbed,
        cache_dir: Path | str,
        device: str | torch.device = "cpu",
        *,
        progress: Progress | None = None,
    ) -> None:
        self.testbed = testbed
        self.device = torch.device(device)
        self.progress = progress
        self.description = describe(testbed.strong)
        self.layers: tuple[int, ...] = tuple(
            sorted({self.description.layer(layer) for layer in testbed.profile.layers})
        )
        self.precision = (
            "bfloat16"
            if testbed.profile.precision == "bfloat16" and native_bfloat16(self.device)
            else "float32"
        )
        suffix = "" if self.precision == "float32" else f"-{self.precision}"
        self.folder = Path(cache_dir) / f"{testbed.content_hash}-{self.description.fingerprint[:16]}{suffix}"
        self._open: dict[str, np.ndarray] = {}

    @cached_property
    def strong(self) -> StrongModel:
        """The strong model, loaded when it is first needed."""
        return StrongModel.load(self.testbed.strong, device=self.device, precision=self.precision)

    def resolve(self, layer: int) -> int:
        """A layer of the profile as a number from 0 (embedding) to the model's depth; -1 is the deepest.

        Raises EvaluatorError if the profile does not cache that layer.
        """
        number = self.description.layer(layer)
        if number not in self.layers:
            raise EvaluatorError(
                f"layer {layer} of testbed {self.testbed.name} is not cached; its profile's layers are"
                f" {self.layers}."
            )
        return number

    def has_prior(self, template: int = 0) -> bool:
        """Whether the strong model can answer this template zero-shot: it is causal, and the template asks
        for one of two words.
        """
        chosen = self._template(template)
        return self.description.causal and chosen.verdicts is not None and not chosen.is_statement

    def get(self, split: str, layer: int, template: int = 0, swap: bool = False) -> np.ndarray:
        """Hidden states at the classification position, [n, d] float32, read-only; a pair's are the first's
        minus the second's.

        `swap` exchanges a pair's two replies, or the verdict that a statement asserts; a question about one
        choice has none.
        """
        layer, chosen = self.resolve(layer), self._template(template)
        stated = swap and chosen.is_statement
        states = self._read(split, template, stated, f"layer{layer}")
        return -states if swap and not stated and self.testbed.kind == "pair" else states

    def prior(self, split: str, template: int = 0, swap: bool = False) -> np.ndarray:
        """Zero-shot probabilities of the row's classes 0 and 1, [n, 2] float32.

        A pair's log-odds are the first reply's margin minus the second's. As replies are read apart, `swap`
        changes nothing: column 1 is always the probability that the row's own first reply is the better one.
        Raises EvaluatorError where `has_prior` is false.
        """
        if not self.has_prior(template):
            raise EvaluatorError(
                f"testbed {self.testbed.name} has no zero-shot prior for template {template}: "
                "that takes a causal strong model and a template with verdicts that it does not itself state."
            )
        margin = self._read(split, template, False, "margin")
        return np.stack([expit(-margin), expit(margin)], axis=1)

    def fill(self, splits: tuple[str, ...] = ("train", "fitness")) -> None:
        """Put into the cache whatever recipes can ask for on these splits, with `progress` over all texts
        that it lacks.

        The pool is read under every template and both verdicts of a statement; other splits under those that
        students answer to.
        """
        variants = [
            (split, number, swap)
            for split in splits
            for number, template in enumerate(self.testbed.templates)
            for swap in ((False, True) if template.is_statement else (False,))
            if split == "train" or number == 0 or self.has_prior(number)
        ]
        lacking = [
            one for one in variants if _open_whole(self.folder / f"{_variant(*one)}-tokens.npy") is None
        ]
        texts = 1 if self.testbed.kind == "single" else 2
        done, total = 0, sum(self.testbed.sizes[split] * texts for split, _, _ in lacking)
        told = self.progress
        for variant in lacking:
            if told is not None:
                self.progress = lambda some, _, before=done: told(before + some, total)
            self._read(*variant, "tokens")
            done += self.testbed.sizes[variant[0]] * texts
        self.progress = told

    def tokens(self, split: str) -> np.ndarray:
        """How many tokens the strong model reads for each row under template 0, [n] float32."""
        return self._read(split, 0, False, "tokens")

    def _template(self, number: int) -> Template:
        if not 0 <= number < len(self.testbed.templates):
            raise EvaluatorError(
                f"testbed {self.testbed.name} has templates 0 to {len(self.testbed.templates) - 1}, not"
                f" {number}."
            )
        return self.testbed.templates[number]

    def _read(self, split: str, template: int, stated_swap: bool, what: str) -> np.ndarray:
        variant = _variant(split, template, stated_swap)
        name = f"{variant}-{what}.npy"
        if name not in self._open:
            array = _open_whole(self.folder / name)
            if array is None:
                with self._locked(variant):
                    array = _open_whole(
                        self.folder / name
                    )  # another process may have written it while this one waited
                    if array is None:
                        self._compute(split, template, stated_swap, variant)
                        array = np.load(self.folder / name, mmap_mode="r")
            self._open[name] = array
        return self._open[name]

    def _compute(self, split: str, template: int, stated_swap: bool, variant: str) -> None:
        chosen = self.testbed.templates[template]
        rendered = [chosen.render(row, stated_swap) for row in self.testbed.rows(split)]
        texts = [text for place in zip(*rendered, strict=True) for text in place]
        verdicts = chosen.verdicts if self.has_prior(template) else None
        states, margins = self.strong.read(texts, self.layers, verdicts, self.progress)
        for layer in self.layers:
            self._write(f"{variant}-layer{layer}", self._compare(states[layer]))
        if margins is not None:
            self._write(f"{variant}-margin", self._compare(margins))
        tokens = np.array([len(ids) for ids in self.strong.encode(texts)], np.float32)
        self._write(
            f"{variant}-tokens", tokens if self.testbed.kind == "single" else np.add(*np.split(tokens, 2))
        )

    def _compare(self, values: np.ndarray) -> np.ndarray:
        """A pair's first half minus its second; a single's values as they are."""
        if self.testbed.kind == "single":
            return values
        first, second = np.split(values, 2)
        return first - second

    @contextmanager
    def _locked(self, variant: str) -> Iterator[None]:
        """The folder exists, and no other process computes this variant; the operating system frees the lock
        of a process that died.
        """
        lock = FileLock(self.folder / f"{variant}.lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _write(self, name: str, array: np.ndarray) -> None:
        """Write to a temporary file, bring it to the disk, and only then give it its name."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False) as file:
                try:
                    np.save(file, array)
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(file.name, self.folder / f"{name}.npy")
                except BaseException:
                    os.unlink(file.name)
                    raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> EvaluatorError:
        return EvaluatorError(
            f"cannot write the cache of hidden states in {self.folder}: {error.strerror}; free space or"
            " choose another folder."
        )


def _variant(split: str, template: int, stated_swap: bool) -> str:
    return f"{split}-template{template}{'-swapped' if stated_swap else ''}"


def _open_whole(path: Path) -> np.ndarray | None:
    """The array at `path`, or None if there is none, or one cut short, as a disk may leave it after a power
    cut.
    """
    try:
        return np.load(path, mmap_mode="r")
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return None
