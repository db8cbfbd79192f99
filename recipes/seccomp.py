"""The filter of system calls that a recipe's process lives under: a list of what is allowed, everything else
is refused.

A classic BPF program, assembled here and loaded by prctl(2), because libseccomp may be missing and its Python
binding looks for it by running programs. See seccomp(2) and the kernel's
Documentation/userspace-api/seccomp_filter.rst.

Not on the list, so refused: making processes and threads (fork, clone, clone3), starting programs (execve),
sockets, io_uring, ptrace and reading other processes' memory, mounts and namespaces, keys, bpf, shared memory
that no limit counts (memfd, System V, message queues), changing a file's mode, owner or times. Signals reach
the process itself and nobody else: kill, tgkill, prlimit64 and the like are compared with its own number.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

# name: number on x86_64, number on aarch64 (None: not there). From the kernel's asm/unistd_64.h and
# asm-generic/unistd.h.
ALLOWED: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "futex": (202, 98),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "mincore": (27, 232),
    "msync": (26, 227),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockopt": (55, 209),
    "setsockopt": (54, 208),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "openat": (257, 56),
    "close": (3, 57),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "dup": (32, 23),
    "dup3": (292, 24),
    "flock": (73, 32),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "fadvise64": (221, 223),
    "copy_file_range": (326, 285),
    "sendfile": (40, 71),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlinkat": (267, 78),
    "mkdirat": (258, 34),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "gettimeofday": (96, 169),
    "times": (100, 153),
    "getcpu": (309, 168),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getgroups": (115, 158),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "capget": (125, 90),
    "umask": (95, 166),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "futex_waitv": (449, 449),
    "set_tid_address": (218, 96),
    "set_robust_list": (273, 99),
    "restart_syscall": (219, 128),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "getrandom": (318, 278),
    "ppoll": (271, 73),
    "pselect6": (270, 72),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "eventfd2": (290, 19),
    "pipe2": (293, 59),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "open": (2, None),
    "stat": (4, None),
    "lstat": (6, None),
    "poll": (7, None),
    "select": (23, None),
    "access": (21, None),
    "dup2": (33, None),
    "pipe": (22, None),
    "readlink": (89, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "unlink": (87, None),
    "rename": (82, None),
    "link": (86, None),
    "symlink": (88, None),
    "getdents": (78, None),
    "epoll_create": (213, None),
    "epoll_wait": (232, None),
    "eventfd": (284, None),
    "creat": (85, None),
    "time": (201, None),
    "alarm": (37, None),
    "pause": (34, None),
    "arch_prctl": (158, None),
    "getpgrp": (111, None),
}

# name: numbers, the argument that names a process, and whether 0 (oneself) is allowed there too.
OWN_PROCESS: dict[str, tuple[int, int, int, bool]] = {
    "kill": (62, 129, 0, False),  # kill(0) is for a whole process group
    "tgkill": (234, 131, 0, False),
    "tkill": (200, 130, 0, False),
    "prlimit64": (302, 261, 0, True),
    "sched_getaffinity": (204, 123, 0, True),
    "sched_getparam": (143, 121, 0, True),
    "sched_getscheduler": (145, 120, 0, True),
}

# name: numbers, the argument that names an order, the orders that are refused although the call is allowed.
REFUSED_ORDERS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {
    "fcntl": (
        72,
        25,
        1,
        (8, 10, 15),
    ),  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals sent to others by way of a descriptor
    "ioctl": (16, 29, 1, (0x8901, 0x8902, 0x5412)),  # FIOSETOWN, SIOCSPGRP; TIOCSTI types into a terminal
    "prctl": (157, 167, 0, (1,)),  # PR_SET_PDEATHSIG: the process dies with its server
}

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NEWER = 424
"""System calls from this number on have one number everywhere.

C libraries try them first and fall back where they don't exist.
"""

_LOAD, _EQUAL, _GREATER, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def program(own: int, machine: str) -> bytes:
    """The filter for the process with this number, as an array of `struct sock_filter`.

    `machine` as `platform.machine()` says it.
    """
    column, architecture = _ARCHITECTURES[machine]
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in ALLOWED.values():
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for x86_64, aarch64, argument, oneself in OWN_PROCESS.values():
        number = (x86_64, aarch64)[column]
        # Only the lower half of the argument is a process's number.
        body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_EQUAL, 0, 1, own), (_RETURN, 0, 0, _ALLOW)]
        body += [(_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)] if oneself else []
        code += [(_EQUAL, 0, len(body) + 1, number), *body, (_RETURN, 0, 0, refuse)]
    for x86_64, aarch64, argument, orders in REFUSED_ORDERS.values():
        number = (x86_64, aarch64)[column]
        body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
        for order in orders:
            body += [(_EQUAL, 0, 1, order), (_RETURN, 0, 0, refuse)]
        code += [(_EQUAL, 0, len(body) + 1, number), *body, (_RETURN, 0, 0, _ALLOW)]
    code += [(_GREATER, 0, 1, _NEWER), (_RETURN, 0, 0, missing), (_RETURN, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load() -> None:
    """Put the calling thread under the filter for good.

    Raises `OSError` where the kernel refuses, `KeyError` for an unknown processor.
    """
    code = program(os.getpid(), platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    filtered = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    for order in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.cast(ctypes.byref(filtered), ctypes.c_void_p), 0, 0),
    ):
        if libc.prctl(*order) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({order[0]}): {os.strerror(ctypes.get_errno())}")
