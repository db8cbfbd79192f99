"""The frozen strong model as all LoRA students of a testbed share it: its layers, its tokenised splits, its
states below the adapters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from evaluator.errors import EvaluatorError
from evaluator.strong import StrongModel
from evaluator.testbeds.prepared import Testbed
from evaluator.trainer import adapters, tokens
from evaluator.trainer.adapters import Factors
from evaluator.trainer.tokens import TokenisedSplit

STANDARDISED_ON = 512  # rows of the training pool
# Expected norm of what a head reads. Standardised states have norm sqrt(d), and a step of Adam moves the
# logits in proportion to that times sqrt(d) again: one learning rate would not do for narrow and wide models.
HEAD_NORM = 10.0
STATES_BYTES = {
    "cpu": 1 << 30,
    "cuda": 8 << 30,
}  # of one split's states below the adapters: beyond it they are computed anew


class Trunk:
    """Make one per strong model and testbed, and every `LoraModel` from it.

    Raises EvaluatorError if the model's blocks can't be found.
    """

    def __init__(self, strong: StrongModel, testbed: Testbed) -> None:
        self.strong, self.testbed = strong, testbed
        self._base = strong.model.base_model
        self._prefix = next(
            (f"{name}." for name, module in strong.model.named_modules() if module is self._base and name), ""
        )
        self._blocks_name, self._blocks = self._find_blocks()
        dtype = torch.bfloat16 if strong.precision == "bfloat16" else torch.float32
        self._layers = {
            name: (layer, adapters.freeze(layer, dtype))
            for name, layer in adapters.linear_layers(self._base).items()
        }
        self._step = tokens.bucket(
            [
                strong.hidden_size,
                *(size for layer, _ in self._layers.values() for size in adapters.shape(layer)),
            ]
        )
        self._splits: dict[tuple[str, int, bool], TokenisedSplit] = {}
        self._states: dict[tuple[TokenisedSplit, int], torch.Tensor] = {}
        self._blocks_return_tuples = False
        self._standardisation: tuple[torch.Tensor, torch.Tensor] | None = None

    def _find_blocks(self) -> tuple[str, nn.ModuleList]:
        for name, module in self._base.named_modules():
            if isinstance(module, nn.ModuleList) and len(module) == self.strong.depth:
                return name, module
        raise EvaluatorError(
            f"strong model {self.strong.description.name!r} ({type(self._base).__name__}) has no list of"
            f" {self.strong.depth} blocks to put adapters on. Use head students with it."
        )

    @property
    def depth(self) -> int:
        return self.strong.depth

    def adaptable(self, first_block: int) -> dict[str, tuple[int, int]]:
        """(in, out) of the linear layers from a block on, by name within the base model."""
        names = {f"{self._blocks_name}.{number}." for number in range(first_block, self.depth)}
        return {
            name: adapters.shape(layer)
            for name, (layer, _) in self._layers.items()
            if any(name.startswith(block) for block in names)
        }

    def full_name(self, name: str) -> str:
        """A layer's name within the whole model, language-model head and all."""
        return self._prefix + name

    @property
    def transposed(self) -> bool:
        """Whether the layers keep their weights as [in, out], as GPT-2's do."""
        return any(not isinstance(layer, nn.Linear) for layer, _ in self._layers.values())

    def split(self, name: str, template: int = 0, swap: bool = False) -> TokenisedSplit:
        key = (name, template, swap)
        if key not in self._splits:
            self._splits[key] = TokenisedSplit(self.strong, self.testbed, name, template, swap, self._step)
        return self._splits[key]

    def standardisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and scale, [d] each: (state - mean) / scale is what heads read. From the untouched model's
        pooled last states over a sample of the training pool; all coordinates alike, HEAD_NORM long.
        """
        if self._standardisation is None:
            rows = self.testbed.rows("train")
            sample = np.linspace(0, len(rows) - 1, min(len(rows), STANDARDISED_ON)).astype(int)
            texts = [self.testbed.templates[0].render(rows[i]) for i in sample]
            places = [self.strong.hidden_states(place, [-1])[-1] for place in zip(*texts, strict=True)]
            states = places[0] - places[1] if len(places) == 2 else places[0]
            spread = states.std(0, dtype=np.float64)
            # What hardly varies before training may well do so after: don't let it drown the rest then.
            scale = np.maximum(spread, 0.1 * np.sqrt(np.square(spread).mean()) + 1e-6)
            scale *= np.sqrt(len(scale)) / HEAD_NORM
            mean = states.mean(0, dtype=np.float64)
            device = self.strong.device
            self._standardisation = (
                torch.from_numpy(mean.astype(np.float32)).to(device),
                torch.from_numpy(scale.astype(np.float32)).to(device),
            )
        return self._standardisation

    def pooled(
        self,
        split: TokenisedSplit,
        rows: torch.Tensor,
        length: int,
        factors: Mapping[str, Factors],
        scale: float,
        first_block: int,
    ) -> torch.Tensor:
        """Pooled last states [K, B, d] of `rows` [K, B], all padded to `length`, under the K slots' factors;
        differentiable in these.
        """
        padded = split.padded(rows, length)
        forwards = adapters.adapted_forwards(self._layers, factors, len(rows), scale, padded.mask)
        below = self._states_below(split, first_block)
        if below is not None:
            forwards |= self._skipping(first_block, below[padded.places])
        with adapters.replaced(forwards):
            last, _ = self._run(split.tokens[padded.places], padded.mask)
        return self._pool(last, padded.mask, rows.shape, split.texts_per_row)

    def hidden(
        self,
        split: TokenisedSplit,
        rows: torch.Tensor,
        length: int,
        factors: Mapping[str, Factors],
        scale: float,
        layer: int,
    ) -> torch.Tensor:
        """Pooled states [K, B, d] of a layer numbered as in `StrongModel`."""
        padded = split.padded(rows, length)
        with adapters.replaced(
            adapters.adapted_forwards(self._layers, factors, len(rows), scale, padded.mask)
        ):
            _, states = self._run(split.tokens[padded.places], padded.mask, output_hidden_states=True)
        return self._pool(
            states[self.strong.description.layer(layer)], padded.mask, rows.shape, split.texts_per_row
        )

    def _run(
        self, ids: torch.Tensor, mask: torch.Tensor, **options: bool
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The last state, and all layers' where `output_hidden_states` asks for them."""
        # Padded on the right, a decoder's tokens never see the padding: without a mask it takes its faster
        # causal path.
        attended = None if self.strong.causal else mask.long()
        if self.strong.causal:
            options["use_cache"] = False
        with torch.autocast(
            self.strong.device.type, torch.bfloat16, enabled=self.strong.precision == "bfloat16"
        ):
            out = self._base(input_ids=ids, attention_mask=attended, **options)
        return out.last_hidden_state, out.hidden_states or ()

    def _pool(
        self, states: torch.Tensor, mask: torch.Tensor, shape: torch.Size, texts_per_row: int
    ) -> torch.Tensor:
        slots, batch = shape
        if self.strong.causal:
            last = mask.sum(1) - 1 + torch.arange(len(mask), device=mask.device) * mask.shape[1]
            pooled = states.flatten(0, 1).index_select(0, last).float()
        else:
            weights = mask.to(torch.float32).unsqueeze(-1)
            pooled = (states.float() * weights).sum(1) / weights.sum(1)
        pooled = pooled.view(slots, texts_per_row, batch, -1)
        return pooled[:, 0] - pooled[:, 1] if texts_per_row == 2 else pooled[:, 0]

    def _states_below(self, split: TokenisedSplit, first_block: int) -> torch.Tensor | None:
        """What enters `first_block`, [tokens + 1, d], zero for padding; None where it is the embedding or too
        much to keep.
        """
        size = (split.total + 1) * self.strong.hidden_size * 4
        if first_block == 0 or size > STATES_BYTES.get(self.strong.device.type, STATES_BYTES["cpu"]):
            return None
        key = (split, first_block)
        if key not in self._states:
            self._states[key] = self._compute_states(split, first_block)
        return self._states[key]

    @torch.no_grad()
    def _compute_states(self, split: TokenisedSplit, first_block: int) -> torch.Tensor:
        device = self.strong.device
        states = torch.zeros(split.total + 1, self.strong.hidden_size, device=device)
        block = self._blocks[first_block - 1]
        own: Callable = block.forward
        seen: dict[str, Any] = {}

        def forward(*args: Any, **kwargs: Any) -> Any:
            seen["out"] = own(*args, **kwargs)
            return seen["out"]

        order = np.argsort(split.lengths.max(1), kind="stable")
        start = 0
        with adapters.replaced({block: forward}):
            while start < len(order):
                size = max(
                    1,
                    self.strong.batch_tokens
                    // (split.texts_per_row * split.padded_length(order[start : start + 1])),
                )
                rows = order[start : start + size]
                padded = split.padded(torch.from_numpy(rows).to(device)[None], split.padded_length(rows))
                self._run(split.tokens[padded.places], padded.mask)
                self._blocks_return_tuples = isinstance(seen["out"], tuple)
                out = seen["out"][0] if self._blocks_return_tuples else seen["out"]
                states[padded.places[padded.mask]] = out[padded.mask].float()
                start += size
        return states

    def _skipping(self, first_block: int, states: torch.Tensor) -> dict[nn.Module, Callable]:
        """Blocks beneath the first pass on what they get; the first gets `states`."""
        first = self._blocks[first_block]
        own = first.forward

        def skip(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return (hidden_states,) if self._blocks_return_tuples else hidden_states

        def begin(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return own(states, *args, **kwargs)

        return {**{block: skip for block in self._blocks[:first_block]}, first: begin}
