"""Pretrain the decoders of `mini`: `python -m evaluator.testbeds.mini.pretrain`, one command, from nothing to
`weights/`.

The strong model is a Llama of 0.5 million parameters: first it reads experts alone, then experts and laymen,
then laymen alone (corpus.py). The weak teacher's eyes are a far smaller model, which reads experts and
laymen. Float32, everything seeded. Another processor, version or number of threads rounds differently, which
some hundred steps amplify: it gives another model, more or less advanced.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evaluator.testbeds.mini.corpus import Document, documents, vocabulary
from evaluator.testbeds.mini.world import DOMAINS

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
STRONG = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 288}
WEAK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IGNORED = -100
FOLDER = Path(__file__).parent / "weights"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word or punctuation mark; `<bos>` in front."""
    words = [*SPECIAL.values(), *vocabulary()]
    tokenizer = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", words.index("<bos>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, padding_side="right", **SPECIAL
    )


class Pool(NamedTuple):
    """A domain's documents: `ids` [n, longest] int64 padded on the right, `targets` likewise: IGNORED where
    nothing is to be learnt.
    """

    ids: torch.Tensor
    targets: torch.Tensor


def build_pool(tokenizer: PreTrainedTokenizerFast, read: list[Document]) -> Pool:
    rows = tokenizer([document.text for document in read])["input_ids"]
    given = tokenizer([document.given for document in read])["input_ids"]
    ids = np.full((len(rows), max(map(len, rows))), tokenizer.pad_token_id)
    targets = np.full(ids.shape, IGNORED)
    for number, (tokens, start) in enumerate(zip(rows, map(len, given), strict=True)):
        ids[number, : len(tokens)] = tokens
        targets[number, start : len(tokens)] = tokens[start:]
    if (ids == tokenizer.unk_token_id).any():
        raise ValueError("the corpus has a word that vocabulary() lacks: add it there")
    return Pool(torch.from_numpy(ids), torch.from_numpy(targets))


def build_model(tokenizer: PreTrainedTokenizerFast, shape: dict[str, int], seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    settings: dict[str, Any] = dict(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.05,
        use_cache=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **shape,
    )
    return LlamaForCausalLM(LlamaConfig(**settings))


def optimisers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the blocks' matrices at twice the rate, AdamW for
    embeddings and norms.
    """
    matrices = [value for name, value in model.named_parameters() if value.ndim == 2 and "embed" not in name]
    others = [
        value for name, value in model.named_parameters() if not (value.ndim == 2 and "embed" not in name)
    ]
    return [
        torch.optim.Muon(matrices, lr=2 * learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True),
    ]


def train(
    model: LlamaForCausalLM,
    pools: dict[str, Pool],
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Next-token prediction, `batch_size` documents of each domain a step; linear warm-up and decay."""
    generator = torch.Generator().manual_seed(seed)
    both = optimisers(model, learning_rate)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            one, lambda step: min(1.0, (step + 1) / 100) * max(0.02, 1 - step / steps)
        )
        for one in both
    ]
    start = time.perf_counter()
    for step in range(steps):
        losses = []
        for pool in pools.values():
            chosen = torch.randint(len(pool.ids), (batch_size,), generator=generator)
            states, targets = (
                model.model(input_ids=pool.ids[chosen, :-1]).last_hidden_state,
                pool.targets[chosen, 1:],
            )
            learnt = targets != IGNORED
            loss = functional.cross_entropy(model.lm_head(states[learnt]), targets[learnt])
            (loss / len(pools)).backward()
            losses.append(loss.item())
        for one, schedule in zip(both, schedules, strict=True):
            one.step()
            schedule.step()
            one.zero_grad(set_to_none=True)
        if (step + 1) % 100 == 0:
            print(
                f"step {step + 1}/{steps}  "
                + "  ".join(f"{d} {v:.3f}" for d, v in zip(pools, losses, strict=True)),
                f" {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000, help="steps of the strong model on experts")
    parser.add_argument(
        "--mixed-steps", type=int, default=600, help="its steps on experts and laymen, afterwards"
    )
    parser.add_argument("--laymen", type=float, default=0.6, help="share of laymen in the latter")
    parser.add_argument("--laymen-steps", type=int, default=300, help="its steps on laymen alone, at the end")
    parser.add_argument("--weak-steps", type=int, default=300, help="steps of the weak teacher's model")
    parser.add_argument("--batch-size", type=int, default=48, help="documents of each domain a step")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="AdamW's; Muon's is twice that")
    parser.add_argument("--mixed-learning-rate", type=float, default=1e-3, help="of all stages but the first")
    parser.add_argument("--documents", type=int, default=60_000, help="documents of each domain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    tokenizer = build_tokenizer()
    seed, size = arguments.seed, arguments.batch_size
    experts, everyone, laymen = (
        {
            domain: build_pool(tokenizer, documents(seed, domain, arguments.documents, share))
            for domain in DOMAINS
        }
        for share in (0.0, arguments.laymen, 1.0)
    )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    weak, strong = (build_model(tokenizer, shape, seed) for shape in (WEAK, STRONG))
    train(weak, everyone, arguments.weak_steps, size, arguments.learning_rate, seed)
    train(strong, experts, arguments.steps, size, arguments.learning_rate, seed)
    train(strong, everyone, arguments.mixed_steps, size, arguments.mixed_learning_rate, seed + 1)
    train(strong, laymen, arguments.laymen_steps, size, arguments.mixed_learning_rate, seed + 2)
    with tempfile.TemporaryDirectory() as folder:
        weak.save_pretrained(folder)
        for file, target in (("model.safetensors", "weak.safetensors"), ("config.json", "weak.json")):
            shutil.copyfile(Path(folder) / file, arguments.folder / target)
    strong.save_pretrained(arguments.folder)
    sizes = {
        name: sum(parameter.numel() for parameter in model.parameters())
        for name, model in (("weak", weak), ("strong", strong))
    }
    tokenizer.save_pretrained(arguments.folder)
    write_source(arguments, parser.get_default, sizes)


def write_source(
    arguments: argparse.Namespace, default: Callable[[str], object], sizes: dict[str, int]
) -> None:
    """SOURCE.md: where these files come from, so that anybody can make them again and compare."""
    options = {name: value for name, value in vars(arguments).items() if name != "folder"}
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in options.items())
    changed = [
        f" --{name.replace('_', '-')} {value}" for name, value in options.items() if value != default(name)
    ]
    digests = [
        f"- `{f.name}` {hashlib.sha256(f.read_bytes()).hexdigest()}"
        for f in sorted(arguments.folder.iterdir())
        if f.name != "SOURCE.md"
    ]
    (arguments.folder / "SOURCE.md").write_text(
        "# Where these weights come from\n\nMade by this project, from a corpus that its own program"
        " generates; no outside data or weights. Licence: MIT.\nThey are the output of one command:\n\n   "
        f" OMP_NUM_THREADS={arguments.threads} python -m"
        f" evaluator.testbeds.mini.pretrain{''.join(changed)}\n\nSettings: {settings}. Python"
        f" {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__},"
        f" tokenizers {tokenizers.__version__}, {platform.machine()} CPU, float32. On another processor"
        " rounding differs, and so do the bytes.\n\n`model.safetensors`: the strong model,"
        f" {sizes['strong']:,} parameters. `weak.safetensors`, `weak.json`: the weak teacher's model,"
        f" {sizes['weak']:,} parameters.\n\nsha256:\n\n" + "\n".join(digests) + "\n"
    )


if __name__ == "__main__":
    main()
