"""Small, randomly initialised strong models of four architectures, each with a testbed of random sentences,
and LoRA students on them.
"""

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from evaluator.strong import StrongModel
from evaluator.testbeds.prepared import Profile, Template, Testbed, write
from evaluator.trainer.group import Group
from evaluator.trainer.slot import Slot, Training
from evaluator.trainer.trunk import Trunk

WORDS = ["the", "film", "was", "good", "bad", "long", "short", "and", "very", "not", "dull"]
ROWS, DEPTH = 40, 3
SIZES = dict(
    vocab_size=16, hidden_size=24, num_hidden_layers=DEPTH, num_attention_heads=2, max_position_embeddings=32
)
ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES, intermediate_size=50)),
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config(**SIZES, intermediate_size=48, num_key_value_heads=1, head_dim=12),
    ),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=16, n_embd=24, n_layer=DEPTH, n_head=2, n_positions=32)),
    "bert": (BertModel, BertConfig(**SIZES, intermediate_size=48)),
}
KINDS = ("single", "pair")
CASES = [(name, kind) for name in ARCHITECTURES for kind in KINDS]


def save_strong(model_class, config, folder):
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(["[UNK]", "[PAD]", *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=30
    ).save_pretrained(folder)
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
    rows = {
        split: [{field: sentence(rng) for field in fields} for _ in range(ROWS)]
        for split in ("train", "fitness", "sealed")
    }
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


def all_trunks(root):
    """A trunk of every architecture and kind of testbed, by both."""
    made = {}
    for name, (model_class, config) in ARCHITECTURES.items():
        folder = save_strong(model_class, config, root / name)
        for kind in KINDS:
            made[name, kind] = Trunk(
                StrongModel.load(folder), write_testbed(root / f"{name}-{kind}", kind, folder)
            )
    return made


def random_parameters(model, seed):
    """As after some training: nothing is zero."""
    generator = torch.Generator().manual_seed(seed)
    fresh = model.initial_parameters(seed)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator) for name, value in fresh.items()
    }


def stack(several):
    return {name: torch.stack([one[name] for one in several]) for name in several[0]}


def bent(logits, hidden):
    """Some gradient that depends on what it is given."""
    return torch.tanh(logits) + 0.1, torch.sin(hidden) * 0.01


def assert_same_bits(got, wanted):
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


def slot_of(model, seed, rows, learning_rate, epochs=3.0, batch_size=7, optimiser="adamw"):
    targets = np.eye(2, dtype=np.float32)[rows % 2]
    training = Training(
        model=model,
        rows=rows,
        targets=targets,
        weights=np.ones(len(rows), np.float32),
        order=None,
        loss="cross_entropy",
        loss_options={},
        learning_rate=learning_rate,
        weight_decay=0.01,
        schedule="linear",
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        start=None,
        optimiser=optimiser,
    )
    return Slot(training)


def train(*slots):
    group = Group(lambda resident: resident)
    for slot in slots:
        group.add(slot)
    while group.slots:
        group.step()
    return slots


def texts(trunk):
    """First texts, second texts."""
    rendered = [trunk.testbed.templates[0].render(row) for row in trunk.testbed.rows("train")]
    return [list(place) for place in zip(*rendered, strict=True)]


def untouched(trunk, layer):
    places = [trunk.strong.hidden_states(place, [layer])[layer] for place in texts(trunk)]
    return places[0] - places[1] if len(places) == 2 else places[0]
