"""The report: a search's finalists and the baselines on the sealed split, which is opened for it alone."""

from evo_aar.report.files import as_json, contents, markdown, picture, report_folder, write
from evo_aar.report.measures import Figures, figures
from evo_aar.report.opening import is_complete, shortlist

__all__ = [
    "Figures",
    "as_json",
    "contents",
    "figures",
    "is_complete",
    "markdown",
    "picture",
    "report_folder",
    "shortlist",
    "write",
]
