"""What one trial's recipe asks of students and of the untouched strong model, and the students that it makes
without training.
"""

from __future__ import annotations

import numpy as np
import torch

from evaluator import requests
from evaluator.bench import Bench
from evaluator.requests import Refused
from evaluator.shelf import members
from evaluator.trainer.model import StatefulModel
from evaluator.trainer.students import Ensemble, Shifted, Trained, Untrained
from recipes.contract import MAX_ENSEMBLE
from recipes.wire import Message

MAX_SHIFTS = 16


class Answers:
    """A method for each thing that a recipe may ask.

    All raise `Refused`, those with a forward pass `OverBudget`.
    """

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def hidden(self, message: Message) -> None:
        """Hidden states [n, d] of the untouched model, or of a student that has its own."""
        bench, fields = self._bench, message.fields
        (layer,) = requests.layer_numbers([fields.get("layer")], bench.trainer.layers)
        template, swap = bench.template(fields)
        student = bench.shelf.optional(fields.get("student"))
        if student is None:
            hidden = bench.trainer.states.get("train", layer, template, swap)[bench.pool]
        else:
            model = student.model if isinstance(student, Trained) else None
            if not isinstance(student, Trained) or not isinstance(model, StatefulModel) or template or swap:
                raise Refused(
                    "only a LoRA student has hidden states of its own, and for template 0 unswapped"
                )
            bench.budget.charge_forward(bench.tokens.sum())
            rows = torch.from_numpy(bench.pool)
            hidden = model.hidden(student.parameters, "train", rows, layer).numpy()
        arrays = {"hidden": np.asarray(hidden, np.float32)}
        bench.send(Message("hidden", message.number, {"budget": bench.budget.left}, arrays))

    def prior(self, message: Message) -> None:
        """Zero-shot probabilities [n, 2]."""
        bench = self._bench
        template, swap = bench.template_with_prior(message.fields)
        prior = bench.trainer.states.prior("train", template, swap)[bench.pool]
        bench.send(Message("prior", message.number, {}, {"prior": prior.astype(np.float32)}))

    def predict(self, message: Message) -> None:
        """A student's probabilities [n, 2]."""
        bench = self._bench
        student = bench.shelf.get(message.fields.get("student"))
        bench.budget.charge_forward(bench.tokens.sum())
        arrays = {"probabilities": bench.trainer.probabilities(student, "train")[bench.pool]}
        bench.send(Message("predicted", message.number, {"budget": bench.budget.left}, arrays))

    def linear(self, message: Message) -> None:
        """A linear head with the weights that are given."""
        bench = self._bench
        layers = requests.layer_numbers(message.fields.get("layers"), bench.trainer.layers)
        model = bench.trainer.head(layers, 0, True)
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
        bench.shelf.keep(message.number, Trained(model, parameters))

    def shift(self, message: Message) -> None:
        """A student with its threshold moved."""
        shelf = self._bench.shelf
        base = shelf.get(message.fields.get("student"))
        depth, inner = 1, base
        while isinstance(inner, Shifted):
            depth, inner = depth + 1, inner.base
        if depth > MAX_SHIFTS:
            raise Refused("a student was shifted too often")
        shelf.keep(message.number, Shifted(base, requests.number(message.fields, "bias", -1e3, 1e3)))

    def untrained(self, message: Message) -> None:
        """The zero-shot answers as a student."""
        template, swap = self._bench.template_with_prior(message.fields)
        self._bench.shelf.keep(message.number, Untrained(template, swap))

    def ensemble(self, message: Message) -> None:
        """Several students that answer as one."""
        shelf = self._bench.shelf
        numbers, weights = message.fields.get("students"), message.fields.get("weights")
        if (
            not isinstance(numbers, list)
            or not isinstance(weights, list)
            or not 1 <= len(numbers) <= MAX_ENSEMBLE
        ):
            raise Refused(f"an ensemble has 1 to {MAX_ENSEMBLE} members")
        if len(weights) != len(numbers):
            raise Refused(f"{len(weights)} weights for {len(numbers)} members")
        own = tuple(shelf.get(one) for one in numbers)
        values = tuple(requests.number({"weight": weight}, "weight", 0, 1e6) for weight in weights)
        if any(members(member) > 1 for member in own):
            raise Refused("an ensemble can't be a member of another")
        if sum(values) <= 0:
            raise Refused("an ensemble's weights must not all be zero")
        shelf.keep(message.number, Ensemble(own, values))
