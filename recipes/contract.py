"""The recipe contract: what a recipe may ask for, and what it gets.

A recipe is one Python file with a docstring, whose first line is its idea, and one function:

    async def recipe(task: Task) -> Student

It returns a `Student`; the engine runs that student on inputs that the recipe never sees. All arrays below
are about the *training pool* of `task.size` rows. A recipe never sees text or ground truth. It does its
training by asking: every awaited call is a request to the trainer, which runs the requests of all recipes in
flight as batches; `await asyncio.gather(...)` over several requests trains them side by side.

The k-th request's seed derives from the trial's seed and k, in call order. Answers reach a recipe in call
order, so its course does not depend on which of two trainings ends first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

import numpy as np

from recipes.losses import LOSSES
from recipes.options import TrainingOptions, class_targets, completed, floats, integers, request_fields
from recipes.task_errors import ERRORS, BudgetExceeded, InvalidRequest, NotAvailable, TaskError
from recipes.terms import FAILURES, MAX_ENSEMBLE, MAX_IN_FLIGHT, OPTIMISERS, SCHEDULES
from recipes.wire import Message

__all__ = [
    "ERRORS",
    "FAILURES",
    "LOSSES",
    "MAX_ENSEMBLE",
    "MAX_IN_FLIGHT",
    "OPTIMISERS",
    "SCHEDULES",
    "Batch",
    "BudgetExceeded",
    "Channel",
    "InvalidRequest",
    "Loss",
    "NotAvailable",
    "Session",
    "SessionRequest",
    "Student",
    "Task",
    "TaskError",
]


@dataclass(frozen=True)
class Batch:
    """What a recipe's own loss is given at each step.

    `rows` [b] int64, `logits` [b, 2], `targets` [b, 2], `weights` [b], `hidden` [b, d] (what the last linear
    layer reads), all float32; `progress` runs from 0 at the first step towards 1.
    """

    rows: np.ndarray
    logits: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    hidden: np.ndarray
    progress: float


Loss = Callable[[Batch], Any]
"""A recipe's own loss: the gradient of the batch's mean loss with respect to the logits, [b, 2] float32, or a
pair of gradients with respect to the logits and the hidden states, [b, d]. It must not keep state across
trainings.
"""


class Channel(Protocol):
    """How requests reach the trainer; `recipes.process` implements it."""

    def ask(
        self, kind: str, fields: dict, arrays: dict[str, np.ndarray], loss: Loss | None = None
    ) -> asyncio.Future[Message]: ...

    def tell(self, kind: str, fields: dict, arrays: dict[str, np.ndarray]) -> int: ...


class _Line:
    """A trial's line to the trainer, which a task and its sessions share: it counts the tokens left."""

    def __init__(self, channel: Channel, tokens_left: int) -> None:
        self._channel = channel
        self.tokens_left = tokens_left

    async def ask(self, kind: str, fields: dict, arrays: dict, loss: Loss | None = None) -> Message:
        answer = await self._channel.ask(kind, fields, arrays, loss)
        self.tokens_left = answer.fields.get("budget", self.tokens_left)
        return answer

    def tell(self, kind: str, fields: dict, arrays: dict) -> int:
        return self._channel.tell(kind, fields, arrays)


class Student:
    """A trained (or given) classifier over the testbed's inputs.

    Made by a `Task`; it holds no weights itself.
    """

    def __init__(self, number: int, kind: str, history: Sequence[dict] = ()) -> None:
        self.number = number
        """Of the request that made it."""
        self.kind = kind
        """"head", "lora", "linear", "shift", "untrained" or "ensemble"."""
        self.history = list(history)
        """Logged steps of the training: dicts of `step`, `loss`, `gradient_norm`, `agreement` (with the
        targets, in the batch).
        """

    def __repr__(self) -> str:
        return f"Student({self.kind})"


class Session:
    """The primitives beneath `finetune`, for recipes with a training loop of their own (evolution strategies,
    say).
    """

    def __init__(self, line: _Line, number: int, kind: str) -> None:
        self._line = line
        self._number = number
        self._kind = kind

    async def _ask(self, verb: str, fields: dict | None = None, arrays: dict | None = None) -> Message:
        return await self._line.ask(
            f"session.{verb}", {"session": self._number, **(fields or {})}, arrays or {}
        )

    async def forward(
        self, rows: Any, parameters: Sequence[dict[str, np.ndarray]] | None = None
    ) -> np.ndarray:
        """Logits on `rows`: [b, 2] with the session's parameters, or [K, b, 2] for a list of K parameter
        sets, run as one batch.
        """
        arrays, sets = {"rows": integers(rows)}, parameters or ()
        for name in sets[0] if sets else ():
            arrays[f"parameters.{name}"] = np.stack([floats(one[name]) for one in sets])
        return (await self._ask("forward", {"sets": len(sets)}, arrays)).arrays["logits"]

    async def backward(self, gradients: Any) -> dict[str, np.ndarray]:
        """Gradients of the parameters for `gradients` [b, 2] on the logits of the last `forward` with the
        session's own parameters.
        """
        return dict((await self._ask("backward", arrays={"gradients": floats(gradients)})).arrays)

    async def step(self, learning_rate: float, weight_decay: float = 0.0) -> None:
        """One AdamW step with the gradients of the last `backward`."""
        await self._ask("step", {"learning_rate": float(learning_rate), "weight_decay": float(weight_decay)})

    async def parameters(self) -> dict[str, np.ndarray]:
        """A copy of the session's parameters, float32 arrays by name."""
        return dict((await self._ask("parameters")).arrays)

    async def load(self, parameters: dict[str, np.ndarray]) -> None:
        """Replace the session's parameters; names and shapes as `parameters()` gives them."""
        await self._ask("load", arrays={name: floats(value) for name, value in parameters.items()})

    async def student(self) -> Student:
        """A student with a copy of the session's parameters as they are now."""
        return Student((await self._ask("student")).number, self._kind)

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._line.tell("session.close", {"session": self._number}, {})


class Task:
    """One trial's view of a testbed: weak labels, hidden states, the strong model's own answers, and training
    as a service.
    """

    def __init__(self, channel: Channel, facts: dict, weak_labels: np.ndarray) -> None:
        self._line = _Line(channel, facts["budget"])
        self.size: int = facts["size"]
        """n, the number of rows of the training pool."""
        self.weak_labels: np.ndarray = weak_labels
        """[n, 2] float32, P(class | row) by the weak model."""
        self.rng: np.random.Generator = np.random.default_rng([facts["seed"], 0])
        """A generator seeded by the trial. The only source of randomness that a recipe should use."""
        self.layers: tuple[int, ...] = tuple(facts["layers"])
        """Layers of the strong model whose hidden states can be had, deepest last."""
        self.has_prior: bool = facts["has_prior"]
        """Whether the strong model can answer zero-shot (`prior`, `untrained`)."""
        self.templates: int = facts["templates"]
        """How many prompt templates the testbed has; template 0 is the one that students read."""
        self.statements: tuple[int, ...] = tuple(facts["statements"])
        """Templates that state an answer: class 1 is right, or with `swap` class 0.

        A row's two statements make a contrast pair.
        """
        self.student: str = facts["student"]
        """The default kind of student here, "head" or "lora"."""

    @property
    def budget(self) -> int:
        """Tokens that the trial may still train or forward.

        Vanilla fine-tuning costs about an eighth of a fresh budget.
        """
        return self._line.tokens_left

    async def hidden(
        self, layer: int, student: Student | None = None, template: int = 0, swap: bool = False
    ) -> np.ndarray:
        """Hidden states at the classification position, [n, d] float32.

        `layer` is one of `task.layers`, or negative: an index into it from its end. `student`: those of a
        LoRA student instead of the untouched strong model's (template 0 only). `swap` exchanges a pair's two
        replies, or the verdict that a statement template asserts. The untouched model's states are cached and
        cost no budget; a student's cost one forward over the pool.
        """
        fields = {
            "layer": int(layer),
            "student": _number(student),
            "template": int(template),
            "swap": bool(swap),
        }
        return (await self._line.ask("hidden", fields, {})).arrays["hidden"]

    async def prior(self, template: int = 0, swap: bool = False) -> np.ndarray:
        """Zero-shot label probabilities of the untouched strong model, [n, 2] float32, from its label words'
        logits.

        Raises `NotAvailable` where it has none: an encoder, or a template without label words.
        """
        return (await self._line.ask("prior", {"template": int(template), "swap": bool(swap)}, {})).arrays[
            "prior"
        ]

    async def finetune(
        self,
        targets: Any,
        rows: Any = None,
        weights: Any = None,
        *,
        student: str | None = None,
        **options: Unpack[TrainingOptions],
    ) -> Student:
        """Fine-tune the strong model and return the student.

        `targets`: [m] class numbers or [m, 2] rows that sum to 1, aligned with `rows` ([m] row numbers,
        repeats allowed; default: all n). `weights`: [m] non-negative, scaled to mean 1 by the trainer.
        `loss`: a name of `LOSSES`, with `loss_options`, or a function (see `Loss`). Hyperparameters left at
        None are the testbed's own, tuned for vanilla fine-tuning. `epochs` may be a fraction. `optimiser`:
        one of `OPTIMISERS`; others than "adamw" need a `learning_rate` of their own. `clip_norm`: scale a
        step's gradient down to this norm over all parameters where it is longer; None: never. `schedule`: one
        of `SCHEDULES`. `student`: "head" or "lora" (default `task.student`). `start`: begin from a copy of
        that student's weights, with a fresh optimiser. `order`: [m] positions into `rows`, the order in which
        every epoch visits them (a curriculum); default: a fresh shuffle each epoch. Raises `InvalidRequest`,
        `BudgetExceeded`.
        """
        fields = {
            "student": student or self.student,
            "layers": None,
            "hidden_size": None,
            "standardise": True,
        }
        return await self._train(fields, targets, rows, weights, completed(options, "Task.finetune"))

    async def probe(
        self,
        layers: Sequence[int],
        targets: Any,
        rows: Any = None,
        weights: Any = None,
        *,
        hidden_size: int = 0,
        standardise: bool = True,
        **options: Unpack[TrainingOptions],
    ) -> Student:
        """A head on the concatenated frozen hidden states of `layers`: linear, or with one hidden layer of
        `hidden_size` units.

        `standardise`: subtract the pool's mean and divide by its standard deviation, per coordinate. The rest
        as in `finetune`.
        """
        fields = {
            "student": "head",
            "layers": [int(layer) for layer in layers],
            "hidden_size": int(hidden_size),
            "standardise": bool(standardise),
        }
        return await self._train(fields, targets, rows, weights, completed(options, "Task.probe"))

    async def _train(
        self, fields: dict[str, Any], targets: Any, rows: Any, weights: Any, options: TrainingOptions
    ) -> Student:
        fields = {**fields, "start": _number(options["start"]), **request_fields(options)}
        arrays = {"targets": class_targets(targets)}
        for name, values, convert in (
            ("rows", rows, integers),
            ("weights", weights, floats),
            ("order", options["order"], integers),
        ):
            if values is not None:
                arrays[name] = convert(values)
        loss = options["loss"]
        answer = await self._line.ask("train", fields, arrays, None if isinstance(loss, str) else loss)
        return Student(answer.number, fields["student"], answer.fields["history"])

    async def predict(self, student: Student) -> np.ndarray:
        """The student's label probabilities on the training pool, [n, 2] float32.

        Costs one forward over the pool.
        """
        return (await self._line.ask("predict", {"student": _number(student)}, {})).arrays["probabilities"]

    def linear(self, layers: Sequence[int], weight: Any, bias: float = 0.0) -> Student:
        """A student made without training: logit of class 1 minus class 0 = standardised hidden states of
        `layers` @ `weight` + `bias`.

        `weight`: [d], or as many times d as there are layers, concatenated in the order given.
        """
        return self._make(
            "linear",
            {"layers": [int(layer) for layer in layers], "bias": float(bias)},
            {"weight": floats(weight)},
        )

    def shift(self, student: Student, bias: float) -> Student:
        """The student with `bias` added to its logit of class 1: a threshold moved, a prior corrected."""
        return self._make("shift", {"student": _number(student), "bias": float(bias)}, {})

    def untrained(self, template: int = 0, swap: bool = False) -> Student:
        """The untouched strong model's zero-shot answers as a student.

        Fails the trial where there is no prior (`task.has_prior`).
        """
        return self._make("untrained", {"template": int(template), "swap": bool(swap)}, {})

    def ensemble(self, students: Sequence[Student], weights: Sequence[float] | None = None) -> Student:
        """The weighted mean of at most 8 students' probabilities.

        An ensemble can't be a member of another.
        """
        weights = [1.0] * len(students) if weights is None else [float(weight) for weight in weights]
        return self._make(
            "ensemble", {"students": [_number(student) for student in students], "weights": weights}, {}
        )

    def _make(self, kind: str, fields: dict, arrays: dict) -> Student:
        return Student(self._line.tell(kind, fields, arrays), kind)

    def session(self, student: str | None = None, start: Student | None = None) -> SessionRequest:
        """`async with task.session(...) as s`: the primitives beneath `finetune`, on fresh parameters or a
        copy of `start`'s.
        """
        return SessionRequest(self._line, student or self.student, start)


class SessionRequest:
    """A session that is asked for: opened on entering the block, closed on leaving it."""

    def __init__(self, line: _Line, kind: str, start: Student | None) -> None:
        self._line, self._kind, self._start = line, kind, start
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        fields = {"student": self._kind, "start": _number(self._start)}
        answer = await self._line.ask("session.open", fields, {})
        self._session = Session(self._line, answer.number, self._kind)
        return self._session

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.__aexit__(*exception)


def _number(student: Student | None) -> int | None:
    if student is not None and not isinstance(student, Student):
        raise InvalidRequest(f"expected a Student of this task, got {type(student).__name__}")
    return None if student is None else student.number
