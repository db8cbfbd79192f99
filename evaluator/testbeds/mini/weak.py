"""The weak teacher: a logistic regression on a small decoder's states and the words, from few labels.

It sees little of the truth and much of the tone, which goes with the label, so its errors are systematic: it
believes what is said confidently, in every split alike. Sixteen of them differ in the labels that each was
given.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from evaluator.testbeds.prepared import Template

WEIGHTS = Path(__file__).parent / "weights"
TEACHERS = 16


@functools.cache
def _decoder() -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    model = LlamaForCausalLM(LlamaConfig.from_json_file(WEIGHTS / "weak.json"))
    model.load_state_dict(
        load_file(WEIGHTS / "weak.safetensors"), strict=False
    )  # the tied output matrix is stored once
    model.tie_weights()
    return model.eval(), AutoTokenizer.from_pretrained(WEIGHTS)


@torch.no_grad()
def _text_features(texts: list[str]) -> np.ndarray:
    """[n, layers * d + vocabulary]: the decoder's last-token states after each layer, and word counts."""
    model, tokenizer = _decoder()
    parts = []
    for start in range(0, len(texts), 1000):
        batch = tokenizer(texts[start : start + 1000], padding=True, return_tensors="pt")
        last = batch["attention_mask"].sum(1) - 1
        states = model.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
        ).hidden_states[1:]
        counts = torch.zeros(len(last), len(tokenizer)).scatter_add_(
            1, batch["input_ids"], batch["attention_mask"].float()
        )
        parts.append(torch.cat([*(layer[torch.arange(len(last)), last] for layer in states), counts], 1))
    return torch.cat(parts).numpy()


def features(rows: list[dict[str, str]], template: Template) -> np.ndarray:
    """[n, f] float32 of rows; a pair's is the first reply's minus the second's."""
    texts = [template.render(row) for row in rows]
    sides = [_text_features([sides[number] for sides in texts]) for number in range(len(texts[0]))]
    return sides[0] if len(sides) == 1 else sides[0] - sides[1]


def teachers(labelled: np.ndarray, labels: np.ndarray, count: int, seed: int, strength: float) -> list:
    """Sixteen classifiers, each fitted to `count` rows drawn from those of `labelled` [m, f]; `labels` [m].

    `strength`: scikit-learn's C. The teacher whose accuracy is the median on the rest of the labelled rows
    comes first: the one that labels the training pool is an ordinary one.
    """
    fitted = []
    for number in range(TEACHERS):
        chosen = np.random.default_rng([seed, number]).permutation(len(labels))
        train, rest = chosen[:count], chosen[count:]
        teacher = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(
            labelled[train], labels[train]
        )
        fitted.append((teacher.score(labelled[rest], labels[rest]), number, teacher))
    middle = sorted(fitted, key=lambda entry: entry[:2])[TEACHERS // 2]
    return [middle[2], *(teacher for _, number, teacher in fitted if number != middle[1])]
