"""One trial's side of the trainer: what its recipe asks, checked, charged and answered."""

from __future__ import annotations

import dataclasses
import time
from functools import partial

import numpy as np
import torch

from evaluator import requests
from evaluator.budget import Budget, OverBudget
from evaluator.requests import ProtocolBreach, Refused, words
from evaluator.sessions import OpenSession
from evaluator.shelf import Shelf, members
from evaluator.trainer.group import history
from evaluator.trainer.model import StudentModel
from evaluator.trainer.slot import Slot
from evaluator.trainer.students import Ensemble, Shifted, Trained, Untrained
from evaluator.trainer.trainer import Trainer
from evaluator.trial import EXPLORE, SCORE, SEALED, SMOKE, SMOKE_ROWS, Outcome, TrialRequest
from recipes.contract import FAILURES, MAX_ENSEMBLE, MAX_IN_FLIGHT
from recipes.wire import Message

MAX_SESSIONS = 16
MAX_REQUESTS = 100_000
MAX_OUTPUT = 10_000


def request_seed(trial_seed: int, number: int) -> int:
    """The seed of a trial's k-th request, 63 bits."""
    return int(np.random.SeedSequence([trial_seed, number]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Conversation:
    """Serves one trial. `send` takes the answers; `outcome` is set when the recipe has said its last word."""

    def __init__(self, trial: TrialRequest, trainer: Trainer, send, kind: str) -> None:
        self.trial = trial
        self.outcome: Outcome | None = None
        self._trainer = trainer
        self._send = send
        self._kind = kind
        self.seconds = 0.0  # the trial's share of the worker's time, kept by the service
        size = trainer.testbed.sizes["train"]
        kept = min(SMOKE_ROWS, size) if trial.purpose == SMOKE else max(8, round(trial.fidelity * size))
        self._pool = (
            np.sort(np.random.default_rng([trial.seed, 1]).permutation(size)[:kept])
            if kept < size
            else np.arange(size)
        )
        self._tokens = trainer.states.tokens("train")[self._pool]
        self._budget = Budget(trainer.testbed.profile, kind, int(self._tokens.sum()))
        self._shelf = Shelf()
        self._sessions: dict[int, OpenSession] = {}
        self._slots: dict[int, Slot] = {}
        self._asked: dict[int, float] = {}  # since when a gradient is awaited, by request
        self._history: list[dict] = []
        self._widths: dict[
            int, int
        ] = {}  # of the hidden states that a recipe's own loss has last seen, by training
        self._count = 0

    @property
    def asked_since(self) -> float | None:
        """Since when the trainer has waited longest for a gradient of the recipe's own loss, in monotonic
        seconds.
        """
        return min(self._asked.values(), default=None)

    def start(self) -> Message:
        """The first message: the recipe's source and the facts of its task."""
        testbed, states = self._trainer.testbed, self._trainer.states
        facts = {
            "source": self.trial.source,
            "seed": self.trial.seed,
            "size": len(self._pool),
            "layers": list(states.layers),
            "has_prior": states.has_prior(),
            "templates": len(testbed.templates),
            "statements": [
                index for index, template in enumerate(testbed.templates) if template.is_statement
            ],
            "student": self._kind,
            "budget": self._budget.left,
        }
        weak = testbed.weak_labels()[self._pool]
        if self.trial.purpose == SMOKE:
            first = np.random.default_rng([self.trial.seed, 2]).random(len(weak), np.float32)
            weak = np.stack([1 - first, first], 1)
        return Message("start", 0, facts, {"weak_labels": weak})

    def receive(self, message: Message) -> None:
        """Act on one message. Raises `ProtocolBreach`."""
        verb = message.kind.replace(".", "_")
        handler = getattr(self, f"_on_{verb}", None) if message.kind in VERBS else None
        if handler is None:
            raise ProtocolBreach(f"unknown message {message.kind[:40]!r}")
        if message.kind not in UNNUMBERED:
            self._count += 1
            if message.number != self._count:
                raise ProtocolBreach(f"request {self._count} came under another number")
            if self._count > MAX_REQUESTS:
                raise ProtocolBreach(f"more than {MAX_REQUESTS} requests in one trial")
        try:
            handler(message)
        except (Refused, OverBudget) as error:
            kind = error.kind if isinstance(error, Refused) else "BudgetExceeded"
            if message.kind in UNANSWERED:
                self.fail("invalid_request", words(error))
            else:
                self._send(Message("error", message.number, {"type": kind, "message": words(error)}))

    def fail(self, reason: str, message: str, output: str = "") -> None:
        """End the trial without a score."""
        self.close()
        self.outcome = Outcome(
            reason=reason,
            message=message,
            output=output,
            tokens=self._budget.spent,
            seconds=self.seconds,
            history=self._history,
        )

    def _told_history(self, message: Message) -> None:
        """Keep the history of the trainings that the recipe knows of: which others had ended by now is a
        matter of timing.
        """
        delivered = message.fields.get("delivered")
        known = delivered if type(delivered) is int else 0
        self._history = sorted(
            (one for one in self._history if one["request"] <= known), key=lambda one: one["request"]
        )

    def close(self) -> None:
        """Give up the trial's slots."""
        for slot in self._slots.values():
            slot.cancelled = True
        self._slots.clear()
        self._asked.clear()
        self._sessions.clear()

    # ---- what a recipe may say

    def _on_train(self, message: Message) -> None:
        if len(self._slots) >= MAX_IN_FLIGHT:
            raise Refused(f"{MAX_IN_FLIGHT} trainings in flight at once are the most")
        model = self._model(message.fields)
        start = self._shelf.get(message.fields.get("start"), optional=True)
        profile = self._trainer.testbed.profile
        training = requests.training(
            message,
            model=model,
            start=start,
            size=len(self._pool),
            defaults=dataclasses.asdict(profile),
            seed=request_seed(self.trial.seed, message.number),
        )
        self._budget.charge_training(
            model.kind, training.steps * training.batch * float(self._tokens[training.rows].mean())
        )
        ask = (
            None if training.loss is not None else partial(self._ask_gradient, message.number, training.rows)
        )
        training = dataclasses.replace(training, rows=self._pool[training.rows])
        self._slots[message.number] = self._trainer.submit(
            training, lambda slot: self._trained(message.number, slot), ask, self.trial.source_hash
        )

    def _trained(self, number: int, slot: Slot) -> None:
        del self._slots[number]
        if slot.error:
            self.fail("memory", slot.error)
            return
        self._shelf.keep(number, Trained(slot.training.model, slot.parameters))
        steps = history(slot)
        self._history.append({"request": number, "student": slot.training.model.kind, "steps": steps})
        self._send(Message("trained", number, {"history": steps, "budget": self._budget.left}))

    def _ask_gradient(self, number: int, rows: np.ndarray, slot: Slot, seen: dict[str, torch.Tensor]) -> None:
        """`rows` [m]: the training's rows as the recipe counts them."""
        self._asked[number] = time.monotonic()
        positions = slot.positions[slot.step]
        arrays = {
            "rows": rows[positions],
            "logits": seen["logits"].float().cpu().numpy(),
            "hidden": seen["hidden"].float().cpu().numpy(),
            "targets": slot.training.targets[positions],
            "weights": slot.training.weights[positions],
        }
        self._widths[number] = seen["hidden"].shape[-1]
        self._send(Message("loss", number, {"progress": slot.progress}, arrays))

    def _on_gradient(self, message: Message) -> None:
        slot = self._slots.get(message.number)
        if slot is None or slot.ask_gradient is None or not slot.asked or slot.gradient is not None:
            raise ProtocolBreach("a gradient that nobody asked for")
        del self._asked[message.number]
        try:
            logits = requests.float_array(
                message.arrays.get("logits", np.zeros(0)), (slot.training.batch, 2), "the loss's gradient"
            )
            hidden = message.arrays.get("hidden")
            if hidden is not None:
                hidden = requests.float_array(
                    hidden,
                    (slot.training.batch, self._widths[message.number]),
                    "the loss's gradient of the hidden states",
                )
        except Refused as error:
            self.fail("invalid_request", words(error))
            return
        device = slot.state.device
        slot.gradient = (
            torch.from_numpy(logits).to(device),
            None if hidden is None else torch.from_numpy(hidden).to(device),
        )

    def _on_hidden(self, message: Message) -> None:
        fields = message.fields
        (layer,) = requests.layer_numbers([fields.get("layer")], self._trainer.layers)
        template, swap = self._template(fields)
        student = self._shelf.get(fields.get("student"), optional=True)
        if student is None:
            hidden = self._trainer.states.get("train", layer, template, swap)[self._pool]
        else:
            if not isinstance(student, Trained) or student.model.kind != "lora" or template or swap:
                raise Refused(
                    "only a LoRA student has hidden states of its own, and for template 0 unswapped"
                )
            self._budget.charge_forward(self._tokens.sum())
            hidden = student.model.hidden(student.parameters, "train", torch.from_numpy(self._pool), layer)
        self._send(
            Message(
                "hidden",
                message.number,
                {"budget": self._budget.left},
                {"hidden": np.asarray(hidden, np.float32)},
            )
        )

    def _on_prior(self, message: Message) -> None:
        template, swap = self._template(message.fields)
        self._require_prior(template)
        prior = self._trainer.states.prior("train", template, swap)[self._pool]
        self._send(Message("prior", message.number, {}, {"prior": prior.astype(np.float32)}))

    def _on_predict(self, message: Message) -> None:
        student = self._shelf.get(message.fields.get("student"))
        self._budget.charge_forward(self._tokens.sum())
        probabilities = self._trainer.probabilities(student, "train")[self._pool]
        self._send(
            Message(
                "predicted", message.number, {"budget": self._budget.left}, {"probabilities": probabilities}
            )
        )

    def _on_linear(self, message: Message) -> None:
        layers = requests.layer_numbers(message.fields.get("layers"), self._trainer.layers)
        model = self._trainer.head(layers, 0, True)
        fresh = model.initial_parameters(0)
        width = fresh["weight_2"].shape[0]
        weight = requests.float_array(message.arrays.get("weight", np.zeros(0)), (width,), "weight")
        bias = requests.number(message.fields, "bias", -1e6, 1e6)
        # Half the logit for each class: the difference is what was asked for, and the two classes are alike.
        half = torch.from_numpy(weight / 2).to(fresh["weight_2"].device)
        parameters = {
            "weight_2": torch.stack([-half, half], 1),
            "bias_2": torch.tensor([-bias / 2, bias / 2], device=half.device),
        }
        self._shelf.keep(message.number, Trained(model, parameters))

    def _on_shift(self, message: Message) -> None:
        base = self._shelf.get(message.fields.get("student"))
        depth, inner = 1, base
        while isinstance(inner, Shifted):
            depth, inner = depth + 1, inner.base
        if depth > 16:
            raise Refused("a student was shifted too often")
        self._shelf.keep(message.number, Shifted(base, requests.number(message.fields, "bias", -1e3, 1e3)))

    def _on_untrained(self, message: Message) -> None:
        template, swap = self._template(message.fields)
        self._require_prior(template)
        self._shelf.keep(message.number, Untrained(template, swap))

    def _on_ensemble(self, message: Message) -> None:
        numbers, weights = message.fields.get("students"), message.fields.get("weights")
        if (
            not isinstance(numbers, list)
            or not isinstance(weights, list)
            or not 1 <= len(numbers) <= MAX_ENSEMBLE
        ):
            raise Refused(f"an ensemble has 1 to {MAX_ENSEMBLE} members")
        if len(weights) != len(numbers):
            raise Refused(f"{len(weights)} weights for {len(numbers)} members")
        own = tuple(self._shelf.get(one) for one in numbers)
        values = tuple(requests.number({"weight": weight}, "weight", 0, 1e6) for weight in weights)
        if any(members(member) > 1 for member in own):
            raise Refused("an ensemble can't be a member of another")
        if sum(values) <= 0:
            raise Refused("an ensemble's weights must not all be zero")
        self._shelf.keep(message.number, Ensemble(own, values))

    def _on_session_open(self, message: Message) -> None:
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(f"{MAX_SESSIONS} open sessions are the most")
        start = self._shelf.get(message.fields.get("start"), optional=True)
        if start is not None and not isinstance(start, Trained):
            raise Refused("a session starts from a trained student")
        model = (
            start.model if start is not None else self._trainer.default(self._student_kind(message.fields))
        )
        parameters = (
            start.parameters
            if start is not None
            else model.initial_parameters(request_seed(self.trial.seed, message.number))
        )
        self._sessions[message.number] = OpenSession(model, parameters, self._pool)
        self._send(Message("opened", message.number, {"budget": self._budget.left}))

    def _on_session_forward(self, message: Message) -> None:
        session = self._session(message)
        rows = requests.row_numbers(message.arrays.get("rows", np.zeros(0)), len(self._pool), repeats=1)
        sets = int(requests.number(message.fields, "sets", 0, 4096, whole=True))
        self._budget.charge_forward(max(1, sets) * float(self._tokens[rows].sum()))
        given = {
            name.removeprefix("parameters."): array
            for name, array in message.arrays.items()
            if name != "rows"
        }
        logits = session.forward(rows, given if sets else None, sets)
        self._send(Message("logits", message.number, {"budget": self._budget.left}, {"logits": logits}))

    def _on_session_backward(self, message: Message) -> None:
        session = self._session(message)
        rows = session.last_rows
        self._budget.charge_training(session.model.kind, float(self._tokens[rows].sum()))
        gradients = session.backward(
            requests.float_array(message.arrays.get("gradients", np.zeros(0)), (len(rows), 2), "gradients")
        )
        self._send(Message("gradients", message.number, {"budget": self._budget.left}, gradients))

    def _on_session_step(self, message: Message) -> None:
        rate = requests.number(message.fields, "learning_rate", 0, 10)
        self._session(message).step(rate, requests.number(message.fields, "weight_decay", 0, 10))
        self._send(Message("stepped", message.number))

    def _on_session_parameters(self, message: Message) -> None:
        self._send(Message("parameters", message.number, {}, self._session(message).arrays()))

    def _on_session_load(self, message: Message) -> None:
        self._session(message).load(message.arrays)
        self._send(Message("loaded", message.number))

    def _on_session_student(self, message: Message) -> None:
        session = self._session(message)
        self._shelf.keep(
            message.number,
            Trained(session.model, {name: value.clone() for name, value in session.parameters.items()}),
        )
        self._send(Message("student", message.number))

    def _on_session_close(self, message: Message) -> None:
        number = message.fields.get("session")
        if type(number) is int:
            self._sessions.pop(number, None)

    def _on_failed(self, message: Message) -> None:
        self._told_history(message)
        reason, text = message.fields.get("reason"), message.fields.get("message")
        if not isinstance(reason, str) or reason not in FAILURES:
            raise ProtocolBreach("a failure of no known kind")
        if self.trial.purpose == EXPLORE and reason == "contract":  # it made no student: nobody asked for one
            self._end(output=_output(message))
            return
        self.fail(reason, words(text), _output(message))

    def _on_done(self, message: Message) -> None:
        self._told_history(message)
        number = message.fields.get("student")
        student = self._shelf.find(number)
        if student is None:
            self.fail("contract", "recipe() returned a student that it never made")
            return
        if self.trial.purpose not in (SCORE, SEALED):
            self._end(output=_output(message))
            return
        fitness = self._trainer.probabilities(student, self.trial.split)
        pool = self._trainer.probabilities(student, "train")
        if not (np.isfinite(fitness).all() and np.isfinite(pool).all()):
            self.fail(
                "diverged",
                "the student's predictions are NaN or infinite; lower the learning rate",
                _output(message),
            )
            return
        self.student = student
        self._end(fitness=fitness, pool=pool[:, 1], members=members(student), output=_output(message))

    def _end(self, **found) -> None:
        self.close()
        self.outcome = Outcome(
            tokens=self._budget.spent, seconds=self.seconds, history=self._history, **found
        )

    # ---- reading fields

    def _student_kind(self, fields: dict) -> str:
        if fields.get("student") not in ("head", "lora"):
            raise Refused(f"student must be 'head' or 'lora', got {fields.get('student')!r}")
        return fields["student"]

    def _model(self, fields: dict) -> StudentModel:
        kind = self._student_kind(fields)
        if fields.get("layers") is None:
            return self._trainer.default(kind)
        layers = requests.layer_numbers(fields["layers"], self._trainer.layers)
        size = int(requests.number(fields, "hidden_size", 0, requests.MAX_HIDDEN_SIZE, whole=True))
        return self._trainer.head(layers, size, requests.flag(fields, "standardise"))

    def _session(self, message: Message) -> OpenSession:
        number = message.fields.get("session")
        session = self._sessions.get(number) if type(number) is int else None
        if session is None:
            raise Refused("that session is not open")
        return session

    def _template(self, fields: dict) -> tuple[int, bool]:
        count = len(self._trainer.testbed.templates)
        return int(requests.number(fields, "template", 0, count - 1, whole=True)), requests.flag(
            fields, "swap"
        )

    def _require_prior(self, template: int) -> None:
        if not self._trainer.states.has_prior(template):
            raise Refused(
                "this strong model, or this template, has no zero-shot prior; see task.has_prior",
                "NotAvailable",
            )


def _output(message: Message) -> str:
    return words(message.fields.get("output", ""), MAX_OUTPUT)


VERBS = frozenset(
    name.removeprefix("_on_").replace("session_", "session.")
    for name in vars(Conversation)
    if name.startswith("_on_")
)
UNNUMBERED = frozenset({"gradient", "done", "failed"})
UNANSWERED = frozenset({"linear", "shift", "untrained", "ensemble", "session.close"}) | UNNUMBERED
