"""Attacks on what a process may use: time, memory, disk, descriptors, output."""

from attack import Attack, ended, every, gone, harmless, without


def capped(world, outcome) -> str | None:
    """Neither what it printed nor what it said of its failure is kept beyond a bound."""
    long = max(len(outcome.output), len(outcome.message or ""))
    return f"{long} characters were kept" if long > 10_000 else None


def bounded(world, outcome) -> str | None:
    """No scratch folder held more than the bound and what fits between two looks at it."""
    return f"{world.most_stored >> 20} MiB were stored" if world.most_stored > world.storable else None


LIMITS = [
    Attack("all the processor time", "while True:\n    pass", every(ended("cpu_time"), harmless)),
    Attack(
        "time, with every signal ignored",
        "for s in range(1, 65):\n    attempt(signal.signal, s, signal.SIG_IGN)\nwhile True:\n    pass",
        every(ended("killed"), harmless),
    ),
    Attack(
        "time in native code",
        "x = torch.ones(2000, 2000)\nwhile True:\n    x = x @ x * 0 + 1",
        every(ended("cpu_time"), harmless),
    ),
    Attack(
        "memory by Python",
        "x = []\nwhile True:\n    x.append(bytearray(1 << 24))",
        every(ended("memory", "killed"), harmless),
    ),
    Attack(
        "memory by torch",
        "x = [torch.ones(1 << 26) for _ in range(100)]",
        every(ended("memory", "exception"), harmless),
    ),
    Attack(
        "memory that no limit counts",
        "tell(attempt(os.memfd_create, 'x'), 'shared' if libc.shmget(0, 1 << 26, 0o1600) >= 0 else '', 'queue' if libc.mq_open(b'/q', 66, 384, None) >= 0 else '')",
        without("shared", "queue", "\n3", "\n4", "\n5", "\n6"),
        True,
    ),
    Attack(
        "memory under /dev/shm",
        "tell(attempt(lambda: open('/dev/shm/x', 'wb').write(b'x')))",
        without("\n1", "1\n"),
    ),
    Attack(
        "one large file",
        "f = open('big', 'wb', buffering=0)\nwhile True:\n    f.write(bytes(1 << 20))",
        every(ended("exception", "file_size", "scratch"), bounded, harmless),
    ),
    Attack(
        "many files",
        "k = 0\nwhile True:\n    k += 1\n    open(f'f{k}', 'wb').write(bytes(1 << 20))\n    time.sleep(0.01)",
        every(ended("exception", "scratch"), bounded, harmless),
    ),
    Attack(
        "files that are open and nowhere",
        "held = []\nwhile True:\n    f = open('t', 'wb', buffering=0); held.append(f); f.write(bytes(1 << 20)); os.unlink('t')\n    time.sleep(0.01)",
        every(ended("exception", "scratch"), bounded, harmless),
    ),
    Attack(
        "ten thousand empty files",
        "for k in range(1, 10**9):\n    open(f'e{k}', 'w').close()",
        every(ended("scratch", "exception"), harmless),
    ),
    Attack(
        "every descriptor",
        "held = []\nwhile True:\n    held.append(os.open('/dev/null', 0))",
        every(ended("exception"), harmless),
    ),
    Attack(
        "endless output",
        "for _ in range(20000):\n    print('x' * 1000)\nraise RuntimeError('y' * 10**6)",
        every(capped, harmless),
    ),
    Attack(
        "output past Python",
        "for fd in (1, 2):\n    for _ in range(2000):\n        os.write(fd, b'DECOY' * 1000)\ntell('done')",
        every(capped, harmless),
    ),
    Attack(
        "a message of a megabyte",
        "class E(Exception):\n    __str__ = lambda self: 'z' * 10**6\nraise E()",
        every(capped, harmless),
    ),
    Attack("a crash in native code", "ctypes.string_at(0)", every(ended("killed"), harmless)),
    Attack(
        "an endless recursion",
        "def f(n):\n    return f(n + 1)\nsys.setrecursionlimit(10**9)\nf(0)",
        every(ended("killed", "exception", "memory", "cpu_time"), harmless),
    ),
    Attack(
        "an exit that leaves a hook",
        "import atexit\natexit.register(lambda: time.sleep(600))\nraise SystemExit",
        every(ended("exception"), gone),
    ),
]
