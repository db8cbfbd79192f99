"""The project as an ordinary package: the wheel holds all four rooms and their data, and works outside the
clone.
"""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from repository import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = (
        subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        .stdout.decode()
        .split("\0")
    )
    for name in filter(None, names):  # what is committed, not what happens to lie about
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(source)],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_ships_the_four_rooms_with_their_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"evo_aar", "evaluator", "population", "recipes"}
    for needed in (
        "recipes/briefs/distillation.md",
        "recipes/CONTRACT.md",
        "evaluator/testbeds/mini/weights/model.safetensors",
        "population/store.py",
    ):
        assert needed in names


def test_the_installed_wheel_trains_outside_the_clone(wheel, tmp_path):
    """In an environment of its own, which borrows the dependencies alone."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    subprocess.run(
        [str(home / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        check=True,
    )
    # a .pth adds the folder without reading its .pth files, so the editable install stays out
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    place = subprocess.run(
        [str(home / "bin/python"), "-c", "import recipes; print(recipes.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert str(home) in place.stdout
    recipe = tmp_path / "vanilla.py"
    recipe.write_text((ROOT / "recipes/baselines/vanilla.py").read_text())
    done = subprocess.run(
        [
            str(home / "bin/evo-aar"),
            "evaluate",
            str(recipe),
            "--testbed",
            "mini/math",
            "--seeds",
            "1",
            "--workers",
            "1",
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "EVO_AAR_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "PGR" in done.stdout
