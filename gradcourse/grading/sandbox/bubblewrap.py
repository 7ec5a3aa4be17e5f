"""The strongest sandbox: namespaces of its own by bubblewrap. Nothing but Python is mounted, nothing can be written."""

import os
import shutil

from gradcourse.grading.sandbox import files
from gradcourse.grading.sandbox.running import WORKER, Sandbox, SandboxError, launch, python
from gradcourse.grading.sandbox.users import another

_SCRATCH = "/scratch"  # not /tmp: a course may lie there
_MOST_SCRATCH = 256 * 2**20  # bytes; it lies in memory
_NOBODY = "65534"
_TO_CHANGE_USER = ("CAP_SETUID", "CAP_SETGID", "CAP_DAC_READ_SEARCH")  # dropped with it


class Bubblewrap(Sandbox):
    """Namespaces of its own, made by bubblewrap: as root or as a plain user."""

    name = "bubblewrap"

    def start(self, module=WORKER):  # noqa: D102
        bwrap = shutil.which("bwrap")
        if not bwrap:
            raise SandboxError("bwrap is not installed: sudo apt install bubblewrap (dnf, pacman and apk have it too)")
        program = self.program()
        user = another([*files.outside_package(), *files.of_package(), *files.executables()])

        def command(channel):
            return [
                *_soft_target(),
                bwrap,
                *_options(user),
                "--",
                *python(module, channel, program, _SCRATCH, user=user),
            ]

        return launch(command, _SCRATCH)


def _soft_target():
    """Begin a command so that the kernel, out of memory, ends the worker and not the grader."""
    choom = shutil.which("choom")
    return [choom, "-n", "1000", "--"] if choom else []


def _options(user):
    """Return bubblewrap's options. The order counts: what comes later lies on top, and the root is closed last."""
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    options += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if user is None:
        options += ["--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY]
    else:  # root can do without a namespace of users: the worker becomes another user, whose threads can be counted
        options += [part for name in _TO_CHANGE_USER for part in ("--cap-add", name)]
    for path in files.outside_package():
        options += ["--ro-bind", str(path), str(path)]
    options += ["--tmpfs", str(files.PACKAGE)]
    for path in (*files.of_package(), *files.executables()):
        options += ["--ro-bind", str(path), str(path)]
    for device in filter(os.path.exists, files.DEVICES):
        options += ["--dev-bind", device, device]
    options += ["--perms", "0777", "--size", str(_MOST_SCRATCH), "--tmpfs", _SCRATCH]
    return [*options, "--chdir", _SCRATCH, "--remount-ro", str(files.PACKAGE), "--remount-ro", "/"]
