"""Worker processes end when they are told to."""

import subprocess
import sys

from evaluator.workers import stop_workers, workers_executor

PROGRAM = """
import os, time
from evaluator.workers import stop_workers, workers_executor

executor = workers_executor(2)
pid = executor.submit(os.getpid).result()
executor.submit(time.sleep, 3600)
executor.submit(time.sleep, 3600)
stop_workers()
try:
    os.kill(pid, 0)
    print("alive")
except ProcessLookupError:
    print("gone")
"""


def test_workers_that_are_busy_are_ended_and_not_waited_for():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == "gone\n", done.stderr


def test_new_workers_come_after_the_old_ones_were_stopped():
    assert workers_executor(1).submit(abs, -1).result() == 1
    stop_workers()
    stop_workers()
    assert workers_executor(1).submit(abs, -2).result() == 2
    stop_workers()
