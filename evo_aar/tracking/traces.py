"""Conversations with language models as MLflow traces, read from the store's journal: a view like all
tracking, written once and repaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from evo_aar.tracking.record import Span, Trace
from population.tables.replies import Turn

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONGEST_TEXT = 20_000


def traces_of(rows: Sequence[tuple[Turn, Any, str]]) -> tuple[Trace, ...]:
    """A trace for each conversation in an individual's journal (see `Replies.of`): its mutation, and its
    repairs.
    """
    ordered = sorted(rows, key=lambda row: row[0].attempt)
    return tuple(_trace(list(group)) for _, group in groupby(ordered, key=lambda row: row[0].attempt))


def _trace(rows: list[tuple[Turn, Any, str]]) -> Trace:
    first = rows[0][0]
    verb = first.operator.split()[0]
    spans: list[Span] = []
    calls: list[dict] = []
    task, handed = None, None
    for turn, reply, at in rows:
        ended = _nanoseconds(at)
        if "answers" in reply:
            spans += _tools(calls, reply["answers"], spans[-1].ended if spans else ended, ended)
            handed = reply["desk"]["submitted"] or handed
            continue
        task = task or _clipped(reply["asked"])
        calls = [block for block in reply.get("content", ()) if block["type"] == "tool_use"]
        spans.append(_reply(turn, reply, ended))
    outputs = handed or {"ended": spans[-1].outputs if spans else None}
    return Trace(
        f"{verb} {first.individual} attempt {first.attempt}",
        tuple(spans),
        task,
        outputs,
        {"individual": first.individual},
    )


def _reply(turn: Turn, reply: dict, ended: int) -> Span:
    began = ended - int(reply.get("seconds", 0) * 1e9)
    if "rejected" in reply:
        return Span(
            f"reply {turn.turn}",
            "CHAT_MODEL",
            began,
            ended,
            _clipped(reply["asked"]),
            reply["rejected"],
            failed=True,
        )
    usage = reply["usage"]
    prompt = usage["input"] + usage["cache_write"] + usage["cache_read"]
    attributes = {
        "mlflow.chat.tokenUsage": {
            "input_tokens": prompt,
            "output_tokens": usage["output"],
            "total_tokens": prompt + usage["output"],
            "cache_read_input_tokens": usage["cache_read"],
            "cache_creation_input_tokens": usage["cache_write"],
        },
        "mlflow.llm.model": reply["model"],
        "usd": reply["usd"],
        "stop_reason": reply["stop_reason"],
    }
    return Span(
        f"reply {turn.turn}",
        "CHAT_MODEL",
        began,
        ended,
        _clipped(reply["asked"]),
        _clipped(reply["content"]),
        attributes,
    )


def _tools(calls: Iterable[dict], answers: Iterable[dict], began: int, ended: int) -> list[Span]:
    by_id = {answer["tool_use_id"]: answer for answer in answers}
    return [
        Span(
            call["name"],
            "TOOL",
            began,
            max(began, ended),
            _clipped(call["input"]),
            _clipped(answer["content"]),
            failed=answer["is_error"],
        )
        for call in calls
        if (answer := by_id.get(call["id"]))
    ]


def write_traces(client: MlflowClient, experiment: str, run: str, traces: Iterable[Trace]) -> None:
    """Write the traces that the run lacks. `client`: an `MlflowClient`. Raises what MLflow raises."""
    import mlflow

    mlflow.set_tracking_uri(client.tracking_uri)
    known = {
        trace.info.tags.get("mlflow.traceName")
        for trace in client.search_traces(locations=[experiment], run_id=run)
    }
    for trace in traces:
        if trace.name in known or not trace.spans:
            continue
        root = mlflow.start_span_no_context(
            trace.name,
            span_type="AGENT",
            inputs=trace.inputs,
            tags=dict(trace.tags),
            metadata={"mlflow.sourceRun": run},
            experiment_id=experiment,
            start_time_ns=trace.spans[0].began,
        )
        for span in trace.spans:
            child = mlflow.start_span_no_context(
                span.name, span_type=span.kind, parent_span=root, inputs=span.inputs, start_time_ns=span.began
            )
            child.set_attributes(dict(span.attributes))
            child.end(outputs=span.outputs, status="ERROR" if span.failed else "OK", end_time_ns=span.ended)
        root.end(outputs=trace.outputs, end_time_ns=max(span.ended for span in trace.spans))


def _nanoseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1e9)


def _clipped(value: Any) -> Any:
    """Long texts shortened: a trace is for looking at; the journal has all of it."""
    if isinstance(value, str):
        return (
            value
            if len(value) <= LONGEST_TEXT
            else f"{value[:LONGEST_TEXT]} ... ({len(value) - LONGEST_TEXT:,} characters more)"
        )
    if isinstance(value, dict):
        return {name: _clipped(one) for name, one in value.items()}
    return [_clipped(one) for one in value] if isinstance(value, list) else value
