"""Testbeds that tests share, prepared once a session, in a cache of the session's own."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test machines' cores must not make two roundings


@pytest.fixture(scope="module", autouse=True)
def subnormal_numbers():
    """A trainer flushes subnormal numbers to zero for its whole process; hypothesis refuses to draw floats there."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A cache folder for the session: EVO_AAR_CACHE, here and in every process that a test starts."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["EVO_AAR_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def math_testbed(cache) -> Path:
    """The prepared testbed mini/math."""
    from evo_aar.testbeds import prepared

    return prepared("mini/math")


@pytest.fixture(scope="session")
def chat_testbed(cache) -> Path:
    """The prepared testbed mini/chat, of pairs."""
    from evo_aar.testbeds import prepared

    return prepared("mini/chat")
