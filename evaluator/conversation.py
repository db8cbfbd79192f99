"""One trial's side of the trainer: what its recipe says, counted, handed to whoever answers it, and how the
trial ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.answers import Answers
from evaluator.bench import Bench
from evaluator.budget import OverBudget
from evaluator.requests import ProtocolBreach, Refused, words
from evaluator.sessions import Sessions
from evaluator.shelf import members
from evaluator.trainer.students import Student
from evaluator.trainer.trainer import Trainer
from evaluator.trainings import Trainings
from evaluator.trial import EXPLORE, SCORE, SEALED, SMOKE, Failure, Success, TrialRequest, Ungraded
from recipes.contract import FAILURES
from recipes.wire import Message

MAX_REQUESTS = 100_000
MAX_OUTPUT = 10_000


class Conversation:
    """Serves one trial. `send` takes the answers.

    `outcome` is set when the recipe has said its last word, and `student` is what it returned, if that is to
    be graded. `seconds`: the trial's share of the worker's time, kept by the service.
    """

    def __init__(
        self, request: TrialRequest, trainer: Trainer, send: Callable[[Message], None], kind: str
    ) -> None:
        self.request = request
        self.outcome: Success | Ungraded | Failure | None = None
        self.student: Student | None = None
        self.seconds = 0.0
        self._bench = Bench.of(request, trainer, kind, send)
        self.trainings = Trainings(self._bench, self.fail)
        self.answers = Answers(self._bench)
        self.sessions = Sessions(self._bench)
        self._count = 0

    @property
    def asked_since(self) -> float | None:
        """Since when the trainer has waited longest for a gradient of the recipe's own loss, in monotonic
        seconds.
        """
        return self.trainings.asked_since

    def start(self) -> Message:
        """The first message: the recipe's source and the facts of its task."""
        bench, request = self._bench, self.request
        testbed, states = bench.trainer.testbed, bench.trainer.states
        facts = {
            "source": request.source,
            "seed": request.seed,
            "size": len(bench.pool),
            "layers": list(states.layers),
            "has_prior": states.has_prior(),
            "templates": len(testbed.templates),
            "statements": [
                index for index, template in enumerate(testbed.templates) if template.is_statement
            ],
            "student": bench.kind,
            "budget": bench.budget.left,
        }
        weak = testbed.weak_labels()[bench.pool]
        if request.purpose == SMOKE:
            first = np.random.default_rng([request.seed, 2]).random(len(weak), np.float32)
            weak = np.stack([1 - first, first], 1)
        return Message("start", 0, facts, {"weak_labels": weak})

    def receive(self, message: Message) -> None:
        """Act on one message. Raises `ProtocolBreach`."""
        verb = VERBS.get(message.kind)
        if verb is None:
            raise ProtocolBreach(f"unknown message {message.kind[:40]!r}")
        if verb.counted:
            self._count += 1
            if message.number != self._count:
                raise ProtocolBreach(f"request {self._count} came under another number")
            if self._count > MAX_REQUESTS:
                raise ProtocolBreach(f"more than {MAX_REQUESTS} requests in one trial")
        try:
            verb.handler(self)(message)
        except (Refused, OverBudget) as error:
            if verb.answered:
                kind = error.kind if isinstance(error, Refused) else "BudgetExceeded"
                fields = {"type": kind, "message": words(error)}
                self._bench.send(Message("error", message.number, fields))
            else:
                self.fail("invalid_request", words(error))

    def close(self) -> None:
        """Give up what the trial holds of the trainer."""
        self.trainings.cancel()
        self.sessions.clear()

    # ---- how it ends

    def fail(self, reason: str, message: str, output: str = "") -> None:
        """End the trial without a score."""
        self.close()
        self.outcome = Failure(reason=reason, message=message, **self._told(output))

    def done(self, message: Message) -> None:
        """The recipe has returned a student."""
        output, student = self._last_words(message), self._bench.shelf.find(message.fields.get("student"))
        if student is None:
            self.fail("contract", "recipe() returned a student that it never made")
        elif self.request.purpose not in (SCORE, SEALED):
            self._end_ungraded(output)
        else:
            self._end(student, output)

    def failed(self, message: Message) -> None:
        """The recipe has ended without a student. Raises `ProtocolBreach` for no known reason."""
        output = self._last_words(message)
        reason, text = message.fields.get("reason"), message.fields.get("message")
        if not isinstance(reason, str) or reason not in FAILURES:
            raise ProtocolBreach("a failure of no known kind")
        if self.request.purpose == EXPLORE and reason == "contract":  # no student: nobody asked for one
            self._end_ungraded(output)
        else:
            self.fail(reason, words(text), output)

    def _end(self, student: Student, output: str) -> None:
        trainer = self._bench.trainer
        fitness = trainer.probabilities(student, self.request.split)
        pool = trainer.probabilities(student, "train")
        if not (np.isfinite(fitness).all() and np.isfinite(pool).all()):
            said = "the student's predictions are NaN or infinite; lower the learning rate"
            self.fail("diverged", said, output)
            return
        self.close()
        self.student = student
        self.outcome = Success(
            fitness=fitness, pool=pool[:, 1], members=members(student), **self._told(output)
        )

    def _end_ungraded(self, output: str) -> None:
        self.close()
        self.outcome = Ungraded(**self._told(output))

    def _told(self, output: str) -> dict[str, Any]:
        return {
            "tokens": self._bench.budget.spent,
            "seconds": self.seconds,
            "history": self.trainings.history,
            "output": output,
        }

    def _last_words(self, message: Message) -> str:
        """What the recipe printed; the trainings that it knows of are those up to its last answer."""
        delivered = message.fields.get("delivered")
        self.trainings.forget_after(delivered if type(delivered) is int else 0)
        return words(message.fields.get("output", ""), MAX_OUTPUT)


Handler = Callable[[Message], None]


@dataclass(frozen=True)
class Verb:
    """What happens to a kind of message.

    `handler`: a conversation's, for it. `counted`: it is a request, and comes under the next number.
    `answered`: the recipe waits for an answer, so that is where it learns of a refusal; otherwise a refusal
    ends the trial.
    """

    handler: Callable[[Conversation], Handler]
    counted: bool = True
    answered: bool = True


VERBS: dict[str, Verb] = {
    "train": Verb(lambda talk: talk.trainings.train),
    "gradient": Verb(lambda talk: talk.trainings.gradient, counted=False, answered=False),
    "hidden": Verb(lambda talk: talk.answers.hidden),
    "prior": Verb(lambda talk: talk.answers.prior),
    "predict": Verb(lambda talk: talk.answers.predict),
    "linear": Verb(lambda talk: talk.answers.linear, answered=False),
    "shift": Verb(lambda talk: talk.answers.shift, answered=False),
    "untrained": Verb(lambda talk: talk.answers.untrained, answered=False),
    "ensemble": Verb(lambda talk: talk.answers.ensemble, answered=False),
    "session.open": Verb(lambda talk: talk.sessions.open),
    "session.forward": Verb(lambda talk: talk.sessions.forward),
    "session.backward": Verb(lambda talk: talk.sessions.backward),
    "session.step": Verb(lambda talk: talk.sessions.step),
    "session.parameters": Verb(lambda talk: talk.sessions.parameters),
    "session.load": Verb(lambda talk: talk.sessions.load),
    "session.student": Verb(lambda talk: talk.sessions.student),
    "session.close": Verb(lambda talk: talk.sessions.close, answered=False),
    "done": Verb(lambda talk: talk.done, counted=False, answered=False),
    "failed": Verb(lambda talk: talk.failed, counted=False, answered=False),
}
"""All that a recipe may say."""
