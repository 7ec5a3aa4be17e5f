"""The sandbox where there is a container engine: Docker or Podman, with an empty image and the same folders mounted."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile

from gradcourse.grading.sandbox import files, inside
from gradcourse.grading.sandbox.running import WORKER, Running, Sandbox, SandboxError, environment, python
from gradcourse.grading.sandbox.scratch import Scratch

_ENGINES = ("docker", "podman")
_IMAGE = "gradcourse-empty:1"
_EMPTY_TAR = bytes(10240)
_CHANNEL, _SCRATCH = "/channel", "/scratch"
_MOST_SCRATCH = "256m"
_NOBODY = "65534:65534"
_SECONDS = 60  # until an engine answers, until a worker connects


class Container(Sandbox):
    """A container without network, of an image without files."""

    name = "container"

    def start(self, module=WORKER):  # noqa: D102
        engine = _engine()
        program = self.program()
        _make_image(engine)
        name = f"gradcourse-{secrets.token_hex(6)}"
        home = Scratch()  # closed to others, who could connect
        channel = home.path / "channel"
        channel.mkdir(mode=0o755)
        command = python(module, f"{_CHANNEL}/worker", program, _SCRATCH)
        command = [engine, "run", *_options(engine, name, channel), _IMAGE, *command]
        return _started(command, channel / "worker", home, (engine, "rm", "--force", name))


def _engine():
    """Return the path of a container engine that answers."""
    reasons = []
    for name in _ENGINES:
        path = shutil.which(name)
        if not path:
            reasons.append(f"{name} is not installed")
            continue
        try:
            asked = subprocess.run([path, "info"], capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            reasons.append(f"{name} does not answer")
            continue
        if asked.returncode == 0:
            return path
        lines = asked.stderr.decode(errors="replace").strip().splitlines()
        reasons.append(f"{name} does not answer: {lines[-1] if lines else 'it says nothing'}")
    raise SandboxError(", ".join(reasons))


def _make_image(engine):
    """Make the empty image, if it is not there: nothing is downloaded."""
    if subprocess.run([engine, "image", "inspect", _IMAGE], capture_output=True, check=False).returncode == 0:
        return
    made = subprocess.run([engine, "import", "-", _IMAGE], input=_EMPTY_TAR, capture_output=True, check=False)
    if made.returncode != 0:
        raise SandboxError(f"{engine} can't import an empty image: {made.stderr.decode(errors='replace').strip()}")


def _options(engine, name, channel):
    """Return the options that close a container: what it could write to outlives a submission."""
    options = ["--rm", "--name", name, "--network", "none", "--ipc", "none", "--read-only", "--user", _NOBODY]
    options += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
    options += ["--ulimit", f"nofile={inside.MOST_FILES}:{inside.MOST_FILES}", "--ulimit", "nproc=1024:1024"]
    options += ["--pids-limit", "512"]
    options += ["--tmpfs", f"{_SCRATCH}:rw,mode=1777,size={_MOST_SCRATCH}"]
    if os.path.basename(engine) == "podman":  # it has folders that can be written to in a read-only container
        options += ["--read-only-tmpfs=false"]
    options += ["--workdir", "/", "--log-driver", "none", "--attach", "stderr"]
    whole, _ = files.split(files.outside_package(), files.PACKAGE)
    for path in (*whole, *files.of_package(), *files.executables()):
        options += ["--mount", f"type=bind,source={os.path.realpath(path)},target={path},readonly"]
    options += ["--mount", f"type=bind,source={channel},target={_CHANNEL}"]
    for variable, value in environment(_SCRATCH).items():
        options += ["--env", f"{variable}={value}"]
    return options


def _started(command, path, home, remove):
    """Start a container and wait until its worker has connected."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 (Running closes it)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        path.chmod(0o777)  # the worker is another user; nobody else gets into `home`
        listening.listen(1)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )
        connection = _accept(listening, process)
    path.unlink()
    running = Running(connection or socket.socket(), process, log, home, remove)
    if connection is None:
        complaint = running.complaint()
        running.stop()
        raise SandboxError(f"the container did not start: {complaint}")
    return running


def _accept(listening, process):
    """Return the worker's connection, or None when its container has ended or says nothing."""
    listening.settimeout(0.1)
    for _ in range(10 * _SECONDS):
        with contextlib.suppress(TimeoutError):
            return listening.accept()[0]
        if process.poll() is not None:
            break
    return None
