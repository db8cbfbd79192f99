"""Reading a strong model: small, randomly initialised decoders and encoders saved to a temporary folder."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from small_models import SIZES, save
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5Model,
)

from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel, describe

TEXTS = [
    "the film was good",
    "the film was not very good and very dull and long Answer:",
    "good",
    "",
    "bad and short Answer:",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("strong")
    return {
        "llama": save(LlamaForCausalLM, LlamaConfig(**SIZES, max_position_embeddings=64), root / "llama"),
        "gpt2": save(
            GPT2LMHeadModel,
            GPT2Config(vocab_size=40, n_embd=24, n_layer=3, n_head=2, n_positions=64),
            root / "gpt2",
        ),
        "bert": save(BertModel, BertConfig(**SIZES, max_position_embeddings=64), root / "bert"),
    }


@pytest.fixture(params=["llama", "gpt2", "bert"])
def folder(request, folders):
    return folders[request.param]


def reference(strong, text):
    """All layers of one text alone, no padding and no mask: [depth + 1, tokens, d]."""
    tokens = torch.from_numpy(strong.encode([text])[0])[None]
    with torch.no_grad():
        return torch.stack(strong.model(input_ids=tokens, output_hidden_states=True).hidden_states)[
            :, 0
        ].numpy()


def test_a_text_reads_the_same_alone_and_in_any_batch(folder):
    together = StrongModel.load(folder).hidden_states(TEXTS, [0, 1, 2, 3])
    few = StrongModel.load(folder, batch_tokens=14).hidden_states(TEXTS[::-1], [0, 1, 2, 3])
    for layer in range(4):
        np.testing.assert_allclose(together[layer], few[layer][::-1], atol=1e-5)


def test_a_decoder_is_read_at_the_last_token_and_an_encoder_as_the_mean(folder):
    strong = StrongModel.load(folder)
    states = strong.hidden_states(TEXTS, [1, 3])
    for i, text in enumerate(TEXTS):
        whole = reference(strong, text)
        expected = whole[:, -1] if strong.causal else whole.mean(1)
        np.testing.assert_allclose(states[1][i], expected[1], atol=1e-5)
        np.testing.assert_allclose(states[3][i], expected[3], atol=1e-5)
        assert states[3].dtype == np.float32


def test_layers_count_from_the_embedding_or_back_from_the_deepest(folder):
    strong = StrongModel.load(folder)
    states = strong.hidden_states(TEXTS, [0, 3, -1, -4])
    np.testing.assert_array_equal(states[-1], states[3])
    np.testing.assert_array_equal(states[-4], states[0])
    for layer in (4, -5):
        with pytest.raises(EvaluatorError, match=r"layers 0 .* to 3"):
            strong.hidden_states(TEXTS, [layer])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_margin_is_the_next_token_logit_of_class_1_minus_class_0(folders, name):
    strong = StrongModel.load(folders[name])
    margins = strong.verdict_margins(TEXTS, (" no", " yes"))
    no, yes = (strong.tokenizer(word)["input_ids"][0] for word in ("no", "yes"))
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            logits = strong.model(input_ids=torch.from_numpy(strong.encode([text])[0])[None]).logits[0, -1]
        assert margins[i] == pytest.approx(float(logits[yes] - logits[no]), abs=1e-5)
    np.testing.assert_allclose(margins, -strong.verdict_margins(TEXTS, (" yes", " no")), atol=1e-6)


def test_states_and_margins_come_from_one_reading(folders):
    strong = StrongModel.load(folders["llama"], batch_tokens=20)
    calls = []
    states, margins = strong.read(
        TEXTS, [2], (" no", " yes"), progress=lambda done, total: calls.append((done, total))
    )
    np.testing.assert_allclose(states[2], strong.hidden_states(TEXTS, [2])[2], atol=1e-6)
    np.testing.assert_allclose(margins, strong.verdict_margins(TEXTS, (" no", " yes")), atol=1e-6)
    assert calls[-1] == (5, 5) and len(calls) > 1
    assert sorted(calls) == calls


def test_verdicts_need_a_language_model_and_words_that_begin_differently(folders):
    with pytest.raises(EvaluatorError, match="no language-model head"):
        StrongModel.load(folders["bert"]).verdict_margins(TEXTS, (" no", " yes"))
    with pytest.raises(EvaluatorError, match="same token"):
        StrongModel.load(folders["llama"]).verdict_margins(TEXTS, (" good film", " good"))


def test_a_long_text_keeps_its_end_before_a_decoder_and_its_beginning_before_an_encoder(folders):
    text = "the film was good"
    for name, kept in (("llama", "was good"), ("bert", "the film")):
        strong = StrongModel.load(folders[name], max_tokens=2)
        np.testing.assert_array_equal(strong.encode([text])[0], strong.encode([kept])[0])
    long = " ".join(["good"] * 100)
    assert len(StrongModel.load(folders["llama"]).encode([long])[0]) == 64  # the model has no more positions


def test_no_texts_give_empty_arrays(folder):
    strong = StrongModel.load(folder)
    assert strong.encode([]) == []
    assert strong.hidden_states([], [1])[1].shape == (0, 24)


def test_the_model_is_frozen_and_in_evaluation_mode(folder):
    strong = StrongModel.load(folder)
    assert not strong.model.training
    assert not any(parameter.requires_grad for parameter in strong.model.parameters())


def test_bfloat16_stays_near_float32(folders):
    exact = StrongModel.load(folders["llama"]).hidden_states(TEXTS, [3])[3]
    rounded = StrongModel.load(folders["llama"], precision="bfloat16").hidden_states(TEXTS, [3])[3]
    assert 0 < np.abs(exact - rounded).max() < 0.1


def test_the_fingerprint_follows_the_weights_and_nothing_else(folders, tmp_path):
    copy = save(LlamaForCausalLM, LlamaConfig(**SIZES, max_position_embeddings=64), tmp_path / "copy")
    (copy / "README.md").write_text("a model")
    assert (
        describe(copy).fingerprint
        == describe(folders["llama"]).fingerprint
        == StrongModel.load(copy).fingerprint
    )
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][0] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert describe(copy).fingerprint != describe(folders["llama"]).fingerprint


def test_a_description_needs_no_weights_in_memory(folders):
    description = describe(folders["llama"])
    assert (description.depth, description.hidden_size, description.causal) == (3, 24, True)
    assert not describe(folders["bert"]).causal


def test_mistaken_models_are_named_with_a_remedy(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    t5 = save(
        T5Model,
        T5Config(vocab_size=40, d_model=24, d_kv=12, d_ff=48, num_layers=1, num_heads=2),
        tmp_path / "t5",
    )
    broken = save(LlamaForCausalLM, LlamaConfig(**SIZES), tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not a safetensors file")
    partial = save(LlamaForCausalLM, LlamaConfig(**SIZES), tmp_path / "partial")
    weights = load_file(partial / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, partial / "model.safetensors", metadata={"format": "pt"})
    bare = save(LlamaForCausalLM, LlamaConfig(**SIZES), tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    for place, words in [
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "no config.json"),
        (t5, "encoder-decoder"),
        (broken, "cannot be read"),
        (partial, "lacks weights"),
        (bare, "no weights"),
    ]:
        with pytest.raises(EvaluatorError, match=words) as caught:
            StrongModel.load(place)
        assert "\n" not in str(caught.value)


def test_a_hub_name_without_a_network_fails_at_once(tmp_path):
    code = """
from evaluator.errors import EvaluatorError
from evaluator.strong import describe
try:
    describe("nobody/no-such-model")
except EvaluatorError as error:
    print("told:", error)
"""
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert (
        "told: strong model 'nobody/no-such-model': neither a local folder nor to be had from the hub"
        in run.stdout
    ), run.stderr
