"""The agent's loop: ask, run the tools that the reply calls for, ask again, until a recipe is submitted or
there is no use in going on.

No order of steps is imposed. What ends it without a recipe raises `OperatorError`; every such end follows
from journalled replies, so a resumed search comes to the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from evo_aar.agents.briefs import Briefing
from evo_aar.agents.desk import Desk, Submission
from evo_aar.agents.journal import Journal
from evo_aar.agents.provider import MALFORMED
from evo_aar.search.operator import OperatorError

IDLE_REPLIES = 3
"""Replies in a row without a call of a tool after which an agent is taken to have nothing to hand in."""
LAST_TURNS = 3


@dataclass(frozen=True)
class Ending:
    """How a conversation that came to a recipe went."""

    submission: Submission
    turns: int
    usd: float
    model: str


def converse(briefing: Briefing, desk: Desk, journal: Journal, turns: int) -> Ending:
    """Run the loop until `desk` has a submission.

    Raises `OperatorError`, with what was spent, where there is none.
    """
    messages, usd, idle = [briefing.first_message], 0.0, 0
    asked = messages[0]["content"]
    for turn in range(turns):
        reply = journal.reply(turn, briefing.request(messages), asked)
        usd += reply["usd"]
        if "rejected" in reply:
            raise OperatorError(f"the model's server refused the conversation: {reply['rejected']}", usd)
        stop, content = reply["stop_reason"], reply["content"]
        if stop in _ENDS:
            raise OperatorError(_ENDS[stop], usd)
        if content:
            messages.append({"role": "assistant", "content": content})
        calls = [block for block in content if block["type"] == "tool_use"]
        if stop == "pause_turn" and content and not calls:
            asked = []  # the server goes on where it paused when it is sent its own words
            continue
        idle = 0 if calls else idle + 1
        if idle >= IDLE_REPLIES:
            raise OperatorError(
                f"the model talked {idle} times without using a tool, and submitted nothing", usd
            )
        said = _results(desk, journal, turn, calls, stop) if calls else [_text(_nudge(stop))]
        if desk.submitted:
            return Ending(desk.submitted, turn + 1, usd, reply["model"])
        left = turns - turn - 1
        if 0 < left <= LAST_TURNS:
            said.append(_text(f"{left} {'reply' if left == 1 else 'replies'} left: submit what you have."))
        asked = said
        if messages[-1]["role"] == "user":  # nothing was said in between
            said = [*messages.pop()["content"], *said]
        messages.append({"role": "user", "content": said})
    raise OperatorError(f"no recipe was submitted in {turns} replies", usd)


_ENDS = {
    "refusal": "the model refused to go on",
    "model_context_window_exceeded": "the conversation has outgrown the model's context window",
}


def _results(desk: Desk, journal: Journal, turn: int, calls: list[dict], stop: str) -> list[dict]:
    """The results of a reply's tools, in the order of its calls."""

    def run() -> dict:
        answers = []
        for call in calls:
            text, failed = _run(desk, call, stop)
            answers.append(
                {
                    "type": "tool_result",
                    "tool_use_id": call["id"],
                    "content": text or "(nothing)",
                    "is_error": failed,
                }
            )
        return {"answers": answers, "desk": desk.state()}

    found, replayed = journal.results(turn, calls, run)
    if replayed:
        desk.restore(found["desk"])
    return list(found["answers"])


def _run(desk: Desk, call: dict, stop: str) -> tuple[str, bool]:
    if MALFORMED in call["input"]:
        why = "was cut off at the longest reply" if stop == "max_tokens" else "is no JSON object"
        return (
            (
                f"The input of {call['name']} {why}: nothing was done. Send it"
                f" again{', shorter' if stop == 'max_tokens' else ''}."
            ),
            True,
        )
    return desk.run(call["name"], json.loads(json.dumps(call["input"])))


def _nudge(stop: str) -> str:
    if stop == "max_tokens":
        return (
            "Your reply was cut off at the longest that is allowed. Go on with tools; keep what you write"
            " short."
        )
    return (
        "Nothing is handed in yet. Work with the tools, and hand your recipe in with submit: what stands in a"
        " reply's text isn't read."
    )


def _text(words: str) -> dict:
    return {"type": "text", "text": words}
