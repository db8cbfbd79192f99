"""The sealed split: not there for a search, opened once for a frozen short list, and every further look is
called exploratory.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from command import evo_aar
from small_testbeds import PROFILE, small_testbed
from store_examples import an_individual

from evaluator.testbeds.prepared import Testbed
from evaluator.workers import stop_workers
from evo_aar.errors import UsageError
from evo_aar.report import figures, shortlist
from evo_aar.report.opening import begin
from evo_aar.search.audits import quarantine
from evo_aar.search.finals import crowned
from evo_aar.search.seeds import SEALED, SPAN
from population.island import Generation, Island
from population.store import Store
from population.tables.integrity import SealedScore
from population.trial import FAILED, OK
from recipes.directions import baseline_sources

pytestmark = pytest.mark.slow

SIZES = (
    "--islands",
    2,
    "--generations",
    1,
    "--children",
    2,
    "--population",
    2,
    "--seeds",
    2,
    "--final-seeds",
    2,
    "--audit-seeds",
    2,
    "--workers",
    1,
)
SEALED_FILES = ("sealed.jsonl", "labels/sealed.npy", "labels/weak_sealed.npy")
SEEDS = 2


@pytest.fixture(scope="module")
def testbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVO_AAR_CACHE", str(folder / "cache"))
        yield small_testbed(folder / "small", profile=replace(PROFILE, epochs={"head": 40.0, "lora": 1.0}))
    stop_workers()


@pytest.fixture(scope="module")
def searched(testbed):
    """A search that ran to its end, audits and all, on a testbed whose sealed split was somewhere else
    meanwhile.
    """
    runs = testbed.parent / "runs"
    hidden = testbed.parent / "elsewhere"
    (hidden / "labels").mkdir(parents=True)
    for name in SEALED_FILES:
        (testbed / name).rename(hidden / name)
    answer = evo_aar("evolve", "--testbed", testbed, *SIZES, "--run", "small", "--runs", runs)
    assert answer.status == 0, answer
    assert not list((testbed.parent / "cache").rglob("*sealed*"))
    for name in SEALED_FILES:
        (hidden / name).rename(testbed / name)
    return runs


@pytest.fixture(scope="module")
def reported(searched):
    """A report that was killed in the middle, and then carried through."""
    command = [
        sys.executable,
        "-c",
        "from evo_aar.cli import main; main()",
        "report",
        "small",
        "--runs",
        str(searched),
    ]
    process = subprocess.Popen(
        [*command, "--seeds", str(SEEDS), "--workers", "1"], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
            if any(score.seed >= SEALED for score in store.openings.scores(1)):
                break
    assert process.poll() is None, process.stderr.read()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
        half = {(score.source_hash, score.seed) for score in store.openings.scores(1)}
    answer = evo_aar("report", "small", "--runs", searched, "--workers", 1)
    assert answer.status == 0, answer
    return searched / "small", half, answer


@pytest.fixture
def store(reported):
    with Store.open(reported[0] / "search.sqlite", writable=False) as store:
        yield store


def test_a_search_does_without_the_sealed_split(searched):
    with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
        assert crowned(store) is not None and store.audits.all()
        assert store.openings.all() == [] and store.ledger.total("sealed_openings") == 0


def test_an_opening_that_was_killed_is_carried_through_and_counted_once(store, reported):
    _, half, _ = reported
    (opening,) = store.openings.all()
    assert store.ledger.total("sealed_openings") == 1 and not opening.exploratory
    scores = [score for score in store.openings.scores(1) if score.seed in opening.facts["seeds"]]
    distinct = {row["source_hash"] for row in opening.shortlist}
    assert half and len(scores) == len(distinct) * SEEDS
    assert all(seed // SPAN == 0 and seed >= SEALED for seed in opening.facts["seeds"])
    assert not set(opening.facts["seeds"]) & {trial.seed for trial in store.trials.all()}
    asked = [entry for entry in store.ledger.all() if entry.detail.get("split") == "sealed"]
    assert (
        len(asked)
        == len({entry.detail["trial"] for entry in asked})
        == sum(score.status == OK for score in scores)
    )


def test_the_opening_is_on_the_ledger_before_any_of_its_scores(store):
    entries = [(entry.kind, entry.detail.get("opening")) for entry in store.ledger.all()]
    assert entries.index(("sealed_openings", 1)) < entries.index(("grader_questions", 1))


def test_the_short_list_has_three_finalists_at_most_and_all_baselines(store):
    (opening,) = store.openings.all()
    finalists = [row for row in opening.shortlist if row["individual"]]
    assert 1 <= len(finalists) <= 3 and finalists[0]["individual"] == crowned(store).id
    assert [row["role"] for row in opening.shortlist if not row["individual"]] == [
        f"baseline {name}" for name in baseline_sources()
    ]


def test_the_report_is_there_for_people_and_for_machines(reported, store):
    folder, _, answer = reported
    written = folder / "report" / "opening-1"
    facts = json.loads((written / "report.json").read_text())
    text = (written / "report.md").read_text()
    best = crowned(store)
    line = next(one for one in facts["lines"] if one["individual"] == best.id)
    assert line["pgr"]["seeds"] == SEEDS and line["exploratory"] is False
    assert line["over_vanilla"]["mean"] == pytest.approx(
        line["pgr"]["mean"]
        - next(one for one in facts["lines"] if one["role"] == "baseline vanilla")["pgr"]["mean"]
    )
    assert f"{line['pgr']['mean']:.3f} ± {line['pgr']['standard_error']:.3f}" in text and best.id in text
    assert facts["opening"]["shortlist_hash"] in text and "Exploratory" not in text
    assert "Not reviewed by a person." in text and "pool permuted" in text
    assert (written / "pgr.svg").read_text().startswith("<svg")
    assert best.id in answer.out and "sealed" in answer.out.lower()
    assert list((folder.parent / "mlartifacts").rglob("report.md"))


def test_a_report_that_is_there_is_shown_again_and_nothing_is_opened(reported):
    answer = evo_aar("report", "small", "--runs", reported[0].parent)
    assert answer.status == 0, answer
    with Store.open(reported[0] / "search.sqlite", writable=False) as store:
        assert len(store.openings.all()) == 1


def test_other_finalists_need_another_opening(reported):
    answer = evo_aar("report", "small", "--runs", reported[0].parent, "--individual", "g000-i0-c00")
    assert "--again" in answer.error


def test_a_second_opening_is_counted_and_all_of_it_is_exploratory(reported):
    folder = reported[0]
    with Store.open(folder / "search.sqlite", writable=False) as store:
        before = store.fingerprint()
    answer = evo_aar(
        "report",
        "small",
        "--runs",
        folder.parent,
        "--again",
        "--individual",
        "g000-i0-c00",
        "--seeds",
        2,
        "--workers",
        1,
    )
    assert answer.status == 0, answer
    assert "exploratory" in answer.out
    with Store.open(folder / "search.sqlite", writable=False) as store:
        first, second = store.openings.all()
        assert store.ledger.total("sealed_openings") == 2 and second.exploratory
        assert not set(first.facts["seeds"]) & set(second.facts["seeds"])
        assert store.fingerprint() == before, "a report is no part of a search's outcome"
    facts = json.loads((folder / "report" / "opening-2" / "report.json").read_text())
    assert all(line["exploratory"] for line in facts["lines"])
    text = (folder / "report" / "opening-2" / "report.md").read_text()
    assert (
        text.count("xploratory") >= 4
        and "exploratory" in (folder / "report" / "opening-2" / "pgr.svg").read_text()
    )


# ---- without a trainer


@pytest.fixture
def born(tmp_path):
    with Store.create(
        tmp_path / "search.sqlite", {"testbed": "mini/math"}, {"testbed_hash": "mini"}
    ) as store:
        for child, source in enumerate(baseline_sources().values()):
            source = source.replace('"""', '"""Own: ', 1) + f"\nCHILD = {child}\n"
            store.individuals.add(an_individual(0, 0, child, source=source, source_hash=f"own{child}"))
        store.generations.commit(Generation(0, (Island(0),), {"best": None}))
        yield store


def test_four_finalists_are_too_many(born):
    with pytest.raises(UsageError, match="3 at most"):
        shortlist(born, [f"g000-i0-c0{child}" for child in range(4)])


def test_who_is_quarantined_is_no_finalist(born):
    quarantine(born, "g000-i0-c01", 0, "it cheats")
    with pytest.raises(UsageError, match="quarantined"):
        shortlist(born, ["g000-i0-c01"])


def test_a_search_that_crowned_nobody_has_no_report(born):
    with pytest.raises(UsageError, match="crowned nobody"):
        shortlist(born)


def test_a_recipe_that_failed_on_a_seed_has_no_pgr_and_an_ensemble_both(born):
    rows = shortlist(born, ["g000-i0-c00", "g000-i0-c01"])
    opening = begin(born, rows, search_seed=0, seeds=2, facts={})
    assert figures(born, opening) is None
    (one, two), crowd = opening.facts["seeds"], rows[1]["source_hash"]
    for name, accuracy in (("weak model", 0.6), ("ceiling", 0.8), ("ceiling of 4", 0.9)):
        born.openings.record_score(SealedScore(1, name, 0, OK, accuracy))
    for row in rows:
        members = 4 if row["source_hash"] == crowd else 1
        born.openings.record_score(SealedScore(1, row["source_hash"], one, OK, 0.7, members))
        broken = row["source_hash"] == rows[0]["source_hash"]
        born.openings.record_score(
            SealedScore(
                1,
                row["source_hash"],
                two,
                FAILED if broken else OK,
                None if broken else 0.72,
                members,
                "it broke" if broken else None,
            )
        )
    failed, ensemble, *_ = figures(born, opening).lines
    assert failed.pgr is None and "it broke" in failed.failure
    assert ensemble.pgr.mean == pytest.approx(0.55) and ensemble.against_ensembles.mean == pytest.approx(
        0.55 * 0.2 / 0.3
    )
    assert ensemble.over_vanilla.mean == pytest.approx(0)


# ---- audits by hand

BROKEN_WITHOUT_ORDER = '''"""Trust the first half of the pool, and say the opposite of the other."""
import numpy as np

async def recipe(task):
    if float(task.weak_labels[0, 0]) != {first!r}:
        return await task.finetune(1 - task.weak_labels)
    return await task.finetune(task.weak_labels)
'''


def test_a_recipe_file_is_audited_and_leaves_no_trace(searched, testbed, tmp_path):
    first = float(Testbed.load(testbed).weak_labels()[0, 0])
    (tmp_path / "cheat.py").write_text(BROKEN_WITHOUT_ORDER.format(first=first))
    with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
        before = len(store.ledger.all()), len(store.audits.all()), len(store.trials)
    answer = evo_aar("audit", "small", tmp_path / "cheat.py", "--runs", searched, "--workers", 1)
    assert answer.status == 1, answer
    assert "pool permuted" in answer.out and "fail" in answer.out
    with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
        assert (len(store.ledger.all()), len(store.audits.all()), len(store.trials)) == before


def test_an_individual_is_audited_on_the_record_of_its_run(searched):
    answer = evo_aar("audit", "small", "g000-i1-c00", "--runs", searched, "--workers", 1)
    assert answer.status == 0, answer
    with Store.open(searched / "small" / "search.sqlite", writable=False) as store:
        one = store.individuals.get("g000-i1-c00")
        assert len(store.audits.of(one.source_hash, store.facts["testbed_hash"])) == 8
        assert any(
            entry.operator == "audit" and entry.kind == "grader_questions" for entry in store.ledger.all()
        )
        assert store.generations.fates(kind="quarantined") == []
