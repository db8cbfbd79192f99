"""The house's arrows point one way: evo_aar -> evaluator, population, recipes; evaluator -> recipes; the
others to nobody.
"""

import ast
from pathlib import Path

import pytest
from repository import ROOT

ROOMS = {
    "recipes": {"recipes"},
    "population": {"population"},
    "evaluator": {"evaluator", "recipes"},
    "evo_aar": {"evo_aar", "evaluator", "population", "recipes"},
}
HEAVY = {"torch", "transformers", "mlflow", "anthropic", "datasets"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room):
    for path in (ROOT / room).rglob("*.py"):
        strays = (imported(path) & set(ROOMS)) - ROOMS[room]
        assert not strays, f"{path.relative_to(ROOT)} imports {strays}"


def test_population_needs_no_torch_mlflow_or_language_model():
    for path in (ROOT / "population").rglob("*.py"):
        assert not imported(path) & HEAVY, path


def test_what_recipe_processes_load_needs_no_room_but_recipes():
    """The fork server must hold nothing that knows of labels or texts."""
    for name in ("process", "contract", "wire"):
        assert not imported(ROOT / "recipes" / f"{name}.py") & {"evaluator", "population", "evo_aar"}


def test_no_file_is_longer_than_400_lines():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
