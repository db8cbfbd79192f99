"""LoRA students on small, randomly initialised strong models: fused slots, gradients, padding, and what PEFT makes of the files."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel
from evaluator.testbeds.prepared import Profile, Template, Testbed, write
from evaluator.trainer import trunk as trunk_module
from evaluator.trainer.adapters import Frozen
from evaluator.trainer.group import Group
from evaluator.trainer.lora import LoraModel
from evaluator.trainer.slot import Slot, Training
from evaluator.trainer.trunk import Trunk

WORDS = ["the", "film", "was", "good", "bad", "long", "short", "and", "very", "not", "dull"]
ROWS, DEPTH = 40, 3
SIZES = dict(vocab_size=16, hidden_size=24, num_hidden_layers=DEPTH, num_attention_heads=2, max_position_embeddings=32)
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, intermediate_size=50)),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(**SIZES, intermediate_size=48, num_key_value_heads=1, head_dim=12)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=16, n_embd=24, n_layer=DEPTH, n_head=2, n_positions=32)),
    "bert": (BertModel, BertConfig(**SIZES, intermediate_size=48)),
}
KINDS = ("single", "pair")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_strong(model_class, config, folder):
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(["[UNK]", "[PAD]", *WORDS])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=30).save_pretrained(
        folder
    )
    model = model_class(config)
    for parameter in model.parameters():  # far enough from 0 that a wrong layer shows
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return folder


def sentence(rng):
    return " ".join(rng.choice(WORDS, rng.integers(1, 26)))


def write_testbed(folder, kind, strong):
    rng = np.random.default_rng(0)
    fields = ("question", "choice") if kind == "single" else ("prompt", "first", "second")
    rows = {split: [{field: sentence(rng) for field in fields} for _ in range(ROWS)] for split in ("train", "fitness", "sealed")}
    weak = np.full((ROWS, 2), 0.5, np.float32)
    write(
        folder,
        name=f"tiny/{kind}",
        kind=kind,
        strong=str(strong),
        templates=(Template("{question} {choice}" if kind == "single" else "{prompt} {reply}"),),
        profile=Profile(),
        rows=rows,
        labels={split: np.zeros(ROWS) for split in rows},
        weak_labels=weak,
        weak_fitness=weak[None, :, 1],
        weak_sealed=weak[None, :, 1],
        strong_hash="",
    )
    return Testbed.load(folder)


@pytest.fixture(scope="module")
def trunks(tmp_path_factory):
    root = tmp_path_factory.mktemp("lora")
    made = {}
    for name, (model_class, config) in ARCHITECTURES.items():
        folder = save_strong(model_class, config, root / name)
        for kind in KINDS:
            made[name, kind] = Trunk(StrongModel.load(folder), write_testbed(root / f"{name}-{kind}", kind, folder))
    return made


@pytest.fixture(params=[(name, kind) for name in ARCHITECTURES for kind in KINDS], ids="-".join)
def trunk(request, trunks):
    return trunks[request.param]


def random_parameters(model, seed):
    """As after some training: nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    fresh = model.initial_parameters(seed)
    return {name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in fresh.items()}


def stack(several):
    return {name: torch.stack([one[name] for one in several]) for name in several[0]}


def bent(logits, hidden):
    """Some gradient that depends on what it is given."""
    return torch.tanh(logits) + 0.1, torch.sin(hidden) * 0.01


def assert_same_bits(got, wanted):
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_slot_has_the_same_bits_alone_and_among_any_neighbours(trunks, data):
    trunk = trunks[data.draw(st.sampled_from(sorted(trunks)))]
    model = LoraModel(trunk, data.draw(st.integers(1, 5), "rank"), data.draw(st.sampled_from([None, 1, 2]), "trainable_layers"))
    slots, batch = data.draw(st.integers(2, 6), "slots"), data.draw(st.integers(1, 9), "batch")
    rows = torch.tensor(data.draw(st.lists(st.integers(0, ROWS - 1), min_size=slots * batch, max_size=slots * batch))).view(
        slots, batch
    )
    several = [random_parameters(model, seed) for seed in range(slots)]
    gradients = model.gradients(stack(several), rows, bent)
    logits = model.logits(stack(several), "fitness", rows)
    for slot, parameters in enumerate(several):
        alone = stack([parameters])
        assert_same_bits(
            {n: g[slot] for n, g in gradients.items()}, {n: g[0] for n, g in model.gradients(alone, rows[[slot]], bent).items()}
        )
        assert torch.equal(logits[slot], model.logits(alone, "fitness", rows[[slot]])[0])


@pytest.mark.parametrize("biased", [False, True])
def test_a_frozen_product_rounds_by_its_own_rows(biased):
    """A plain product of all slots' rows does not: few rows take another path through the library than many."""
    generator = torch.Generator().manual_seed(0)
    for width_in, width_out in [(8, 8), (33, 50), (96, 288)]:
        weight, bias = torch.randn(width_out, width_in, generator=generator), torch.randn(width_out, generator=generator)
        frozen = Frozen(weight, bias if biased else None)
        for slots, rows in [(2, 1), (3, 2), (8, 3), (5, 16), (16, 1)]:
            inputs = torch.randn(slots, rows, width_in, generator=generator)
            gradient = torch.randn(slots, rows, width_out, generator=generator)
            for slot in range(slots):
                assert torch.equal(frozen(inputs)[slot], frozen(inputs[[slot]])[0])
                assert torch.equal(frozen.backward(gradient)[slot], frozen.backward(gradient[[slot]])[0])
            torch.testing.assert_close(frozen(inputs), nn.functional.linear(inputs, weight, frozen.bias), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(frozen.backward(gradient), gradient @ weight, rtol=1e-4, atol=1e-4)


def test_a_slots_activations_fill_whole_vectors(trunk):
    """torch rounds exp and tanh otherwise in the remainder of a vectorised loop; where that lies would depend on the neighbours."""
    split = trunk.split("train")
    for row in range(ROWS):
        length = split.padded_length(np.array([row]))
        assert length >= split.lengths[row].max()
        for width_in, width_out in trunk.adaptable(0).values():
            assert length * width_in % 32 == length * width_out % 32 == 0


def test_texts_without_padding_do_not_change_their_neighbours_path(trunks):
    trunk = trunks["bert", "single"]
    model, split = LoraModel(trunk, 2, None), trunk.split("train")
    padded = [split.padded_length(np.array([row])) for row in range(ROWS)]
    spare = padded - split.lengths[:, 0]
    full, part = next((a, b) for a in range(ROWS) for b in range(ROWS) if padded[a] == padded[b] and spare[a] == 0 < spare[b])
    several = [random_parameters(model, seed) for seed in range(2)]
    logits = model.logits(stack(several), "train", torch.tensor([[full], [part]]))
    for slot, row in enumerate((full, part)):
        assert torch.equal(logits[slot], model.logits(stack([several[slot]]), "train", torch.tensor([[row]]))[0])


def slot_of(model, seed, rows, learning_rate, epochs=3.0):
    targets = np.eye(2, dtype=np.float32)[rows % 2]
    training = Training(
        model=model, rows=rows, targets=targets, weights=np.ones(len(rows), np.float32), order=None, loss="cross_entropy",
        loss_options={}, learning_rate=learning_rate, weight_decay=0.01, schedule="linear", epochs=epochs, batch_size=7, seed=seed, start=None,
    )  # fmt: skip
    return Slot(training, lambda slot: None)


def train(*slots):
    group = Group()
    group.slots.extend(slots)
    while group.slots:
        group.step()
    return slots


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_training_ends_the_same_to_the_bit_whoever_trains_beside_it(trunks, architecture):
    model = LoraModel(trunks[architecture, "single"], 2, 2)
    pools = [np.arange(28), np.arange(10, 38), np.arange(5, 19)]
    fused = train(*(slot_of(model, seed, rows, 1e-2 / (seed + 1)) for seed, rows in enumerate(pools)))
    for seed, (rows, slot) in enumerate(zip(pools, fused, strict=True)):
        (alone,) = train(slot_of(model, seed, rows, 1e-2 / (seed + 1)))
        assert_same_bits(slot.parameters, alone.parameters)
        assert slot.history == alone.history


def test_training_fits_its_targets(trunk):
    model = LoraModel(trunk, 4, None)
    slot = slot_of(model, 0, np.arange(20), 1e-2, epochs=20.0)
    before = model.initial_parameters(0)
    train(slot)
    logits = model.logits(stack([slot.parameters]), "train", torch.arange(20)[None])[0]
    assert slot.history[-1].loss < 0.5 * slot.history[0].loss
    assert (logits.argmax(-1) == torch.arange(20) % 2).float().mean() > 0.8
    assert all(not torch.equal(value, before[name]) for name, value in slot.parameters.items())


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


def texts(trunk):
    """First texts, second texts."""
    rendered = [trunk.testbed.templates[0].render(row) for row in trunk.testbed.rows("train")]
    return [list(place) for place in zip(*rendered, strict=True)]


def untouched(trunk, layer):
    places = [trunk.strong.hidden_states(place, [layer])[layer] for place in texts(trunk)]
    return places[0] - places[1] if len(places) == 2 else places[0]


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
            np.testing.assert_allclose(states, torch.stack([student.states(row, layer) for row in rows]), atol=2e-4)
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
    gradients = model.gradients(stack([parameters]), rows[None], lambda logits, hidden: (d_logits[None], d_hidden[None]))

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
            torch.testing.assert_close(gradients[name][0], theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))


def test_padding_changes_nothing_beyond_rounding(trunk):
    model = LoraModel(trunk, 2, None)
    parameters = stack([random_parameters(model, 3)])
    together = model.logits(parameters, "train", torch.arange(ROWS)[None])[0]
    for row in range(ROWS):
        torch.testing.assert_close(
            together[row], model.logits(parameters, "train", torch.tensor([[row]]))[0, 0], rtol=1e-4, atol=1e-4
        )


def test_many_rows_come_in_the_order_asked_for(trunk):
    model = LoraModel(trunk, 2, 1)
    parameters = stack([random_parameters(model, seed) for seed in range(2)])
    rows = torch.stack([torch.randperm(400, generator=torch.Generator().manual_seed(seed)) % ROWS for seed in range(2)])
    logits = model.logits(parameters, "fitness", rows)
    ordered = model.logits(parameters, "fitness", torch.arange(ROWS).expand(2, -1))
    torch.testing.assert_close(logits, torch.stack([ordered[slot][rows[slot]] for slot in range(2)]), rtol=1e-4, atol=1e-4)


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
        np.testing.assert_allclose(model.hidden(parameters, "train", rows, layer), untouched(trunk, layer), atol=1e-4)
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
    wanted, got = (model.gradients(parameters, rows, lambda logits, hidden: (torch.ones_like(logits), hidden)) for model in models)
    for name, value in wanted.items():
        assert got[name].dtype == torch.float32
        assert 0 <= (got[name] - value).norm() < 0.1 * value.norm() + 1e-6, name


def test_templates_and_swaps_reach_the_states(trunks):
    trunk = trunks["llama", "pair"]
    model = LoraModel(trunk, 2, None)
    parameters, rows = random_parameters(model, 6), torch.arange(5)
    states = model.hidden(parameters, "train", rows, -1)
    np.testing.assert_allclose(model.hidden(parameters, "train", rows, -1, swap=True), -states, atol=1e-4)


def test_the_seed_decides_the_start(trunks):
    model = LoraModel(trunks["llama", "single"], 4, None)
    first, again, other = (model.initial_parameters(seed) for seed in (0, 0, 1))
    assert_same_bits(first, again)
    down = first["layers.0.mlp.down_proj.lora_A"]
    assert not torch.equal(down, other["layers.0.mlp.down_proj.lora_A"])
    assert down.shape == (4, 50) and 0.8 < down.abs().max() * 50**0.5 <= 1
    assert not first["layers.0.mlp.down_proj.lora_B"].any()


def test_equal_structures_fuse_and_others_do_not(trunks):
    trunk = trunks["llama", "single"]
    assert LoraModel(trunk, 4, None).key == LoraModel(trunk, 4, DEPTH).key
    assert len({LoraModel(trunk, rank, layers).key for rank in (1, 2) for layers in (1, 2, 3)}) == 6


def test_what_cannot_be_is_said_so(trunks, tmp_path):
    trunk = trunks["llama", "single"]
    with pytest.raises(EvaluatorError, match="rank 0"):
        LoraModel(trunk, 0, None)
    for layers in (0, DEPTH + 1):
        with pytest.raises(EvaluatorError, match=f"1 to {DEPTH}"):
            LoraModel(trunk, 2, layers)
    bare = Trunk(StrongModel.load(trunk.strong.description.folder), trunk.testbed)
    bare._base.layers = nn.Sequential(*bare._base.layers)
    with pytest.raises(EvaluatorError, match="no list of 3 blocks"):
        Trunk(bare.strong, bare.testbed)


def test_a_model_that_shares_inputs_between_texts_is_refused(tmp_path):
    """DeBERTa's attention projects its relative positions, once for all texts, with the layers that carry adapters."""
    config = DebertaV2Config(
        **SIZES, intermediate_size=48, relative_attention=True, pos_att_type=["c2p", "p2c"], share_att_key=True
    )
    folder = save_strong(DebertaV2Model, config, tmp_path / "deberta")
    model = LoraModel(Trunk(StrongModel.load(folder), write_testbed(tmp_path / "testbed", "single", folder)), 2, None)
    with pytest.raises(EvaluatorError, match="can't use it"):
        model.logits(stack([model.initial_parameters(0)] * 2), "train", torch.tensor([[0, 1], [2, 3]]))
