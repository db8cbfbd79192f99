"""A kernel that lacks something, for real: a seccomp filter under which a process and its children find it
missing.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

MISSING = {
    "landlock": ((444, 444), errno.ENOSYS),  # landlock_create_ruleset, by its number on x86_64 and aarch64
    "namespaces": ((272, 97), errno.EPERM),  # unshare; clone's flags are looked at below
    "seccomp": ((157, 167), errno.EINVAL),  # prctl(PR_SET_SECCOMP)
}
CLONE, PRCTL, NAMESPACE_FLAGS, PR_SET_SECCOMP = (56, 220), (157, 167), 0x7E020000, 22


def without(*missing: str) -> None:
    """From now on this process lives on a kernel without these: landlock, namespaces, seccomp."""
    column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
    code = [(0x20, 0, 0, 0)]
    for name in missing:
        numbers, error = MISSING[name]
        refuse = (0x06, 0, 0, 0x00050000 | error)
        if name == "seccomp":
            code += [
                (0x15, 0, 4, numbers[column]),
                (0x20, 0, 0, 16),
                (0x15, 0, 1, PR_SET_SECCOMP),
                refuse,
                (0x20, 0, 0, 0),
            ]
            continue
        code += [(0x15, 0, 1, numbers[column]), refuse]
        if name == "namespaces":
            code += [
                (0x15, 0, 4, CLONE[column]),
                (0x20, 0, 0, 16),
                (0x45, 0, 1, NAMESPACE_FLAGS),
                refuse,
                (0x20, 0, 0, 0),
            ]
    code.append((0x06, 0, 0, 0x7FFF0000))
    packed = b"".join(struct.pack("=HBBI", *one) for one in code)
    buffer = ctypes.create_string_buffer(packed, len(packed))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(code), ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.cast(ctypes.byref(program), ctypes.c_void_p), 0, 0) == 0, (
        ctypes.get_errno()
    )
