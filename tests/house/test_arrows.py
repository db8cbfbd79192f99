"""The house's arrows point one way: evo_aar -> evaluator, population, recipes; evaluator -> recipes; the
others to nobody. Within evo_aar, its rooms know one another as ARROWS says, function-level imports included.
"""

import ast
from graphlib import TopologicalSorter
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

ARROWS = {
    "errors": set(),
    "machine": {"errors"},
    "search": {"errors"},
    "operators": {"search"},
    "agents": {"errors", "search"},
    "views": {"search"},
    "lineage": {"search"},
    "report": {"errors", "lineage", "search", "views"},
    "tracking": {"errors", "lineage", "machine", "report", "search", "views"},
    "runs": {"agents", "errors", "machine", "operators", "report", "search", "tracking", "views"},
    "export": {"errors", "machine", "runs", "search", "views"},
    "cli": {"agents", "errors", "export", "machine", "report", "runs", "search", "tracking", "views"},
}
"""Of evo_aar's rooms, whom each may import."""


def imported(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it; of a package's module, by its full name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def outer(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_that_it_may(room):
    for path in (ROOT / room).rglob("*.py"):
        strays = (outer(path) & set(ROOMS)) - ROOMS[room]
        assert not strays, f"{path.relative_to(ROOT)} imports {strays}"


def test_the_inner_rooms_are_those_that_are_there():
    rooms = {path.stem for path in (ROOT / "evo_aar").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__init__", "__pycache__", "py"} == set(ARROWS)


def test_no_inner_room_knows_itself_by_way_of_another():
    TopologicalSorter(ARROWS).prepare()  # raises CycleError


@pytest.mark.parametrize("room", ARROWS)
def test_an_inner_room_imports_the_rooms_that_it_is_said_to_and_no_others(room):
    found = set()
    for path in [*(ROOT / "evo_aar" / room).rglob("*.py"), ROOT / "evo_aar" / f"{room}.py"]:
        if path.exists():
            inner = {name.split(".")[1] for name in imported(path) if name.startswith("evo_aar.")} - {room}
            assert inner <= ARROWS[room], f"{path.relative_to(ROOT)} imports {inner - ARROWS[room]}"
            found |= inner
    assert found == ARROWS[room], "an arrow that nobody needs any more: delete it"


def test_population_needs_no_torch_mlflow_or_language_model():
    for path in (ROOT / "population").rglob("*.py"):
        assert not outer(path) & HEAVY, path


def test_what_recipe_processes_load_needs_no_room_but_recipes():
    """The fork server must hold nothing that knows of labels or texts."""
    for name in ("process", "contract", "wire"):
        assert not outer(ROOT / "recipes" / f"{name}.py") & {"evaluator", "population", "evo_aar"}


def test_no_file_is_longer_than_400_lines():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
