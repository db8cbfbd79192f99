"""The strong model: a frozen transformers decoder or encoder, read at one position a text.

A decoder is read at the text's last token, an encoder as the mean over its tokens. Layers are numbered as
transformers numbers its hidden states: 0 is the embedding, `depth` the state after the last layer (after the
final norm, where the architecture has one).

A text's result does not depend on the batch it was in, beyond rounding: texts are padded on the right and
masked.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from evaluator.descriptions import StrongDescription, describe, load_tokenizer, unusable
from evaluator.errors import EvaluatorError

Progress = Callable[[int, int], object]  # texts done, texts in all

MAX_TOKENS = 1024
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}  # padded tokens of one forward pass
PRECISIONS = ("float32", "bfloat16")


def native_bfloat16(device: str | torch.device = "cpu") -> bool:
    """Whether bfloat16 products are faster than float32 here: CUDA from Ampere on, CPUs with AMX, AVX512-BF16
    or Arm's.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


class StrongModel:
    """A frozen transformers model in evaluation mode with its tokenizer. Make one with `StrongModel.load`."""

    def __init__(
        self,
        *,
        description: StrongDescription,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        precision: str,
        max_tokens: int,
        batch_tokens: int,
    ) -> None:
        self.description = description
        self.model = model
        self.tokenizer = tokenizer
        self.device = device
        self.precision = precision
        self.max_tokens = max_tokens
        self.batch_tokens = batch_tokens

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        max_tokens: int = MAX_TOKENS,
        batch_tokens: int | None = None,
    ) -> StrongModel:
        """Load a model by local folder or hub name.

        `precision`: "float32", or "bfloat16" for autocast products over float32 weights (see
        `native_bfloat16`). `max_tokens`: longer texts lose their beginning before a decoder (the
        classification position is their end) and their end before an encoder. `batch_tokens`: padded tokens
        of one forward pass, by default BATCH_TOKENS of the device. Raises EvaluatorError if the model cannot
        be found, read, or used.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {PRECISIONS}")
        device = torch.device(device)
        description = describe(name)
        auto = AutoModelForCausalLM if description.causal else AutoModel
        try:
            with no_progress_bar():
                # a pair, as loading info is asked for: transformers' own types don't know of it
                loaded: Any = auto.from_pretrained(
                    description.folder, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise unusable(description.name, error) from error
        model, report = loaded
        missing = sorted(
            key for key in report["missing_keys"] if "pooler" not in key
        )  # a pooler is not on the path we read
        if missing:
            raise EvaluatorError(
                f"strong model {description.name!r} lacks weights ({missing[0]} and {len(missing) - 1} more);"
                " get a complete copy."
            )
        tokenizer = load_tokenizer(description)
        tokenizer.truncation_side = "left" if description.causal else "right"
        return cls(
            description=description,
            model=model.to(device).eval().requires_grad_(False),
            tokenizer=tokenizer,
            device=device,
            precision=precision,
            max_tokens=min(description.limit(max_tokens), tokenizer.model_max_length),
            batch_tokens=batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"]),
        )

    @property
    def depth(self) -> int:
        return self.description.depth

    @property
    def hidden_size(self) -> int:
        return self.description.hidden_size

    @property
    def causal(self) -> bool:
        return self.description.causal

    @property
    def fingerprint(self) -> str:
        return self.description.fingerprint

    @property
    def pad_token_id(self) -> int:
        """The token that fills a batch. It is masked, so that any will do where the tokenizer names none."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, int64, 1 to `max_tokens` of them."""
        if len(texts) == 0:
            return []
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        return [np.asarray(ids or [self.pad_token_id], np.int64) for ids in encoded]

    def hidden_states(
        self, texts: Sequence[str], layers: Sequence[int], progress: Progress | None = None
    ) -> dict[int, np.ndarray]:
        """Hidden states of the chosen layers, all in one forward pass: {layer as given: [n, hidden_size]
        float32}.
        """
        return self.read(texts, layers, progress=progress)[0]

    def verdict_margins(
        self, texts: Sequence[str], verdicts: tuple[str, str], progress: Progress | None = None
    ) -> np.ndarray:
        """[n] float32: next-token logit of the word for class 1 minus that of the word for class 0.

        Raises EvaluatorError if the model is not causal or if the two words begin with the same token.
        """
        margins = self.read(texts, (), verdicts, progress)[1]
        assert margins is not None  # as verdicts were given
        return margins

    def read(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        verdicts: tuple[str, str] | None = None,
        progress: Progress | None = None,
    ) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
        """Hidden states as in `hidden_states` and, if `verdicts` is given, margins as in `verdict_margins`,
        in one forward pass.
        """
        numbers = {layer: self.description.layer(layer) for layer in layers}
        words = self._verdict_tokens(verdicts) if verdicts is not None else None
        encoded = self.encode(texts)
        hidden = {layer: np.empty((len(encoded), self.hidden_size), np.float32) for layer in numbers}
        margins = np.empty(len(encoded), np.float32) if words else None
        done = 0
        for batch in self._batches(encoded):
            tokens, mask, last = self._pad([encoded[i] for i in batch])
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"),
            ):
                states, logits = self._forward(tokens, mask, last, with_logits=words is not None)
                for layer, number in numbers.items():
                    hidden[layer][batch] = self._pool(states[number].float(), mask, last).cpu().numpy()
                if words and margins is not None and logits is not None:
                    margins[batch] = (logits[:, words[1]] - logits[:, words[0]]).cpu().numpy()
            done += len(batch)
            if progress:
                progress(done, len(encoded))
        return hidden, margins

    def _forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, last: torch.Tensor, with_logits: bool
    ) -> tuple[tuple[torch.Tensor, ...], torch.Tensor | None]:
        if not with_logits:
            base = self.model.base_model  # spares the product with the vocabulary
            return base(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states, None
        rows = torch.arange(len(tokens), device=self.device)
        if "logits_to_keep" in inspect.signature(self.model.forward).parameters:
            kept, column = torch.unique(last, return_inverse=True)
            out = self.model(
                input_ids=tokens, attention_mask=mask, output_hidden_states=True, logits_to_keep=kept
            )
        else:
            column = last
            out = self.model(input_ids=tokens, attention_mask=mask, output_hidden_states=True)
        return out.hidden_states, out.logits[rows, column].float()

    def _pool(self, states: torch.Tensor, mask: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        if self.causal:
            return states[torch.arange(len(states), device=self.device), last]
        weights = mask.to(states.dtype).unsqueeze(-1)
        return (states * weights).sum(1) / weights.sum(1)

    def _batches(self, encoded: list[np.ndarray]) -> Iterator[np.ndarray]:
        """Indices of texts of similar lengths; longest first, so that the estimate of the remaining time errs
        on the long side.
        """
        order = np.argsort([-len(ids) for ids in encoded], kind="stable")
        start = 0
        while start < len(order):
            size = max(1, self.batch_tokens // len(encoded[order[start]]))
            yield order[start : start + size]
            start += size

    def _pad(self, encoded: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        lengths = np.array([len(ids) for ids in encoded])
        tokens = np.full((len(encoded), lengths.max()), self.pad_token_id, np.int64)
        for row, ids in zip(tokens, encoded, strict=True):
            row[: len(ids)] = ids
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        tensor = partial(torch.as_tensor, device=self.device)
        return tensor(tokens), tensor(mask), tensor(lengths - 1)

    def _verdict_tokens(self, verdicts: tuple[str, str]) -> tuple[int, int]:
        """The first token of each word as it continues a text: tokenizers differ in how they cut a leading
        space.
        """
        if not self.causal:
            reason = "has no language-model head, hence no zero-shot prior; use templates without verdicts"
            raise EvaluatorError(f"strong model {self.description.name!r} {reason}.")
        context = "Answer:"
        prefix = self.tokenizer(context, add_special_tokens=False)["input_ids"]
        first = []
        for word in verdicts:
            ids = self.tokenizer(context + word, add_special_tokens=False)["input_ids"]
            if ids[: len(prefix)] == prefix and len(ids) > len(prefix):
                first.append(ids[len(prefix)])
            else:  # the word melts into what precedes it: take it on its own
                first.append(self.tokenizer(word, add_special_tokens=False)["input_ids"][0])
        if first[0] == first[1]:
            raise EvaluatorError(
                f"verdicts {verdicts} begin with the same token in {self.description.name!r}; choose words"
                " that begin differently."
            )
        return first[0], first[1]


@contextmanager
def no_progress_bar() -> Iterator[None]:
    """transformers draws a bar for every model that it loads; ours are the caller's to draw."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
