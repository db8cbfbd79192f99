"""Any history of events, reopened and interrupted anywhere, reads like a plain in-memory account of it."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_examples import a_failure, a_pool, a_trial, an_individual

from population.errors import StoreConflict, StoreError
from population.forum import Finding
from population.island import Generation, Island
from population.migration import Migration
from population.store import Store
from population.tables.generations import FATES, Fate
from population.tables.ledger import LEDGER_KINDS, Entry
from population.tables.replies import Turn

SMALL = st.integers(0, 2)
TEXT = st.text(max_size=20)
SCORES = st.floats(-3, 3) | st.sampled_from([0.0, -0.0, 1e-300])
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
)
TRIALS = st.builds(
    a_trial,
    SMALL,
    SCORES,
    source_hash=st.sampled_from("ab"),
    fidelity=st.sampled_from([0.1, 1.0]),
    tokens=SMALL,
    seconds=st.floats(0, 9),
    history=st.lists(st.dictionaries(TEXT, st.floats()), max_size=2),
    pool=st.none() | st.builds(a_pool, seed=SMALL),
) | st.builds(
    a_failure,
    SMALL,
    st.sampled_from(["timeout", "crash"]),
    source_hash=st.sampled_from("ab"),
    message=st.none() | TEXT,
)
TURNS = st.builds(Turn, st.sampled_from(["g001-i0-c00", "g001-i0-c01"]), st.just("mutation"), SMALL, SMALL)


class Stop(Exception):
    """Interrupts a transaction."""


class History(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.create(self.folder / "search.sqlite", {"seed": 1})
        self.individuals, self.trials, self.fates, self.replies, self.findings = {}, {}, {}, {}, {}
        self.ledger, self.generations, self.migrations = [], [], []

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    def put(self, account, key, value, act):
        """Append to the store and to the account alike: new, known, or in conflict."""
        if key not in account:
            assert act()
            account[key] = value
        elif account[key] == value:
            assert not act()
        else:
            with pytest.raises(StoreConflict):
                act()

    @rule(
        generation=SMALL,
        island=SMALL,
        child=SMALL,
        source=TEXT,
        detail=st.dictionaries(TEXT, JSON, max_size=2),
        pick=st.randoms(),
    )
    def bear(self, generation, island, child, source, detail, pick):
        elders = sorted(
            identity for identity, each in self.individuals.items() if each.generation < generation
        )
        parents = tuple(pick.sample(elders, min(len(elders), 2)))
        individual = an_individual(
            generation, island, child, source=source, source_hash=source[:1], detail=detail, parents=parents
        )
        known = self.individuals.get(individual.id)
        if known is not None and repr(known) == repr(individual):
            assert not self.store.individuals.add(
                individual
            )  # NaN in the detail: equal as text, though not as a number
        else:
            self.put(
                self.individuals, individual.id, individual, lambda: self.store.individuals.add(individual)
            )

    @rule(trial=TRIALS)
    def try_out(self, trial):
        key = (trial.source_hash, trial.testbed, trial.fidelity, trial.seed)
        known = self.trials.get(key)
        if known is not None:
            object.__setattr__(trial, "seconds", known.seconds)  # a repeated trial's own time is not kept
        self.put(self.trials, key, trial, lambda: self.store.trials.record(trial))

    @rule(turn=TURNS, request=st.sampled_from("rs"), reply=st.dictionaries(TEXT, TEXT, max_size=1))
    def answer(self, turn, request, reply):
        self.put(
            self.replies, turn, (request, reply), lambda: self.store.replies.record(turn, request, reply)
        )

    @rule(kind=st.sampled_from(LEDGER_KINDS), amount=st.floats(0, 100), island=SMALL | st.none())
    def spend(self, kind, amount, island):
        self.store.ledger.add(kind, amount, island=island)
        self.ledger.append(Entry(kind, amount, island=island))

    @rule(island=SMALL, generation=SMALL, text=st.sampled_from(["Yes", "yes!", "no"]))
    def tell(self, island, generation, text):
        finding = Finding(f"g{generation:03d}-i{island}-c00", island, generation, text, text)
        self.store.forum.post(finding)
        self.findings.setdefault((finding.author, finding.words), finding)

    @precondition(lambda self: self.individuals)
    @rule(kind=st.sampled_from(FATES), reason=st.sampled_from(["", "why"]), pick=st.randoms())
    def meet_fate(self, kind, reason, pick):
        fate = Fate(pick.choice(sorted(self.individuals)), 0, 0, kind, reason)
        self.put(self.fates, (fate.individual, kind), fate, lambda: self.store.generations.add_fate(fate))

    @precondition(lambda self: self.individuals)
    @rule(summary=st.dictionaries(TEXT, st.integers(), max_size=1), pick=st.randoms(), stranger=st.booleans())
    def end_generation(self, summary, pick, stranger):
        living = pick.sample(sorted(self.individuals), min(3, len(self.individuals)))
        number = len(self.generations)
        generation = Generation(number, (Island(1, living, living[:1]), Island(0, living[1:])), summary)
        moves = [Migration(number, living[0], 0, 1)]
        if stranger:
            with pytest.raises(StoreError, match="never born"):
                self.store.generations.commit(generation, (), [*moves, Migration(number, "nobody", 0, 1)])
            return
        assert self.store.generations.commit(generation, (), moves)
        assert not self.store.generations.commit(generation, (), moves)
        self.generations.append(generation)
        self.migrations += moves

    @rule(trial=TRIALS)
    def be_interrupted(self, trial):
        """Whatever a transaction did before it was interrupted has not happened."""
        with pytest.raises((Stop, StoreConflict)), self.store.transaction():
            self.store.ledger.add("usd", 1e6)
            self.store.replies.record(Turn("x", "x", 0, 0), "x", "x")
            self.store.trials.record(trial)
            raise Stop

    @rule()
    def reopen(self):
        before = self.store.fingerprint()
        self.store.close()
        self.store = Store.open(self.folder / "search.sqlite")
        assert self.store.fingerprint() == before

    @invariant()
    def reads_like_the_account(self):
        if not hasattr(self, "store"):
            return
        with Store.open(self.folder / "search.sqlite", writable=False) as reader:
            for store in (self.store, reader):
                self.compare(store)

    def compare(self, store):
        born = sorted(self.individuals.values(), key=lambda each: each.rank)
        assert repr(store.individuals.all()) == repr(born)
        assert store.trials.all() == [self.trials[key] for key in sorted(self.trials)]
        assert store.ledger.all() == self.ledger
        for turn, (request, reply) in self.replies.items():
            assert store.replies.get(turn, request) == reply
        assert len(store.replies) == len(self.replies)
        assert store.generations.all() == self.generations
        assert store.generations.migrations() == self.migrations
        assert sorted(store.generations.fates(), key=repr) == sorted(self.fates.values(), key=repr)
        first = {}
        for finding in sorted(self.findings.values(), key=lambda each: (each.generation, each.island)):
            first.setdefault(finding.words, finding)
        assert sorted(map(repr, store.forum.as_of())) == sorted(map(repr, first.values()))


TestHistory = History.TestCase
TestHistory.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
