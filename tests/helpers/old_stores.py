"""Stores of earlier formats, unpacked with the testbed that they ran on."""

import gzip
import shutil
from pathlib import Path

from repository import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
FINGERPRINTS = {
    "finished": "deaf8c84ee929cbc56d11b5b0c540626",
    "killed": "a6619089b565aa2d596e31247caf93a8",
}
"""As the version printed them that wrote the stores."""


def old_run(folder: Path, name: str, version: int = 1) -> Path:
    """A run in `folder` / runs as that version left it; its testbed lies in `folder`.

    Returns the store's path.
    """
    fixture = FIXTURES / f"format-{version}"
    for part in ("testbed", "model"):
        if not (folder / part).exists():
            shutil.copytree(fixture / part, folder / part)
    path = folder / "runs" / name / "search.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.decompress((fixture / f"{name}.sqlite.gz").read_bytes()))
    return path
