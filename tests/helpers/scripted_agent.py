"""An agent for tests: what it says is a function of what it is sent, as a model's replies would have to be
for a search to be repeatable.
"""

import json
import re

from messages_server import Answer, text, use

from population.jsontext import digest

DRAFT = '''"""Train on the teacher's confident share, scaled anew.

Direction: {direction}
"""
import numpy as np

KEEP = {keep}


async def recipe(task):
    weak = task.weak_labels
    keep = np.argsort(-weak.max(axis=1))[: max(8, int(KEEP * task.size))]
    return await task.finetune(weak[keep], rows=keep)
'''
BROKEN = "    if task.size > 1000:\n        raise ValueError('broken on purpose')\n"


def said(request):
    """All that the user side has said, as one text."""
    parts = []
    for message in request["messages"]:
        if message["role"] == "user":
            for block in message["content"]:
                parts.append(block.get("text") or str(block.get("content", "")))
    return "\n".join(parts)


def replies(request):
    return sum(message["role"] == "assistant" for message in request["messages"])


def sources(request):
    return re.findall(r"```python\n(.*?)```", request["messages"][0]["content"][0]["text"], re.DOTALL)


def direction(request):
    return re.search(r"`Direction: (\w+)`", request["system"][1]["text"])[1]


def share(request, salt):
    """A number in [0, 1) that follows from the request."""
    return int(digest([said(request), request["system"][1]["text"], salt])[:8], 16) / 2**32


class ScriptedAgent:
    """Looks, edits, checks, tries, posts, submits: a reply each.

    `broken`: the share of children that fail in their trials.
    """

    def __init__(self, broken=0.0, tries=True):
        self.broken = broken
        self.tries = tries

    def __call__(self, request, number):
        task, turn = request["messages"][0]["content"][0]["text"], replies(request)
        if task.startswith("This recipe failed"):
            return self._repair(request, turn)
        steps = [self._look, self._write, *([self._try] if self.tries else []), self._post, self._submit]
        if "born before" in said(request):
            return self._again(request, turn)
        return Answer(tuple(steps[min(turn, len(steps) - 1)](request)))

    def _look(self, request):
        code = (
            "prior = await task.prior() if task.has_prior else task.weak_labels\nprint('rows', task.size,"
            " (prior.argmax(1) == task.weak_labels.argmax(1)).mean())"
        )
        known = re.findall(r"g\d{3}-i\d-c\d\d", request["messages"][0]["content"][0]["text"])
        reading = (
            [use("read_history", recipe=known[0]), use("read_recipe", recipe=known[0], against="parent")]
            if known
            else []
        )
        return [
            text("First I look."),
            *reading,
            use("run_python", code=code),
            use("search_forum", words="teacher confident"),
        ]

    def _write(self, request, salt=0):
        found = sources(request)
        source = (
            found[0]
            if found
            else DRAFT.format(direction=direction(request), keep=round(0.2 + 0.7 * share(request, salt), 4))
        )
        if found:
            source = self._changed(source, request, salt)
        if share(request, "broken") < self.broken:
            source = source.replace("async def recipe(task):\n", f"async def recipe(task):\n{BROKEN}")
        return [text("I change a constant."), use("write", salt, source=source), use("check", salt)]

    def _changed(self, source, request, salt):
        source = re.sub(r"Direction: \w+", f"Direction: {direction(request)}", source)
        factor = round(0.7 + 0.6 * share(request, salt), 4)
        changed, count = re.subn(
            r"^([A-Z_]+ = )(\d+\.\d+)",
            lambda m: f"{m[1]}{round(float(m[2]) * factor, 5)}",
            source,
            count=1,
            flags=re.MULTILINE,
        )
        if count:
            return changed
        return source.replace("async def recipe", f"UNUSED = {factor}\n\n\nasync def recipe", 1)

    def _try(self, request):
        return [use("try_draft")]

    def _post(self, request):
        return [
            use(
                "post_finding",
                title="A constant moved",
                text=f"Scaling by {share(request, 0):.4f} changed little on {direction(request)}.",
            )
        ]

    def _submit(self, request):
        return [
            use(
                "submit",
                changes=["a constant was scaled"],
                reasons="The first parent's frame, with a bolder constant; nothing was taken from others.",
            )
        ]

    def _again(self, request, turn):
        count = said(request).count("born before")
        last = str(request["messages"][-1]["content"])
        return Answer(tuple(self._submit(request) if "It runs" in last else self._write(request, count)))

    def _repair(self, request, turn):
        if turn:
            return Answer(tuple(self._submit(request)))
        return Answer((use("write", source=sources(request)[0].replace(BROKEN, "")), use("check")))


def tool_results(request):
    """The results of the last message, as one text."""
    return json.dumps(request["messages"][-1]["content"])
