"""Testbeds from a user's files: what is read, what is refused and how, how the test file is cut, what the
weak teachers give.
"""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_models import SIZES, WORDS, save
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from evaluator.errors import EvaluatorError, TestbedError
from evaluator.testbeds.files import cut, prepare_files
from evaluator.testbeds.labelled import read_folder
from evaluator.testbeds.prepared import SPLITS, Template, Testbed, load_labels
from evaluator.testbeds.weak import teach

pytestmark = pytest.mark.slow

SIZE = {"train_label": 80, "train_unlabel": 60, "test": 120}


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


def judged(rng, label):
    """A text whose words mostly fit its label."""
    fits = label if rng.random() < 0.85 else not label
    return " ".join(
        [*rng.choice([word for word in WORDS if word not in ("good", "bad")], 6), "good" if fits else "bad"]
    )


def rows_of(kind, count, seed):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        label = bool(i % 2)
        if kind == "single":
            rows.append({"question": "was the film good", "choice": judged(rng, label), "label": label})
        else:
            rows.append(
                {
                    "prompt": "the film",
                    "first": judged(rng, label),
                    "second": judged(rng, not label),
                    "label": label,
                }
            )
    return rows


def folder_of(path, kind="single", **changed):
    """A folder of files; `changed` gives other rows, or raw text, to some of them."""
    path.mkdir()
    for seed, (name, count) in enumerate(SIZE.items()):
        rows = changed.get(name, rows_of(kind, count, seed))
        text = rows if isinstance(rows, str | bytes) else "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{name}.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_files_become_a_testbed(tmp_path, decoder, kind):
    report = prepare_files(folder_of(tmp_path / "data", kind), tmp_path / "bed", strong=str(decoder))
    testbed = Testbed.load(tmp_path / "bed")
    assert (testbed.kind, testbed.name, testbed.content_hash) == (kind, "files/data", report.content_hash)
    assert testbed.sizes == report.sizes == {"train": 60, "fitness": 60, "sealed": 60}
    originals = {name: rows_of(kind, count, seed) for seed, (name, count) in enumerate(SIZE.items())}
    assert testbed.rows("train") == [
        {k: v for k, v in row.items() if k != "label"} for row in originals["train_unlabel"]
    ]
    np.testing.assert_array_equal(
        load_labels(tmp_path / "bed", "train"), [row["label"] for row in originals["train_unlabel"]]
    )
    told = {tuple(row.values())[:-1]: row["label"] for row in originals["test"]}
    for split in ("fitness", "sealed"):
        assert [told[tuple(row.values())] for row in testbed.rows(split)] == load_labels(
            tmp_path / "bed", split
        ).tolist()
    weak = testbed.weak_labels()
    assert weak.shape == (60, 2) and load_labels(tmp_path / "bed", "weak_fitness").shape == (16, 60)
    np.testing.assert_allclose(weak.sum(1), 1, atol=1e-6)
    assert 0.6 < report.weak_accuracy < 0.95
    assert ((weak[:, 1] > 0.5) == load_labels(tmp_path / "bed", "train")).mean() > 0.6


def test_fields_outside_the_contract_stay_behind(tmp_path, decoder):
    secret = "the-answer-is-here"
    extra = {
        name: [
            row | {"answer": secret, "subset": secret, "consistency_key": secret}
            for row in rows_of("single", count, seed)
        ]
        for seed, (name, count) in enumerate(SIZE.items())
    }
    prepare_files(folder_of(tmp_path / "data", **extra), tmp_path / "bed", strong=str(decoder))
    prepare_files(folder_of(tmp_path / "same"), tmp_path / "bare", strong=str(decoder), name="files/data")
    for file in (tmp_path / "bed").rglob("*"):
        assert file.is_dir() or secret.encode() not in file.read_bytes()
    assert Testbed.load(tmp_path / "bed").content_hash == Testbed.load(tmp_path / "bare").content_hash


def test_labels_are_booleans_or_zero_and_one(tmp_path, decoder):
    numbered = [row | {"label": int(row["label"])} for row in rows_of("single", 120, 2)]
    reports = [
        prepare_files(
            folder_of(tmp_path / name, **changed), tmp_path / f"bed {name}", strong=str(decoder), name="same"
        )
        for name, changed in (("booleans", {}), ("numbers", {"test": numbered}))
    ]
    assert reports[0].content_hash == reports[1].content_hash


def edited(line, change, kind="single"):
    """Rows of the test file with one line changed."""
    rows = rows_of(kind, 120, 2)
    rows[line - 1] = change(rows[line - 1])
    return rows


def without(row, field):
    return {name: value for name, value in row.items() if name != field}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (edited(3, lambda row: without(row, "choice")), r"test\.jsonl, line 3: no choice"),
        (edited(4, lambda row: row | {"question": None}), r"test\.jsonl, line 4: no question"),
        (
            edited(5, lambda row: row | {"choice": 7}),
            r"test\.jsonl, line 5: choice is 7; write it as a string",
        ),
        (
            edited(6, lambda row: row | {"label": "yes"}),
            r'test\.jsonl, line 6: unknown label "yes"; write true or false',
        ),
        (edited(7, lambda row: row | {"label": 2}), r"test\.jsonl, line 7: unknown label 2"),
        (edited(8, lambda row: row | {"label": float("nan")}), r"test\.jsonl, line 8: unknown label NaN"),
        (edited(9, lambda row: without(row, "label")), r"test\.jsonl, line 9: no label"),
        (edited(2, lambda row: [1, 2]), r"test\.jsonl, line 2: a list where an object"),
        ('\n{"question": "a"', r"test\.jsonl, line 2: not JSON"),
        (b'{"question": "\xff"}', r"test\.jsonl, line 1: not UTF-8"),
        ("\n\n", r"test\.jsonl is empty"),
        ([row | {"label": True} for row in rows_of("single", 60, 2)], r"test\.jsonl: every label is 1"),
        (rows_of("pair", 60, 2), r"test\.jsonl, line 1: no question"),
        (rows_of("single", 30, 2), r"30 rows are too few to be cut"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_line(tmp_path, decoder, text, words):
    with pytest.raises(TestbedError, match=words) as caught:
        prepare_files(folder_of(tmp_path / "data", test=text), tmp_path / "bed", strong=str(decoder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bed" / "testbed.json").exists()


def test_unknown_fields_missing_files_and_folders_are_told(tmp_path, decoder):
    with pytest.raises(TestbedError, match="no such folder"):
        read_folder(tmp_path / "nowhere")
    with pytest.raises(
        TestbedError,
        match=r"train_label\.jsonl, line 1: fields text, label; a row has the fields question, choice or",
    ):
        read_folder(folder_of(tmp_path / "odd", train_label=[{"text": "good", "label": 1}]))
    folder = folder_of(tmp_path / "data")
    (folder / "train_unlabel.jsonl").unlink()
    with pytest.raises(TestbedError, match=r"train_unlabel\.jsonl: no such file"):
        read_folder(folder)


def test_a_pool_without_labels_is_refused_because_of_the_ceiling(tmp_path):
    pool = [without(row, "label") for row in rows_of("single", 60, 1)]
    with pytest.raises(
        TestbedError, match=r"train_unlabel\.jsonl, line 1: no label; its labels train the ceiling"
    ):
        read_folder(folder_of(tmp_path / "data", train_unlabel=pool))


def test_few_labels_for_the_weak_model_are_refused(tmp_path, decoder):
    labelled = [row | {"label": i < 5} for i, row in enumerate(rows_of("single", 80, 0))]
    with pytest.raises(TestbedError, match="5 of class 1"):
        prepare_files(
            folder_of(tmp_path / "data", train_label=labelled), tmp_path / "bed", strong=str(decoder)
        )


def test_a_wrong_model_is_an_error_of_one_line(tmp_path, decoder):
    folder = folder_of(tmp_path / "data")
    for models in (
        {"strong": str(tmp_path / "none")},
        {"strong": str(decoder), "weak": str(tmp_path / "none")},
    ):
        with pytest.raises(EvaluatorError, match="no such folder"):
            prepare_files(folder, tmp_path / "bed", **models)


def test_texts_that_look_like_dates_or_numbers_stay_texts(tmp_path):
    rows = [
        row | {"choice": text}
        for row, text in zip(rows_of("single", 60, 1), ["2020-01-01", "17"] * 30, strict=True)
    ]
    table = read_folder(folder_of(tmp_path / "data", train_unlabel=rows))["train_unlabel"]
    assert set(table["choice"][:]) == {"2020-01-01", "17"}


def test_duplicates_are_reported_and_never_straddle_fitness_and_sealed(tmp_path, decoder):
    pool, test = rows_of("single", 60, 1), rows_of("single", 120, 2)
    test[10] = {**pool[4], "choice": pool[4]["choice"].upper(), "label": not pool[4]["label"]}
    test += [row | {"choice": f" {row['choice']} "} for row in test[20:60]]
    report = prepare_files(
        folder_of(tmp_path / "data", train_unlabel=pool, test=test), tmp_path / "bed", strong=str(decoder)
    )
    found = {
        (one.first, one.second): (one.count, one.contradictions, one.example) for one in report.duplicates
    }
    assert found == {("train_unlabel", "test"): (1, 1, (5, 11)), ("test", "test"): (40, 0, (21, 121))}
    assert (
        "1 rows of test.jsonl also stand in train_unlabel.jsonl, 1 of them with another label (lines 11"
        " and 5)" in report.warnings
    )
    testbed = Testbed.load(tmp_path / "bed")
    fitness, sealed = (
        {row["choice"].strip() for row in testbed.rows(split)} for split in ("fitness", "sealed")
    )
    assert not fitness & sealed


@given(st.integers(40, 3000), st.floats(0.1, 0.9), st.integers(0, 5))
def test_the_cut_is_stratified_seeded_and_about_a_third(total, share, seed):
    labels = (np.arange(total) < share * total).astype(np.uint8)
    keys = [(str(i),) for i in range(total)]
    fitness, sealed = cut(keys, labels, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([fitness, sealed])), np.arange(total))
    wanted = min(0.5, max(1 / 3, 500 / total))
    assert abs(len(fitness) - wanted * total) <= 2
    assert abs(labels[fitness].sum() - wanted * labels.sum()) <= 1
    np.testing.assert_array_equal(fitness, cut(keys, labels, seed)[0])
    assert not np.array_equal(fitness, cut(keys, labels, seed + 1)[0])


def test_the_same_files_and_seed_give_the_same_testbed_and_another_seed_another(tmp_path, decoder):
    folder = folder_of(tmp_path / "data")
    hashes = [
        prepare_files(folder, tmp_path / f"{i}", strong=str(decoder), seed=seed).content_hash
        for i, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("kind", ["single", "pair"])
def test_a_transformers_model_can_be_the_weak_teacher(tmp_path, decoder, encoder, kind):
    folder = folder_of(tmp_path / "data", kind)
    calls = []
    report = prepare_files(
        folder,
        tmp_path / "bed",
        strong=str(decoder),
        weak=str(encoder),
        progress=lambda done, total: calls.append(done == total),
    )
    assert report.weak_accuracy > 0.55
    assert calls[-1]


def test_which_reply_comes_first_does_not_matter_to_a_teacher_of_pairs(tmp_path, decoder, encoder):
    turned = [
        {"prompt": row["prompt"], "first": row["second"], "second": row["first"], "label": not row["label"]}
        for row in rows_of("pair", 60, 1)
    ]
    for weak in ("tfidf", str(encoder)):
        folders = [
            folder_of(tmp_path / f"{len(weak)}", "pair"),
            folder_of(tmp_path / f"{len(weak)} turned", "pair", train_unlabel=turned),
        ]
        beds = [tmp_path / f"{folder.name} bed" for folder in folders]
        for folder, bed in zip(folders, beds, strict=True):
            prepare_files(folder, bed, strong=str(decoder), weak=weak)
        straight, mirrored = (Testbed.load(bed).weak_labels() for bed in beds)
        np.testing.assert_allclose(straight, mirrored[:, ::-1], atol=1e-4)


def test_weak_probabilities_are_calibrated():
    rng = np.random.default_rng(0)

    def judged_by_many(count):
        truth = rng.integers(0, 2, count)
        tones = rng.random((count, 7)) < np.where(truth, 0.65, 0.35)[:, None]
        words = [[("good", "bad")[int(tone)] + str(rng.integers(40)) for tone in row] for row in tones]
        return [{"question": "", "choice": " ".join(row)} for row in words], truth

    (labelled, told), (pool, truth) = judged_by_many(500), judged_by_many(4000)
    weak = teach(
        "tfidf",
        "single",
        Template(""),
        labelled=labelled,
        labels=told,
        pool=pool,
        fitness=pool[:50],
        sealed=pool[:50],
    ).pool
    confidence, right = weak.max(1), weak.argmax(1) == truth
    for quarter in np.array_split(np.argsort(confidence), 4):
        assert abs(confidence[quarter].mean() - right[quarter].mean()) < 0.08
    assert abs(confidence.mean() - right.mean()) < 0.04


def test_the_report_warns_of_long_texts_and_small_splits(tmp_path, decoder):
    long = edited(1, lambda row: row | {"choice": "good " * 80})
    warnings = " | ".join(
        prepare_files(folder_of(tmp_path / "data", test=long), tmp_path / "bed", strong=str(decoder)).warnings
    )
    assert "longer than 64 tokens and are cut" in warnings
    assert "the fitness split has 60 rows" in warnings


def test_an_encoder_is_given_templates_without_a_question_for_its_verdict(tmp_path, encoder):
    prepare_files(folder_of(tmp_path / "data"), tmp_path / "bed", strong=str(encoder))
    templates = Testbed.load(tmp_path / "bed").templates
    assert [template.verdicts is not None for template in templates] == [False, True, False]
    assert set(SPLITS) == set(Testbed.load(tmp_path / "bed").sizes)
