"""An individual taken out of its search: recipe, students, card, lineage and figures in one folder."""

from evo_aar.export.bundle import export

__all__ = ["export"]
