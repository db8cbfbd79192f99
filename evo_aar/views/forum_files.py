"""The forum as plain files beside the store, one a finding, for whoever would rather read than query."""

from __future__ import annotations

from pathlib import Path

from population.forum import Finding
from population.store import Store


class ForumFiles:
    """Writes what is new after each generation to `folder`; the store stays the truth."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def generation(self, store: Store, number: int) -> None:
        """Write all findings up to `number` that aren't there yet."""
        self._folder.mkdir(exist_ok=True)
        taken: dict[str, int] = {}
        for finding in store.forum.as_of(number + 1):
            count = taken[finding.author] = taken.get(finding.author, 0) + 1
            path = self._folder / f"{finding.author}-{count}.md"
            text = finding_text(store, finding)
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")


def finding_text(store: Store, finding: Finding) -> str:
    """A finding as Markdown."""
    lines = [
        f"# {finding.title or 'Untitled'}",
        "",
        f"By {finding.author}, island {finding.island}, generation {finding.generation}.",
    ]
    if finding.source_hash:
        owners = store.individuals.of_source(finding.source_hash)
        lines.append(f"Recipe: {owners[0].id if owners else finding.source_hash}.")
    return "\n".join([*lines, "", finding.text, ""])
