"""The sandbox: right work runs in it, nothing else does; it ends with the grader, and says why it can't be had."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest

from gradcourse.grading.sandbox import (
    SandboxError,
    confine,
    files,
    landlock,
    open_sandbox,
    probe,
    ruleset,
    system_calls,
)
from gradcourse.grading.sandbox.bubblewrap import Bubblewrap
from gradcourse.grading.sandbox.container import Container
from gradcourse.grading.sandbox.landlock import Landlock
from gradcourse.grading.sandbox.running import Sandbox
from gradcourse.grading.sandbox.scratch import Scratch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sandboxes are made of Linux")

REPOSITORY = Path(__file__).resolve().parents[1]
BACKENDS = ["bubblewrap", "landlock"]

RIGHT_WORK = """
import asyncio, json, os, tempfile, threading
import matplotlib, numpy as np, torch
matplotlib.use("agg")
import matplotlib.pyplot as plt

a = torch.randn(300, 300, requires_grad=True)
(a @ a).relu().sum().backward()
torch.set_num_threads(2)
torch.nn.Conv2d(3, 3, 3)(torch.randn(8, 3, 40, 40)).sum().backward()
torch.nn.LSTM(3, 4)(torch.randn(5, 2, 3))
torch.save(torch.nn.Linear(3, 3).state_dict(), "weights.pt")
assert torch.load("weights.pt")["weight"].shape == (3, 3)
assert np.linalg.svd(np.eye(50))[1].sum() == 50
np.save("array.npy", np.arange(3))
plt.plot([1, 2])
plt.savefig("figure.png")
asyncio.run(asyncio.sleep(0))
with tempfile.TemporaryDirectory() as folder:
    open(folder + "/file", "w").write("x")
done = []
threads = [threading.Thread(target=done.append, args=(number,)) for number in range(16)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
import gradcourse as gc
gc.run(gc.Config(depth=3, width=8, steps=1))
got = json.dumps([len(done), os.path.getsize("figure.png") > 1000, a.grad.shape[0]])
"""


@pytest.fixture(scope="module", params=BACKENDS)
def running(request):
    with open_sandbox(request.param).start(probe.__name__) as started:
        yield started


def test_right_work_runs(running):
    attempted = probe.attempt(running, RIGHT_WORK, seconds=100)
    assert attempted.ended == ""
    assert attempted.got == "[16, true, 300]"


def test_nothing_of_the_environment_is_inside(running):
    attempted = probe.attempt(running, "import os\ngot = ' '.join(sorted(os.environ))")
    names = set(attempted.got.split()) - {"PWD", "LC_CTYPE", "OLDPWD"}
    assert names == {
        *("HOME", "TMPDIR", "MPLCONFIGDIR", "MPLBACKEND", "LANG", "PATH", "USER", "LOGNAME"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GRADCOURSE_UNATTENDED"),
    }


def test_there_is_no_proc(running):
    assert "/proc" in probe.attempt(running, "import os\nos.listdir('/proc')").ended
    assert "/proc" in probe.attempt(running, "open('/proc/self/maps')").ended


def test_of_the_package_all_but_the_answers_can_be_read(running):
    sheets = {path.name.partition("_")[2] for path in (REPOSITORY / "solutions").iterdir() if path.is_dir()}
    answers = {f"sheets/{name}.py" for name in sheets}
    paths = [path.relative_to(files.PACKAGE).as_posix() for path in sorted(files.PACKAGE.rglob("*.py"))]
    code = """
got = []
for path in bait[1]:
    try:
        open(f"{bait[0]}/{path}").close()
    except OSError:
        got.append(path)
got = " ".join(got)
"""
    attempted = probe.attempt(running, code, [str(files.PACKAGE), paths])
    assert set(attempted.got.split()) == answers


def test_a_submission_starts_with_an_empty_scratch_folder(running):
    fill = "import os\nopen('a', 'w').write('x')\nos.makedirs('b/c')\nos.symlink('/', 'd')\ngot = len(os.listdir('.'))"
    assert probe.attempt(running, fill).got == "3"
    assert probe.attempt(running, "import os\ngot = str(os.listdir('.'))").got == "[]"


@pytest.mark.parametrize(
    ("code", "limits", "ended"),
    [
        ("import mmap\nmmap.mmap(-1, 2**28)", {"address_space": 2**27}, "Cannot allocate memory"),
        ("import mmap\nmmap.mmap(-1, 2**26)", {"address_space": 2**27}, ""),
        (
            "[open('file', 'ab', buffering=0).write(bytes(800)) for _ in range(3)]",
            {"file_bytes": 1000},
            "File too large",
        ),
        ("kept = [open('/dev/null') for _ in range(30)]", {"open_files": 20}, "Too many open files"),
        ("kept = [open('/dev/null') for _ in range(30)]", {"open_files": 40}, ""),
        ("while True:\n    pass", {"cpu_seconds": 1}, "killed"),
    ],
    ids=["memory", "memory within", "file", "files", "files within", "cpu"],
)
def test_limits_hold(running, code, limits, ended):
    attempted = probe.attempt(running, code, seconds=60, **limits)
    assert ended in attempted.ended
    assert bool(ended) == bool(attempted.ended)


def test_limit_of_threads_holds(running):
    code = (
        "import threading, time\ncount = 0\nwhile count < 2000:\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    count += 1\n    got = count"
    )
    attempted = probe.attempt(running, code, threads=100)
    assert "can't start new thread" in attempted.ended
    assert 50 < int(attempted.got) <= 100


def test_only_the_last_lines_of_the_filter_tell_a_thread_from_a_process(running):
    code = "import os, threading\nthread = threading.Thread(target=print)\nthread.start()\nthread.join()\nos.fork()"
    assert "Operation not permitted" in probe.attempt(running, code).ended


def ended(processes):
    """Whether all processes end, waited for as long as it takes on a busy machine."""
    return psutil.wait_procs(processes, timeout=60)[1] == []


@pytest.mark.parametrize("name", BACKENDS)
def test_stop_ends_the_worker_and_its_children(name):
    running = open_sandbox(name).start(probe.__name__)
    probe.attempt(running, "")
    line = b'{"code": "while True: pass", "bait": "", "seconds": 1000, "limits": {}}\n'
    running.socket.sendall(line)
    outer = psutil.Process(running.process.pid)
    expected = {"bubblewrap": 3, "landlock": 1}[name]  # bwrap's init, the worker, the child; or the child alone
    while len(outer.children(recursive=True)) < expected:
        pass
    processes = [outer, *outer.children(recursive=True)]
    running.stop()
    assert ended(processes)
    assert running.scratch is None or not running.scratch.path.exists()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_worker_dies_with_the_grader(name):
    code = f"""
    import signal, psutil
    from gradcourse.grading.sandbox import open_sandbox, probe
    running = open_sandbox({name!r}).start(probe.__name__)
    probe.attempt(running, "")
    print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
    signal.pause()
    """
    grader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, encoding="utf-8", cwd=REPOSITORY
    )
    with grader:
        processes = [psutil.Process(int(number)) for number in grader.stdout.readline().split()]
        assert processes
        grader.send_signal(signal.SIGKILL)
    assert ended(processes)


def test_ctrl_c_is_for_the_grader():
    with open_sandbox("landlock").start(probe.__name__) as running:
        assert os.getpgid(running.process.pid) != os.getpgid(0)


def test_auto_takes_the_strongest():
    assert open_sandbox().name == "bubblewrap"


def test_auto_takes_the_next_where_there_are_no_namespaces(monkeypatch):
    monkeypatch.setattr("gradcourse.grading.sandbox.bubblewrap._options", lambda user: ["--no-such-option"])
    assert open_sandbox().name == "landlock"


def test_unsafe_is_given_only_by_name():
    sandbox = open_sandbox("unsafe")
    assert sandbox.name == "unsafe"
    with sandbox.start(probe.__name__) as running:
        assert probe.attempt(running, "got = open(bait).read()", __file__).got.startswith('"""The sandbox')


def test_without_any_sandbox_one_line_says_why_and_what_to_do(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(shutil, "which", lambda name, **options: None)
    monkeypatch.setattr(system_calls, "filter_program", missing)
    with pytest.raises(SandboxError) as raised:
        open_sandbox()
    text = str(raised.value)
    assert "\n" not in text
    for words in ("bubblewrap: bwrap is not installed", "landlock: pyseccomp is not installed", "container: docker is"):
        assert words in text
    assert "apt install bubblewrap" in text


def test_a_kernel_without_landlock_is_named(monkeypatch):
    monkeypatch.setattr(ruleset, "_CREATE_RULESET", 5000)  # a call that no kernel has
    with pytest.raises(OSError, match="Landlock: Function not implemented"):
        ruleset.version()


def test_an_unknown_name_is_refused():
    with pytest.raises(SandboxError, match="there is no sandbox 'jail'; there is auto, bubblewrap, landlock"):
        open_sandbox("jail")


@pytest.mark.parametrize("kind", [Bubblewrap, Landlock])
def test_a_sandbox_without_a_filter_is_not_used(kind, monkeypatch):
    monkeypatch.setattr(Sandbox, "program", lambda self: b"")
    with pytest.raises(SandboxError, match=f"{kind.name}: it does not hold: .*start a process"):
        open_sandbox(kind.name)


def test_a_sandbox_that_shows_a_secret_is_not_used(monkeypatch):
    rules = landlock._rules()
    rules["read"].append(tempfile.gettempdir())
    monkeypatch.setattr(landlock, "_rules", lambda: rules)
    monkeypatch.setattr(landlock, "another", lambda paths: None)  # another user has no way into one's own file
    with pytest.raises(SandboxError, match=r"it does not hold: .*read a file"):
        open_sandbox("landlock")


def test_address_space_in_use_is_what_the_kernel_says():
    code = (
        "import mmap, psutil\nfrom gradcourse.grading.sandbox.confine import address_space_in_use\n"
        "kept = mmap.mmap(-1, 2**30)\nprint(address_space_in_use(), psutil.Process().memory_info().vms)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], encoding="utf-8", cwd=REPOSITORY)
    found, said = map(int, printed.split())
    assert abs(found - said) <= 2**25


def test_scratch_is_emptied_however_deep_and_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(confine.setting, "scratch", str(tmp_path))
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (tmp_path / "link").symlink_to(outside)
    (tmp_path / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "closed" / "inner").chmod(0)
    (tmp_path / "closed").chmod(0)
    before = os.getcwd()
    os.chdir(tmp_path)
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(before)
    confine.empty_scratch()
    assert list(tmp_path.iterdir()) == []
    assert (outside / "kept").read_text() == "x"


def test_a_scratch_folder_that_grows_too_large_is_seen():
    scratch = Scratch()
    try:
        (scratch.path / "small").write_bytes(bytes(1000))
        assert scratch.is_small()
        for number in range(300):
            (scratch.path / str(number)).mkdir()
            (scratch.path / str(number) / "file").write_bytes(bytes(2**20))
        assert not scratch.is_small()
    finally:
        scratch.remove()
    assert not scratch.path.exists()


NESTED_DEEPER_THAN_PYTHON_RECURSES = """
import os
from gradcourse.grading.sandbox.scratch import Scratch
path = Scratch().path
print(path, flush=True)
os.chdir(path)
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
os.chmod(path / "d", 0)
"""


def test_what_a_killed_grader_left_is_removed_and_what_others_use_is_not():
    command = [sys.executable, "-c", NESTED_DEEPER_THAN_PYTHON_RECURSES]
    killed = subprocess.check_output(command, encoding="utf-8", cwd=REPOSITORY).strip()
    assert Path(killed).exists()
    used = Scratch()
    Scratch().remove()
    assert not Path(killed).exists()
    assert used.path.exists()
    used.remove()


def test_split_leaves_a_folder_out(tmp_path):
    for name in ("lib/a/x", "lib/site/closed/y", "lib/site/b/z", "other/w"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    whole, between = files.split([tmp_path / "lib", tmp_path / "other"], tmp_path / "lib/site/closed")
    assert {path.relative_to(tmp_path).as_posix() for path in whole} == {"lib/a", "lib/site/b", "other"}
    assert {path.relative_to(tmp_path).as_posix() for path in between} == {"lib", "lib/site"}


INSTALLED = """
import sys
from gradcourse.grading.sandbox import files, open_sandbox, probe
assert str(files.PACKAGE).startswith(sys.argv[2]), files.PACKAGE
assert any(path in files.PACKAGE.parents for path in files.outside_package())
code = "import gradcourse.training, tqdm\\nfrom gradcourse.sheets import question\\n"
code += "try:\\n    from gradcourse.sheets import sigmoid_tanh_vanishing as got\\n"
code += "except (ImportError, OSError):\\n    pass\\n"
code += "try:\\n    got = open(bait).read()\\nexcept OSError:\\n    pass"
with open_sandbox(sys.argv[1]).start(probe.__name__) as running:
    print(probe.attempt(running, code, str(files.PACKAGE / "sheets" / "sigmoid_tanh_vanishing.py"), seconds=60))
"""


@pytest.mark.parametrize("name", BACKENDS)
def test_a_package_in_site_packages_is_closed_too(name, tmp_path):
    import tqdm

    site = tmp_path / "site-packages"
    shutil.copytree(files.PACKAGE, site / "gradcourse", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(tqdm.__file__).parent, site / "tqdm")  # a library there, so that the folder has to be open
    tmp_path.chmod(0o755)
    printed = subprocess.check_output(
        [sys.executable, "-c", INSTALLED, name, str(tmp_path)],
        encoding="utf-8",
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert printed.strip() == "Attempted(got='', ended='')"


ENGINE = """#!{python}
# Stands for a container engine: does with bubblewrap what its options ask for.
import os, sys
arguments = sys.argv[1:]
if arguments[0] in ("info", "rm"):
    sys.exit()
if arguments[:2] == ["image", "inspect"]:
    sys.exit(1)
if arguments[0] == "import":
    assert not any(sys.stdin.buffer.read())
    sys.exit()
assert arguments.pop(0) == "run"
made = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--die-with-parent"]
mounts, flags = [], set()
while not (option := arguments.pop(0)).startswith("gradcourse-empty"):
    if option in ("--rm", "--read-only"):
        flags.add(option)
        continue
    value = arguments.pop(0)
    flags.add(option + "=" + value)
    if option == "--mount":
        parts = dict(part.partition("=")[::2] for part in value.split(","))
        assert parts["type"] == "bind"
        mounts.append((parts["target"], ["--ro-bind" if "readonly" in parts else "--bind", parts["source"]]))
    elif option == "--tmpfs":
        made += ["--tmpfs", value.partition(":")[0]]
    elif option == "--env":
        made += ["--setenv", *value.split("=", 1)]
assert {{"--read-only", "--network=none", "--cap-drop=ALL", "--security-opt=no-new-privileges"}} <= flags
for target, how in sorted(mounts):
    made += [*how, target]
made += ["--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/"]
os.execvpe("bwrap", ["bwrap", *made, "--", *arguments], {{"PATH": os.environ["PATH"]}})
"""


def test_container_is_asked_for_everything_it_must_close(tmp_path, monkeypatch):
    """No engine runs here: a stand-in does what the command line says."""
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(python=sys.executable))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sandbox = open_sandbox("container")
    assert sandbox.name == "container"
    with sandbox.start(probe.__name__) as running:
        assert probe.attempt(running, "import os\ngot = sorted(os.listdir('/'))").got
        home = running.scratch.path
        assert oct(home.stat().st_mode & 0o777) == oct(0o700)
        assert list((home / "channel").iterdir()) == []  # nobody else can connect
    assert not home.exists()


def test_container_that_does_not_start_says_why(tmp_path, monkeypatch):
    engine = tmp_path / "docker"
    engine.write_text('#!/bin/sh\n[ "$1" != run ] || { echo "docker: no space left" >&2; exit 125; }\n')
    engine.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(engine) if name == "docker" else None)
    with pytest.raises(SandboxError, match="did not start: docker: no space left"):
        Container().start(probe.__name__)
