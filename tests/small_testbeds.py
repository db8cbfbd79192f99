"""Testbeds cut from `mini`: real rows, the real strong model and weak teachers, few of each."""

import dataclasses
import importlib

import pytest

from evaluator.testbeds.prepared import Profile

mini = importlib.import_module("evaluator.testbeds.mini.prepare")  # the package exports a function of that name
SIZES = {"weak": 700, "train": 400, "fitness": 300, "sealed": 40}
PROFILE = Profile(layers=(2, 4), head_layers=(4,), hidden_size=16, epochs={"head": 10.0, "lora": 0.2})


def small_mini(folder, domain="math"):
    """`mini/<domain>` in `folder`, with fewer rows and epochs than it has; the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "SIZES", SIZES)
        mini.prepare(domain, folder, knobs=dataclasses.replace(mini.KNOBS[domain], weak_labels=40, profile=PROFILE))
    return folder
