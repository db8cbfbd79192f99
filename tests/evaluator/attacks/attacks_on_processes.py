"""Attacks on other processes, by way of /proc, signals, memory and descriptors, and on the network."""

from attack import Attack, every, gone, harmless, kept, silent, without

READ = every(kept, without())

LOOKING = [
    Attack(
        "the trainer's environment",
        "tell(attempt(lambda: open(f\"/proc/{F['trainer']}/environ\", 'rb').read().find(b'EVO') and open(f\"/proc/{F['trainer']}/environ\").read()[-2500:]))",
        READ,
        True,
    ),
    Attack(
        "everybody's environment",
        "tell('so')\nfor p in [x for x in attempt(os.listdir, '/proc') if x.isdigit()]:\n    tell(attempt(lambda: [x for x in open(f'/proc/{p}/environ').read().split('\\0') if 'DECOY' in x]))",
        READ,
        True,
    ),
    Attack(
        "the trainer's command line",
        "tell(attempt(read, f\"/proc/{F['trainer']}/cmdline\"))",
        without("attack_world"),
        True,
    ),
    Attack(
        "the trainer's maps",
        "tell(attempt(read, f\"/proc/{F['trainer']}/maps\"))",
        without("r-xp", "r--p"),
        True,
    ),
    Attack(
        "the trainer's open files",
        "tell(attempt(os.listdir, f\"/proc/{F['trainer']}/fd\"))",
        without("['"),
        True,
    ),
    Attack(
        "the trainer's memory by /proc",
        "def look():\n    with open(f\"/proc/{F['trainer']}/mem\", 'rb', buffering=0) as f:\n        f.seek(F['address'])\n        return f.read(40)\ntell(attempt(look))",
        READ,
        True,
    ),
    Attack(
        "the trainer's memory by process_vm_readv",
        "b = ctypes.create_string_buffer(40)\nv = (ctypes.c_size_t * 2)(ctypes.addressof(b), 40)\nr = (ctypes.c_size_t * 2)(F['address'], 40)\nn = libc.process_vm_readv(F['trainer'], v, 1, r, 1, 0)\ntell(n, b.raw)",
        READ,
        True,
    ),
    Attack(
        "the trainer's memory by ptrace",
        "r = libc.ptrace(16, F['trainer'], 0, 0)\nlibc.ptrace(17, F['trainer'], 0, 0)\ntell('attached' if r == 0 else 'refused')",
        without("attached"),
    ),
    Attack(
        "the server's memory",
        "tell(attempt(lambda: open(f'/proc/{os.getppid()}/mem', 'rb').fileno()))",
        without("\n3", "\n4", "\n5", "\n6"),
    ),
    Attack(
        "the trainer's descriptors by pidfd",
        "fd = syscall(434, F['trainer'], 0)\ntell('opened' if fd >= 0 else 'refused', [attempt(os.read, syscall(438, fd, n, 0), 10) for n in range(3, 9)] if fd >= 0 else '')",
        without("opened"),
        True,
    ),
    Attack(
        "descriptors that it inherited",
        "own = {n: attempt(os.readlink, f'/proc/self/fd/{n}') for n in range(64)}\nkinds = [v for n, v in own.items() if n > 2 and v != 'FileNotFoundError' and not v.startswith('socket:')]\ntell(kinds, 'more' if sum(v.startswith('socket:') for v in own.values()) > 3 else '')",
        every(READ, without("more", "/tmp", "pipe", "eventpoll")),
    ),
    Attack(
        "what its descriptors hold",
        "for n in range(64):\n    os.set_blocking(n, False) if attempt(os.fstat, n) != 'OSError' else None\n    tell(attempt(os.read, n, 1000))",
        READ,
    ),
    Attack(
        "the stack above it",
        "frame, seen = sys._getframe(), []\nwhile frame:\n    seen.append(repr({**frame.f_locals, **{k: v for k, v in frame.f_globals.items() if k != 'F'}})[:100000]); frame = frame.f_back\ntell(len(seen), [s[i:i + 40] for s in seen for i in [s.find('DEC' + 'OY-')] if i >= 0])",
        READ,
    ),
    Attack(
        "everything that the collector knows",
        "seen = [o for o in gc.get_objects() if isinstance(o, (dict, list, tuple))]\nwords = [str(v)[:200] for o in seen for v in (o.values() if isinstance(o, dict) else o) if isinstance(v, (str, bytes)) and 'DEC' + 'OY-' in str(v)]\ntell(len(seen), words[:3])",
        READ,
    ),
    Attack(
        "its own environment",
        "tell(dict(os.environ), attempt(read, '/proc/self/environ'))",
        every(READ, without("DECOY", "EVO_AAR")),
    ),
    Attack(
        "rights of root",
        "tell([l for l in open('/proc/self/status').read().splitlines() if l.startswith(('CapEff', 'NoNewPrivs', 'Seccomp:', 'Threads'))])",
        without("CapEff:\\t000001", "CapEff:\\t0000003", "NoNewPrivs:\\t0", "Seccomp:\\t0"),
        True,
    ),
    Attack(
        "to become root",
        "tell(attempt(os.setuid, 0), attempt(os.setresuid, 0, 0, 0), attempt(os.setgroups, [0]))",
        without("None None None"),
    ),
]

SPAWNING = [
    Attack(
        "a fork",
        "pid = attempt(os.fork)\nif pid == 0:\n    time.sleep(600)\ntell('forked' if isinstance(pid, int) else pid)",
        every(without("forked"), gone),
        False,
    ),
    Attack(
        "a program",
        "import subprocess\ntell(attempt(lambda: subprocess.run(['/bin/echo', 'it ran'], capture_output=True).stdout), attempt(os.system, 'exit 7'))",
        without("it ran", "1792"),
        True,
    ),
    Attack(
        "the interpreter again",
        "tell(attempt(os.execv, sys.executable, ['python', '-c', 'while 1: pass']))",
        every(without(), gone),
    ),
    Attack(
        "a spawn", "tell(attempt(os.posix_spawn, '/bin/true', ['true'], {}))", without(*"123456789"), True
    ),
    Attack(
        "a fork by its number",
        "tell('forked' if syscall({'x86_64': 57}.get(os.uname().machine, 220), 17, 0, 0, 0, 0) > 0 else 'refused')",
        every(without("forked"), gone),
    ),
    Attack(
        "a clone3",
        "b = ctypes.create_string_buffer(88)\nb[0:8] = (0).to_bytes(8, 'little')\nr = syscall(435, b, 88)\nif r == 0:\n    os._exit(0)\ntell('forked' if r > 0 else 'refused')",
        every(without("forked"), gone),
        True,
    ),
    Attack(
        "a thread",
        "import threading\nt = threading.Thread(target=time.sleep, args=(1,), daemon=True)\ntell(attempt(t.start), threading.active_count())",
        without("None 2"),
        True,
    ),
    Attack(
        "a thousand threads",
        "import threading\ntell(sum(attempt(threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start) is None for _ in range(1000)), 'of 1000')",
        without(*(f"{n}" for n in range(1, 10) if n != 1)),
        False,
    ),
    Attack(
        "a pool of processes",
        "import multiprocessing\ntell(attempt(lambda: multiprocessing.get_context('fork').Process(target=time.sleep, args=(600,)).start()))",
        every(without("None"), gone),
    ),
    Attack(
        "a daemon",
        "def daemon():\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            time.sleep(600)\n        os._exit(0)\n    return 'left'\ntell(attempt(daemon))",
        every(without("left"), gone),
    ),
    Attack(
        "io_uring",
        "b = ctypes.create_string_buffer(120)\ntell('ring' if syscall(425, 4, b) >= 0 else 'refused')",
        without("ring"),
        True,
    ),
    Attack("the trainer stopped", "tell(attempt(os.kill, F['trainer'], 0))", without("None"), True),
    Attack("the server killed", "tell(attempt(os.kill, os.getppid(), 9))", every(without("None"), harmless)),
    Attack(
        "everybody signalled",
        "tell(attempt(os.kill, -1, 0), attempt(os.killpg, 0, 0), attempt(os.kill, 0, 0))",
        every(without("None"), harmless),
    ),
    Attack(
        "neighbours signalled by their numbers",
        "me = os.getpid()\ntell(sum(attempt(os.kill, p, 0) is None for p in range(max(2, me - 60), me + 60) if p != me), 'reached')",
        every(without(*(f"{n} " for n in range(1, 10))), harmless),
    ),
    Attack(
        "neighbours signalled by pidfd",
        "me = os.getpid()\ntell(sum(syscall(424, syscall(434, p, 0), 0, 0, 0) == 0 for p in range(max(2, me - 60), me + 60) if p != me), 'reached')",
        every(without(*(f"{n} " for n in range(1, 10))), harmless),
    ),
    Attack(
        "a signal by way of a descriptor",
        "import fcntl\ntell(attempt(fcntl.fcntl, 3, 8, os.getppid()), attempt(fcntl.fcntl, 3, 10, 9), attempt(fcntl.fcntl, 3, 15, b'\\1\\0\\0\\0' + os.getppid().to_bytes(4, 'little')))",
        every(without("0 ", " 0", "b'"), harmless),
    ),
    Attack(
        "neighbours' limits",
        "import resource\nme = os.getpid()\ntell(sum(isinstance(attempt(resource.prlimit, p, resource.RLIMIT_CPU), tuple) for p in range(max(2, me - 40), me + 40) if p != me), 'reached')",
        every(without(*(f"{n} " for n in range(1, 10))), harmless),
    ),
    Attack(
        "outliving its server",
        "tell('may' if libc.prctl(1, 0, 0, 0, 0) == 0 else 'must not')",
        without("may\n", "'may'"),
        True,
    ),
    Attack(
        "leaving its process group",
        "tell(attempt(os.setpgid, 0, os.getppid()), attempt(os.setsid))",
        every(without("None"), gone),
    ),
]

NETWORK = [
    Attack(
        "TCP to this machine",
        "tell(attempt(lambda: socket.create_connection(('127.0.0.1', F['tcp']), 1).send(b'x')))",
        every(silent, without()),
        True,
    ),
    Attack(
        "TCP over IPv6",
        "tell(attempt(lambda: socket.create_connection(('::1', F['tcp']), 1).send(b'x')))",
        every(silent, without("\n1")),
    ),
    Attack(
        "UDP to this machine",
        "tell(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', F['udp']))))",
        every(silent, without()),
        True,
    ),
    Attack(
        "a unix socket by its path",
        "def go():\n    s = socket.socket(socket.AF_UNIX); s.connect(F['unix']); s.send(b'x')\ntell(attempt(go))",
        every(silent, without()),
        True,
    ),
    Attack(
        "an abstract unix socket",
        "def go():\n    s = socket.socket(socket.AF_UNIX); s.connect('\\0' + F['abstract']); s.send(b'x')\ntell(attempt(go))",
        every(silent, without()),
        True,
    ),
    Attack(
        "a name looked up",
        "tell(attempt(socket.getaddrinfo, 'localhost', 80), attempt(socket.gethostbyname, 'example.org'))",
        without("127.0.0.1"),
    ),
    Attack(
        "a web page",
        "import urllib.request\ntell(attempt(lambda: urllib.request.urlopen(f\"http://127.0.0.1:{F['tcp']}/\", timeout=1)))",
        every(silent, without()),
        True,
    ),
    Attack(
        "a socket by its number",
        "tell('made' if syscall({'x86_64': 41}.get(os.uname().machine, 198), 2, 1, 0) >= 0 else 'refused')",
        without("made"),
        True,
    ),
    Attack(
        "sockets of other families",
        "tell([f for f in range(1, 45) for k in (1, 2, 3, 5) if not isinstance(attempt(lambda: socket.socket(f, k)), str)])",
        without("[1", "[2"),
        True,
    ),
    Attack(
        "a listener of its own",
        "tell(attempt(lambda: socket.create_server(('0.0.0.0', 0)).getsockname()))",
        without("0.0.0.0"),
        True,
    ),
    Attack("a pair of sockets", "tell(attempt(lambda: len(socket.socketpair())))", without("2"), True),
    Attack(
        "a descriptor sent to the trainer",
        "s = task._line._channel._connection._socket\ntell(attempt(socket.send_fds, s, [b''], [0]), attempt(s.sendmsg, [b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b'\\0' * 4)]))",
        without("0 ", " 1"),
    ),
]
