"""One training as a user would write it today: Hugging Face's Trainer, and peft for LoRA, in a process of its
own.

    python benchmarks/huggingface_trial.py SPEC.json

SPEC names a prepared testbed, a cache, a kind of student, a seed and sizes (see `Spec` in
benchmarks/trainer.py). The same initial parameters, data order, schedule and optimiser as the trainer's, no
clipping, so that both end alike but for rounding. Prints JSON: seconds of wall and of CPU for the training
alone, and writes the parameters to the file that SPEC names.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import Trainer, TrainingArguments

sys.path.insert(0, str(Path(__file__).parent))
from trainer import Spec, ours


class Rows(Dataset):
    """Rows in the trainer's order: the k-th batch is what its k-th step reads."""

    def __init__(self, inputs: list, targets: np.ndarray) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        return {"inputs": self.inputs[index], "labels": torch.from_numpy(self.targets[index])}


class InOrder(Trainer):
    def _get_train_sampler(self, *_):
        return SequentialSampler(self.train_dataset)


class Head(nn.Module):
    """A head on cached hidden states."""

    def __init__(self, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.first = nn.Linear(*parameters["weight_1"].shape)
        self.second = nn.Linear(*parameters["weight_2"].shape)
        for layer, number in ((self.first, 1), (self.second, 2)):
            layer.weight.data.copy_(parameters[f"weight_{number}"].t())
            layer.bias.data.copy_(parameters[f"bias_{number}"])

    def forward(self, inputs, labels):
        logits = self.second(torch.relu(self.first(inputs)))
        return {"loss": -(labels * logits.log_softmax(-1)).sum(-1).mean(), "logits": logits}

    def ours(self) -> dict[str, torch.Tensor]:
        layers = ((self.first, 1), (self.second, 2))
        return {f"weight_{n}": one.weight.t() for one, n in layers} | {
            f"bias_{n}": one.bias for one, n in layers
        }


class Lora(nn.Module):
    """peft's LoRA on the strong model's layers, and a linear head on its last state at the last token."""

    def __init__(self, model, parameters: dict[str, torch.Tensor]) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__()
        names = [
            model.trunk.full_name(name.removesuffix(".lora_A"))
            for name in parameters
            if name.endswith(".lora_A")
        ]
        config = LoraConfig(
            r=model.rank, lora_alpha=2 * model.rank, target_modules=names, task_type="FEATURE_EXTRACTION"
        )
        self.base = get_peft_model(model.trunk.strong.model, config)
        self.names = {self._peft_name(model, name): name for name in parameters if "lora_" in name}
        own = dict(self.base.named_parameters())
        for theirs, name in self.names.items():
            own[theirs].data.copy_(parameters[name])
        self.mean, self.scale = model.trunk.standardisation()
        self.head = nn.Linear(*parameters["head.weight"].shape)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @staticmethod
    def _peft_name(model, name: str) -> str:
        layer, factor = name.rsplit(".", 1)
        return f"base_model.model.{model.trunk.full_name(layer)}.{factor}.default.weight"

    def forward(self, inputs, mask, labels):
        states = self.base(input_ids=inputs, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
        last = states[torch.arange(len(inputs)), mask.sum(1) - 1]
        logits = self.head((last - self.mean) / self.scale)
        return {"loss": -(labels * logits.log_softmax(-1)).sum(-1).mean(), "logits": logits}

    def ours(self) -> dict[str, torch.Tensor]:
        own = dict(self.base.named_parameters())
        return {name: own[theirs] for theirs, name in self.names.items()} | {
            "head.weight": self.head.weight.t(),
            "head.bias": self.head.bias,
        }


def padded(rows: list[dict], pad: int) -> dict:
    """Token ids [B, longest] with their mask."""
    length = max(len(row["inputs"]) for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros(len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row["inputs"])] = torch.from_numpy(row["inputs"])
        mask[place, : len(row["inputs"])] = 1
    return {"inputs": ids, "mask": mask, "labels": torch.stack([row["labels"] for row in rows])}


def main() -> None:
    spec = Spec.read(Path(sys.argv[1]))
    trainer = ours(spec)
    training = spec.training(trainer, spec.seed)
    positions = training.positions().ravel()
    rows, targets = training.rows[positions], training.targets[positions]
    start = training.model.initial_parameters(training.seed)
    if spec.kind == "head":
        model, collator = Head(start), None
        inputs = list(training.model.features.of("train")[rows])
    else:
        model, strong = Lora(training.model, start), training.model.trunk.strong
        texts = [trainer.testbed.templates[0].render(row)[0] for row in trainer.testbed.rows("train")]
        encoded = strong.encode(texts)
        inputs = [np.asarray(encoded[row]) for row in rows]

        def collator(some):
            return padded(some, strong.pad_token_id)

    arguments = TrainingArguments(
        output_dir=str(Path(spec.result).parent / "hf"),
        per_device_train_batch_size=training.batch,
        num_train_epochs=1,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        max_grad_norm=0.0,
        optim="adamw_torch_fused",
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=spec.device == "cpu",
        seed=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    trainer = InOrder(
        model=model, args=arguments, train_dataset=Rows(inputs, targets), data_collator=collator
    )
    wall, cpu = time.perf_counter(), time.process_time()
    trainer.train()
    facts = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    save_file({name: value.detach().cpu().contiguous() for name, value in model.ours().items()}, spec.result)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
