"""A LoRA student as files that the `peft` library loads unchanged.

    adapter_config.json          a peft.LoraConfig
    adapter_model.safetensors    base_model.model.<layer>.lora_A.weight [r, in], ....lora_B.weight [out, r]
    head.safetensors             weight [2, d], bias [2]: logits = pooled last state @ weight.T + bias

The pooled state is the last token's of a decoder and the mean over tokens of an encoder, of the last hidden
state; a pair's is the first text's minus the second's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from evaluator.tensor_files import read_tensors


def save(
    folder: Path,
    *,
    base: str,
    causal: bool,
    transposed: bool,
    rank: int,
    alpha: int,
    factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    head: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """`factors`: A [r, in] and B [out, r] by the layer's full name; `head`: weight [2, d] and bias [2];
    `base`: the model's name or folder.
    """
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if causal else "FEATURE_EXTRACTION",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(factors),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    tensors = {}
    for name, (down, up) in factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = down.detach().cpu().contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = up.detach().cpu().contiguous()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    weight, bias = (tensor.detach().cpu().contiguous() for tensor in head)
    save_file({"weight": weight, "bias": bias}, folder / "head.safetensors", metadata={"format": "pt"})


@contextmanager
def merged(model: nn.Module, folder: Path) -> Iterator[None]:
    """The model with an adapter's factors added to its weights, for the length of the block.

    Raises EvaluatorError where the adapter can't be read.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    factors = read_tensors(folder / "adapter_model.safetensors")
    scale = config["lora_alpha"] / config["r"]
    kept: list[tuple[nn.Parameter, torch.Tensor]] = []
    try:
        for name in config["target_modules"]:
            up, down = (factors[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "BA")
            weight = model.get_parameter(f"{name}.weight")
            kept.append((weight, weight.data))
            delta = torch.from_numpy((up @ down).T if config["fan_in_fan_out"] else up @ down)
            weight.data = weight.data + scale * delta.to(weight.device)
        yield
    finally:
        for weight, data in kept:
            weight.data = data
