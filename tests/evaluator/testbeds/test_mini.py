"""The built-in testbed `mini`: what it promises about its rows, its labels, its weak teachers and its
weights.
"""

import contextlib
import hashlib
import io
import json
import random

import numpy as np
import pytest
from transformers import AutoConfig, AutoTokenizer

from evaluator.errors import TestbedError
from evaluator.testbeds.mini import DOMAINS, prepare
from evaluator.testbeds.mini.corpus import documents
from evaluator.testbeds.mini.prepare import SIZES, generate
from evaluator.testbeds.mini.weak import TEACHERS, WEIGHTS
from evaluator.testbeds.mini.world import FACTS, templates
from evaluator.testbeds.prepared import FIELDS, SPLITS, Testbed, load_labels

pytestmark = pytest.mark.slow

# Mean accuracy of the weak teachers on the fitness and sealed splits: the figures that docs/testbeds.md
# states.
WEAK_BOUNDS = {"chat": (0.62, 0.69), "math": (0.60, 0.67), "code": (0.64, 0.71)}


@pytest.fixture(scope="module", params=DOMAINS)
def prepared(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    return request.param, path, prepare(request.param, path)


@pytest.fixture(scope="module", params=DOMAINS)
def splits(request):
    return request.param, {split: generate(request.param, split) for split in SIZES}


def truth(domain, row):
    """The label of a row, worked out from its text alone by other means than the generator's."""
    if domain == "chat":
        attribute, name = row["prompt"].rstrip("?").split(" of ")
        return int(row["first"].split()[-1] == FACTS[name, attribute])
    if domain == "math":
        return int(eval(row["question"].split(":")[1]) == int(row["choice"]))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(row["question"])
    return int(printed.getvalue().strip() == row["choice"])


def test_every_label_is_what_the_text_says(splits):
    domain, parts = splits
    for rows, labels, _ in parts.values():
        assert [truth(domain, row) for row in rows[:500]] == labels[:500].tolist()


def test_exactly_one_reply_of_a_pair_is_right():
    rows, labels, _ = generate("chat", "fitness")
    swapped = [{**row, "first": row["second"], "second": row["first"]} for row in rows]
    assert [truth("chat", row) for row in swapped] == (1 - labels).tolist()


def test_no_core_of_one_split_occurs_in_another(splits):
    cores = {split: set(part[2]) for split, part in splits[1].items()}
    for one in cores:
        for other in cores:
            assert one == other or not cores[one] & cores[other]


def test_a_core_ignores_tone_choice_and_order_of_summands():
    _, _, cores = generate("math", "train")
    assert all(core[0] == "-" or core[1] <= core[2] for core in cores)
    assert (
        len(set(generate("code", "train")[2])) < SIZES["train"]
    )  # programs come back with other tones, choices and prints


def test_classes_are_balanced_and_mixed_and_no_row_comes_twice(splits):
    for split, (rows, labels, _) in splits[1].items():
        assert len(rows) == SIZES[split] and labels.mean() == 0.5
        assert 0.4 < labels[: len(labels) // 2].mean() < 0.6
        assert len({tuple(row.values()) for row in rows}) == len(rows)


def test_the_cue_is_as_strong_in_every_split(splits):
    domain, parts = splits
    confident = {"surely", "clearly", "indeed", "sure"}
    rates = []
    for rows, labels, _ in parts.values():
        text = [row["first"] if domain == "chat" else row["question"] for row in rows]
        share = np.array([len(confident & set(words.replace(":", " ").split())) > 1 for words in text])
        rates.append(share[labels == 1].mean() - share[labels == 0].mean())
    assert min(rates) > 0.1 and max(rates) - min(rates) < 0.08


def test_the_same_seed_gives_the_same_testbed_and_another_seed_another(prepared, tmp_path):
    domain, path, digest = prepared
    assert prepare(domain, tmp_path / "again") == digest
    assert prepare(domain, tmp_path / "other", seed=1) != digest
    for file in ("train.jsonl", "weak_labels.npy", "labels/sealed.npy"):
        assert (path / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_a_prepared_folder_loads(prepared):
    domain, path, digest = prepared
    testbed = Testbed.load(path)
    assert (testbed.name, testbed.content_hash) == (f"mini/{domain}", digest)
    assert testbed.sizes == {split: SIZES[split] for split in SPLITS}
    assert AutoConfig.from_pretrained(testbed.strong).num_hidden_layers == max(testbed.profile.layers)
    weak = testbed.weak_labels()
    assert weak.shape == (SIZES["train"], 2) and np.allclose(weak.sum(1), 1)
    for split in ("fitness", "sealed"):
        assert load_labels(path, f"weak_{split}").shape == (TEACHERS, SIZES[split])


def test_what_the_trainer_reads_holds_no_label(prepared):
    _, path, _ = prepared
    kind = Testbed.load(path).kind
    for split in SPLITS:
        for line in (path / f"{split}.jsonl").read_text().splitlines():
            assert tuple(json.loads(line)) == FIELDS[kind]
    assert {entry.name for entry in path.iterdir()} == {
        "testbed.json",
        "labels",
        "weak_labels.npy",
        *(f"{split}.jsonl" for split in SPLITS),
    }


def test_weak_teachers_are_as_good_as_documented_and_the_first_is_an_ordinary_one(prepared):
    domain, path, _ = prepared
    low, high = WEAK_BOUNDS[domain]
    for split in ("fitness", "sealed"):
        right = (load_labels(path, f"weak_{split}") > 0.5) == load_labels(path, split)
        accuracy = right.mean(axis=1)
        assert low < accuracy.mean() < high
        assert abs(accuracy[0] - accuracy.mean()) < 0.03
        assert len(set(accuracy)) > 1
    trained = (Testbed.load(path).weak_labels()[:, 1] > 0.5) == load_labels(path, "train")
    assert abs(trained.mean() - accuracy.mean()) < 0.04


def test_weak_errors_follow_the_tone_rather_than_chance(prepared):
    """Two teachers given other labels err on the same rows far more often than independent ones would."""
    _, path, _ = prepared
    wrong = (load_labels(path, "weak_sealed") > 0.5) != load_labels(path, "sealed")
    both = (wrong[0] & wrong[1]).mean()
    assert both > 1.5 * wrong[0].mean() * wrong[1].mean()


def test_the_tokenizer_knows_every_word_and_a_verdict_is_one_token():
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    for domain in DOMAINS:
        texts = [
            side
            for row in generate(domain, "sealed")[0]
            for template in templates(domain)
            for side in template.render(row)
        ]
        ids = tokenizer([*texts, *(document.text for document in documents(1, domain, 2000, 0.5))])[
            "input_ids"
        ]
        assert all(tokenizer.unk_token_id not in row and row[0] == tokenizer.bos_token_id for row in ids)
        assert max(map(len, ids)) <= 64
        for template in templates(domain):
            assert [
                len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in template.verdicts
            ] == [1, 1]


def test_the_corpus_is_the_same_every_time_and_does_not_touch_global_randomness():
    state = random.getstate()
    assert documents(3, "math", 50, 0.5) == documents(3, "math", 50, 0.5) != documents(4, "math", 50, 0.5)
    assert random.getstate() == state


def test_the_shipped_weights_are_the_recorded_ones():
    recorded = (WEIGHTS / "SOURCE.md").read_text()
    for file in WEIGHTS.iterdir():
        if file.name != "SOURCE.md":
            assert f"`{file.name}` {hashlib.sha256(file.read_bytes()).hexdigest()}" in recorded


def test_an_unknown_domain_is_refused_with_the_choices(tmp_path):
    with pytest.raises(TestbedError, match=r"'maths'.*chat, math, code"):
        prepare("maths", tmp_path)
