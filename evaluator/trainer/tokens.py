"""A split as the LoRA student reads it: every text's tokens end to end in one tensor, gathered into padded
batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from evaluator.strong import StrongModel
from evaluator.testbeds.prepared import Testbed

BUCKET = 4  # tokens: padded lengths are multiples of this
VECTOR = 32  # float32 elements that torch's vectorised CPU loops take at a time (two AVX-512 registers)


def bucket(widths: list[int]) -> int:
    """The step of padded lengths for activations of these widths.

    torch applies exp, tanh and the like to whole vectors and to the remainder by other code, which rounds
    differently. A slot whose activations fill whole vectors has no remainder, alone or fused.
    """
    return math.lcm(BUCKET, VECTOR // math.gcd(VECTOR, *widths))


@dataclass(frozen=True)
class PaddedTexts:
    """A batch: `places` [texts, length] into the split's tokens (padding points behind the last), `mask` of
    the same shape.
    """

    places: torch.Tensor
    mask: torch.Tensor


class TokenisedSplit:
    """The texts of a split: one a row, or the two of a pair.

    `lengths` [n, texts a row] int64, on the host; `tokens` [total + 1], the padding token last.
    """

    def __init__(
        self, strong: StrongModel, testbed: Testbed, split: str, template: int, swap: bool, step: int
    ) -> None:
        chosen = testbed.templates[template]
        rendered = [chosen.render(row, swap) for row in testbed.rows(split)]
        self.texts_per_row = len(rendered[0])
        encoded = strong.encode([text for texts in rendered for text in texts])
        self.lengths = np.array([len(ids) for ids in encoded], np.int64).reshape(-1, self.texts_per_row)
        starts = np.concatenate([[0], np.cumsum(self.lengths.ravel())])
        self.total = int(starts[-1])
        self.tokens = torch.from_numpy(np.concatenate([*encoded, [strong.pad_token_id]])).to(strong.device)
        self._starts = torch.from_numpy(starts[:-1].reshape(self.lengths.shape)).to(strong.device)
        self._lengths = torch.from_numpy(self.lengths).to(strong.device)
        # Positions that the model lacks can't be padded to: it may hold a table of them.
        positions = getattr(strong.model.config.get_text_config(), "max_position_embeddings", None)
        self._step, self._longest = step, max(strong.max_tokens, positions or step * strong.max_tokens)

    def padded_length(self, rows: np.ndarray) -> int:
        """The length to which a batch of these rows is padded; it depends on nothing else."""
        return min(-(-int(self.lengths[rows].max()) // self._step) * self._step, self._longest)

    def padded(self, rows: torch.Tensor, length: int) -> PaddedTexts:
        """`rows` [K, B] slot by slot: within a slot all first texts, then all second ones; K * texts a row *
        B in all.
        """
        order = (0, 2, 1)
        starts = self._starts[rows].permute(order).reshape(-1, 1)
        lengths = self._lengths[rows].permute(order).reshape(-1, 1)
        offsets = torch.arange(length, device=starts.device)
        mask = offsets < lengths
        return PaddedTexts(torch.where(mask, starts + offsets, self.total), mask)
