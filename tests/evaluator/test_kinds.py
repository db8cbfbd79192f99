"""A kind of student is one file and one registration, from outside of the package too."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_testbeds import PROFILE, SIZES, small_testbed

from evaluator import kinds
from evaluator.errors import EvaluatorError
from evaluator.kinds import Hyperparameters, StudentKind
from evaluator.processes import Limits
from evaluator.saved import SavedStudent
from evaluator.service import Service
from evaluator.testbeds.prepared import Profile, Testbed
from evaluator.trainer import save
from evaluator.trainer.model import LogitGradient, Parameters
from evaluator.trainer.students import Ensemble, Trained
from evaluator.trainer.trainer import Trainer
from evaluator.trial import Failure, Success, TrialRequest, Ungraded


class ConstantModel:
    """A `StudentModel` that gives every row the same answer. Parameters: `logits` [2]."""

    kind = "constant"
    key = ("constant",)
    tokens_per_row = 1
    bytes_per_row = 64

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"logits": (2,)}

    def initial_parameters(self, seed: int) -> Parameters:
        return {"logits": torch.zeros(2)}

    def logits(self, parameters: Parameters, split: str, rows: torch.Tensor) -> torch.Tensor:
        return parameters["logits"][:, None].expand(*rows.shape, 2)

    def forward(self, parameters: Parameters, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits(parameters, "train", rows), torch.zeros(*rows.shape, 1)

    def gradients(
        self, parameters: Parameters, rows: torch.Tensor, logit_gradient: LogitGradient
    ) -> Parameters:
        return {"logits": logit_gradient(*self.forward(parameters, rows))[0].sum(1)}

    def save(self, parameters: Parameters, folder: Path, number: int) -> dict[str, Any]:
        (folder / f"constant-{number}.json").write_text(json.dumps(parameters["logits"].tolist()))
        return {"file": f"constant-{number}.json"}


class ConstantKind(StudentKind):
    name = "constant"
    defaults = Hyperparameters(learning_rate=0.1, epochs=5.0, batch_size=32, weight_decay=0.0)

    def model(self, trainer):
        return ConstantModel()

    def saved_logits(self, node, files):
        logits = json.loads((files.folder / node["file"]).read_text())
        return np.tile(np.float32(logits), (len(files.states((-1,))), 1))


@pytest.fixture
def constant():
    kinds.register(ConstantKind())
    yield
    kinds.unregister("constant")


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    return Trainer(Testbed.load(small_testbed(folder / "small")), cache=folder / "cache")


def outcome(trainer: Trainer, kind: str, body: str) -> Success | Ungraded | Failure | None:
    """How a trial of this recipe ends where `kind` is the default student."""
    service, found = Service(trainer, Limits(), kind), []
    request = TrialRequest(f'"""A test."""\nasync def recipe(task):\n{body}', 0)
    try:
        service.run([request], lambda _, conversation: found.append(conversation.outcome))
    finally:
        service.close()
    return found[0]


def test_a_recipe_trains_a_kind_from_outside_by_its_defaults(constant, trainer):
    """The best constant is the weak labels' own share."""
    found = outcome(trainer, "constant", "    return await task.finetune(task.weak_labels)\n")
    assert found.ok, found.message
    assert [one["student"] for one in found.history] == ["constant"]
    assert found.history[0]["steps"][-1]["step"] == math.ceil(5.0 * SIZES["train"] / 32) - 1
    assert np.unique(found.pool).size == 1
    assert found.pool[0] == pytest.approx(trainer.testbed.weak_labels()[:, 1].mean(), abs=0.02)
    assert found.fitness[0, 1] == found.pool[0]


TRAINED = '    s = await task.finetune(task.weak_labels, student="constant")\n'


def test_it_has_no_hidden_states_of_its_own(constant, trainer):
    found = outcome(trainer, "head", TRAINED + "    return await task.hidden(-1, s)\n")
    assert found.reason == "invalid_request" and "hidden states of its own" in found.message


def test_its_vanilla_training_costs_what_the_default_kind_s_does(constant, trainer):
    found = outcome(trainer, "head", TRAINED + "    print(task.budget)\n    return s\n")
    vanilla = PROFILE.epochs["head"] / (PROFILE.budget * (PROFILE.epochs["head"] + 1))
    assert found.tokens / (found.tokens + int(found.output)) == pytest.approx(vanilla, rel=0.05)


def test_it_is_saved_and_read_back(constant, trainer, tmp_path):
    student = Ensemble(
        tuple(Trained(trainer.default("constant"), {"logits": torch.tensor([0.0, z])}) for z in (1.0, 2.0)),
        (1.0, 3.0),
    )
    save.save(student, tmp_path / "student", trainer.states)
    tree = json.loads((tmp_path / "student" / "student.json").read_text())["student"]
    assert [one["file"] for one in tree["members"]] == ["constant-0.json", "constant-1.json"]
    rows = trainer.testbed.rows("fitness")[:5]
    told = SavedStudent.load(tmp_path / "student").probabilities(rows)
    np.testing.assert_allclose(told, trainer.probabilities(student, "fitness")[:5], atol=1e-6)


def test_a_saved_student_of_a_kind_that_is_not_known_is_refused_by_name(trainer, tmp_path):
    student = Trained(ConstantModel(), {"logits": torch.zeros(2)})
    save.save(student, tmp_path / "student", trainer.states)
    read = SavedStudent.load(tmp_path / "student")
    with pytest.raises(EvaluatorError, match="unknown kind of student 'constant'"):
        read.probabilities(trainer.testbed.rows("fitness")[:2])


def test_a_testbed_stays_the_testbed_that_it_was_when_a_kind_is_added(tmp_path):
    def prepared(name: str) -> Testbed:
        return Testbed.load(small_testbed(tmp_path / name, profile=Profile(head_layers=(4,))))

    before = prepared("before")
    kinds.register(ConstantKind())
    try:
        after = prepared("after")
        assert (after.content_hash, after.profile) == (before.content_hash, before.profile)
        assert before.profile.hyperparameters("constant") == ConstantKind.defaults
    finally:
        kinds.unregister("constant")


def test_a_profile_s_own_hyperparameters_come_before_the_kind_s(trainer):
    assert trainer.testbed.profile.hyperparameters("lora") == Hyperparameters(5e-3, 1.0, 32, 0.0)


def test_a_name_is_one_kind_s_and_an_unknown_one_is_told_the_known(constant):
    with pytest.raises(ValueError, match="already"):
        kinds.register(ConstantKind())
    with pytest.raises(EvaluatorError, match="Choose one of head, lora, constant"):
        kinds.kind("tree")


def test_asking_for_the_kinds_is_light():
    code = "import sys, evaluator.kinds as kinds; kinds.kind('lora'); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
