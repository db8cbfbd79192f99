"""What MLflow holds of a search, read back by its own client."""

import os
import re
import shutil
from pathlib import Path

from mlflow import MlflowClient
from synthetic_search import SyntheticSearch

from evo_aar.machine.places import tracking_uri
from evo_aar.tracking import Tracker


def fail(message):
    raise AssertionError(message)


def tracked(runs, store, warn=fail, **options):
    return Tracker(runs, store, "demo", warn=warn, **options)


def shown(runs):
    """All runs by key, and the client."""
    client = MlflowClient(tracking_uri(runs))
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = list(client.search_runs(experiments, max_results=1000))
    keys = [run.data.tags["key"] for run in found]
    assert len(set(keys)) == len(keys), "a run is there twice"
    return dict(zip(keys, found, strict=True)), client


def everything(runs, as_logged=False):
    """All that MLflow has of a search but ids and times: comparable between two folders.

    Of a metric that was logged again at a step the last value counts, and of what had been spent when only
    the last: these depend on when somebody looked. `as_logged`: everything that was ever logged.
    """
    found, client = shown(runs)
    names = {run.info.run_id: key for key, run in found.items()}

    def neutral(text):
        return re.sub(r"/experiments/\d+/runs/([0-9a-f]{32})", lambda match: names[match[1]], text)

    state = {}
    for key, run in found.items():
        tags = {name: neutral(value) for name, value in run.data.tags.items() if name != "logged"}
        tags["mlflow.parentRunId"] = names.get(tags.get("mlflow.parentRunId"))
        metrics = {name: history(client, run, name) for name in run.data.metrics}
        if not as_logged:
            metrics = {
                name: run.data.metrics[name] if "spent" in name else dict(values)
                for name, values in metrics.items()
            }
        folder = run.info.artifact_uri.removeprefix("file://")
        files = {
            name: Path(folder, name).read_text()
            for name in (os.listdir(folder) if os.path.isdir(folder) else ())
        }
        state[key] = (run.info.run_name, run.info.status, run.data.params, tags, metrics, files)
    return state


def history(client, run, name):
    metrics = sorted(
        client.get_metric_history(run.info.run_id, name), key=lambda metric: (metric.step, metric.timestamp)
    )
    return [(metric.step, metric.value) for metric in metrics]


def artifact(run, name):
    return Path(run.info.artifact_uri.removeprefix("file://"), name).read_text()


def copied(database, folder):
    """`folder`, with a copy of that empty MLflow database."""
    folder.mkdir(exist_ok=True)
    for file in database.parent.glob("mlflow.db*"):
        shutil.copy(file, folder)
    return folder


def tracked_search(folder, **sizes):
    """A whole search, tracked there as a search is: its store."""
    search = SyntheticSearch(folder / "demo" / "search.sqlite", **sizes)
    tracker = tracked(folder, search.store)
    search.run(lambda number: tracker.generation(search.store, number))
    tracker.finish()
    return search.store
