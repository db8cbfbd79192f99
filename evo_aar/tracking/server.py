"""MLflow's own server as a child process, ended with all its processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType

from evo_aar.errors import UsageError
from evo_aar.machine.places import tracking_uri

HOST = "127.0.0.1"
_VIEW = "workflowType=machine_learning"
_START_SECONDS = 120.0
_ANSWER_SECONDS = 30.0
_END_SECONDS = 10.0


class TrackingServer:
    """MLflow on the database of a folder of runs, on this machine's loopback alone. Leaving the context ends
    it.

    Raises `UsageError` where the folder has no tracking, the port is taken, or the server doesn't start.
    SIGTERM ends it as Ctrl-C does.
    """

    def __init__(self, runs: Path, port: int) -> None:
        uri = tracking_uri(runs)
        if not Path(uri.removeprefix("sqlite:///")).exists():
            raise UsageError(
                f"{runs} has no MLflow database yet. Begin a search there with `evo-aar evolve`, or name"
                " another --runs."
            )
        _require_free(port)
        self.port = port
        options = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port), "--workers", "1"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            start_new_session=True,  # Ctrl-C comes to us alone, and we end the whole group
        )
        self._previous = signal.signal(signal.SIGTERM, _interrupt)

    @property
    def link(self) -> str:
        """Opens the list of experiments; without its query MLflow begins with its view for language model
        applications.
        """
        return f"http://{HOST}:{self.port}/#/experiments?{_VIEW}"

    def searches(self) -> list[tuple[str, str]]:
        """The name of every search and a link to its runs, the last one begun last.

        The link sorts by age, oldest first: the search comes before its islands and these before their
        individuals, so that the first page of runs has what the others are nested in.
        """
        experiments = self._ask("experiments/search", {"max_results": 1000}).get("experiments", [])
        ids = [one["experiment_id"] for one in experiments]
        question = {
            "experiment_ids": ids,
            "filter": "tags.kind = 'search'",
            "order_by": ["attributes.start_time"],
            "max_results": 1000,
        }
        found = []
        # The tags `kind` and `search` are those of evo_aar.tracking.record, which takes seconds to import.
        for run in self._ask("runs/search", question).get("runs", []):
            tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
            query = urllib.parse.urlencode(
                {
                    "searchFilter": f"tags.search = '{tags.get('search')}'",
                    "orderByKey": "attributes.start_time",
                    "orderByAsc": "true",
                },
                quote_via=urllib.parse.quote,
            )
            link = (
                f"http://{HOST}:{self.port}/#/experiments/{run['info']['experiment_id']}/runs?{_VIEW}&{query}"
            )
            found.append((run["info"]["run_name"], link))
        return found

    def wait_until_ready(self) -> None:
        """Returns once the server answers."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise UsageError(f"MLflow's server did not start on port {self.port}: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"http://{HOST}:{self.port}/health", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.2)
        raise UsageError(
            f"MLflow's server has not answered on port {self.port} within {_START_SECONDS:g} s:"
            f" {self._last_words()}"
        )

    def wait(self) -> None:
        """Returns never, but for a server that ends by itself. Raises `UsageError` then."""
        self._process.wait()
        raise UsageError(f"MLflow's server has ended: {self._last_words()}")

    def _ask(self, method: str, question: dict) -> dict:
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/api/2.0/mlflow/{method}",
            data=json.dumps(question).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
            return json.load(answer)

    def close(self) -> None:
        """End the server and its workers."""
        signal.signal(signal.SIGTERM, self._previous)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(_END_SECONDS)
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
        self._log.close()

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [
            line.strip() for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()
        ]
        telling = [line for line in lines if "error" in line.lower()]
        return (telling or lines or ["it said nothing"])[-1]

    def __enter__(self) -> TrackingServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"port {port} can't be used ({error.strerror}). Choose another one with --port."
            ) from None


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
