"""What another package registers is known in worker processes, whose recipes ask for it by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT
from small_testbeds import small_testbed

pytestmark = pytest.mark.slow

MODULE = """
from recipes.losses import NamedLoss, cross_entropy, probability, register

def slope(margin, target, read):
    return (probability(margin) - target) * (1 - read["progress"])

register(NamedLoss(name="tiring", words="", value=cross_entropy, slope=slope, reads_progress=True))
"""
PROGRAM = '''
import sys
from pathlib import Path
from evaluator.evaluator import Evaluator
from evaluator.trial import EXPLORE, TrialRequest
from evaluator.workers import stop_workers

BODY = """
async def recipe(task):
    return await task.finetune(task.weak_labels, loss="tiring", epochs=0.5)
"""
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    evaluator = Evaluator(folder / "small", cache=folder / "cache", spool=folder / "spool")
    found = evaluator.run_ungraded(TrialRequest('"""Tires."""' + BODY, 0, purpose=EXPLORE))
    stop_workers()
    print(found.reason, found.message, len(found.history))
'''


def test_a_plugin_s_loss_trains_in_a_worker_process(tmp_path):
    small_testbed(tmp_path / "small")
    plugin = tmp_path / "plugin"
    facts = plugin / "tiring-1.0.dist-info"
    facts.mkdir(parents=True)
    (plugin / "tiring.py").write_text(MODULE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: tiring\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[evo_aar.plugins]\nlosses = tiring\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    said = run(tmp_path / "program.py", tmp_path, path=[plugin, ROOT])
    assert said == "None None 1\n"


def run(program: Path, *arguments: Path, path: list[Path]) -> str:
    done = subprocess.run(
        [sys.executable, str(program), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
