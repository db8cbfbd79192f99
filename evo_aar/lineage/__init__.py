"""A search's genealogy and its progress, drawn as SVG and HTML that need nothing from elsewhere."""

from evo_aar.lineage.chart import pgr_chart
from evo_aar.lineage.genealogy import Genealogy, Node
from evo_aar.lineage.page import lineage_page

__all__ = ["Genealogy", "Node", "lineage_page", "pgr_chart"]
