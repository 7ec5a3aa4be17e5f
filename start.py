#!/usr/bin/env python3
"""Set the course up in the folder .venv beside this file, run the first experiment, open JupyterLab.

python3 start.py                 all of that (Windows: py start.py); a second start sets nothing up
python3 start.py test ...        install what the tests need and run them; further arguments go to pytest
python3 start.py download DIR    put every wheel that a set-up on a machine like this one needs into DIR
python3 start.py --wheels DIR    set up from such a folder, without a network
"""
# The standard library alone, in the syntax of Python 2.7: an old Python must answer with one clear line,
# not with a SyntaxError. What runs after `why_not` may use Python 3.11.

import argparse
import collections
import contextlib
import errno
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile

OLDEST, NEWEST = (3, 11), (3, 14)  # pyproject.toml's requires-python
ROOT = os.path.dirname(os.path.realpath(__file__))
VENV = os.path.join(ROOT, ".venv")
MARKER, LOCK, LOG = "start.json", "start.lock", "start.log"  # start.py's own files in .venv
INPUTS = ("requirements.lock", "pyproject.toml")
CPU_INDEX = os.environ.get("GRADCOURSE_TORCH_INDEX") or "https://download.pytorch.org/whl/cpu"
BIGGEST_CPU_TORCH_MB = 300  # torch 2.13: 192 MB for CPU, 427 MB and more with CUDA
NEED_GB = {"course": 1.7, "course with CUDA": 8.2, "update": 0.3, "wheels": 1.0}  # free disk while setting up
WINDOWS_SITE_PACKAGES = 87  # 260 less what the longest path in the torch wheel takes
BEGAN = time.time()

# Runs a module in a child that ends, with all that it has started, as soon as start.py does, even by a kill: its
# standard input then closes. No pip is left behind that writes into a folder which the next start rebuilds.
CHILD = """
import os, runpy, signal, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""

# (kind, pattern, what to say): the first pattern found in what pip, venv or the system said names the trouble.
TROUBLES = (
    ("disk", r"No space left on device|Errno 28\b|WinError 112\b|[Qq]uota exceeded",
     "the disk ran full: free {GB} GB and start again"),
    ("missing", r"from versions: \d[^)]*\)[\s\S]*No matching distribution found for ([\w.-]+)", ""),
    ("certificate", r"CERTIFICATE_VERIFY_FAILED|certificate verify failed",
     "the network's certificate is not accepted: get its certificate file and name it in PIP_CERT"),
    ("network", r"NewConnectionError|ConnectTimeout|ReadTimeout|[Rr]ead timed out|ProxyError|Max retries exceeded"
     r"|name resolution|getaddrinfo failed|Connection(?: |Reset|Aborted|Refused)|IncompleteRead|ProtocolError",
     "no network, or a package index does not answer: connect and start again, or set up with --wheels DIR"),
    ("missing", r"No matching distribution found for ([\w.-]+)", ""),
    ("missing", r"The user requested \(constraint\) ([\w.-]+)", ""),  # the locked version is not there
    ("venv", r"ensurepip is not available|No module named '?(?:venv|ensurepip)",
     "this Python lacks venv: on Debian and Ubuntu `sudo apt install python3-venv`, then start again"),
    ("read-only", r"Read-only file system|Errno 30\b",
     "the folder is read-only: copy the repository to a folder of your own and start there"),
    ("permission", r"Permission denied|Errno 13\b|WinError (?:5|32)\b",
     "no permission to write: close what uses this folder, or copy the repository to a folder of your own"),
)  # fmt: skip
BEFORE_INSTALLING = ("missing", "certificate", "network")  # pip meets these before it changes anything

Facts = collections.namedtuple("Facts", "version implementation bits system machine musl root")


class Refusal(Exception):
    """One line that says what is wrong and what to do, an exit code, and a kind of TROUBLES or ''."""

    def __init__(self, line, code=1, kind=""):
        Exception.__init__(self, line)
        self.code, self.kind = code, kind


# ---- can the course run here?


def facts():
    """Return what decides whether the course can run here."""
    return Facts(
        version=tuple(sys.version_info[:2]),
        implementation=platform.python_implementation(),
        bits=8 * struct.calcsize("P"),
        system=platform.system(),
        machine=platform.machine(),
        musl="musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""),
        root=ROOT,
    )


def why_not(here):
    """Return why the course cannot run on `here` (Facts) and what to do, or ''."""
    if not OLDEST <= here.version <= NEWEST:
        versions = OLDEST + NEWEST + here.version
        return "needs Python %d.%d to %d.%d, this is %d.%d: get one from python.org and start with that" % versions
    if here.implementation != "CPython":
        return "torch runs on CPython, this is %s: get Python from python.org" % here.implementation
    if here.bits != 64:
        return "torch needs 64 bits, this Python has %d: get a 64-bit one from python.org" % here.bits
    if here.system == "Darwin" and here.machine == "x86_64":
        hint = "use Colab, see README.md (on Apple silicon: this is an Intel Python, get the one from python.org)"
        return "torch has no builds for Intel Macs: " + hint
    if here.musl:
        return "torch has no builds for Linux with musl (Alpine): use a Linux with glibc, or Colab, see README.md"
    longest_root = WINDOWS_SITE_PACKAGES - len("\\.venv\\Lib\\site-packages")
    if here.system == "Windows" and len(here.root) > longest_root:
        lengths = (len(here.root), longest_root)
        return "the path of this folder has %d characters, %d fit on Windows: move it to a shorter one" % lengths
    return ""


def has_nvidia():
    """Return whether an NVIDIA driver works here."""
    if os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidia0"):
        return True
    smi = shutil.which("nvidia-smi")
    return bool(smi) and subprocess.call([smi, "-L"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def check_port(port):
    """Refuse a port that JupyterLab could not open, before the long set-up."""
    with contextlib.closing(socket.socket()) as probe:
        if os.name == "posix":  # as JupyterLab does; on Windows it would let a taken port pass
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "not allowed" if error.errno == errno.EACCES else "taken"
            raise Refusal("port %d is %s: choose another --port" % (port, why))


def check_space(folder, what):
    """Refuse when the disk of `folder` has too little room for `what`."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < NEED_GB[what]:
        raise Refusal("the %s needs %.1f GB of disk, %.1f GB are free: free some" % (what, NEED_GB[what], free))


# ---- the console, and the children that do the work


def say(text, stream=None):
    """Print one line that any console can show."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def step(text):
    """Say what is being done, and after how many seconds."""
    say("[%3.0f s] %s" % (time.time() - BEGAN, text))


def environment(**more):
    """Return an environment in which the Python of a venv sees its own packages only."""
    foreign = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")
    env = {name: value for name, value in os.environ.items() if name not in foreign}
    return dict(env, **more)


def pip_environment(temporary, wheels):
    """Return the environment for pip; a folder of `wheels` is its only source."""
    env = environment(PYTHONIOENCODING="utf-8", TMPDIR=temporary, TEMP=temporary, TMP=temporary)
    if wheels:
        env = {name: value for name, value in env.items() if not name.startswith("PIP_")}
        env["PIP_CONFIG_FILE"] = os.devnull
    env.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_USER="0")
    env.update(PIP_QUIET="0", PIP_PROGRESS_BAR="off", PIP_ONLY_BINARY=":all:")
    return env


def interpreter(venv):
    """Return the path of the Python in `venv`."""
    return os.path.join(venv, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))


class Worker(object):
    """Runs venv and pip for the environment `venv`, logs what they say, shows how far they are."""

    def __init__(self, venv, log, wheels=None):
        self.venv, self.log, self.wheels = venv, log, wheels
        self.temporary = os.path.join(venv, "tmp")
        self.lines, self.found, self.megabytes, self.installing = [], 0, 0.0, ""
        os.makedirs(self.temporary, exist_ok=True)
        open(log, "wb").close()

    def make_venv(self):
        """Make the environment."""
        step("making an environment of Python %s" % platform.python_version())
        self.run([sys.executable, "venv", self.venv], environment())

    def pip(self, *arguments, **options):
        """Run pip; see `run`."""
        sources = ["--no-index", "--find-links", self.wheels] if self.wheels else []
        command = [interpreter(self.venv), "pip"] + list(arguments) + sources
        self.run(command, pip_environment(self.temporary, self.wheels), **options)

    def run(self, command, env, enough=None):
        """Run [python, module, argument...]; stop when `enough(line)`; raise Refusal when it fails."""
        self.lines, self.installing = [], ""
        with child_of(command, env) as child, ticking(self.show):
            for raw in iter(child.stdout.readline, b""):
                self.note(raw.decode("utf-8", "replace").rstrip())
                if enough and enough(self.lines[-1]):
                    return
            code = child.wait()
        if code:
            raise self.refusal(code)

    def note(self, line):
        """Log a line and count what it tells."""
        self.lines.append(line)
        with open(self.log, "ab") as log:
            log.write(line.encode("utf-8") + b"\n")
        self.found += line.startswith(("Collecting ", "Processing "))
        self.megabytes += wheel_megabytes(line) if "Downloading" in line else 0
        if line.startswith("Installing collected packages: "):
            names = line.split(": ")[1].split(", ")
            self.installing = "installing %s" % (names[0] if len(names) == 1 else "%d packages" % len(names))
            step(self.installing)

    def show(self):
        """Say how far it is."""
        step("... " + (self.installing or "%d packages found, %.0f MB downloaded" % (self.found, self.megabytes)))

    def refusal(self, code):
        """Return what to tell after a failure."""
        kind, line = explain("\n".join(self.lines), self.wheels)
        errors = [line for line in self.lines if line.startswith("ERROR")] or self.lines or ["nothing was said"]
        line = line or "the set-up failed (code %d): %s" % (code, errors[-1])
        return Refusal("%s (log: %s)" % (line, self.log), kind=kind)


@contextlib.contextmanager
def child_of(command, env):
    """Yield a running child; when the block is left, end it and all that it started."""
    watched = os.name == "posix"  # on Windows a blocked read of standard input would hang pip's own children
    start = [command[0], "-c", CHILD] if watched else [command[0], "-m"]
    stdin = subprocess.PIPE if watched else subprocess.DEVNULL
    pipes = {"stdin": stdin, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    child = subprocess.Popen(start + command[1:], cwd=ROOT, env=env, start_new_session=watched, **pipes)
    try:
        yield child
    finally:
        (child.stdin.close if watched else child.kill)()
        child.wait()
        child.stdout.close()


@contextlib.contextmanager
def ticking(show):
    """Call `show` every ten seconds while the block runs."""
    done = threading.Event()

    def tick():
        while not done.wait(10):
            show()

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()


def wheel_megabytes(line):
    """Return the size that pip names for a wheel in `line`, or 0."""
    found = re.search(r"\.whl \(([\d.]+) ([kMG])B\)", line)
    return float(found.group(1)) * {"k": 1e-3, "M": 1.0, "G": 1e3}[found.group(2)] if found else 0.0


def explain(text, wheels=None):
    """Return the kind of trouble that `text` tells of and the line for the learner; two '' when unknown."""
    for kind, pattern, line in TROUBLES:
        found = re.search(pattern, text)
        if found:
            return kind, missing(found.group(1), wheels) if kind == "missing" else line.format(GB=NEED_GB["course"])
    return "", ""


def missing(package, wheels):
    """Say that no wheel of `package` fits, and which the folder `wheels` holds instead."""
    here = "Python %d.%d on %s %s" % (sys.version_info[:2] + (platform.system(), platform.machine()))
    if not wheels:
        return "no wheel of %s fits %s: use another Python from 3.11 to 3.14, or Colab" % (package, here)
    name = re.sub(r"[-_.]+", "_", package).lower()
    held = [wheel for wheel in sorted(os.listdir(wheels)) if wheel.lower().replace(".", "_").startswith(name + "-")]
    why = "holds only " + held[0] if held else "has none"
    return "no wheel of %s fits %s, %s %s: fill it with `start.py download` there" % (package, here, wheels, why)


# ---- which torch


def locked_torch():
    """Return the version of torch in requirements.lock."""
    with open(os.path.join(ROOT, "requirements.lock")) as lock:
        return re.search(r"(?m)^torch==([^\s;]+)", lock.read()).group(1)


def is_cpu_build(wheel):
    """Return whether a wheel of torch asks for no GPU package."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode("utf-8")
    return not re.search(r"(?mi)^Requires-Dist: *(?:nvidia|cuda|triton|pytorch-triton|rocm)", metadata)


def fetch_torch(worker, folder, specification, sources):
    """Download torch into `folder`; return its wheel, or None when the sources have no CPU build.

    pip names a wheel's size before it downloads: one that is too big for a CPU build is stopped there.
    """

    def too_big(line):
        return "torch-" in line and wheel_megabytes(line) > BIGGEST_CPU_TORCH_MB

    worker.pip("download", "--no-deps", "--dest", folder, specification, *sources, enough=too_big)
    for wheel in glob.glob(os.path.join(glob.escape(folder), "torch-*.whl")):
        if is_cpu_build(wheel):
            return wheel
        os.remove(wheel)
    return None


def cpu_torch(worker, folder, allow_cuda):
    """Return a CPU build of torch, from pip's own sources or else from CPU_INDEX; None if CUDA may come instead."""
    version, tried = locked_torch(), []
    for place, build, sources in (("pip's configuration", "", []), (CPU_INDEX, "+cpu", ["--index-url", CPU_INDEX])):
        step("looking for torch without CUDA (192 MB, not 2.8 GB) in %s" % place)
        try:
            wheel, why = fetch_torch(worker, folder, "torch==" + version + build, sources), "has none"
        except Refusal as refusal:
            if refusal.kind not in BEFORE_INSTALLING or (refusal.kind != "missing" and not sources):
                raise  # without pip's own sources nothing else can be installed either
            wheel, why = None, "has none" if refusal.kind == "missing" else "does not answer"
        if wheel:
            step("found %s" % os.path.basename(wheel))
            return wheel
        tried.append("%s %s" % (place, why))
    if not (allow_cuda or told_yes()):
        line = "torch without CUDA: %s. With CUDA it takes 2.8 GB instead of 192 MB: for that add --allow-cuda"
        raise Refusal((line + " (log: %s)") % (", ".join(tried), worker.log))
    return None


def told_yes():
    """Ask on a terminal whether the CUDA build may come."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    say("There is only torch with CUDA: 2.8 GB to download instead of 192 MB (it works without a GPU too).")
    return input("Take it? [y/N] ").strip().lower() in ("y", "yes")


# ---- the folder .venv


def read_marker():
    """Return what start.py noted about .venv, or an empty dict."""
    try:
        with open(os.path.join(VENV, MARKER)) as marker:
            return json.load(marker)
    except (OSError, ValueError):
        return {}


def write_marker(marker):
    """Replace the note in one step: a kill leaves the old one or the new one."""
    name = os.path.join(VENV, MARKER)
    with open(name + ".new", "w") as new:
        json.dump(marker, new)
    os.replace(name + ".new", name)


def wanted(extras):
    """Return the note of a finished set-up that fits this place, this Python, the inputs and `extras`."""
    inputs = hashlib.sha256()
    for name in INPUTS:
        with open(os.path.join(ROOT, name), "rb") as file:
            inputs.update(file.read())
    python = "%d.%d %s" % (sys.version_info[:2] + (platform.machine(),))
    path = os.fsencode(VENV).decode("latin-1")  # the same in every locale
    place = {"state": "ready", "path": path, "python": python}
    return dict(place, inputs=inputs.hexdigest(), torch=locked_torch(), extras=sorted(extras))


def is_sound(marker, want):
    """Return whether .venv was finished here, by this Python, and its interpreter still runs."""
    if any(marker.get(name) != want[name] for name in ("state", "path", "python")):
        return False
    code = "import sys; sys.exit(sys.version_info[:2] != %r)" % (tuple(sys.version_info[:2]),)
    try:
        return subprocess.call([interpreter(VENV), "-I", "-S", "-c", code], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def is_complete(marker, want):
    """Return whether a sound .venv holds what is wanted now."""
    return marker["inputs"] == want["inputs"] and set(want["extras"]) <= set(marker["extras"])


def refuse_foreign():
    """Refuse a .venv that something else has made: it is not ours to delete."""
    held = set(os.listdir(VENV) if os.path.isdir(VENV) else [VENV] if os.path.lexists(VENV) else [])
    if MARKER not in held and held - {LOCK, MARKER + ".new"}:
        raise Refusal("%s was not made by start.py: move it away and start again" % VENV)


@contextlib.contextmanager
def locked(folder):
    """Make `folder` and hold its lock, which the system opens when this process ends, however it ends."""
    path, waiting = os.path.join(folder, LOCK), False
    while True:
        os.makedirs(folder, exist_ok=True)
        with open(path, "a+b") as handle:
            # Who held the lock before may have deleted the folder: then this handle is of a file that is gone.
            if try_lock(handle) and os.path.exists(path) and os.path.samestat(os.fstat(handle.fileno()), os.stat(path)):
                yield
                return
        if not waiting:
            step("another start.py is at work in %s, waiting for it" % folder)
        waiting = True
        time.sleep(0.3)


def try_lock(handle):
    """Lock the open file `handle` and return True, or False when another process holds it."""
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def empty(folder):
    """Delete what is in `folder`, except the note and the lock: so that a kill leaves a folder known as ours."""
    for name in set(os.listdir(folder)) - {MARKER, LOCK}:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def set_up(options, extras):
    """Make .venv hold the course with `extras`, unless it does."""
    refuse_foreign()
    want = wanted(extras)
    if is_sound(read_marker(), want) and is_complete(read_marker(), want):
        return
    with locked(VENV):
        marker = read_marker()  # again: who held the lock may have done it
        sound = is_sound(marker, want)
        if not (sound and is_complete(marker, want)):
            want["extras"] = sorted(set(extras) | set(marker["extras"] if sound else []))
            build(options, want, marker if sound else None)


def build(options, want, before):
    """Install what `want` names: into the sound environment noted in `before`, or into a new one."""
    cuda = platform.system() == "Linux" and not options.wheels and has_nvidia()
    check_space(VENV, "update" if before else "course with CUDA" if cuda else "course")
    write_marker(dict(want, state="building"))
    if not before:
        step("setting up in %s" % VENV)
        empty(VENV)
    worker = Worker(VENV, os.path.join(VENV, LOG), options.wheels)
    if not before:
        worker.make_venv()
    try:
        if not before or before.get("torch") != want["torch"]:
            install_torch(worker, options, cuda)
        install_course(worker, want["extras"])
    except Refusal as refusal:
        if before and refusal.kind in BEFORE_INSTALLING:
            write_marker(before)
        raise
    finally:
        shutil.rmtree(worker.temporary, ignore_errors=True)
    write_marker(want)
    step("set up")


def install_torch(worker, options, cuda):
    """Install a torch without CUDA; leave it to `install_course` where any torch will do."""
    if platform.system() != "Linux" or cuda or options.wheels:
        return
    folder = os.path.join(worker.temporary, "torch")
    if cpu_torch(worker, folder, options.allow_cuda):
        worker.pip("install", "--no-deps", "--no-index", "--find-links", folder, "torch==" + locked_torch())
    else:
        check_space(VENV, "course with CUDA")


def install_course(worker, extras):
    """Install the course, the packages it requires and those of `extras`."""
    step("looking up the packages of requirements.lock")
    worker.pip("install", "-c", "requirements.lock", "-e", ".[%s]" % ",".join(extras) if extras else ".")
    make_link_relative()


def make_link_relative():
    """Make the editable install point here by a relative path, which is ASCII.

    Python before 3.13 reads it in the locale's encoding: with LC_ALL=C, and on Windows, a full path that is not
    ASCII would keep the interpreter from starting or the package from being found.
    """
    packages = sysconfig.get_path("purelib", "venv", {"base": VENV})
    with open(os.path.join(packages, "gradcourse.pth"), "w") as link:
        link.write(os.path.relpath(ROOT, packages) + "\n")


# ---- the commands


def course(*arguments):
    """Return the command `gradcourse arguments`, run by .venv."""
    return [interpreter(VENV), "-m", "gradcourse"] + list(arguments)


def start(options):
    """Set up, run the first experiment, open JupyterLab."""
    if options.port and not options.no_lab:
        check_port(options.port)
    set_up(options, [])
    first = course("first", *(["--seed", str(options.seed)] if options.seed is not None else []))
    code = subprocess.call(first, cwd=ROOT, env=environment())
    if code or options.no_lab:
        return exit_code(code)
    more = ["--no-browser"] if options.no_browser else []
    more += ["--port", str(options.port)] if options.port else []
    return hand_over(course("lab", *more))


def run_tests(options, arguments):
    """Set up with what the tests need and run them."""
    set_up(options, ["author", "cluster", "grading", "test"])
    return hand_over([interpreter(VENV), "-m", "pytest"] + arguments)


def hand_over(command):
    """Let `command` take the place of this process; on Windows, which cannot, wait for it."""
    if os.name == "posix":
        os.chdir(ROOT)
        os.execve(command[0], command, environment())
    child = subprocess.Popen(command, cwd=ROOT, env=environment())
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the child has received it too and ends when it is ready to
            return exit_code(child.wait())


def exit_code(code):
    """Return what a shell would for a child's return code, a signal included."""
    return 128 - code if code < 0 else code


def download(options, folder):
    """Put the wheels of a whole set-up into `folder`: all of them, or none."""
    target = os.path.abspath(folder)
    part, log = target + ".part", target + ".log"
    with locked(part):
        try:
            check_space(part, "wheels")
            empty(part)
            wheels = download_into(part, log, options)
            os.makedirs(target, exist_ok=True)
            for name in os.listdir(wheels):
                os.replace(os.path.join(wheels, name), os.path.join(target, name))
        finally:
            shutil.rmtree(part, ignore_errors=True)
    if os.name == "nt":  # which does not delete the open lock
        shutil.rmtree(part, ignore_errors=True)
    os.remove(log)
    sizes = [os.path.getsize(os.path.join(target, name)) for name in os.listdir(target)]
    step("%d wheels, %.0f MB in %s" % (len(sizes), sum(sizes) / 1e6, target))
    return 0


def download_into(part, log, options):
    """Download all wheels below `part`; return their folder."""
    import tomllib

    worker = Worker(os.path.join(part, "venv"), log)
    worker.make_venv()
    wheels = os.path.join(part, "wheels")
    with open(os.path.join(ROOT, "pyproject.toml"), "rb") as file:
        requirements = tomllib.load(file)["build-system"]["requires"] + [".[author,cluster,grading,test]"]
    if platform.system() == "Linux":  # without CUDA even here, where a GPU may be: the wheels are for other machines
        torch = cpu_torch(worker, wheels, options.allow_cuda)
        requirements += ["torch==" + os.path.basename(torch).split("-")[1]] if torch else []
    step("downloading the packages of requirements.lock")
    worker.pip("download", "-c", "requirements.lock", "--dest", wheels, "--find-links", wheels, *requirements)
    return wheels


# ---- the command line


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage in one line."""

    def error(self, message):
        raise Refusal("%s (see start.py --help)" % message, code=2)


def whole_number(low, high):
    """Return a converter for whole numbers from `low` to `high`."""

    def convert(text):
        if not (text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError("%r is not a whole number from %d to %d" % (text, low, high))
        return int(text)

    return convert


def folder(text):
    """Return the full path of a folder that exists."""
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError("there is no folder %s" % text)
    return os.path.abspath(text)


def parser_of(command):
    """Return the parser of `command`: '', 'test' or 'download'."""
    parser = Parser("start.py", description=__doc__, allow_abbrev=False, add_help=command != "test")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--allow-cuda", action="store_true", help="take torch with CUDA (2.8 GB) where there is no other")
    if command == "download":
        add("folder", metavar="DIR")
        return parser
    add("--wheels", metavar="DIR", type=folder, help="install from this folder alone")
    if not command:
        add("--no-browser", action="store_true", help="print JupyterLab's URL instead of opening it")
        add("--no-lab", action="store_true", help="stop after the first experiment")
        add("--port", type=whole_number(1, 65535), help="JupyterLab's port")
        add("--seed", type=whole_number(0, 2**32 - 1), help="seed of the first experiment")
    return parser


def dispatch(arguments):
    """Run the command that `arguments` name; return its exit code."""
    command = arguments[0] if arguments[:1] in (["test"], ["download"]) else ""
    parser = parser_of(command)
    if command == "test":
        return run_tests(*parser.parse_known_args(arguments[1:]))
    options = parser.parse_args(arguments[1:] if command else arguments)
    return download(options, options.folder) if command else start(options)


def main(arguments):
    """Run start.py; whatever goes wrong is one line on standard error."""
    reason = why_not(facts())
    if reason:
        sys.stderr.write("start.py: " + reason + "\n")
        return 1
    try:
        return dispatch(arguments)
    except Refusal as refusal:
        say("start.py: %s" % refusal, sys.stderr)
        return refusal.code
    except OSError as error:
        say("start.py: %s" % (explain(str(error))[1] or error), sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("start.py: stopped; start again to go on", sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
