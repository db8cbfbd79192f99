"""Carrying a function from one recipe into another together with what it uses."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from evo_aar.operators.edits import rename
from evo_aar.operators.genome import ENTRY, Genome, Inapplicable, Part

LONGEST_NAME = 40


def transplant(host: Genome, donor: Genome, name: str, install_as: str | None = None, keep: Collection[str] = ()) -> Genome:
    """The host with the donor's function `name` added, or in place of the host's own function of that name.

    Helpers that read the same in both stay the host's, with the host's constants. A constant or helper that differs
    takes the donor's form where the host no longer uses its own, and a new name where it does. `install_as` gives the
    function another name in the host; of the names in `keep`, the host's own parts are used whatever the donor's say.

    The caller sees to it that `recipe` calls the function, then prunes.

    Raises:
        Inapplicable: where names or imports of the two files cannot be reconciled.
    """
    installed = install_as or name
    if installed in host.names and host.part(installed).kind != "definition":
        raise Inapplicable(f"{installed} is no function in the host")
    carried, shared = _closure(host, donor, name, keep)
    still_used = _still_used(host, installed, shared)
    renames = {} if installed == name else {name: installed}
    taken = set(host.bindings | donor.names)
    for part in carried:
        clash = part.name in host.bindings and (part.name in still_used or part.name not in host.names)
        if part.name != name and clash:
            renames[part.name] = _fresh_name(part, installed, taken)
            taken.add(renames[part.name])
    new = [dataclasses.replace(part, name=renames.get(part.name, part.name), code=rename(part.code, renames)) for part in carried]
    return _install(host, donor, new, installed)


def _closure(host: Genome, donor: Genome, name: str, keep: Collection[str]) -> tuple[list[Part], set[str]]:
    """The donor's parts to carry, in the donor's order, and the names of the host's parts used in their stead."""
    table = {part.name: part for part in donor.parts if part.name}
    chosen, shared, waiting = {name}, set(), sorted(table[name].uses)
    while waiting:
        used = waiting.pop()
        if used in chosen or used in shared or used not in table:
            continue
        if used == ENTRY:
            raise Inapplicable("the function calls recipe itself")
        if used in host.names and (used in keep or _same(host.part(used), table[used])):
            shared.add(used)
            continue
        if table[used].kind == "constant" and any(
            other in table and table[other].kind == "definition" for other in table[used].uses
        ):
            raise Inapplicable(f"{used} is computed by a function")
        chosen.add(used)
        waiting.extend(sorted(table[used].uses))
    bound_otherwise = set().union(*(table[part].uses for part in chosen)) & (donor.bindings - donor.names)
    if bound_otherwise - {item.binding for item in donor.imports}:
        raise Inapplicable("the function uses names that no plain statement defines")
    return [part for part in donor.parts if part.name in chosen], shared


def _same(first: Part, second: Part) -> bool:
    return first.kind == second.kind and (first.code == second.code or first.meaning == second.meaning)


def _still_used(host: Genome, installed: str, shared: set[str]) -> frozenset[str]:
    """What the host uses once its function `installed` is gone."""
    if installed not in host.names:
        return host.reachable(shared)
    return host.without([installed]).reachable(shared)


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
