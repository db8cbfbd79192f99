"""The self-attack's inner half: a process that is confined like a recipe's tries to get out, and tells what
it got.

It is told, as one line of JSON, what there would be to get. What it says is believed only where it confesses:
the outer half, `evaluator.sandbox.probe`, looks at the effects itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
from collections.abc import Callable

from recipes.confinement import Confinement, ConfinementError
from recipes.fork_server import ForkServer


def main(confinement: Confinement, control: socket.socket, scratch: str) -> None:
    """Serve self-attacks until the control socket is closed."""
    ForkServer(control, confinement, scratch, attack).serve()


def attack(connection: socket.socket, confine: Callable[[], None]) -> None:
    """One process of the self-attack: the one whose scratch folder is to be found, or the one that tries
    everything.
    """
    with connection.makefile("rw") as talk:
        facts = json.loads(talk.readline())
        try:
            confine()
        except ConfinementError as error:
            print(json.dumps({"unconfined": str(error)}), file=talk, flush=True)
            return
        if "mine" in facts:
            with open("mine", "w") as file:
                file.write(facts["mine"])
            print(json.dumps({"scratch": os.getcwd()}), file=talk, flush=True)
            talk.readline()
            with open("mine") as file:
                print(json.dumps({"mine": file.read()}), file=talk, flush=True)
            return
        got = {name: _got(attempt, facts) for name, attempt in ATTEMPTS.items()}
        print(json.dumps(got), file=talk, flush=True)


def _got(attempt: Callable[[dict], str], facts: dict) -> str:
    """What an attempt got; nothing where it was refused."""
    try:
        return attempt(facts)
    except (OSError, ValueError):
        return ""


def _label_file(facts: dict) -> str:
    with open(facts["labels"]) as file:
        return file.read()


def _tcp(facts: dict) -> str:
    with socket.create_connection(("127.0.0.1", facts["tcp"]), timeout=1) as made:
        made.sendall(b"out")
    return "sent"


def _udp(facts: dict) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.sendto(b"out", ("127.0.0.1", facts["udp"]))
    return "sent"


def _environ(facts: dict) -> str:
    found = ""
    for process in (facts["trainer"], os.getppid()):
        try:
            with open(f"/proc/{process}/environ", "rb") as file:
                found += file.read().decode(errors="replace")
        except OSError:
            continue
    return found


def _memory(facts: dict) -> str:
    try:
        with open(f"/proc/{facts['trainer']}/mem", "rb", buffering=0) as file:
            file.seek(facts["address"])
            return file.read(facts["length"]).decode(errors="replace")
    except OSError:
        pass
    buffer = ctypes.create_string_buffer(facts["length"])
    local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), facts["length"])
    remote = (ctypes.c_size_t * 2)(facts["address"], facts["length"])
    ctypes.CDLL(None).process_vm_readv(facts["trainer"], local, 1, remote, 1, 0)
    return buffer.raw.decode(errors="replace")


def _write_outside(facts: dict) -> str:
    with open(facts["outside"], "w") as file:
        file.write("out")
    return "written"


def _fork(facts: dict) -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "forked"


def _large_file(facts: dict) -> str:
    with open("large", "wb", buffering=0) as file:
        for _ in range(2 * facts["file_bytes"] // 65536):
            if file.write(b"\0" * 65536) < 65536:
                return ""
    return "written"


def _sibling(facts: dict) -> str:
    place = os.path.join(facts["sibling"], "mine")
    with open(place) as file:
        found = file.read()
    with open(place, "w") as file:
        file.write("changed")
    return found


ATTEMPTS = {
    "label_file": _label_file,
    "tcp": _tcp,
    "udp": _udp,
    "environ": _environ,
    "memory": _memory,
    "write_outside": _write_outside,
    "fork": _fork,
    "large_file": _large_file,
    "sibling": _sibling,
}
