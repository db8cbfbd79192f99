"""`evo-aar ui`: the real server on a real database, seen by a real browser where there is one."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from store_examples import ROOT
from tracking_examples import copied, tracked_search

from evo_aar.errors import UsageError
from evo_aar.tracking.server import TrackingServer

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
UI = "import sys; from evo_aar.cli import main; sys.argv = ['evo-aar', 'ui', *sys.argv[1:]]; main()"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, empty_database):
    folder = copied(empty_database, tmp_path_factory.mktemp("runs"))
    tracked_search(folder, generations=2)
    return folder


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(runs, port):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    line = [sys.executable, "-c", UI, "--runs", str(runs), "--port", str(port)]
    return subprocess.Popen(
        line,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def site(runs):
    """The links that the command prints, while its server runs; the server has gone when the command has."""
    port = free_port()
    process = command(runs, port)
    links = {}
    while "all" not in links:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        name, link = line.split()
        links[name] = link
    yield links
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert nobody_listens(port)


def nobody_listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return False
    return True


def seen(link, folder):
    """The text of a page as the browser shows it, its scripts run."""
    line = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    line += [
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder}",
    ]
    line += ["--window-size=1600,1200", "--virtual-time-budget=60000", "--dump-dom", link]
    out = subprocess.run(line, capture_output=True, text=True, timeout=180).stdout
    return re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(script|style).*?</\1>", "", out))


def test_the_command_names_each_search_and_serves_its_page(site):
    assert set(site) == {"demo", "all"}
    address = site["demo"].split("#")[0]
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert b"MLflow" in answer.read()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_link_opens_the_searchs_runs_in_the_view_for_training(site, tmp_path):
    text = seen(site["demo"], tmp_path)
    assert "evo-aar mini/math" in text and "demo" in text
    assert "Model registry" in text and "Prompts" not in text


def test_a_port_that_is_taken_is_one_clear_error(runs):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            UsageError,
            match=r"port \d+ can't be used \(Address already in use\)\. Choose another one with --port",
        ):
            TrackingServer(runs, taken.getsockname()[1])


def test_a_folder_without_searches_is_one_clear_error(tmp_path):
    with pytest.raises(UsageError, match="no MLflow database yet"):
        TrackingServer(tmp_path, free_port())


def test_sigterm_ends_the_server_and_all_its_processes(runs):
    port = free_port()
    process = command(runs, port)
    assert process.stdout.readline().startswith("demo")
    process.terminate()
    process.communicate(timeout=30)
    time.sleep(0.5)
    assert nobody_listens(port)


def test_help_needs_no_mlflow_and_no_torch():
    program = "import sys\nfrom evo_aar.cli import ui\nprint(*sorted({'mlflow', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stderr
