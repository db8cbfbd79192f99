"""Where the repository and the tests' helpers lie, for tests that read files or start processes."""

from pathlib import Path

HELPERS = Path(__file__).parent
ROOT = HELPERS.parent.parent
