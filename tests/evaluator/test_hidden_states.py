"""The cache of hidden states and priors, over small real models."""

import multiprocessing

import numpy as np
import pytest
from small_models import SIZES, save
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from evaluator.errors import EvaluatorError
from evaluator.hidden_states import HiddenStates
from evaluator.strong import StrongModel, describe
from evaluator.testbeds.prepared import SPLITS, Profile, Template, Testbed, write

pytestmark = pytest.mark.slow

SINGLE = (
    Template("{question} {choice} Answer:", (" no", " yes")),
    Template("{question} {choice} {verdict}", ("bad", "good")),
    Template("{choice} {question}"),
)
PAIR = (
    Template("{prompt} {reply} Answer:", (" no", " yes")),
    Template("{prompt} {reply} {verdict}", ("bad", "good")),
)
CHOICES = [
    "the film was good",
    "very bad and dull",
    "not long",
    "short and good",
    "the film was not dull",
    "very long",
]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return save(
        LlamaForCausalLM,
        LlamaConfig(**SIZES, max_position_embeddings=64),
        tmp_path_factory.mktemp("models") / "decoder",
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save(
        BertModel,
        BertConfig(**SIZES, max_position_embeddings=64),
        tmp_path_factory.mktemp("models") / "encoder",
    )


def prepare(path, strong, kind="single", name="tiny"):
    if kind == "single":
        rows = [{"question": "was the film good", "choice": choice} for choice in CHOICES]
    else:
        rows = [
            {"prompt": "the film", "first": choice, "second": other}
            for choice, other in zip(CHOICES, CHOICES[1:] + CHOICES[:1], strict=True)
        ]
    labels = np.array([1, 0, 0, 1, 1, 0], np.uint8)
    write(
        path,
        name=name,
        kind=kind,
        strong=str(strong),
        templates=SINGLE if kind == "single" else PAIR,
        profile=Profile(layers=(-1, 1, 2)),
        rows=dict.fromkeys(SPLITS, rows),
        labels=dict.fromkeys(SPLITS, labels),
        weak_labels=np.full((6, 2), 0.5),
        weak_fitness=np.full((2, 6), 0.5),
        weak_sealed=np.full((2, 6), 0.5),
        strong_hash=describe(strong).fingerprint,
    )
    return Testbed.load(path)


def test_states_of_a_choice_are_those_of_its_text(decoder, tmp_path):
    testbed = prepare(tmp_path / "bed", decoder)
    states = HiddenStates(testbed, tmp_path / "cache")
    texts = [f"was the film good {choice} Answer:" for choice in CHOICES]
    expected = StrongModel.load(decoder).hidden_states(texts, [1, 3])
    np.testing.assert_allclose(states.get("train", 1), expected[1], atol=1e-5)
    np.testing.assert_allclose(states.get("fitness", -1), expected[3], atol=1e-5)
    np.testing.assert_array_equal(states.get("train", 1, swap=True), states.get("train", 1))
    assert states.layers == (1, 2, 3)


def test_states_of_a_pair_are_the_firsts_minus_the_seconds_and_turn_with_it(decoder, tmp_path):
    states = HiddenStates(prepare(tmp_path / "bed", decoder, "pair"), tmp_path / "cache")
    read = StrongModel.load(decoder).hidden_states([f"the film {choice} Answer:" for choice in CHOICES], [2])[
        2
    ]
    np.testing.assert_allclose(states.get("train", 2), read - np.roll(read, -1, axis=0), atol=1e-5)
    np.testing.assert_array_equal(states.get("train", 2, swap=True), -states.get("train", 2))


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_a_swapped_statement_asserts_the_other_verdict(decoder, tmp_path, kind):
    states = HiddenStates(prepare(tmp_path / "bed", decoder, kind), tmp_path / "cache")
    start = "was the film good" if kind == "single" else "the film"
    strong = StrongModel.load(decoder)
    for swap, verdict in ((False, "good"), (True, "bad")):
        read = strong.hidden_states([f"{start} {choice} {verdict}" for choice in CHOICES], [3])[3]
        expected = read if kind == "single" else read - np.roll(read, -1, axis=0)
        np.testing.assert_allclose(states.get("train", 3, template=1, swap=swap), expected, atol=1e-5)


def test_the_prior_is_the_probability_of_each_class(decoder, tmp_path):
    single = HiddenStates(prepare(tmp_path / "single", decoder), tmp_path / "cache")
    pair = HiddenStates(prepare(tmp_path / "pair", decoder, "pair"), tmp_path / "cache")
    strong = StrongModel.load(decoder)
    margins = strong.verdict_margins(
        [f"was the film good {choice} Answer:" for choice in CHOICES], (" no", " yes")
    )
    np.testing.assert_allclose(single.prior("train")[:, 1], 1 / (1 + np.exp(-margins)), atol=1e-6)
    margins = strong.verdict_margins([f"the film {choice} Answer:" for choice in CHOICES], (" no", " yes"))
    np.testing.assert_allclose(
        pair.prior("train")[:, 1], 1 / (1 + np.exp(np.roll(margins, -1) - margins)), atol=1e-6
    )
    for prior in (single.prior("train"), pair.prior("train")):
        assert prior.dtype == np.float32 and prior.shape == (6, 2)
        np.testing.assert_allclose(prior.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(pair.prior("train", swap=True), pair.prior("train"))


def test_there_is_no_prior_without_a_language_model_without_verdicts_or_where_they_are_stated(
    decoder, encoder, tmp_path
):
    bert = HiddenStates(prepare(tmp_path / "bert", encoder), tmp_path / "cache")
    llama = HiddenStates(prepare(tmp_path / "llama", decoder), tmp_path / "cache")
    assert [llama.has_prior(template) for template in range(3)] == [True, False, False]
    assert not any(bert.has_prior(template) for template in range(3))
    assert bert.get("train", 3).shape == (6, 24)
    for states, template in ((bert, 0), (llama, 1), (llama, 2)):
        with pytest.raises(EvaluatorError, match="no zero-shot prior"):
            states.prior("train", template)


def test_everything_is_read_once_and_then_comes_from_the_cache(decoder, tmp_path):
    testbed, calls = prepare(tmp_path / "bed", decoder), []
    first = HiddenStates(
        testbed, tmp_path / "cache", progress=lambda done, total: calls.append((done, total))
    )
    states = [np.array(first.get("train", layer)) for layer in (1, 2, 3)]
    prior = first.prior("train")
    assert calls == [(6, 6)]
    second = HiddenStates(testbed, tmp_path / "cache")
    for layer, expected in zip((1, 2, 3), states, strict=True):
        again = second.get("train", layer)
        np.testing.assert_array_equal(again, expected)
        assert isinstance(again, np.memmap) and not again.flags.writeable
    np.testing.assert_array_equal(second.prior("train"), prior)
    assert "strong" not in vars(second)  # the model was not loaded
    assert not list((tmp_path / "cache").rglob("*.tmp"))


def test_another_testbed_or_another_model_is_another_cache(decoder, encoder, tmp_path):
    keys = {
        HiddenStates(prepare(tmp_path / f"{i}", strong, name=name), tmp_path / "cache").folder
        for i, (strong, name) in enumerate([(decoder, "a"), (decoder, "b"), (encoder, "a")])
    }
    assert len(keys) == 3


def test_a_cache_file_cut_short_is_made_again(decoder, tmp_path):
    testbed = prepare(tmp_path / "bed", decoder)
    states = HiddenStates(testbed, tmp_path / "cache")
    expected = np.array(states.get("train", 2))
    for cut in (0, 40, 300):
        file = states.folder / "train-template0-layer2.npy"
        file.write_bytes(file.read_bytes()[:cut])
        np.testing.assert_array_equal(HiddenStates(testbed, tmp_path / "cache").get("train", 2), expected)


def test_an_unknown_layer_or_template_is_told(decoder, tmp_path):
    states = HiddenStates(prepare(tmp_path / "bed", decoder), tmp_path / "cache")
    for layer in (0, 4):
        with pytest.raises(EvaluatorError, match="layer"):
            states.get("train", layer)
    for template in (-1, 3):
        with pytest.raises(EvaluatorError, match="templates 0 to 2"):
            states.get("train", 1, template)


def test_a_folder_that_cannot_be_written_is_told(decoder, tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(EvaluatorError, match="cannot write the cache"):
        HiddenStates(prepare(tmp_path / "bed", decoder), tmp_path / "cache").get("train", 1)


def _open_in_another_process(path, cache, barrier, queue):
    calls = []
    states = HiddenStates(Testbed.load(path), cache, progress=lambda done, total: calls.append(done))
    barrier.wait(60)
    queue.put((states.get("train", 3).sum().item(), len(calls)))


def test_processes_that_open_a_cache_together_compute_it_once(decoder, tmp_path):
    testbed = prepare(tmp_path / "bed", decoder)
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(3), context.Queue()
    workers = [
        context.Process(
            target=_open_in_another_process, args=(testbed.path, tmp_path / "cache", barrier, queue)
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert len({total for total, _ in answers}) == 1
    assert sum(calls for _, calls in answers) == 1
