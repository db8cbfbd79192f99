"""Attacks on what lies on the disk: labels by every path, other packages' data, other recipes, and files that
must not change.
"""

from attack import Attack, every, kept, untouched, without

READ = every(kept, without())
"""It said something (it ran to its end), and no secret was in it."""

READING = [
    Attack("labels by their path", "tell(attempt(read, F['labels']))", READ, True),
    Attack("labels by a relative path", "tell(attempt(read, '../' * 20 + F['labels'][1:]))", READ, True),
    Attack(
        "labels by /proc/self/cwd",
        "tell(attempt(read, '/proc/self/cwd' + '/..' * 12 + F['labels']))",
        READ,
        True,
    ),
    Attack("labels by /proc/self/root", "tell(attempt(read, '/proc/self/root' + F['labels']))", READ, True),
    Attack(
        "labels by the trainer's root",
        "tell(attempt(read, f\"/proc/{F['trainer']}/root{F['labels']}\"))",
        READ,
        True,
    ),
    Attack(
        "labels by the trainer's folder",
        "tell(attempt(read, f\"/proc/{F['trainer']}/cwd/\" + '../' * 12 + F['labels'][1:]))",
        READ,
        True,
    ),
    Attack(
        "labels by the server's root",
        "tell(attempt(read, f'/proc/{os.getppid()}/root' + F['labels']))",
        READ,
        True,
    ),
    Attack("labels by a symlink", "os.symlink(F['labels'], 'link')\ntell(attempt(read, 'link'))", READ, True),
    Attack(
        "labels by a hard link", "tell(attempt(os.link, F['labels'], 'hard'), attempt(read, 'hard'))", READ
    ),
    Attack(
        "labels by renaming them",
        "tell(attempt(os.rename, F['movable'], 'mine'), attempt(read, 'mine'))",
        every(READ, untouched),
    ),
    Attack(
        "labels by a path descriptor",
        "fd = attempt(os.open, F['labels'], os.O_PATH)\ntell(fd, attempt(read, f'/proc/self/fd/{fd}'))",
        READ,
        True,
    ),
    Attack(
        "labels by a folder's descriptor",
        "fd = attempt(os.open, os.path.dirname(F['labels']), os.O_PATH | os.O_DIRECTORY)\n"
        "tell(fd, attempt(lambda: os.read(os.open(os.path.basename(F['labels']), os.O_RDONLY, dir_fd=fd), 500)))",
        READ,
        True,
    ),
    Attack(
        "labels by NumPy", "tell(attempt(lambda: np.fromfile(F['labels'], np.uint8).tobytes()))", READ, True
    ),
    Attack(
        "labels by a memory map",
        "tell(attempt(lambda: bytes(np.memmap(F['labels'], np.uint8, 'r'))))",
        READ,
        True,
    ),
    Attack(
        "labels by torch",
        "tell(attempt(lambda: torch.from_file(F['labels'], size=22, dtype=torch.uint8).numpy().tobytes()))",
        READ,
        True,
    ),
    Attack(
        "labels by the C library",
        "libc.fopen.restype = ctypes.c_void_p\nf = libc.fopen(F['labels'].encode(), b'r')\nb = ctypes.create_string_buffer(200)\n"
        "n = libc.fread(b, 1, 199, ctypes.c_void_p(f)) if f else 0\ntell(b.raw)",
        READ,
        True,
    ),
    Attack(
        "labels by a file handle",
        "class H(ctypes.Structure):\n    _fields_ = [('n', ctypes.c_uint), ('t', ctypes.c_int), ('b', ctypes.c_char * 128)]\n"
        "h, m = H(128, 0, b''), ctypes.c_int()\nlibc.name_to_handle_at(-100, F['labels'].encode(), ctypes.byref(h), ctypes.byref(m), 0)\n"
        "fd = libc.open_by_handle_at(-100, ctypes.byref(h), 0)\n"
        "tell(fd, attempt(os.read, fd, 500))",
        READ,
    ),
    Attack(
        "labels by copying them in the kernel",
        "def copy():\n    a, b = os.open(F['labels'], 0), os.open('c', os.O_RDWR | os.O_CREAT)\n    os.sendfile(b, a, 0, 500)\n    return read('c')\n"
        "tell(attempt(copy))",
        READ,
        True,
    ),
    Attack(
        "labels by a bind mount",
        "os.mkdir('m')\nr = libc.mount(os.path.dirname(F['labels']).encode(), b'm', None, 4096, None)\ntell(r, attempt(read, 'm/' + os.path.basename(F['labels'])))",
        READ,
    ),
    Attack(
        "labels by a new user namespace",
        "r = libc.unshare(0x10000000 | 0x20000)\ntell(r, attempt(read, F['labels']), attempt(os.listdir, os.path.dirname(F['labels'])))",
        every(READ, without("(0,")),
        True,
    ),
    Attack(
        "labels by entering the trainer's namespaces",
        "fd = attempt(os.open, f\"/proc/{F['trainer']}/ns/mnt\", 0)\nr = libc.setns(fd, 0) if isinstance(fd, int) else -1\ntell(r, attempt(read, F['labels']))",
        READ,
        True,
    ),
    Attack("labels by a new root", "tell(attempt(os.chroot, '/'), attempt(read, F['labels']))", READ, True),
    Attack(
        "the testbed's real label file",
        "tell(attempt(lambda: np.load(F['truth']).tolist()[:60]))",
        READ,
        True,
    ),
    Attack(
        "a search for label files everywhere",
        "found = [os.path.join(a, n) for a, d, f in os.walk('/') if not a.startswith(('/proc', '/sys')) for n in f if 'label' in n]\n"
        "tell(len(found), [attempt(read, one) for one in found if 'decoy' in one][:5])",
        READ,
    ),
    Attack("the built-in testbeds' own source", "tell(attempt(read, F['facts']))", READ, True),
    Attack(
        "importing the built-in testbeds",
        "import importlib\ntell(attempt(lambda: importlib.import_module('evaluator.testbeds.mini.corpus').__file__))",
        without(".py"),
    ),
    Attack("labelled data of another package", "tell(attempt(read, F['iris']))", READ, True),
    Attack("other islands' seeds", "tell(attempt(read, F['seed']))", READ, True),
    Attack("the user's key file", "tell(attempt(read, F['key']))", READ, True),
    Attack("the machine's users", "tell(attempt(read, '/etc/passwd'))", without("root:"), True),
]

WRITING = [
    Attack(
        "a new file beside the decoys",
        "tell(attempt(lambda: open(F['outside'] + '/new', 'w').write('x')))",
        every(untouched, without()),
        True,
    ),
    Attack(
        "a file changed",
        "tell(attempt(lambda: open(F['changeable'], 'w').write('x')))",
        every(untouched, without()),
        True,
    ),
    Attack("a file cut", "tell(attempt(os.truncate, F['changeable'], 0))", every(untouched, without()), True),
    Attack("a file removed", "tell(attempt(os.unlink, F['removable']))", every(untouched, without()), True),
    Attack("a file's mode", "tell(attempt(os.chmod, F['changeable'], 0))", every(untouched, without()), True),
    Attack(
        "a file's times",
        "tell(attempt(os.utime, F['changeable'], (1, 1)))",
        every(untouched, without()),
        True,
    ),
    Attack("a file's owner", "tell(attempt(os.chown, F['changeable'], 1, 1))", every(untouched, without())),
    Attack(
        "a folder made",
        "tell(attempt(os.mkdir, F['outside'] + '/folder'))",
        every(untouched, without()),
        True,
    ),
    Attack(
        "a symlink made outside",
        "tell(attempt(os.symlink, '/', F['outside'] + '/link'))",
        every(untouched, without()),
        True,
    ),
    Attack(
        "a written symlink out of scratch",
        "os.symlink(F['changeable'], 'out')\ntell(attempt(lambda: open('out', 'w').write('x')))",
        every(untouched, without()),
        True,
    ),
    Attack(
        "a back door in the recipe's own modules",
        "import recipes.process as p\ntell(attempt(lambda: open(p.__file__, 'a').write('\\n#x')))",
        every(untouched, without()),
    ),
    Attack("a back door in NumPy", "tell(attempt(lambda: open(np.__file__, 'a').close()))", without("None")),
    Attack(
        "a link left for who wipes the scratch folder",
        "os.symlink(F['outside'], 'd')\nos.mkdir('e')\nos.symlink(F['outside'], 'e/d')\ntell('left')",
        untouched,
    ),
    Attack(
        "a fifo in scratch",
        "tell(attempt(os.mkfifo, 'fifo'), attempt(os.mknod, 'node'))",
        without("None None"),
    ),
    Attack(
        "a folder that nobody may open",
        "os.makedirs('a/b')\nos.mkdir('z', 0)\nos.umask(0o777)\nos.mkdir('a/b/c')\nopen('a/b/f', 'w').close()\ntell('left')",
        untouched,
    ),
    Attack(
        "a tree too deep to walk",
        "for _ in range(900):\n    os.mkdir('d')\n    os.chdir('d')\ntell('left')",
        untouched,
    ),
    Attack(
        "names that break a listing",
        "for n in ('a\\nb', '-rf', 'x' * 255, '\\udcff', '*'):\n    attempt(lambda: open(n, 'w').close())\ntell('left')",
        untouched,
    ),
    Attack("what an earlier recipe left in scratch", "tell(os.listdir('.'))", without("'")),
]
