"""start.py against an index served on loopback, with wheels made on the fly: each set-up takes seconds.

What is installed is a stand-in (a torch of a few bytes, a package that prints its arguments); start.py, venv and pip
are the real ones. `drive.py` replaces only facts of the machine: whether it has a GPU and how much disk is needed; and
beside the tests of `ready`, to save seconds, the unpacking of pip into each environment.
"""

from __future__ import annotations

import ast
import contextlib
import ensurepip
import http.server
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import psutil
import pytest

REPOSITORY = Path(__file__).parent.parent
SKIPPED = {  # what is skipped, and where
    "windows": "POSIX signals and mounts do not exist on Windows",
    "mount": "mounting a small or read-only disk needs root on Linux",
    "old": "no Python older than 3.11 is installed on this machine",
}


def load(path=REPOSITORY / "start.py"):
    spec = importlib.util.spec_from_file_location("start", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


start = load()


# ---- decisions, from facts


HERE = start.Facts((3, 11), "CPython", 64, "Linux", "x86_64", False, "/home/me/course")


@pytest.mark.parametrize(
    "here",
    [
        HERE,
        HERE._replace(version=(3, 14)),
        HERE._replace(system="Darwin", machine="arm64"),
        HERE._replace(system="Windows", machine="AMD64", root="C:\\" + "x" * 60),
    ],
    ids=["linux", "newest", "apple-silicon", "windows-longest-path"],
)
def test_supported_machine_is_not_refused(here):
    assert start.why_not(here) == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": (2, 7)}, "Python 3.11 to 3.14, this is 2.7"),
        ({"version": (3, 10)}, "Python 3.11 to 3.14, this is 3.10"),
        ({"version": (3, 15)}, "Python 3.11 to 3.14, this is 3.15"),
        ({"implementation": "PyPy"}, "PyPy"),
        ({"bits": 32}, "64 bits"),
        ({"system": "Darwin", "machine": "x86_64"}, "Intel Macs: use Colab"),
        ({"musl": True}, "musl"),
        ({"system": "Windows", "root": "C:\\" + "x" * 61}, "has 64 characters, 63 fit"),
    ],
    ids=["2.7", "3.10", "3.15", "pypy", "32-bit", "intel-mac", "musl", "windows-path"],
)
def test_unsupported_machine_gets_one_line(change, says):
    line = start.why_not(HERE._replace(**change))
    assert says in line
    assert "\n" not in line


def test_windows_limit_is_that_of_the_path_of_site_packages():
    for length in range(50, 80):
        root = "C:\\" + "x" * (length - 3)
        fits = len(root + "\\.venv\\Lib\\site-packages") <= 87
        assert (start.why_not(HERE._replace(system="Windows", root=root)) == "") == fits


def test_python_limits_are_those_of_pyproject():
    wanted = re.search(r'requires-python = ">=(\S+),<(\S+)"', (REPOSITORY / "pyproject.toml").read_text())
    oldest, too_new = (tuple(map(int, text.split("."))) for text in wanted.groups())
    assert (start.OLDEST, (start.NEWEST[0], start.NEWEST[1] + 1)) == (oldest, too_new)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("disk", "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"),
        ("disk", "OSError: [WinError 112] There is not enough space on the disk"),
        ("network", "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n"
         "ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)\n"
         "ERROR: No matching distribution found for numpy"),
        ("network", "ERROR: THESE Exception: ReadTimeoutError(\"HTTPSConnectionPool: Read timed out.\")"),
        ("missing", "WARNING: Retrying after connection broken by 'ReadTimeoutError(...)'\n"
         "ERROR: Could not find a version that satisfies the requirement numpy==3 (from versions: 1.0, 2.0)\n"
         "ERROR: No matching distribution found for numpy==3"),
        ("certificate", "Max retries exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: "
         "CERTIFICATE_VERIFY_FAILED] certificate verify failed')))"),
        ("venv", "The virtual environment was not created successfully because ensurepip is not available. On Debian"),
        ("venv", "/usr/bin/python3: No module named venv"),
        ("read-only", "[Errno 30] Read-only file system: '/course/.venv'"),
        ("permission", "PermissionError: [Errno 13] Permission denied: '/course/.venv'"),
        ("missing", "The conflict is caused by:\n    gradcourse 1.0 depends on numpy\n"
         "    The user requested (constraint) numpy==1.0\nERROR: ResolutionImpossible: for help visit"),
        ("", "something else"),
    ],
)  # fmt: skip
def test_what_pip_said_is_told_by_its_kind(kind, said):
    found, line = start.explain(said)
    assert found == kind
    assert bool(line) == bool(kind)
    assert "\n" not in line


# ---- the language


TOO_NEW_SYNTAX = (
    ast.JoinedStr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Await, ast.YieldFrom, ast.Nonlocal, ast.NamedExpr,
    ast.MatMult, ast.Match,
)  # fmt: skip


def too_new(node):
    """Whether Python 2.7 or 3.5 cannot parse this node."""
    if isinstance(node, ast.arguments):
        annotated = [arg for arg in node.posonlyargs + node.args + node.kwonlyargs if arg.annotation]
        return bool(annotated or node.kwonlyargs or node.posonlyargs)
    if isinstance(node, ast.FunctionDef):
        return node.returns is not None
    if isinstance(node, ast.Raise):
        return node.cause is not None
    if isinstance(node, ast.ClassDef):
        return bool(node.keywords)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return any(isinstance(item, ast.Starred) for item in node.elts)
    if isinstance(node, ast.Dict):
        return None in node.keys
    if isinstance(node, ast.Call):
        stars = [n for n, arg in enumerate(node.args) if isinstance(arg, ast.Starred)]
        return len(stars) > 1 or bool(stars and stars[0] < len(node.args) - 1)
    return isinstance(node, TOO_NEW_SYNTAX)


def test_old_python_can_parse_start():
    source = (REPOSITORY / "start.py").read_text(encoding="ascii")  # 2.7 refuses other characters
    tree = ast.parse(source, feature_version=(3, 5))
    assert [ast.unparse(node) for node in ast.walk(tree) if too_new(node)] == []
    assert re.findall(r"\*\w+,\s*\)", source) == []  # a comma after `**options` is new too, and not in the tree


@pytest.mark.parametrize("source", ["f'{x}'", "raise A from b", "def f(*, a): 0", "def f() -> int: 0", "x: int = 1"])
def test_the_walk_sees_new_syntax(source):
    assert any(too_new(node) for node in ast.walk(ast.parse(source)))


def old_pythons():
    """Interpreters of 2.7 and 3.x below 3.11, on the path or installed by pyenv."""
    names = ["python2.7", *(f"python3.{minor}" for minor in range(5, 11))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    places = [*pyenv.glob("versions/*/bin"), "/usr/bin", "/usr/local/bin"]
    found = {name: next((str(path) for p in places if (path := Path(p, name)).exists()), None) for name in names}
    return {name: path for name, path in found.items() if path}


def test_old_python_answers_with_one_line():
    pythons = old_pythons()
    if not pythons:
        pytest.skip(SKIPPED["old"])
    for name, python in pythons.items():
        done = subprocess.run([python, REPOSITORY / "start.py"], capture_output=True, text=True)
        version = name.removeprefix("python")
        line = f"start.py: needs Python 3.11 to 3.14, this is {version}: get one from python.org and start with that\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_new_python_answers_with_one_line():
    code = "import sys; sys.version_info = (3, 15, 0, 'final', 0); import start; sys.exit(start.main([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.startswith("start.py: needs Python 3.11 to 3.14, this is 3.15")


# ---- a project and an index of stand-ins


def wheel(name, version, requires=(), files=None, extra=""):
    """The file name and the bytes of a wheel."""
    info = f"{name}-{version}.dist-info"
    members = dict(files or {f"{name}.py": f"VERSION = {version!r}\n"})
    requires = "".join(f"Requires-Dist: {item}\n" for item in requires)
    members[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}{extra}"
    members[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


BACKEND = '''
"""A build backend in a few lines: the project's metadata, and an editable wheel of one .pth."""
import os, zipfile
REQUIRES = ["torch", "small", "pytest; extra == 'test'", "writer; extra == 'author'"]
INFO = "gradcourse-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: gradcourse\\nVersion: 1.0\\nProvides-Extra: test\\nProvides-Extra: author\\n"
METADATA += "".join("Requires-Dist: %s\\n" % item for item in REQUIRES)
def build_wheel(folder, config_settings=None, metadata_directory=None):
    members = {"gradcourse.pth": os.getcwd() + "\\n", INFO + "/METADATA": METADATA}
    members[INFO + "/WHEEL"] = "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
    members[INFO + "/RECORD"] = "".join("%s,,\\n" % path for path in members)
    name = "gradcourse-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as archive:
        for path, content in members.items():
            archive.writestr(path, content)
    return name
build_editable = build_wheel
'''

PROGRAM = """
import os, sys
import small, torch
print("ran", sys.argv[1:], "torch", torch.VERSION, os.getcwd() == os.path.dirname(os.path.dirname(__file__)))
sys.exit(int(os.environ.get("EXIT_OF_" + sys.argv[1].upper(), 0)))
"""

DRIVE = """
import sys
import start
start.has_nvidia = lambda: False
start.platform.system = lambda: "Linux"
start.NEED_GB = dict.fromkeys(start.NEED_GB, 0.0)
pip = sys.argv.pop(1)

def make_venv(worker):
    start.step("making an environment")
    worker.run([sys.executable, "venv", "--without-pip", worker.venv], start.environment())
    packages = start.sysconfig.get_path("purelib", "venv", {"base": worker.venv})
    with open(packages + "/pip.pth", "w") as file:
        file.write(pip)

if pip:
    start.Worker.make_venv = make_venv
exec(sys.argv.pop(1))
sys.exit(start.main(sys.argv[1:]))
"""

CPU_TORCH = wheel("torch", "2.13.0+cpu")
CUDA_TORCH = wheel("torch", "2.13.0", ['nvidia-cublas; platform_system == "Linux"'])
PLAIN = [
    wheel("tinybackend", "1.0", files={"tinybackend.py": BACKEND}),
    wheel("small", "1.0"),
    wheel("small", "2.0"),  # newer than what requirements.lock names
    wheel("writer", "1.0"),
    wheel("pytest", "1.0", files={"pytest.py": "import sys\nprint('tests', sys.argv[1:])\nsys.exit(5)\n"}),
    wheel("nvidia_cublas", "1.0"),
]


class Index:
    """A package index on loopback: `simple` stands for pip's own sources, `cpu` for PyTorch's."""

    def __init__(self):
        self.wheels = {"simple": dict(PLAIN), "cpu": {}}
        self.requests, self.sizes = [], {}
        self.held, self.arrived, self.release = "", threading.Event(), threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                with contextlib.suppress(ConnectionError):
                    outer.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def hold(self, name):
        """Let the download of `name` wait, until `release` is set."""
        self.held = name
        self.arrived.clear()
        self.release.clear()

    def answer(self, request):
        self.requests.append(request.path)
        _, index, name, *file = request.path.split("/")
        if file and file[0]:
            return self.send_wheel(request, index, file[0].replace("%2B", "+"))
        matching = [w for w in self.wheels[index] if w.split("-")[0].replace("_", "-") == name]
        links = "".join(f'<a href="{wheel}">{wheel}</a>\n' for wheel in matching)
        request.send_response(200 if links else 404)
        request.send_header("Content-Type", "text/html")
        request.end_headers()
        request.wfile.write(links.encode())
        return None

    def send_wheel(self, request, index, name):
        content = self.wheels[index][name]
        if self.held and name.startswith(self.held):
            self.arrived.set()
            self.release.wait(30)
        request.send_response(200)
        request.send_header("Content-Length", str(self.sizes.get(name, len(content))))
        request.end_headers()
        request.wfile.write(content)
        if name in self.sizes:
            request.wfile.flush()
            self.release.wait(30)

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def index():
    served = Index()
    yield served
    served.close()


class Course:
    """A copy of start.py with a stand-in for the project, and what is needed to run it."""

    def __init__(self, root, index, pip=""):
        self.root, self.index, self.pip = Path(root), index, pip
        (self.root / "gradcourse").mkdir(parents=True)
        shutil.copy(REPOSITORY / "start.py", self.root)
        (self.root / "gradcourse/__init__.py").write_text("")
        (self.root / "gradcourse/__main__.py").write_text(PROGRAM)
        (self.root / "pyproject.toml").write_text(
            '[build-system]\nrequires = ["tinybackend"]\nbuild-backend = "tinybackend"\n'
        )
        (self.root / "requirements.lock").write_text("small==1.0\ntorch==2.13.0\npytest==1.0\nwriter==1.0\n")
        (self.root / "drive.py").write_text(DRIVE)

    @property
    def venv(self):
        return self.root / ".venv"

    def environment(self, **more):
        """No pip configuration but the index on loopback; a console that knows ASCII alone."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
        env = {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}
        address = f"http://127.0.0.1:{self.index.port}"
        env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{address}/simple", "PIP_RETRIES": "1"}
        env |= {"PIP_TIMEOUT": "20", "PIP_NO_CACHE_DIR": "1", "GRADCOURSE_TORCH_INDEX": f"{address}/cpu"}
        return env | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"} | more

    def begin(self, *arguments, facts="", **environment):
        """Start start.py in the background."""
        command = [
            sys.executable,
            "-W",
            "error",
            str(self.root / "drive.py"),
            str(self.pip),
            facts,
            *map(str, arguments),
        ]
        env = self.environment(**environment)
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=env, cwd=self.root.parent, text=True, **pipes)

    def run(self, *arguments, facts="", **environment):
        """Run start.py; return what came of it, with .returncode .stdout .stderr."""
        child = self.begin(*arguments, facts=facts, **environment)
        out, error = child.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, child.returncode, out, error)

    def marker(self):
        return json.loads((self.venv / "start.json").read_text())

    def installed(self):
        """Names and versions that lie in .venv, from the file names that pip wrote."""
        infos = [path.name for path in self.venv.glob("**/site-packages/*.dist-info")]
        return {tuple(name.removesuffix(".dist-info").split("-")) for name in infos}


@pytest.fixture(scope="module")
def pip(tmp_path_factory):
    """A folder with the pip that Python brings along."""
    folder = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(next(Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl"))) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def course(tmp_path, index, pip):
    """A course not set up yet; the index has torch for the CPU."""
    index.wheels["simple"] |= dict([CPU_TORCH])
    return Course(tmp_path / "course", index, pip)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A course that has been set up, in a folder whose name has a space and more than ASCII; and what it printed."""
    served = Index()
    served.wheels["simple"] |= dict([CPU_TORCH])
    made = Course(tmp_path_factory.mktemp("start") / "Kurs über ∂L∕∂W", served)
    made.first_run = made.run("--seed", 7, "--no-lab")
    yield made
    served.close()


def is_one_line(done, says, code=1):
    """Assert that start.py refused in one line of ASCII that says `says`."""
    assert done.returncode == code, done
    assert re.fullmatch(r"start\.py: [ -~]+\n", done.stderr), done
    assert says in done.stderr, done
    return True


# ---- the whole way


def test_set_up_installs_the_locked_versions_and_runs_the_first_experiment(ready):
    done = ready.first_run
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("ran ['first', '--seed', '7'] torch 2.13.0+cpu True\n")
    assert done.stdout.isascii()
    assert {("small", "1.0"), ("torch", "2.13.0+cpu"), ("gradcourse", "1.0")} <= ready.installed()
    assert ready.marker()["state"] == "ready"


def test_second_start_installs_nothing(ready):
    before = len(ready.index.requests), (ready.venv / "start.json").stat().st_mtime_ns
    done = ready.run("--no-browser", "--port", free_port())
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "ran ['first'] torch 2.13.0+cpu True"
    assert re.fullmatch(r"ran \['lab', '--no-browser', '--port', '\d+'\] torch .* True", lines[1])
    assert len(lines) == 2
    assert before == (len(ready.index.requests), (ready.venv / "start.json").stat().st_mtime_ns)


@pytest.mark.parametrize(("which", "lines"), [("first", 1), ("lab", 2)])
def test_exit_code_is_passed_on(ready, which, lines):
    done = ready.run(**{f"EXIT_OF_{which.upper()}": "9"})
    assert done.returncode == 9
    assert len(done.stdout.splitlines()) == lines


def test_foreign_packages_are_not_seen(ready, tmp_path):
    (tmp_path / "small.py").write_text("raise SystemExit('the wrong small')")
    assert ready.run("--no-lab", PYTHONPATH=str(tmp_path)).returncode == 0


def test_a_failed_update_leaves_what_worked(ready):
    asked = ready.index.wheels["simple"].pop("pytest-1.0-py3-none-any.whl")
    is_one_line(ready.run("test"), "no wheel of pytest fits")
    ready.index.wheels["simple"]["pytest-1.0-py3-none-any.whl"] = asked
    assert ready.run("--no-lab").stdout.startswith("ran ['first']")


def test_tests_get_their_arguments_and_give_their_exit_code(ready):
    done = ready.run("test", "-k", "two words", "--", "-x")
    assert done.stdout.endswith("tests ['-k', 'two words', '--', '-x']\n")
    assert done.returncode == 5
    assert {("pytest", "1.0"), ("writer", "1.0")} <= ready.installed()
    again = ready.run("test", "-q")
    assert (again.stdout, again.returncode) == ("tests ['-q']\n", 5)
    assert ready.run("--no-lab").stdout.startswith("ran ['first']")  # the extras are no reason to start over


def test_changed_lock_installs_in_place(ready):
    keep = ready.venv / "keep"
    keep.write_text("")
    lock = ready.root / "requirements.lock"
    lock.write_text(lock.read_text().replace("small==1.0", "small==2.0"))
    assert ready.run("--no-lab").returncode == 0
    assert ("small", "2.0") in ready.installed()
    assert keep.exists()
    requests = len(ready.index.requests)
    assert ready.run("--no-lab").returncode == 0
    assert len(ready.index.requests) == requests


def test_broken_interpreter_and_moved_repository_are_set_up_anew(ready, pip):
    ready.pip = pip
    python = Path(start.interpreter(ready.venv))
    python.unlink()
    python.symlink_to(python.with_name("gone"))
    assert "making an environment" in ready.run("--no-lab").stdout
    ready.root = ready.root.rename(ready.root.with_name("moved"))
    done = ready.run("--no-lab")
    assert (done.returncode, done.stderr) == (0, "")
    assert "making an environment" in done.stdout
    assert ready.run("--no-lab").stdout.startswith("ran ")


# ---- interruptions


def wait_until_downloading(course, child):
    """Wait until pip asks for the wheel that the index holds back; return the processes below start.py."""
    assert course.index.arrived.wait(40), child.communicate(timeout=5)
    return psutil.Process(child.pid).children(recursive=True)


def end(child):
    child.communicate(timeout=40)
    return child.returncode


def test_killed_set_up_leaves_no_pip_and_is_repaired(course):
    course.index.hold("small")
    child = course.begin("--no-lab")
    below = wait_until_downloading(course, child)
    child.kill()
    end(child)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert course.marker()["state"] == "building"
    (course.venv / "half made").write_text("")
    course.index.release.set()
    done = course.run("--no-lab")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (course.venv / "half made").exists()
    assert ("small", "1.0") in course.installed()


@pytest.mark.skipif(os.name == "nt", reason=SKIPPED["windows"])
def test_ctrl_c_is_one_line(course):
    course.index.hold("torch")
    child = course.begin("--no-lab")
    below = wait_until_downloading(course, child)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=20)
    assert (child.returncode, error) == (130, "start.py: stopped; start again to go on\n")
    assert psutil.wait_procs(below, timeout=10)[1] == []


def test_two_starts_at_once_set_up_once(course):
    course.index.hold("small")
    first = course.begin("--no-lab")
    wait_until_downloading(course, first)
    second = course.begin("--no-lab")
    assert "another start.py is at work" in second.stdout.readline()
    course.index.release.set()
    out, _ = second.communicate(timeout=40)
    assert (end(first), second.returncode) == (0, 0)
    assert out == "ran ['first'] torch 2.13.0+cpu True\n"


# ---- which torch


def test_cpu_build_comes_from_the_cpu_index_where_pip_offers_cuda_only(course):
    name, content = CUDA_TORCH
    course.index.wheels["simple"] = dict(PLAIN) | {name: content[:100]}
    course.index.sizes[name] = 526_600_000  # as long as the real one: it must not be downloaded
    course.index.wheels["cpu"] = dict([CPU_TORCH])
    done = course.run("--no-lab")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("torch 2.13.0+cpu True\n")
    assert [name for name, _ in course.installed() if name.startswith("nvidia")] == []


def test_cuda_build_is_taken_only_when_told(course):
    course.index.wheels["simple"] = dict([*PLAIN, CUDA_TORCH])
    done = course.run("--no-lab")
    is_one_line(done, "2.8 GB instead of 192 MB: for that add --allow-cuda")
    assert f"pip's configuration has none, http://127.0.0.1:{course.index.port}/cpu has none" in done.stderr
    assert ("torch", "2.13.0") not in course.installed()
    done = course.run("--no-lab", "--allow-cuda")
    assert (done.returncode, done.stderr) == (0, "")
    assert {("torch", "2.13.0"), ("nvidia_cublas", "1.0")} <= course.installed()


def test_machine_with_a_gpu_takes_what_pip_offers(course):
    course.index.wheels["simple"] = dict([*PLAIN, CUDA_TORCH])
    assert course.run("--no-lab", facts="start.has_nvidia = lambda: True").returncode == 0
    assert ("torch", "2.13.0") in course.installed()


# ---- refusals


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_foreign_environment_is_refused_and_kept(course):
    course.venv.mkdir()
    (course.venv / "pyvenv.cfg").write_text("mine")
    is_one_line(course.run(), ".venv was not made by start.py: move it away")
    assert [path.name for path in course.venv.iterdir()] == ["pyvenv.cfg"]


def test_file_in_the_place_of_the_environment_is_refused(course):
    course.venv.write_text("mine")
    is_one_line(course.run(), ".venv was not made by start.py")
    assert course.venv.read_text() == "mine"


def test_taken_port_is_refused_before_the_set_up(course):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        is_one_line(course.run("--port", taken.getsockname()[1]), "is taken: choose another --port")
    assert not course.venv.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "0"], "argument --port: '0' is not a whole number from 1 to 65535"),
        (["--seed", "-1"], "argument --seed"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--wheels", "nowhere"], "there is no folder nowhere"),
        (["download"], "required: DIR"),
        (["tset"], "unrecognized arguments: tset"),
    ],
    ids=["port", "seed", "option", "wheels", "download", "command"],
)
def test_wrong_usage_is_one_line_and_code_2(course, arguments, says):
    is_one_line(course.run(*arguments), says, code=2)
    assert not course.venv.exists()


def test_no_network_is_one_line_and_the_next_start_works(course):
    closed = f"http://127.0.0.1:{free_port()}"
    done = course.run("--no-lab", PIP_INDEX_URL=f"{closed}/simple", GRADCOURSE_TORCH_INDEX=f"{closed}/cpu")
    is_one_line(done, "no network, or a package index does not answer")
    log = re.search(r"\(log: (.*)\)", done.stderr).group(1)
    assert "No matching distribution found for torch" in Path(log).read_text()
    assert course.run("--no-lab").returncode == 0


def test_disk_too_small_is_refused_before_the_set_up(course):
    done = course.run(facts="start.NEED_GB['course'] = 1e9")
    is_one_line(done, "needs 1000000000.0 GB of disk")
    assert [path.name for path in course.venv.iterdir()] == ["start.lock"]


@contextlib.contextmanager
def disk(folder, options):
    """Mount a disk in memory on `folder`."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip(SKIPPED["mount"])
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(SKIPPED["mount"])
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_full_disk_is_one_line_and_the_next_start_works(tmp_path, index, pip):
    big = wheel("torch", "2.13.0+cpu", files={"torch.py": "VERSION = 'big'\n", "zeros": bytes(80_000_000)})
    index.wheels["simple"] |= dict([big])
    with disk(tmp_path / "small", "size=60m") as folder:
        course = Course(folder / "course", index, pip)
        is_one_line(course.run("--no-lab"), "the disk ran full: free 0.0 GB and start again")
        subprocess.run(["mount", "-o", "remount,size=400m", folder], check=True)
        assert course.run("--no-lab").returncode == 0


def test_read_only_folder_is_one_line(tmp_path, index):
    with disk(tmp_path / "locked", "size=60m") as folder:
        course = Course(folder / "course", index)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        is_one_line(course.run("--no-lab"), "the folder is read-only: copy the repository to a folder of your own")
        assert not course.venv.exists()


# ---- a class without a network


def test_downloaded_wheels_set_up_a_class_without_a_network(course, tmp_path):
    folder = tmp_path / "für die Klasse"
    course.index.wheels["simple"] = dict([*PLAIN, CUDA_TORCH])
    course.index.wheels["cpu"] = dict([CPU_TORCH])
    done = course.run("download", folder)
    assert (done.returncode, done.stderr) == (0, "")
    names = {path.name for path in folder.iterdir()}
    assert {name.split("-")[0] for name in names} == {"torch", "small", "tinybackend", "pytest", "writer"}
    assert CPU_TORCH[0] in names
    assert {path.name for path in tmp_path.iterdir()} == {"course", folder.name}
    requests = len(course.index.requests)
    (folder / "writer-1.0-py3-none-any.whl").rename(folder / "writer-1.0-cp39-cp39-win32.whl")
    is_one_line(course.run("test", "--wheels", folder), "holds only writer-1.0-cp39-cp39-win32.whl")
    (folder / "writer-1.0-cp39-cp39-win32.whl").unlink()
    is_one_line(course.run("test", "--wheels", folder), "no wheel of writer fits")
    done = course.run("--no-lab", "--wheels", folder, HTTPS_PROXY=f"http://127.0.0.1:{free_port()}")
    assert done.stdout.endswith("torch 2.13.0+cpu True\n")
    assert len(course.index.requests) == requests
    assert "Retrying" not in (course.venv / "start.log").read_text()  # as pip says when an index does not answer


def test_failed_download_leaves_nothing_half_made(course, tmp_path):
    del course.index.wheels["simple"]["writer-1.0-py3-none-any.whl"]
    folder = tmp_path / "wheels"
    is_one_line(course.run("download", folder), "no wheel of writer fits")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["course", "wheels.log"]
