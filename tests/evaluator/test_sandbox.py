"""The sandbox's parts and its probe: what level a machine has, what is refused without one, and that
confinement is complete or loud.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from repository import HELPERS, ROOT
from small_testbeds import small_testbed

from evaluator.sandbox import bubblewrap, probe
from evaluator.sandbox.allowed import allowed
from evaluator.sandbox.levels import Level, worst
from evaluator.sandbox.server import CLEAN_ENVIRONMENT, ISOLATED
from evo_aar.machine.sandbox import described, is_ours, level_for
from recipes import seccomp
from recipes.fork_server import wipe

pytestmark = pytest.mark.slow

FOREIGN = (
    '"""Mine."""\n\n\nasync def recipe(task):\n    return await task.finetune(task.weak_labels,'
    " epochs=0.21)\n"
)


def python(program: str, *, missing: tuple[str, ...] = (), **options) -> subprocess.CompletedProcess:
    """`program` in a Python of its own, on a kernel that lacks something."""
    start = f"from refusals import without; without(*{missing!r})\n" if missing else ""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}",
        **options.pop("env", {}),
    }
    return subprocess.run(
        [sys.executable, "-c", start + program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


PROBE = """
import json
from evaluator.sandbox.probe import probe
found = probe()
print(json.dumps([found.level, [one.name for one in found.canaries if one.held], found.refused]))
"""


def probed(*missing: str) -> tuple[str, list[str], dict[str, str]]:
    done = python(PROBE, missing=missing)
    assert done.returncode == 0, done.stderr
    return tuple(json.loads(done.stdout))


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return small_testbed(tmp_path_factory.mktemp("small") / "testbed")


@pytest.fixture(scope="module")
def everything():
    """What is taken away must be there first."""
    here = probe.probe()
    if here.level is not Level.A:
        pytest.skip(f"this machine has level {here.level}: {here.refused}")


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize(
    ("missing", "level", "reasons"),
    [
        ((), "A", {}),
        (("namespaces",), "B", {"A": "bwrap"}),
        (("landlock",), "C", {"A": "Landlock", "B": "Landlock"}),
        (("landlock", "namespaces"), "D", {"A": "bwrap", "B": "Landlock", "C": "bwrap"}),
        (("seccomp",), "D", {"A": "seccomp", "B": "seccomp", "C": "seccomp"}),
    ],
    ids=["everything", "no namespaces", "no Landlock", "neither", "no seccomp"],
)
def test_the_probe_finds_the_best_level_that_holds_and_says_why_no_better_one(missing, level, reasons):
    found, held, refused = probed(*missing)
    assert found == level
    assert held == ([] if level == "D" else list(probe.QUESTIONS))
    assert set(refused) == set(reasons)
    assert all(word in refused[one] for one, word in reasons.items()), refused


def test_without_any_confinement_the_canaries_die():
    """The self-attack can fail: at level D it gets everything but what resource limits refuse."""
    dead = {canary.name for canary in probe.attack(Level.D) if not canary.held}
    assert dead >= {"label_file", "tcp", "udp", "memory", "write_outside", "fork", "sibling"}


@pytest.mark.usefixtures("everything")
def test_at_level_c_recipes_run_one_server_each(small, tmp_path):
    program = f"""
from pathlib import Path
from evaluator.processes import Limits
from evaluator.sandbox.levels import Level
from evaluator.service import Service
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer.trainer import Trainer
from evaluator.trial import TrialRequest
service = Service(Trainer(Testbed.load(Path({str(small)!r})), cache=Path({str(tmp_path)!r})), Limits(), "head")
found = []
service.run([TrialRequest({FOREIGN!r}, seed) for seed in (0, 1)], lambda trial, conversation: found.append(conversation.outcome))
print(service.processes.level, [one.ok for one in found])
service.close()
"""  # noqa: E501
    done = python(program, missing=("landlock",))
    assert done.stdout.split("\n")[0] == "C [True, True]", done.stderr


# ---- who is refused at level D


COMMAND = "import sys; from evo_aar.cli import main; sys.argv = ['evo-aar', *{words!r}]; main()"


def command(
    *words: object, missing: tuple[str, ...] = ("landlock", "namespaces")
) -> subprocess.CompletedProcess:
    return python(COMMAND.format(words=[str(word) for word in words]), missing=missing)


def test_without_a_sandbox_a_users_recipe_is_refused_with_the_way_out(tmp_path, cache):
    (tmp_path / "mine.py").write_text(FOREIGN)
    done = command("evaluate", tmp_path / "mine.py", "--seeds", "1")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "--unsandboxed" in done.stderr and "doctor" in done.stderr and "no Landlock" in done.stderr


def test_unsandboxed_runs_it_and_marks_the_result(tmp_path, small, cache):
    (tmp_path / "mine.py").write_text(FOREIGN)
    done = command(
        "evaluate",
        tmp_path / "mine.py",
        "--testbed",
        small,
        "--seeds",
        "1",
        "--workers",
        "1",
        "--json",
        "--unsandboxed",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sandbox"] == "D"
    assert "untrusted" in described(Level.D)


def test_what_was_written_here_needs_no_sandbox(monkeypatch):
    monkeypatch.setattr(
        "evo_aar.machine.sandbox.probe", lambda: probe.Probe(Level.D, (), {Level.A: "no reason"})
    )
    assert level_for(written_here=True, unsandboxed=False) is Level.D
    with pytest.raises(Exception, match="--unsandboxed"):
        level_for(written_here=False, unsandboxed=False)
    seed = (ROOT / "recipes/seeds/label_posterior.py").read_text()
    assert is_ours(seed) and is_ours("# a comment\n" + seed) and not is_ours(FOREIGN)


def test_a_run_is_as_trusted_as_its_weakest_session():
    assert worst([Level.A, Level.D, Level.B]) is Level.D and worst([]) is None


# ---- what may be read


def test_nothing_that_may_be_read_contains_labelled_data_or_the_engine():
    import sklearn

    import evaluator
    import recipes.seeds

    forbidden = [Path(module.__file__).parent for module in (sklearn, evaluator)]
    forbidden += [
        Path(recipes.seeds.__path__[0]),
        Path.home(),
        Path("/etc/passwd"),
        Path(os.path.dirname(sys.executable)) / "pip",
    ]
    readable = [Path(os.path.realpath(path)) for path in allowed().readable]
    for path in forbidden:
        real = Path(os.path.realpath(path))
        assert not [one for one in readable if one == real or one in real.parents], f"{path} may be read"


def test_an_import_that_a_recipe_makes_late_finds_its_package():
    """sympy and the like are imported by torch when they are needed, long after the confinement."""
    names = {Path(path).name for path in allowed().packages}
    assert {"torch", "numpy", "sympy", "mpmath", "typing_extensions.py"} <= names


def test_the_order_of_a_recipes_sets_is_the_same_each_time():
    said = {
        subprocess.run(
            [sys.executable, *ISOLATED, "-c", "print(hash('a'))"],
            env=CLEAN_ENVIRONMENT,
            capture_output=True,
            check=True,
        ).stdout
        for _ in range(3)
    }
    assert len(said) == 1


@pytest.mark.parametrize("said", ["bubblewrap 0.6.1", "nonsense"])
def test_an_old_bubblewrap_gives_way_to_the_packages_own(tmp_path, monkeypatch, said):
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\necho {said}\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert bubblewrap.find() != str(tmp_path / "bwrap")


# ---- the order of confinement


CONFINE = """
import asyncio, os, threading, time, sys, tempfile
from recipes.confinement import Confinement, ConfinementError
confinement = Confinement(True, True, tuple(filter(os.path.exists, ("/usr", "/lib", sys.base_prefix, sys.prefix, "/proc/cpuinfo"))))
confinement.prepare()
scratch = tempfile.mkdtemp()
"""  # noqa: E501


@pytest.mark.usefixtures("everything")
def test_a_process_with_a_second_thread_refuses_to_be_confined():
    """Landlock and seccomp hold for the thread that asks: the other one would stay free."""
    done = python(
        CONFINE
        + "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()\nconfinement.confine(scratch)"
    )
    assert "second thread" in done.stderr


@pytest.mark.usefixtures("everything")
def test_an_event_loop_can_only_be_made_before_the_confinement():
    made = python(
        CONFINE
        + "loop = asyncio.new_event_loop()\nconfinement.confine(scratch)\n"
        + "print(loop.run_until_complete(asyncio.sleep(0, 7)))"
    )
    late = python(CONFINE + "confinement.confine(scratch)\nloop = asyncio.new_event_loop()")
    assert made.stdout == "7\n", made.stderr
    assert "PermissionError" in late.stderr


@pytest.mark.parametrize("missing", ["landlock", "seccomp"])
@pytest.mark.usefixtures("everything")
def test_a_confinement_that_does_not_come_about_is_an_error_and_never_silence(missing):
    done = python(
        CONFINE.replace("confinement.prepare()\n", "") + "confinement.confine(scratch)\nprint('went on')",
        missing=(missing,),
    )
    assert "ConfinementError" in done.stderr and "went on" not in done.stdout


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_is_a_program_that_the_kernel_takes(machine):
    """Whole instructions, fewer than the kernel's 4,096, and the last one refuses."""
    code = seccomp.program(1234, machine)
    assert len(code) % 8 == 0 and len(code) // 8 < 4096
    assert int.from_bytes(code[-4:], sys.byteorder) == 0x00050001


# ---- wiping


def test_whatever_lies_in_a_scratch_folder_is_wiped(tmp_path):
    scratch, outside = tmp_path / "scratch", tmp_path / "outside"
    scratch.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (scratch / "link").symlink_to(outside)
    here = os.getcwd()
    try:
        os.chdir(scratch)
        for _ in range(3000):  # deeper than any recursion, and longer than any path may be
            os.mkdir("d")
            os.chdir("d")
        os.chdir(scratch)
    finally:
        os.chdir(here)
    (scratch / "full").mkdir()
    for number in range(50):
        (scratch / "full" / f"{number}").write_text("x")
    (scratch / "closed" / "inner").mkdir(parents=True)
    (scratch / "closed" / "inner").chmod(0)
    (scratch / "closed").chmod(0)
    wipe(str(scratch))
    assert list(scratch.iterdir()) == [] and (outside / "kept").read_text() == "kept"
