"""What is checked before a commit is what `make lint` checks, and a test command checks it too."""

import os
import re
import subprocess

from repository import ROOT


def planned(target):
    """The commands that `make TARGET` runs in an environment that is set up."""
    asked = ["make", "--dry-run", "--always-make", target, "VENV=.venv"]
    # A make that these tests run under would have a word in what this one prints.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(asked, cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return lines[lines.index("touch .venv/.ready") + 1 :]


def test_hooks_run_what_lint_runs_from_the_projects_own_environment():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"^  - repo: (.+)$", hooks, re.MULTILINE) == ["local"]
    assert re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE) == planned("lint")


def test_the_test_command_lints_first():
    assert planned("test")[:-1] == planned("lint")
    assert "-m pytest" in planned("test")[-1]


def test_every_target_is_explained_at_the_top_of_the_makefile():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^# make (\w+) ", text, re.MULTILINE))
    targets = set(re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)[1].split())
    assert explained == targets - {"setup"}
