"""Recipes' own training loops, step by step: each a set of parameters, moved by the recipe's orders."""

from __future__ import annotations

import numpy as np
import torch

from evaluator.bench import Bench
from evaluator.requests import Refused, float_array, number, row_numbers, whole_number
from evaluator.trainer.model import Parameters, StudentModel
from evaluator.trainer.optimisers import UPDATES
from evaluator.trainer.students import Trained
from recipes.wire import Message

FORWARD_ROWS = 1 << 16
MAX_SESSIONS = 16
MAX_SETS = 4096


class OpenSession:
    """Parameters with AdamW moments, and the rows of the last forward, which `backward` repeats."""

    def __init__(self, model: StudentModel, parameters: Parameters, pool: np.ndarray) -> None:
        self.model = model
        self.parameters = {name: value.clone() for name, value in parameters.items()}
        self._pool = pool
        self._first = [torch.zeros_like(value) for value in parameters.values()]
        self._second = [torch.zeros_like(value) for value in parameters.values()]
        self._gradients: Parameters | None = None
        self._rows: np.ndarray | None = None
        self._steps = 0

    @property
    def last_rows(self) -> np.ndarray:
        """[b] of the last forward with the session's own parameters. Raises `Refused` before there is one."""
        if self._rows is None:
            raise Refused("call forward, with the session's own parameters, before backward")
        return self._rows

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device

    def _stacked(self) -> Parameters:
        return {name: value[None] for name, value in self.parameters.items()}

    def _checked(self, arrays: dict[str, np.ndarray], *, sets: int | None) -> Parameters:
        if set(arrays) != set(self.parameters):
            raise Refused(f"a parameter set has the names {sorted(self.parameters)}, got {sorted(arrays)}")
        first = () if sets is None else (sets,)
        return {
            name: torch.from_numpy(
                float_array(array, (*first, *self.parameters[name].shape), f"parameter {name}")
            ).to(self._device)
            for name, array in arrays.items()
        }

    def forward(self, rows: np.ndarray, given: dict[str, np.ndarray] | None, sets: int) -> np.ndarray:
        """[b, 2] logits of the session's parameters, or [K, b, 2] of the given ones."""
        pool_rows = torch.from_numpy(self._pool[rows]).to(self._device)
        if given is None:
            self._rows = rows
            return self.model.logits(self._stacked(), "train", pool_rows[None])[0].float().cpu().numpy()
        stacked = self._checked(given, sets=sets)
        some = max(1, FORWARD_ROWS // len(rows))
        parts = [
            self.model.logits(
                {name: value[at : at + some] for name, value in stacked.items()},
                "train",
                pool_rows.expand(min(some, sets - at), -1),
            )
            for at in range(0, sets, some)
        ]
        return torch.cat(parts).float().cpu().numpy()

    def backward(self, gradients: np.ndarray) -> dict[str, np.ndarray]:
        """Gradients of the parameters by name, for `gradients` [b, 2] on the logits of the last forward."""
        rows = torch.from_numpy(self._pool[self.last_rows]).to(self._device)
        given = torch.from_numpy(gradients).to(self._device)[None]
        self._gradients = self.model.gradients(
            self._stacked(), rows[None], lambda logits, hidden: (given, None)
        )
        return {name: value[0].float().cpu().numpy() for name, value in self._gradients.items()}

    def step(self, learning_rate: float, weight_decay: float) -> None:
        """One AdamW step. Raises `Refused` without gradients."""
        if self._gradients is None:
            raise Refused("call backward before step")
        self._steps += 1
        parameters = {
            name: value.clone() for name, value in self.parameters.items()
        }  # a student may hold the old ones
        gradients = [self._gradients[name][0].contiguous() for name in parameters]
        steps = [torch.tensor(float(self._steps), device=self._device) for _ in parameters]
        UPDATES["adamw"](
            list(parameters.values()),
            gradients,
            self._first,
            self._second,
            steps,
            learning_rate,
            weight_decay,
        )
        self.parameters = parameters
        self._gradients = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters, float32 by name."""
        return {name: value.float().cpu().numpy() for name, value in self.parameters.items()}

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Raises `Refused` for other names or shapes than the parameters have."""
        self.parameters = self._checked(arrays, sets=None)


class Sessions:
    """One trial's open sessions, by the number of the request that opened each.

    Its methods raise `Refused`, those that run the model `OverBudget`.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._open: dict[int, OpenSession] = {}

    def clear(self) -> None:
        """Close all."""
        self._open.clear()

    def open(self, message: Message) -> None:
        bench = self._bench
        if len(self._open) >= MAX_SESSIONS:
            raise Refused(f"{MAX_SESSIONS} open sessions are the most")
        start = bench.shelf.optional(message.fields.get("start"))
        if start is None:
            model = bench.default_model(message.fields)
            parameters = model.initial_parameters(bench.seed(message.number))
        elif isinstance(start, Trained):
            model, parameters = start.model, start.parameters
        else:
            raise Refused("a session starts from a trained student")
        self._open[message.number] = OpenSession(model, parameters, bench.pool)
        bench.send(Message("opened", message.number, {"budget": bench.budget.left}))

    def forward(self, message: Message) -> None:
        bench, session = self._bench, self._of(message)
        rows = row_numbers(message.arrays.get("rows", np.zeros(0)), len(bench.pool), repeats=1)
        sets = whole_number(message.fields, "sets", 0, MAX_SETS)
        bench.budget.charge_forward(max(1, sets) * float(bench.tokens[rows].sum()))
        given = {
            name.removeprefix("parameters."): array
            for name, array in message.arrays.items()
            if name != "rows"
        }
        logits = session.forward(rows, given if sets else None, sets)
        fields = {"budget": bench.budget.left}
        bench.send(Message("logits", message.number, fields, {"logits": logits}))

    def backward(self, message: Message) -> None:
        bench, session = self._bench, self._of(message)
        rows = session.last_rows
        bench.budget.charge_training(session.model.kind, float(bench.tokens[rows].sum()))
        given = message.arrays.get("gradients", np.zeros(0))
        gradients = session.backward(float_array(given, (len(rows), 2), "gradients"))
        bench.send(Message("gradients", message.number, {"budget": bench.budget.left}, gradients))

    def step(self, message: Message) -> None:
        rate = number(message.fields, "learning_rate", 0, 10)
        self._of(message).step(rate, number(message.fields, "weight_decay", 0, 10))
        self._bench.send(Message("stepped", message.number))

    def parameters(self, message: Message) -> None:
        self._bench.send(Message("parameters", message.number, {}, self._of(message).arrays()))

    def load(self, message: Message) -> None:
        self._of(message).load(message.arrays)
        self._bench.send(Message("loaded", message.number))

    def student(self, message: Message) -> None:
        session = self._of(message)
        copy = {name: value.clone() for name, value in session.parameters.items()}
        self._bench.shelf.keep(message.number, Trained(session.model, copy))
        self._bench.send(Message("student", message.number))

    def close(self, message: Message) -> None:
        named = message.fields.get("session")
        if type(named) is int:
            self._open.pop(named, None)

    def _of(self, message: Message) -> OpenSession:
        named = message.fields.get("session")
        session = self._open.get(named) if type(named) is int else None
        if session is None:
            raise Refused("that session is not open")
        return session
