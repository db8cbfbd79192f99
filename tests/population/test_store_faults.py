"""What a store does when it is killed, contended for, or has no room to write."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from repository import HELPERS
from store_examples import ROOT, a_pool, a_trial, python

from population.errors import StoreError, StoreInUse
from population.store import Store

# Appends trials until it is stopped; a number is printed once its trial has been acknowledged.
WRITER = """
import sys
from population.store import Store
from store_examples import a_pool, a_trial
store = Store.open(sys.argv[1])
for seed in range(len(store.trials), int(sys.argv[2])):
    with store.transaction():
        store.trials.record(a_trial(seed, pool=a_pool(2000, seed)))
        store.ledger.add("grader_questions", 1)
    print(seed)
"""


@pytest.fixture
def path(tmp_path):
    Store.create(tmp_path / "search.sqlite", {"seed": 7}).close()
    return tmp_path / "search.sqlite"


# killed


def test_kill_9_loses_nothing_acknowledged_and_leaves_a_store_that_goes_on(path):
    acknowledged = -1
    for lines in (1, 7, 40, 3, 25):
        writer = python(WRITER, path, 10**6)
        for _ in range(lines):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        rest, error = writer.communicate()
        assert error == ""
        # what it had printed until it died counts; a line cut short does not
        acknowledged = max([acknowledged, *(int(line) for line in rest.split("\n")[:-1])])
        with Store.open(path, writable=False) as reader:
            count = len(reader.trials)
            assert acknowledged < count <= acknowledged + 2, (
                "all that was acknowledged, and at most the one in flight"
            )
            assert reader.trials.all() == [a_trial(seed, pool=a_pool(2000, seed)) for seed in range(count)]
            assert reader.ledger.total("grader_questions") == count, "a trial and its expense, or neither"
    with Store.open(path) as store:
        assert store.trials.record(a_trial(count))


def test_kill_9_within_a_transaction_leaves_nothing_of_it(path):
    writer = python(
        """
import sys, time
from population.store import Store
from store_examples import a_pool, a_trial
store = Store.open(sys.argv[1])
with store.transaction():
    for seed in range(500):  # more than the page cache holds: some of it is in the file already
        store.trials.record(a_trial(seed, pool=a_pool(4000, seed), history=[{"x": "y" * 20000}]))
    print("within")
    time.sleep(600)
""",
        path,
    )
    assert writer.stdout.readline() == "within\n"
    writer.kill()
    writer.communicate()
    with Store.open(path) as store:
        assert len(store.trials) == 0
        assert store.trials.record(a_trial())


# contended for


def test_two_writers_are_one_clear_error(path):
    writer = python(WRITER, path, 10**6)
    try:
        writer.stdout.readline()
        for attempt in (lambda: Store.open(path), lambda: Store.create(path, {})):
            with pytest.raises(
                StoreInUse, match=rf"search\.sqlite is in use by process {writer.pid}\. Wait for it to end"
            ):
                attempt()
        with Store.open(path, writable=False) as reader:
            seen = len(reader.trials)
            assert seen > 0
            while len(reader.trials) == seen:
                assert writer.stdout.readline()
    finally:
        writer.kill()
        writer.communicate()
    Store.open(path).close()


def test_two_writers_in_one_process_are_the_same_error_and_leave_the_first_its_lock(path, tmp_path):
    (tmp_path / "link.sqlite").symlink_to(path)
    with Store.open(path) as first:
        for name in (path, tmp_path / "link.sqlite"):
            with pytest.raises(StoreInUse, match="in use by this process"):
                Store.open(name)
        other = python(WRITER, path, 1)
        assert "StoreInUse" in other.communicate()[1]
        first.ledger.add("usd", 1)
    Store.open(path).close()


def test_a_fork_cannot_use_its_parents_store_and_does_it_no_harm(path):
    parent = python(
        """
import os, sys
from population.errors import StoreError
from population.store import Store
store = Store.open(sys.argv[1])
store.ledger.add("usd", 1)
child = os.fork()
if child == 0:
    try:
        store.ledger.add("usd", 1)
    except StoreError as error:
        print(error)
    store.close()
    del store
    sys.exit()
os.waitpid(child, 0)
store.ledger.add("usd", 1)
print(store.ledger.total("usd"))
try:
    Store.open(sys.argv[1])
except StoreError as error:
    print(error)
os.kill(os.getpid(), 9)
""",
        path,
    )
    out, _ = parent.communicate()
    assert "was opened by the process that forked this one" in out
    assert "2.0\n" in out and "in use by this process" in out
    with Store.open(path) as store:
        assert store.ledger.total("usd") == 2.0


def test_the_lock_of_a_killed_writer_is_free_though_its_fork_lives_on(path):
    parent = python(
        """
import os, sys, time
from population.store import Store
store = Store.open(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(600)
print(child)
time.sleep(600)
""",
        path,
    )
    child = int(parent.stdout.readline())
    try:
        parent.kill()
        parent.wait()
        with Store.open(path) as store:
            store.ledger.add("usd", 1)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.communicate()


# out of room

FILLER = """
import sys
from population.errors import StoreError
from population.store import Store
from store_examples import a_pool, a_trial
store = Store.open(sys.argv[1])
seed = 0
try:
    for seed in range(10000):
        store.trials.record(a_trial(seed, pool=a_pool(4000, seed)))
except StoreError as error:
    print(error)
    try:
        store.trials.record(a_trial(seed, pool=a_pool(4000, seed)))
    except StoreError:
        print("still")
print(seed, len(store.trials))
{then}
store.close()
"""


def check_out_of_room(out, error):
    message, still, counts = out.splitlines()[:3]
    assert error == ""
    assert (
        "search.sqlite could not be written to" in message
        and "the disk is full" in message
        and "resume" in message
    )
    assert still == "still"
    acknowledged, count = map(int, counts.split())
    assert 0 < acknowledged == count
    return acknowledged


def test_a_file_that_may_not_grow_is_a_clear_error_and_loses_nothing(path):
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))\n"
    process = python(limit + FILLER.format(then=""), path)
    acknowledged = check_out_of_room(*process.communicate())
    with Store.open(path) as store:
        assert store.trials.all() == [a_trial(seed, pool=a_pool(4000, seed)) for seed in range(acknowledged)]
        assert store.trials.record(a_trial(acknowledged))


def in_own_mounts(script, *arguments):
    """Run a shell script that may mount; skips the test where that is not allowed."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    probe = [*unshare, "mount", "-t", "tmpfs", "none", "/tmp"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no right to mount anything here (mount namespaces are refused)")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}"}
    command = [*unshare, "sh", "-ec", script, "sh", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_full_disk_is_a_clear_error_and_the_search_goes_on_once_there_is_room(path, tmp_path):
    then = """
import os
os.unlink(sys.argv[2])
store.trials.record(a_trial(seed, pool=a_pool(4000, seed)))
store.close()
with Store.open(sys.argv[1]) as store:
    assert store.trials.all() == [a_trial(each, pool=a_pool(4000, each)) for each in range(seed + 1)]
print("went on")
"""
    script = """
mount -t tmpfs -o size=1m none "$1"
cp "$2" "$1/search.sqlite"
head -c 200000 /dev/zero > "$1/ballast"
exec "$3" -c "$4" "$1/search.sqlite" "$1/ballast"
"""
    (tmp_path / "disk").mkdir()
    finished = in_own_mounts(script, tmp_path / "disk", path, sys.executable, FILLER.format(then=then))
    check_out_of_room(finished.stdout, finished.stderr)
    assert finished.stdout.endswith("went on\n")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("/proc", tmp_path / "file"):
        with pytest.raises(
            StoreError, match=r"search\.sqlite cannot be locked for writing .*Choose a folder"
        ):
            Store.create(f"{folder}/search.sqlite", {})


READ_ONLY = """
import sys
from population.errors import StoreError
from population.store import Store
with Store.open(sys.argv[1], writable=False) as store:
    print(store.settings, len(store.trials))
try:
    Store.open(sys.argv[1])
except StoreError as error:
    print(error)
"""


def test_a_store_on_a_read_only_disk_can_be_read(path):
    script = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
exec "$2" -c "$3" "$1/search.sqlite"
"""
    finished = in_own_mounts(script, path.parent, sys.executable, READ_ONLY)
    settings, refusal = finished.stdout.splitlines()
    assert settings == "{'seed': 7} 0"
    assert "cannot be locked for writing (Read-only file system)" in refusal
