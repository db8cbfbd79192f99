"""What can be said of a strong model without loading its weights: where it lies, how deep it is, and a
fingerprint of all that its answers depend on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from evaluator.errors import EvaluatorError

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "*.model")
_SESSION_KEYS = (
    "_name_or_path",
    "transformers_version",
)  # of config.json: say who wrote it, not what the model is


@dataclass(frozen=True)
class StrongDescription:
    """`causal`: a decoder with a language-model head, which can answer zero-shot. `fingerprint`: sha256 over
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
        """`number` as a layer from 0 to depth; a negative one counts from the deepest, -1.

        Raises EvaluatorError where there is no such layer.
        """
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


def describe(name: str | os.PathLike[str]) -> StrongDescription:
    """Find a model by local folder or hub name (downloading it if need be) and describe it.

    Raises EvaluatorError if there is no such model, or if it is neither a decoder nor an encoder.
    """
    name = os.fspath(name)
    folder = _local_folder(name)
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise unusable(name, error) from error
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


def load_tokenizer(description: StrongDescription) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises EvaluatorError if it can't be read."""
    try:
        return AutoTokenizer.from_pretrained(description.folder)
    except (OSError, ValueError) as error:
        raise unusable(description.name, error) from error


def token_counts(description: StrongDescription, texts: Sequence[str]) -> np.ndarray:
    """[n] int64: tokens of each text, uncut."""
    encoded = load_tokenizer(description)(list(texts), truncation=False)["input_ids"] if len(texts) else []
    return np.array([len(ids) for ids in encoded], np.int64)


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


def unusable(name: str, error: Exception) -> EvaluatorError:
    """What to raise where transformers can't read a model."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return EvaluatorError(
        f"strong model {name!r} cannot be read: {reason} Get a fresh copy, or name another decoder or"
        " encoder."
    )
