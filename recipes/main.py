"""Where a recipes' server starts: `python -c "..." SETTINGS`, before NumPy or torch are imported.

See `evaluator.sandbox.server`.
"""

from __future__ import annotations

import importlib
import socket

from recipes.confinement import Confinement, die_with_parent


def main(settings: dict) -> None:
    """Serve as `settings` say: `module` (whose `main` does it), `control` (a descriptor), `scratch`, and what
    confines a child.
    """
    die_with_parent()
    confinement = Confinement(settings["landlock"], settings["seccomp"], tuple(settings["readable"]))
    confinement.prepare()
    control = socket.socket(fileno=settings["control"])
    importlib.import_module(settings["module"]).main(confinement, control, settings["scratch"])
