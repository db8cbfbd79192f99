"""The strong model: a frozen transformers decoder or encoder, read at one position a text.

A decoder is read at the text's last token, an encoder as the mean over its tokens. Layers are numbered as
transformers numbers its hidden states: 0 is the embedding, `depth` the state after the last layer (after the
final norm, where the architecture has one).

A text's result does not depend on the batch it was in, beyond rounding: texts are padded on the right and
masked.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from evaluator.errors import EvaluatorError

Progress = Callable[[int, int], None]  # texts done, texts in all

MAX_TOKENS = 1024
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}  # padded tokens of one forward pass
PRECISIONS = ("float32", "bfloat16")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "*.model")
_SESSION_KEYS = (
    "_name_or_path",
    "transformers_version",
)  # of config.json: say who wrote it, not what the model is


def native_bfloat16(device: str | torch.device = "cpu") -> bool:
    """Whether bfloat16 products are faster than float32 here: CUDA from Ampere on, CPUs with AMX, AVX512-BF16
    or Arm's.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


@dataclass(frozen=True)
class StrongDescription:
    """What can be said of a strong model without loading its weights.

    `causal`: a decoder with a language-model head, which can answer zero-shot. `fingerprint`: sha256 over
    weights, configuration and vocabulary. `positions`: the longest text in tokens that it can read, None if
    unbounded.
    """

    name: str
    folder: Path
    depth: int
    hidden_size: int
    causal: bool
    fingerprint: str
    positions: int | None

    def layer(self, number: int) -> int:
        """`number` as a layer from 0 to depth; a negative one counts from the deepest, -1."""
        resolved = number + self.depth + 1 if number < 0 else number
        if not 0 <= resolved <= self.depth:
            raise EvaluatorError(
                f"layer {number}: {self.name} has layers 0 (embedding) to {self.depth}; choose one of those"
                " or count back from -1."
            )
        return resolved

    def limit(self, max_tokens: int) -> int:
        """`max_tokens`, or the model's number of positions where that is fewer."""
        return min(max_tokens, self.positions or max_tokens)


def describe(name: str | os.PathLike) -> StrongDescription:
    """Find a model by local folder or hub name (downloading it if need be) and describe it.

    Raises EvaluatorError if there is no such model, or if it is neither a decoder nor an encoder.
    """
    name = os.fspath(name)
    folder = _local_folder(name)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise _unusable(name, error) from error
    if config.is_encoder_decoder:
        raise EvaluatorError(
            f"strong model {name!r} is an encoder-decoder ({config.model_type}); choose a decoder or an"
            " encoder."
        )
    architecture = (getattr(config, "architectures", None) or [""])[0]
    text_config = config.get_text_config()
    return StrongDescription(
        name=name,
        folder=folder,
        depth=text_config.num_hidden_layers,
        hidden_size=text_config.hidden_size,
        causal=architecture.endswith(("ForCausalLM", "LMHeadModel")),
        fingerprint=_fingerprint(name, folder),
        positions=getattr(text_config, "max_position_embeddings", None),
    )


def load_tokenizer(description: StrongDescription):
    """The model's tokenizer. Raises EvaluatorError if it can't be read."""
    try:
        return AutoTokenizer.from_pretrained(description.folder)
    except (OSError, ValueError) as error:
        raise _unusable(description.name, error) from error


def token_counts(description: StrongDescription, texts: Sequence[str]) -> np.ndarray:
    """[n] int64: tokens of each text, uncut."""
    encoded = load_tokenizer(description)(list(texts), truncation=False)["input_ids"] if len(texts) else []
    return np.array([len(ids) for ids in encoded], np.int64)


class StrongModel:
    """A frozen transformers model in evaluation mode with its tokenizer. Make one with `StrongModel.load`."""

    def __init__(
        self,
        *,
        description: StrongDescription,
        model,
        tokenizer,
        device: torch.device,
        precision: str,
        max_tokens: int,
        batch_tokens: int,
    ):
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
        name: str | os.PathLike,
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
                model, report = auto.from_pretrained(
                    description.folder, dtype=torch.float32, output_loading_info=True
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise _unusable(description.name, error) from error
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
        return self.read(texts, (), verdicts, progress)[1]

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
                if words:
                    margins[batch] = (logits[:, words[1]] - logits[:, words[0]]).cpu().numpy()
            done += len(batch)
            if progress:
                progress(done, len(encoded))
        return hidden, margins

    def _forward(
        self, tokens, mask, last, with_logits: bool
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
        return tuple(torch.from_numpy(array).to(self.device) for array in (tokens, mask, lengths - 1))

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


def _local_folder(name: str) -> Path:
    if os.path.isdir(name):
        if not os.path.isfile(os.path.join(name, "config.json")):
            raise EvaluatorError(
                f"strong model {name!r}: the folder has no config.json; give a folder that `save_pretrained`"
                " wrote."
            )
        return Path(name)
    if os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") > 1:
        raise EvaluatorError(
            f"strong model {name!r}: no such folder; give a transformers folder or a hub name such as"
            " 'owner/model'."
        )
    try:
        folder = Path(
            snapshot_download(
                name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors"], ignore_patterns=["*/*"]
            )
        )
        if not any(folder.glob("*.safetensors")):
            folder = Path(
                snapshot_download(name, allow_patterns=["pytorch_model*.bin"], ignore_patterns=["*/*"])
            )
    except (OSError, ValueError) as error:
        raise EvaluatorError(
            f"strong model {name!r}: neither a local folder nor to be had from the hub"
            f" ({type(error).__name__}); check the name and the network, or give a local folder."
        ) from error
    return folder


def _fingerprint(name: str, folder: Path) -> str:
    weights = next((files for pattern in _WEIGHTS if (files := sorted(folder.glob(pattern)))), None)
    if not weights:
        raise EvaluatorError(
            f"strong model {name!r}: no weights (*.safetensors) in {folder}; save the model there with"
            " `save_pretrained`."
        )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in _SESSION_KEYS}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in weights + sorted(path for pattern in _TOKENIZER for path in folder.glob(pattern)):
        with open(path, "rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _unusable(name: str, error: Exception) -> EvaluatorError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return EvaluatorError(
        f"strong model {name!r} cannot be read: {reason} Get a fresh copy, or name another decoder or"
        " encoder."
    )
