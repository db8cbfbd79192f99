"""The notebooks run from the first cell to the last on a finished search."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from repository import ROOT

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, math_testbed) -> Path:
    """The folder of a small search that has ended."""
    runs = tmp_path_factory.mktemp("runs")
    arguments = [
        "evolve",
        "--islands",
        "2",
        "--generations",
        "1",
        "--children",
        "1",
        "--seeds",
        "1",
        "--audit-seeds",
        "0",
        "--final-seeds",
        "2",
        "--run",
        "small",
        "--runs",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "from evo_aar.cli import main; main()", *arguments, str(runs)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return runs / "small"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_finished_search(path, finished, monkeypatch):
    monkeypatch.setenv("EVO_AAR_RUN", str(finished))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    text = "\n".join(
        str(output.get("data", output))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "best evolved child" in text and "grader_questions" in text and "image/png" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path):
    assert not any(cell.get("outputs") for cell in nbformat.read(path, as_version=4).cells)
