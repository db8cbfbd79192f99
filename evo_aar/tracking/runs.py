"""Runs in an MLflow store: found by their tags, created where they are missing, written where they differ
from their record.
"""

from __future__ import annotations

import getpass
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from evo_aar.tracking.record import (
    FAILED,
    FINISHED,
    IDENTITY,
    KEY,
    KILLED,
    KIND,
    LOGGED,
    RUNNING,
    TRACED,
    RunRecord,
)
from evo_aar.tracking.traces import write_traces
from population.jsontext import digest

if TYPE_CHECKING:
    from mlflow.entities import Run

_NOTE, _PARENT = "mlflow.note.content", "mlflow.parentRunId"
_PAGE = 1_000
_BUSY_SECONDS = 10.0
_ENDED = (FINISHED, FAILED)


def failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when its database or its artifacts cannot be read or written."""
    _quieten()
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, OSError


class MlflowRuns:
    """The runs of one search. Opening it reads what is there of them already.

    `uri`: MLflow's database (sqlite:///...) or server; `artifacts`: the folder for files, used for an
    experiment that is new; `identity` tells this search from any other, also from an earlier one of the same
    name. Any method raises one of `failures()`.
    """

    def __init__(self, uri: str, artifacts: Path, experiment: str, identity: str) -> None:
        _quieten()
        _prepare_database(uri)
        from mlflow import MlflowClient

        self._client = MlflowClient(uri)
        self._identity = identity
        self._experiment = self._experiment_id(experiment, artifacts)
        self._ids: dict[str, str] = {}
        self._status: dict[str, str] = {}
        self._started: dict[str, int] = {}
        self._params: dict[str, dict[str, str]] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._points: dict[str, dict[tuple[str, int], float]] = {}
        self._places: dict[str, str] = {}
        self._artifacts: dict[str, dict[str, str]] = {}
        self._metric_names: dict[str, tuple[str, ...]] = {}
        for run in self._found():
            self._remember(run)

    def link(self, key: str) -> str:
        """Where the user interface shows the run: relative to the page, so that it holds on any port."""
        return f"#/experiments/{self._experiment}/runs/{self._ids[key]}?workflowType=machine_learning"

    def ensure(
        self,
        key: str,
        kind: str,
        name: str,
        parent: str | None,
        started: float | None = None,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """The run exists.

        `started`: Unix time, now by default; `tags`: of a new run, which has them more cheaply at once.
        """
        if key in self._ids:
            return
        tags = {**tags, IDENTITY: self._identity, KEY: key, KIND: kind, "mlflow.user": _user(), **_SOURCE}
        if parent is not None:
            tags[_PARENT] = self._ids[parent]
        start = int((started or time.time()) * 1000)
        self._remember(self._client.create_run(self._experiment, start_time=start, tags=tags, run_name=name))

    def write(self, record: RunRecord) -> None:
        """Make the run show its record; what it shows already is not written again.

        It ends once, and never again.
        """
        from mlflow.entities import Metric, Param, RunTag

        shown = {**record.tags, _NOTE: record.note}
        if record.parent is not None:  # known by now, and another one where somebody deleted the parent's run
            shown[_PARENT] = self._ids[record.parent]
        self.ensure(record.key, record.kind, record.name, record.parent, tags=shown)
        key, run = record.key, self._ids[record.key]
        if self._status[key] == KILLED:
            self.mark(key, RUNNING)
        logged = digest([record.digest, shown.get(_PARENT)])
        if self._tags[key].get(LOGGED) != logged:
            self._write_artifacts(record)
            known = self._known_points(key)
            now = int(time.time() * 1000)
            metrics = [point for point in record.points if known.get((point.key, point.step)) != point.value]
            params = {name: value for name, value in record.params.items() if name not in self._params[key]}
            tags = {**shown, LOGGED: logged}
            tags = {name: value for name, value in tags.items() if self._tags[key].get(name) != value}
            self._client.log_batch(
                run,
                [Metric(point.key, point.value, now, point.step) for point in metrics],
                [Param(name, value) for name, value in params.items()],
                [RunTag(name, value) for name, value in tags.items()],
                synchronous=True,
            )
            known.update({(point.key, point.step): point.value for point in metrics})
            self._params[key].update(params)
            self._tags[key].update(tags)
        if record.traces and self._tags[key].get(TRACED) != str(len(record.traces)):
            write_traces(self._client, self._experiment, run, record.traces)
            self._client.set_tag(run, TRACED, str(len(record.traces)))
            self._tags[key][TRACED] = str(len(record.traces))
        if record.status in _ENDED and self._status[key] not in _ENDED:
            ended = None if record.seconds is None else self._started[key] + int(record.seconds * 1000)
            self._client.set_terminated(run, record.status, ended)
            self._status[key] = record.status

    def mark(self, key: str, status: str) -> None:
        """Show a run that has not ended as RUNNING or KILLED, without ending it."""
        if key in self._ids and self._status[key] not in (*_ENDED, status):
            self._client.update_run(self._ids[key], status=status)
            self._status[key] = status

    def _write_artifacts(self, record: RunRecord) -> None:
        known = self._artifacts.setdefault(record.key, {})
        changed = {name: text for name, text in record.artifacts.items() if known.get(name) != text}
        if not changed:
            return
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory(prefix="evo-aar-") as folder:
            for name, text in changed.items():
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_text(text, encoding="utf-8")
            # What MlflowClient.log_artifacts does, but for asking the database where to.
            get_artifact_repository(self._places[record.key]).log_artifacts(folder)
        known.update(changed)

    def _known_points(self, key: str) -> dict[tuple[str, int], float]:
        """The values on record, by metric and step: the last one of each."""
        if key not in self._points:
            self._points[key] = {
                (metric.key, metric.step): metric.value
                for name in self._metric_names[key]
                for metric in sorted(
                    self._client.get_metric_history(self._ids[key], name), key=lambda one: one.timestamp
                )
            }
        return self._points[key]

    def _remember(self, run: Run) -> None:
        key = run.data.tags[KEY]
        self._ids[key] = run.info.run_id
        self._status[key] = run.info.status
        self._places[key] = run.info.artifact_uri
        self._started[key] = run.info.start_time
        self._params[key] = dict(run.data.params)
        self._tags[key] = dict(run.data.tags)
        if not run.data.metrics:
            self._points[key] = {}
        self._metric_names[key] = tuple(run.data.metrics)

    def _found(self) -> Iterator:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment],
                f"tags.{IDENTITY} = '{self._identity}'",
                max_results=_PAGE,
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _experiment_id(self, name: str, artifacts: Path) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                location = artifacts.absolute().as_uri() if self._local else None
                return self._client.create_experiment(name, location, _EXPERIMENT_TAGS)
            except MlflowException as error:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise error
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return found.experiment_id

    @property
    def _local(self) -> bool:
        return self._client.tracking_uri.startswith("sqlite")


_SOURCE = {"mlflow.source.name": "evo-aar", "mlflow.source.type": "LOCAL"}
_EXPERIMENT_TAGS = {
    # The kind that makes the interface open in its view for training, not in the one for language model
    # applications.
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "Searches by evo-aar. A run per search; in it a run per island; in that a run per individual."
    ),
}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _quieten() -> None:
    """MLflow reports to nobody, and its databases' upgrades don't write into our progress display."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _prepare_database(uri: str) -> None:
    """Raises sqlite3.Error at once where the file cannot be written: MLflow would try again for minutes.

    A write-ahead log halves what each of MLflow's many small transactions costs, and lets the interface read
    meanwhile.
    """
    if not uri.startswith("sqlite:///"):
        return
    path = Path(uri.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()
