"""The nine research directions that islands are seeded with, and the baselines, as data of this package.

Each direction has a seed recipe (`seeds/NAME.py`) and a brief (`briefs/NAME.md`) for whoever writes recipes
on its island. The briefs are vague on purpose: in the published experiment, over-specified prompts did worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

from recipes.source import DIRECTIONS

TITLES = {
    "unsupervised_elicitation": "Unsupervised elicitation",
    "data_reweighting": "Data reweighting",
    "weak_to_strong_elicitation": "Weak-to-strong with elicitation",
    "label_posterior": "Label posterior",
    "distillation": "Distillation",
    "simplicity_bias": "Simplicity bias",
    "epiplexity": "Epiplexity",
    "evolution_strategies": "Evolution strategies",
    "interpretability": "Interpretability",
}
BASELINES = ("vanilla", "soft", "confident_only", "auxiliary_confidence", "zero_shot")
"""The baselines that are recipes. The ceiling isn't: it trains on ground truth, which no recipe sees."""


@dataclass(frozen=True)
class Direction:
    """One research direction.

    `number`: the island that it seeds, from 0. `name`: as in a recipe's `Direction:` line. `title`: for
    people. `seed_source`: the source of its seed recipe. `brief`: Markdown, one paragraph.
    """

    number: int
    name: str
    title: str
    seed_source: str
    brief: str


def directions() -> tuple[Direction, ...]:
    """All directions, in the order of their islands."""
    return tuple(_direction(number, name) for number, name in enumerate(DIRECTIONS))


def direction(name: str) -> Direction:
    """The direction of that name. Raises KeyError, naming the known ones."""
    if name not in DIRECTIONS:
        raise KeyError(f"no direction {name!r}; choose one of {', '.join(DIRECTIONS)}")
    return _direction(DIRECTIONS.index(name), name)


def baseline_sources() -> dict[str, str]:
    """The baselines' sources by name, in the order of `BASELINES`."""
    return {name: _read(f"baselines/{name}.py") for name in BASELINES}


def _direction(number: int, name: str) -> Direction:
    seed_source, brief = _read(f"seeds/{name}.py"), _read(f"briefs/{name}.md").strip()
    return Direction(number, name, TITLES[name], seed_source, brief)


def _read(path: str) -> str:
    return resources.files("recipes").joinpath(path).read_text(encoding="utf-8")
