"""Testbeds that tests share, prepared once a session, in a cache of the session's own."""

import os
import sys
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test machines' cores must not make two roundings

LONGEST = ("test_search", "test_operators_children", "test_wheel", "test_notebooks")
"""Files that take minutes. They begin first, so that at the end no process works alone."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="module", autouse=True)
def subnormal_numbers():
    """A trainer flushes subnormal numbers to zero for its whole process; hypothesis refuses to draw floats
    there.
    """
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory, request) -> Path:
    """A folder that all processes of a session of tests have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def cache(shared_folder) -> Path:
    """A cache folder for the session: EVO_AAR_CACHE, here and in every process that a test starts."""
    folder = shared_folder / "cache"
    os.environ["EVO_AAR_CACHE"] = str(folder)
    return folder


def _prepared(cache: Path, name: str) -> Path:
    """What is in the cache is whole; the lock spares a second process the same work."""
    from evo_aar.machine.testbeds import prepared

    with FileLock(cache.with_name(f"{name.replace('/', '-')}.lock")):
        return prepared(name)


@pytest.fixture(scope="session")
def math_testbed(cache) -> Path:
    """The prepared testbed mini/math."""
    return _prepared(cache, "mini/math")


@pytest.fixture(scope="session")
def chat_testbed(cache) -> Path:
    """The prepared testbed mini/chat, of pairs."""
    return _prepared(cache, "mini/chat")


@pytest.fixture(scope="session")
def empty_database(shared_folder) -> Path:
    """An MLflow database without runs.

    MLflow takes seconds to make one: once for all tests, which copy it.
    """
    from mlflow import MlflowClient

    from evo_aar.machine.places import tracking_uri

    runs = shared_folder / "mlflow"
    with FileLock(shared_folder / "mlflow.lock"):
        if not runs.exists():
            runs.mkdir()
            MlflowClient(tracking_uri(runs)).search_experiments()
    return runs / "mlflow.db"
