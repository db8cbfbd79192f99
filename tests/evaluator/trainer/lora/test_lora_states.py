"""LoRA students on small, randomly initialised strong models: states, gradients, padding, and what PEFT makes
of the files.
"""

import json

import numpy as np
import pytest
import torch
from lora_examples import (
    DEPTH,
    ROWS,
    assert_same_bits,
    bent,
    random_parameters,
    slot_of,
    stack,
    texts,
    train,
    untouched,
)
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from evaluator.strong import StrongModel
from evaluator.trainer import trunk as trunk_module
from evaluator.trainer.lora import LoraModel
from evaluator.trainer.trunk import Trunk

pytestmark = pytest.mark.slow


def test_a_fresh_student_knows_nothing_and_its_head_reads_the_untouched_states_standardised(trunk):
    model = LoraModel(trunk, 2, 2)
    rows = torch.arange(ROWS)[None]
    fresh = stack([model.initial_parameters(0)])
    assert not model.logits(fresh, "train", rows).any()
    seen = {}
    model.gradients(fresh, rows, lambda logits, hidden: (seen.update(hidden=hidden) or logits, None))
    states = untouched(trunk, -1)
    spread = states.std(0)
    scale = np.maximum(spread, 0.1 * np.sqrt((spread**2).mean())) * np.sqrt(24) / 10
    np.testing.assert_allclose(seen["hidden"][0], (states - states.mean(0)) / scale, atol=5e-4)


class PeftStudent:
    """The saved files read by peft, one text at a time, without padding or mask."""

    def __init__(self, trunk, folder):
        strong = trunk.strong
        auto = AutoModelForCausalLM if strong.causal else AutoModel
        base = auto.from_pretrained(strong.description.folder, dtype=torch.float32)
        self.model = PeftModel.from_pretrained(base, folder, is_trainable=True).eval()
        self.head = load_file(folder / "head.safetensors")
        self.trunk = trunk

    def states(self, row, layer=-1):
        pooled = []
        for place in texts(self.trunk):
            ids = torch.from_numpy(self.trunk.strong.encode([place[row]])[0])[None]
            states = self.model(input_ids=ids, output_hidden_states=True).hidden_states[layer][0]
            pooled.append(states[-1] if self.trunk.strong.causal else states.mean(0))
        return pooled[0] - pooled[1] if len(pooled) == 2 else pooled[0]

    def logits(self, row):
        return self.states(row) @ self.head["weight"].t() + self.head["bias"]


@pytest.mark.parametrize("rank, layers", [(1, None), (4, 2)])
def test_peft_reads_the_saved_files_and_gives_the_same_logits_and_states(trunk, tmp_path, rank, layers):
    model = LoraModel(trunk, rank, layers)
    parameters = random_parameters(model, 1)
    model.save_peft(parameters, tmp_path)
    student = PeftStudent(trunk, tmp_path)
    rows = torch.tensor([0, 7, 3])
    logits = model.logits(stack([parameters]), "train", rows[None])[0]
    with torch.no_grad():
        for layer in (1, DEPTH):
            states = model.hidden(parameters, "train", rows, layer)
            np.testing.assert_allclose(
                states, torch.stack([student.states(row, layer) for row in rows]), atol=2e-4
            )
        np.testing.assert_allclose(logits, torch.stack([student.logits(row) for row in rows]), atol=1e-3)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (rank, 2 * rank)
    assert config["fan_in_fan_out"] == (trunk.strong.model.config.model_type == "gpt2")
    loaded = {name for name, value in student.model.named_parameters() if "lora_" in name}
    assert len(loaded) == len(load_file(tmp_path / "adapter_model.safetensors")) == len(parameters) - 2


def test_gradients_are_those_of_plain_autograd_through_peft(trunk, tmp_path):
    model = LoraModel(trunk, 3, 2)
    parameters = random_parameters(model, 2)
    rows = torch.tensor([5, 1, 8, 2])
    generator = torch.Generator().manual_seed(0)
    d_logits, d_hidden = torch.randn(4, 2, generator=generator), 0.1 * torch.randn(4, 24, generator=generator)
    gradients = model.gradients(
        stack([parameters]), rows[None], lambda logits, hidden: (d_logits[None], d_hidden[None])
    )

    model.save_peft(parameters, tmp_path)
    student = PeftStudent(trunk, tmp_path)
    mean, scale = trunk.standardisation()
    hidden = torch.stack([(student.states(row) - mean) / scale for row in rows])
    weight, bias = parameters["head.weight"].requires_grad_(), parameters["head.bias"].requires_grad_()
    (((hidden @ weight + bias) * d_logits).sum() + (hidden * d_hidden).sum()).backward()
    wanted = {name: value.grad for name, value in student.model.named_parameters() if "lora_" in name}
    torch.testing.assert_close(gradients["head.weight"][0], weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(gradients["head.bias"][0], bias.grad, rtol=1e-3, atol=1e-3)
    for name in parameters:
        if "lora_" in name:
            layer, factor = name.rsplit(".", 1)
            theirs = wanted[f"base_model.model.{trunk.full_name(layer)}.{factor}.default.weight"]
            assert theirs.abs().max() > 1e-4
            torch.testing.assert_close(
                gradients[name][0], theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max())
            )


def test_padding_changes_nothing_beyond_rounding(trunk):
    model = LoraModel(trunk, 2, None)
    parameters = stack([random_parameters(model, 3)])
    together = model.logits(parameters, "train", torch.arange(ROWS)[None])[0]
    for row in range(ROWS):
        torch.testing.assert_close(
            together[row],
            model.logits(parameters, "train", torch.tensor([[row]]))[0, 0],
            rtol=1e-4,
            atol=1e-4,
        )


def test_the_strong_model_is_as_it_was_after_training_and_after_a_failure(trunk):
    strong = trunk.strong
    weights = {name: value.clone() for name, value in strong.model.state_dict().items()}
    states = strong.hidden_states(texts(trunk)[0], [1, -1])
    model = LoraModel(trunk, 2, 2)
    train(slot_of(model, 0, np.arange(14), 1e-2))
    broken = random_parameters(model, 0)
    broken[next(name for name in broken if "lora_A" in name)] = torch.zeros(2, 5)
    with pytest.raises(RuntimeError):
        model.logits(stack([broken]), "train", torch.tensor([[0]]))
    assert_same_bits(strong.model.state_dict(), weights)
    assert not any("forward" in module.__dict__ for module in strong.model.modules())
    again = strong.hidden_states(texts(trunk)[0], [1, -1])
    for layer in (1, -1):
        np.testing.assert_array_equal(states[layer], again[layer])


def test_only_the_top_blocks_carry_adapters_and_states_below_them_stay(trunk):
    model = LoraModel(trunk, 2, 1)
    parameters = random_parameters(model, 4)
    layers = {name.rsplit(".", 1)[0] for name in parameters if "lora_" in name}
    assert layers and all(f".{DEPTH - 1}." in name for name in layers)
    rows = torch.arange(ROWS)
    for layer in (0, 1, 2):
        np.testing.assert_allclose(
            model.hidden(parameters, "train", rows, layer), untouched(trunk, layer), atol=1e-4
        )
    assert np.abs(model.hidden(parameters, "train", rows, -1).numpy() - untouched(trunk, -1)).max() > 1e-2


def test_states_below_the_adapters_may_be_kept_or_computed_anew(trunk, monkeypatch):
    rows = torch.tensor([[3, 1, 4, 1, 5]])
    model = LoraModel(trunk, 2, 1)
    parameters = stack([random_parameters(model, 5)])
    kept = model.gradients(parameters, rows, bent)
    monkeypatch.setattr(trunk_module, "STATES_BYTES", {"cpu": 0})
    anew = model.gradients(parameters, rows, bent)
    for name, value in kept.items():
        torch.testing.assert_close(anew[name], value, rtol=1e-3, atol=1e-3 * float(value.abs().max()))


def test_bfloat16_products_stay_near_float32_ones(trunks):
    exact = trunks["llama", "single"]
    rough = Trunk(StrongModel.load(exact.strong.description.folder, precision="bfloat16"), exact.testbed)
    rows = torch.tensor([[3, 1, 4], [1, 5, 9]])
    models = [LoraModel(trunk, 2, 2) for trunk in (exact, rough)]
    parameters = stack([random_parameters(models[0], seed) for seed in range(2)])
    wanted, got = (
        model.gradients(parameters, rows, lambda logits, hidden: (torch.ones_like(logits), hidden))
        for model in models
    )
    for name, value in wanted.items():
        assert got[name].dtype == torch.float32
        assert 0 <= (got[name] - value).norm() < 0.1 * value.norm() + 1e-6, name


def test_templates_and_swaps_reach_the_states(trunks):
    trunk = trunks["llama", "pair"]
    model = LoraModel(trunk, 2, None)
    parameters, rows = random_parameters(model, 6), torch.arange(5)
    states = model.hidden(parameters, "train", rows, -1)
    np.testing.assert_allclose(model.hidden(parameters, "train", rows, -1, swap=True), -states, atol=1e-4)
