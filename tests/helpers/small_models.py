"""Randomly initialised transformers models of a few thousand parameters, for tests that need a real one."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [
    "the",
    "film",
    "was",
    "good",
    "bad",
    "long",
    "short",
    "and",
    "very",
    "not",
    "dull",
    "no",
    "yes",
    "Answer:",
]
SIZES = dict(vocab_size=40, hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2)


def save(model_class, config, folder):
    """Save a model with a tokenizer of whole words to `folder`, and return the folder.

    The same call gives the same weights.
    """
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    model_class(config).save_pretrained(folder)
    return folder
