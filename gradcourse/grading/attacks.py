"""The attacks that a sandbox must contain; ``run_attacks`` tries them all on this machine.

An attack is Python that a notebook could hold. It leaves in `got` what it got hold of, and finds under `bait` what is
laid out for it (see gradcourse.grading.bait).
"""

from dataclasses import dataclass

from gradcourse.grading.bait import Bait
from gradcourse.grading.sandbox import probe


@dataclass(frozen=True)
class Attack:
    """An attack on the machine.

    Attributes:
        name: what it tries.
        code: the Python that tries it.
        then: code of the next submission that looks for what the first has left; empty for none.
    """

    name: str
    code: str
    then: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    Attributes:
        attack: its name.
        contained: whether it got nothing and changed nothing.
        told: what it got or changed, or how it was stopped.
    """

    attack: str
    contained: bool
    told: str

    def __str__(self):
        return f"{'contained' if self.contained else 'NOT CONTAINED'}: {self.attack} ({self.told})"


_EACH = """
def each(attempts):
    "Return the names of the attempts that come to their end."
    done = []
    for name, attempt in attempts.items():
        try:
            attempt()
            done.append(str(name))
        except (OSError, ValueError, ImportError, AttributeError, RuntimeError):
            pass
    return done
"""
_SYSTEM = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
column = {"x86_64": 0, "aarch64": 1}.get(platform.machine(), 0)
def system(numbers, *arguments):
    "Make a system call by its number, past every function of Python and the C library."
    number = numbers[column] if isinstance(numbers, tuple) else numbers
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result
"""

ATTACKS = (
    Attack("read a secret file", "got = open(bait['secret']).read()"),
    Attack(
        "read it through a symbolic link", "import os\nos.symlink(bait['secret'], 'link')\ngot = open('link').read()"
    ),
    Attack("read it through a hard link", "import os\nos.link(bait['secret'], 'link')\ngot = open('link').read()"),
    Attack("read it by its handle", _SYSTEM + "got = system((304, 265), -100, b'x' * 128, 0)"),
    Attack("list a folder", "import os\ngot = os.listdir(bait['folder'])"),
    Attack(
        "read hidden cases, solutions, tests, other files of the course",
        _EACH + "got = each({path: lambda path=path: open(path).close() for path in bait['private']})",
    ),
    Attack(
        "import the sheets' answers",
        _EACH
        + "import importlib\n"
        + "got = each({name: lambda name=name: importlib.import_module(name) for name in bait['modules']})",
    ),
    Attack(
        "read the environment",
        "import glob, os\n"
        "texts = [str(dict(os.environ))]\n"
        "for path in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try:\n        texts.append(open(path, errors='replace').read())\n    except OSError:\n        pass\n"
        "got = any(bait['word'] in text for text in texts)",
    ),
    Attack(
        "look at other processes",
        "import glob\n"
        "got = []\n"
        "for path in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "    try:\n        got += [path] if bait['word'] in open(path, errors='replace').read() else []\n"
        "    except OSError:\n        pass\n",
    ),
    Attack(
        "use file descriptors that were left open",
        "import os, stat\n"
        "def kind(number):\n"
        "    try:\n        return os.fstat(number)\n    except OSError:\n        return None\n"
        "open_ones = [number for number in range(4096) if kind(number)]\n"
        "nothing = os.stat('/dev/null').st_rdev\n"
        "got = [number for number in open_ones if kind(number).st_rdev != nothing][1:]  # its own socket is the first",
    ),
    Attack(
        "write, cut, rename, delete and close files",
        _EACH
        + """
import os
victim, folder = bait["victim"], bait["folder"]
got = each({
    "append": lambda: open(victim, "a").write("x"),
    "write": lambda: open(victim, "r+").write("x"),
    "truncate": lambda: os.truncate(victim, 0),
    "chmod": lambda: os.chmod(victim, 0),
    "utime": lambda: os.utime(victim, (0, 0)),
    "rename": lambda: os.rename(victim, victim + "2"),
    "replace": lambda: (open("mine", "w").close(), os.replace("mine", victim)),
    "unlink": lambda: os.unlink(victim),
    "mkdir": lambda: os.mkdir(folder + "/made"),
    "symlink": lambda: os.symlink("/", folder + "/made"),
    "fifo": lambda: os.mkfifo(folder + "/made"),
    "setxattr": lambda: os.setxattr(victim, "user.x", b"x"),
})
""",
    ),
    Attack(
        "create files anywhere",
        _EACH + "got = each({path: lambda path=path: open(path + '/' + bait['word'], 'w') for path in bait['places']})",
    ),
    Attack(
        "reach sockets of this machine",
        _EACH
        + """
import socket
kinds = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", bait["tcp"])),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", bait["udp"])),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM, bait["unix"]),
    "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, "\\0" + bait["word"]),
}
def reach(family, kind, address):
    connection = socket.socket(family, kind)
    connection.connect(address)
    connection.send(b"x")
def datagram():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.sendto(b"x", bait["datagram"])
got = each({name: lambda kind=kind: reach(*kind) for name, kind in kinds.items()} | {
    "datagram": datagram,
    "listen": lambda: socket.create_server(("127.0.0.1", 0)),
    "netlink": lambda: socket.socket(16, socket.SOCK_RAW),
})
""",
    ),
    Attack(
        "signal, trace and read other processes",
        _EACH
        + _SYSTEM
        + """
import fcntl, signal
victim, own = bait["process"], os.getppid()
buffer = ctypes.create_string_buffer(64)
def owner(process):
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETOWN, process)
got = each({f"{name} {process}": lambda attempt=attempt, process=process: attempt(process)
    for process in (victim, own, 1)
    for name, attempt in {
        "signal": lambda process: os.kill(process, 0),
        "queue": lambda process: system((129, 138), process, 0, buffer),
        "own": owner,
        "trace": lambda process: system((101, 117), 16, process, 0, 0),
        "read": lambda process: system((310, 270), process, buffer, 1, buffer, 1, 0),
        "memory": lambda process: open(f"/proc/{process}/mem").close(),
        "open": lambda process: system(434, process, 0),
        "limit": lambda process: system((302, 261), process, 7, buffer, 0),
        "priority": lambda process: os.setpriority(os.PRIO_PROCESS, process, 19),
    }.items()} | {"signal all": lambda: os.kill(-1, 0), "signal group": lambda: os.killpg(0, 0)})
os.kill(victim, signal.SIGKILL)
""",
    ),
    Attack(
        "start processes",
        _EACH
        + _SYSTEM
        + """
import multiprocessing, subprocess, sys
def alone(start):
    if start() == 0:
        os._exit(0)
arguments = ctypes.create_string_buffer(88)
got = each({
    "fork": lambda: alone(os.fork),
    "vfork": lambda: alone(lambda: system((58, 220), 17, 0, 0, 0, 0)),
    "clone": lambda: alone(lambda: system((56, 220), 17, 0, 0, 0, 0)),
    "clone3": lambda: alone(lambda: system(435, arguments, 88)),
    "forkpty": lambda: alone(lambda: os.forkpty()[0]),
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {}),
    "detached": lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True),
    "multiprocessing": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
    "session": os.setsid,
})
""",
    ),
    Attack("fork without end", "import os\ngot = []\nwhile True:\n    if os.fork():\n        got.append('fork')"),
    Attack(
        "call the kernel in other ways",
        _EACH
        + _SYSTEM
        + """
buffer = ctypes.create_string_buffer(4096)
got = each({
    "io_uring": lambda: system(425, 4, buffer),
    "bpf": lambda: system((321, 280), 0, buffer, 64),
    "userfaultfd": lambda: system((323, 282), 0),
    "perf": lambda: system((298, 241), buffer, 0, -1, -1, 0),
    "keys": lambda: system((248, 217), b"user", b"name", buffer, 8, -4),
    "unshare": lambda: system((272, 97), 0x10000000),
    "mount": lambda: system((165, 40), b"none", b".", b"tmpfs", 0, 0),
    "chroot": lambda: os.chroot("."),
    "user": lambda: os.setuid(0),
    "dumpable": lambda: system((157, 167), 4, 1, 0, 0, 0),
    "outlive": lambda: system((157, 167), 1, 0, 0, 0, 0),
    "filter": lambda: system((317, 277), 0, 0, 0),
    "personality": lambda: system((135, 92), 0x0040000),
    "terminal": lambda: open("/dev/tty").close(),
})
""",
    ),
    Attack(
        "call the kernel by the numbers of x32",
        _SYSTEM + "got = [0x40000000 | number for number in (39, 57) if column == 0 and system(0x40000000 | number)]",
    ),
    Attack(
        "call the kernel as a 32-bit process",
        _SYSTEM
        + """
import mmap
if column == 0:
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex("b814000000cd80c3"))  # getpid by int 0x80
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    got = call() > 0
""",
    ),
    Attack(
        "lift the limits",
        _EACH
        + """
import resource
names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE")
numbers = [getattr(resource, name) for name in names]
most = {number: resource.getrlimit(number) for number in numbers}
got = [n for n, (soft, hard) in most.items() if hard == resource.RLIM_INFINITY or hard > 2**46]
got += each({n: lambda n=n: resource.setrlimit(n, (most[n][1] + 1, most[n][1] + 1)) for n in numbers})
""",
    ),
    Attack("take all memory", "kept = []\nwhile len(kept) < 32:\n    kept.append(bytes(2**28))\ngot = len(kept)"),
    Attack("map all memory", "import mmap\nkept = [mmap.mmap(-1, 2**30) for _ in range(8)]\ngot = len(kept)"),
    Attack(
        "take memory that no limit counts",
        _EACH
        + _SYSTEM
        + "got = each({'memfd': lambda: os.memfd_create('x'), 'shared': lambda: system((29, 194), 0, 2**20, 0o1600)})",
    ),
    Attack(
        "fill the disk",
        "import os\nsize = 0\n"
        "for number in range(40):\n"
        "    with open(f'{number}', 'wb', buffering=0) as file:\n"
        "        for _ in range(4):\n            size += file.write(bytes(2**24 - 1))\n"
        "import time\ntime.sleep(2)\ngot = size if size > 2**30 else 0",
    ),
    Attack(
        "write a large file",
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "file, size = open('large', 'wb', buffering=0), 0\n"
        "while size < 2**28:\n    size += file.write(bytes(2**24))\n"
        "got = size",
    ),
    Attack("open files without end", "kept = []\nwhile len(kept) < 5000:\n    kept.append(open('/dev/null'))\ngot = 1"),
    Attack(
        "leave something for the next submission",
        "import os, tempfile\n"
        "open('left', 'w').write('x')\nopen('.left', 'w').write('x')\nos.makedirs('a/b')\nos.mkdir('closed', 0)\n"
        "os.symlink('/', 'root')\ntempfile.mkdtemp()\n"
        "for _ in range(2000):\n    os.mkdir('d')\n    os.chdir('d')\n",
        then="import os\ngot = os.listdir('.') + os.listdir(os.environ['HOME'])",
    ),
    Attack(
        "stay after the end",
        "import atexit, signal, threading, time\n"
        "for number in range(1, 32):\n"
        "    try:\n        signal.signal(number, signal.SIG_IGN)\n    except OSError:\n        pass\n"
        "def stay():\n    while True:\n        open('stayed', 'w').close()\n        time.sleep(0.01)\n"
        "for _ in range(8):\n    threading.Thread(target=stay).start()\n"
        "atexit.register(stay)\nstay()\n",
        then="import os, time\ntime.sleep(0.3)\ngot = os.listdir('.')",
    ),
)


def run_attacks(sandbox, attacks=ATTACKS, seconds=4):
    """Try attacks in a sandbox.

    Args:
        sandbox: as open_sandbox gives it.
        attacks: those to try.
        seconds: for each of them.

    Yields:
        An Outcome for each attack, as it is known.
    """
    running = sandbox.start(probe.__name__)
    try:
        for attack in attacks:
            if not running.alive():
                running.stop()
                running = sandbox.start(probe.__name__)
            with Bait() as bait:
                yield _outcome(attack, running, bait, seconds)
    finally:
        running.stop()


def _outcome(attack, running, bait, seconds):
    try:
        attempted = probe.attempt(running, attack.code, bait.told, seconds)
        if attack.then:
            attempted = probe.attempt(running, attack.then, bait.told, seconds)
    except OSError:  # the sandbox has ended its worker, which is a way to contain an attack
        running.process.wait()
        attempted = probe.Attempted(ended="the sandbox was closed")
    harm = bait.harm()
    told = "; ".join(filter(None, [attempted.got and f"got {attempted.got}", harm])) or attempted.ended or "refused"
    return Outcome(attack.name, not attempted.got and not harm, told)
