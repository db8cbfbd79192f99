"""Losses and kinds of student from other packages, known in every process of the engine.

A package that has some names the module that registers them in its own pyproject.toml:

    [project.entry-points."evo_aar.plugins"]
    anything = "my_package.my_losses"

Recipes' processes load none: there a loss is a name.
"""

from __future__ import annotations

import functools
from importlib.metadata import entry_points

GROUP = "evo_aar.plugins"


@functools.cache
def load() -> None:
    """Import what the installed packages name, once in a process. Raises what their modules raise."""
    for point in entry_points(group=GROUP):
        point.load()
