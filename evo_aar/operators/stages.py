"""The grammar's stages, read from the folder `grammar` as one genome to transplant from."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

from evo_aar.operators.genome import Genome, Import, Part, read_genome
from evo_aar.operators.pipeline import FIT, STAGE

FILES = ("common", "targets", "relabelling", "selection", "fits")
_PACKAGE = "evo_aar.operators.grammar"


@dataclass(frozen=True)
class Stages:
    """The grammar: where its functions come from and which slot of a pipeline each can fill.

    `wrappers` are fits around the recipe's own `fit`.
    """

    genome: Genome
    stages: tuple[str, ...]
    selections: tuple[str, ...]
    fits: tuple[str, ...]
    wrappers: tuple[str, ...]

    def uses_prior(self, name: str) -> bool:
        return ".prior(" in self.genome.part(name).code


@functools.cache
def stages() -> Stages:
    """The grammar that ships with the package."""
    parts: list[Part] = []
    imports: list[Import] = []
    for name in FILES:
        genome = read_genome(resources.files(_PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8"))
        parts.extend(genome.parts)
        imports.extend(item for item in genome.imports if not item.module.startswith(_PACKAGE))
    whole = Genome("", tuple(dict.fromkeys(imports)), tuple(parts))
    if len(whole.names) != len(parts):
        raise ValueError("two files of the grammar define the same name")
    of_stage = [part.name for part in parts if part.parameters == STAGE and part.name != "held_out_beliefs"]
    of_fit = [part.name for part in parts if part.parameters == FIT and part.name != "fit"]
    return Stages(
        genome=whole,
        stages=tuple(name for name in of_stage if not name.startswith("select_")),
        selections=tuple(name for name in of_stage if name.startswith("select_")),
        fits=tuple(name for name in of_fit if "fit" not in whole.part(name).uses),
        wrappers=tuple(name for name in of_fit if "fit" in whole.part(name).uses),
    )
