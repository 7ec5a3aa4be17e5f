"""Sandboxes for submissions, the strongest that can be had here: ``open_sandbox().start()`` gives a worker in one."""

import contextlib
import importlib
import subprocess
import tempfile

from gradcourse.grading.sandbox import probe
from gradcourse.grading.sandbox.running import WORKER, Running, Sandbox, SandboxError, launch, python
from gradcourse.grading.sandbox.scratch import Scratch

__all__ = ["KINDS", "Running", "Sandbox", "SandboxError", "open_sandbox"]

KINDS = {"bubblewrap": "Bubblewrap", "landlock": "Landlock", "container": "Container"}
"""The strongest first; each name is a module of this package and its class."""

_MUST_FAIL = """
import os, socket
def fork():
    if os.fork() == 0:
        os._exit(0)
attempts = {
    "read a file": lambda: open(bait).close(),
    "write to the root": lambda: open("/gradcourse-probe", "x").close(),
    "start a process": fork,
    "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
}
done = []
for name, attempt in attempts.items():
    try:
        attempt()
        done.append(name)
    except OSError:
        pass
got = ", ".join(done)
"""
_ADVICE = (
    "Install bubblewrap (sudo apt install bubblewrap), or a kernel with Landlock (5.13 or later), or Docker or Podman; "
    'on a machine that holds nothing of value, and for notebooks that you have read, ask for "unsafe" by name.'
)


class Unsafe(Sandbox):
    """No sandbox: a process like any other, which can read and write what you can."""

    name = "unsafe"

    def start(self, module=WORKER):
        scratch = Scratch()
        return launch(lambda channel: python(module, channel, b"", scratch.path), scratch.path, scratch)


def open_sandbox(name="auto"):
    """Return a sandbox that was seen to hold on this machine.

    Args:
        name: "auto" for the strongest that can be had here, or one of KINDS, or "unsafe".

    Raises:
        SandboxError: when it can't be had; the text is one line that says why and how to get one.
    """
    if name == "unsafe":
        return Unsafe()
    if name not in ("auto", *KINDS):
        raise SandboxError(f"there is no sandbox {name!r}; there is auto, {', '.join(KINDS)} and unsafe")
    reasons = []
    for kind in KINDS if name == "auto" else [name]:
        try:
            return _probed(_make(kind))
        except SandboxError as error:
            reasons.append(f"{kind}: {error}")
    raise SandboxError(f"no sandbox can be had here. {'; '.join(reasons)}. {_ADVICE}")


def _make(kind):
    return getattr(importlib.import_module(f"{__name__}.{kind}"), KINDS[kind])()


def _probed(sandbox):
    """Return a sandbox if a worker starts in it and a confined child of that worker can do nothing that it must not."""
    with (
        tempfile.NamedTemporaryFile("w", prefix="gradcourse-probe-") as secret,
        sandbox.start(probe.__name__) as running,
    ):
        try:
            done = probe.attempt(running, _MUST_FAIL, secret.name)
        except OSError:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(1)
            raise SandboxError(running.complaint()) from None
    if done.got or done.ended:
        raise SandboxError(f"it does not hold: a confined process {done.ended or 'could ' + done.got}")
    return sandbox
