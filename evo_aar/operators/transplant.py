"""Carrying a function from one recipe into another together with what it uses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from evo_aar.operators.edits import rename
from evo_aar.operators.genome import ENTRY, Genome, Inapplicable, Part

LONGEST_NAME = 40


def transplant(
    host: Genome, donor: Genome, name: str, install_as: str | None = None, keep: Collection[str] = ()
) -> Genome:
    """The host with the donor's function `name` added, or in place of the host's own function of that name.

    Helpers that read the same in both stay the host's, with the host's constants. A constant or helper that
    differs takes the donor's form where the host no longer uses its own, and a new name where it does.
    `install_as` gives the function another name in the host; of the names in `keep`, the host's own parts are
    used whatever the donor's say.

    The caller sees to it that `recipe` calls the function, then prunes.

    Raises:
        Inapplicable: where names or imports of the two files cannot be reconciled.
    """
    installed = install_as or name
    if installed in host.names and host.part(installed).kind != "definition":
        raise Inapplicable(f"{installed} is no function in the host")
    without = host.without([installed]) if installed in host.names else host
    shared = _shared(without, donor, name, keep)
    carried = _carried(host, donor, name, shared)
    still_used = without.reachable(shared)
    renames = {} if installed == name else {name: installed}
    taken = set(host.bindings | donor.names)
    for part in carried:
        clash = part.name in host.bindings and (part.name in still_used or part.name not in host.names)
        if part.name != name and clash:
            renames[part.name] = _fresh_name(part, installed, taken)
            taken.add(renames[part.name])
    new = [
        dataclasses.replace(part, name=renames.get(part.name, part.name), code=rename(part.code, renames))
        for part in carried
    ]
    return _install(host, donor, new, installed)


def _shared(host: Genome, donor: Genome, name: str, keep: Collection[str]) -> frozenset[str]:
    """The names of the host's parts that the carried function uses in place of the donor's.

    Those are helpers that the host goes on using and that read the same in both, with all that they use: the
    two sides of a helper must not see different constants.
    """
    used = host.reachable()
    needed = donor.uses_of(name) - {name}
    alike = {
        other
        for other in needed & host.names
        if other in keep
        or (
            other in used
            and donor.part(other).kind == "definition"
            and all(_same(host, donor, part) for part in _definitions(donor, other))
        )
    }
    return host.uses_of(*alike)


def _carried(host: Genome, donor: Genome, name: str, shared: frozenset[str]) -> list[Part]:
    """The donor's parts to carry, in the donor's order: what the function uses, but for what is shared or has
    the same value.
    """
    chosen, waiting = {name}, [name]
    while waiting:
        for used in donor.part(waiting.pop()).uses & donor.names:
            part = donor.part(used)
            if used == ENTRY:
                raise Inapplicable("the function calls recipe itself")
            if (
                used in chosen
                or used in shared
                or (part.kind == "constant" and used in host.names and _same(host, donor, used))
            ):
                continue
            if part.kind == "constant" and any(
                donor.part(other).kind == "definition" for other in part.uses & donor.names
            ):
                raise Inapplicable(f"{used} is computed by a function")
            chosen.add(used)
            waiting.append(used)
    unplain = donor.bindings - donor.names - {item.binding for item in donor.imports}
    if unplain & frozenset().union(*(donor.part(part).uses for part in chosen)):
        raise Inapplicable("the function uses names that no plain statement defines")
    return [part for part in donor.parts if part.name in chosen]


def _definitions(genome: Genome, name: str) -> list[str]:
    return [part for part in sorted(genome.uses_of(name)) if genome.part(part).kind == "definition"]


def _same(host: Genome, donor: Genome, name: str) -> bool:
    if name not in host.names:
        return False
    first, second = host.part(name), donor.part(name)
    return first.kind == second.kind and (first.code == second.code or first.meaning == second.meaning)


def _fresh_name(part: Part, function: str, taken: set[str]) -> str:
    """A readable name that is free: the function's name and the part's, or the part's with a number."""
    stem = re.sub(r"_\d+$", "", part.name)
    prefix = function.upper() if part.name.isupper() else function
    candidate = stem if stem.startswith(f"{prefix}_") else f"{prefix}_{stem}"
    if len(candidate) <= LONGEST_NAME and candidate not in taken:
        return candidate
    stem = candidate if len(candidate) <= LONGEST_NAME else stem
    return next(f"{stem}_{number}" for number in range(2, len(taken) + 3) if f"{stem}_{number}" not in taken)


def _install(host: Genome, donor: Genome, new: list[Part], installed: str) -> Genome:
    replaced = {part.name for part in new}
    function = next(part for part in new if part.name == installed)
    result = host
    if installed in host.names:
        # The function takes its predecessor's place; its helpers go above it.
        helpers = [part for part in new if part.kind == "definition" and part is not function]
        kept = [part for part in host.parts if part.name not in replaced or part.name == installed]
        at = next(index for index, part in enumerate(kept) if part.name == installed)
        result = dataclasses.replace(host, parts=(*kept[:at], *helpers, function, *kept[at + 1 :]))
        new = [part for part in new if part.kind != "definition"]
    else:
        result = host.without(replaced)
    result = result.with_parts(new)
    needed = frozenset().union(*(part.uses for part in result.parts if part.name in replaced))
    for item in donor.imports:
        if item.binding in needed and item.module != "__future__":
            result = result.with_import(item)
    return result
