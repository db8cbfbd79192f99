"""Recipes that try to cheat or to break out, at levels A and B, as root and as a user without rights.

Each is judged by its effect.
"""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from attack_world import ATTACKS
from filelock import FileLock
from other_user import UNAVAILABLE
from repository import HELPERS, ROOT

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent

NAMES = [attack.name for attack in ATTACKS]
REACHING = [attack.name for attack in ATTACKS if attack.reaches]
RUNS = {"A as root": "A", "B as root": "B", "A as a user": "A", "B as a user": "B"}
SECONDS = 600


def attacked(folder: Path, level: str, *, as_user: bool, reaching: bool = False) -> dict:
    """What each attack reached, by name; run once for all tests of a session."""
    results = folder / f"attacks-{level}-{'user' if as_user else 'root'}.json"
    with FileLock(results.with_suffix(".lock")):
        if not results.exists():
            results.write_text(json.dumps(_run(level, as_user, reaching)))
    found = json.loads(results.read_text())
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    return found["attacks"]


def _run(level: str, as_user: bool, reaching: bool) -> dict:
    if not as_user and os.geteuid() != 0:
        return {"unavailable": "not root"}
    folder = Path(
        subprocess.run(
            ["mktemp", "-d", "/tmp/attacked-XXXXXX"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    folder.chmod(0o777)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HELPERS, HERE))),
        "OMP_NUM_THREADS": "1",
        "EVO_AAR_DECOY": "DECOY-of-the-environment",
        "HOME": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        sys.executable,
        str(HERE / "attack_world.py"),
        level,
        str(folder / "results.json"),
        *(["reaching"] if reaching else []),
    ]
    if as_user and os.geteuid() == 0:
        needed = {ROOT, sys.prefix, sys.base_prefix, sysconfig.get_paths()["purelib"]}
        command = [sys.executable, str(HERE / "other_user.py"), *map(str, needed), "--", *command]
    done = subprocess.run(
        command, env=environment, cwd="/", capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode == UNAVAILABLE:
        return {"unavailable": done.stdout.strip()}
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads((folder / "results.json").read_text())
    assert "unavailable" in found or (found["uid"] == 0) != (as_user and os.geteuid() == 0)
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("run", RUNS)
def test_the_attack_reaches_nothing(shared_folder, run, name):
    reached = attacked(shared_folder, RUNS[run], as_user=run.endswith("user"))[name]
    assert reached is None, reached


@pytest.mark.parametrize("name", REACHING)
def test_without_a_sandbox_the_attack_reaches_its_aim(shared_folder, name):
    """The attacks are ones: what holds them back is the sandbox."""
    assert attacked(shared_folder, "D", as_user=False, reaching=True)[name] is not None


def test_there_are_enough_of_them_and_no_two_are_the_same():
    assert (
        len(NAMES) >= 60
        and len(set(NAMES)) == len(NAMES)
        and len({attack.body for attack in ATTACKS}) == len(NAMES)
    )
