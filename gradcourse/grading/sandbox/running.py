"""What every kind of sandbox has in common, seen from outside: how a worker is started in it, and ended."""

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import BinaryIO

from gradcourse.grading.sandbox import files, inside
from gradcourse.grading.sandbox.scratch import Scratch

WORKER = "gradcourse.grading.worker"

_MOST_LOG = 2000  # characters of what a worker wrote, in a message


class SandboxError(Exception):
    """A sandbox can't be had, or did not start; the text is one line that says why and what to do."""


@dataclass
class Running:
    """A worker in its sandbox.

    Attributes:
        socket: the grader's end of a stream socket (AF_UNIX: it can carry file descriptors) to the worker.
        process: the outermost process; the rest ends with it.
        scratch: its Scratch folder, if that lies outside the sandbox; removed in the end.
        remove: a command that ends what does not end with the process.
    """

    socket: socket.socket
    process: subprocess.Popen
    log: BinaryIO
    scratch: Scratch | None = None
    remove: tuple[str, ...] = ()

    def alive(self):
        """Whether the worker runs."""
        return self.process.poll() is None

    def complaint(self):
        """Return the end of what the worker wrote to standard error, as one line."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return (lines[-1] if lines else "it wrote no error")[-_MOST_LOG:]

    def stop(self):
        """End the worker and all its children, and remove what it left."""
        self.socket.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()
        if self.remove:
            subprocess.run(self.remove, capture_output=True, check=False)
        self.log.close()
        if self.scratch:
            self.scratch.remove()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.stop()


class Sandbox:
    """A kind of sandbox.

    Attributes:
        name: of the kind, as it is asked for and stored in each result.
    """

    name = ""

    def start(self, module=WORKER):
        """Start a worker.

        Args:
            module: the worker; it is told the number of its end of the socket as its only argument.

        Returns:
            The Running worker, which may still be loading.

        Raises:
            SandboxError: when nothing could be started.
        """
        raise NotImplementedError

    def program(self):
        """Return the filter of system calls.

        Raises:
            SandboxError: when it can't be made here.
        """
        from gradcourse.grading.sandbox.system_calls import filter_program

        try:
            return filter_program()
        except ImportError:
            remedy = f'{sys.executable} -m pip install "gradcourse[grading]"'
            raise SandboxError(f"pyseccomp is not installed: {remedy}") from None
        except (OSError, RuntimeError) as error:
            raise SandboxError(f"the system's libseccomp can't be used ({error}): install libseccomp2") from None


def environment(scratch):
    """Return the whole environment of a worker: no variable of the grader's is in it."""
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    folders = {"HOME": str(scratch), "TMPDIR": str(scratch), "MPLCONFIGDIR": f"{scratch}/.matplotlib"}
    names = {"USER": "student", "LOGNAME": "student"}  # there is no /etc/passwd to look them up
    course = {"GRADCOURSE_UNATTENDED": "1"}  # nothing is kept of what a submission checks
    return {"LANG": "C.UTF-8", "PATH": "/usr/bin", "MPLBACKEND": "agg", **names, **one_thread, **folders, **course}


def python(module, channel, program, scratch, **more):
    """Return the command that starts a worker inside a sandbox."""
    told = {
        "module": module,
        "channel": channel,
        "libraries": list(map(str, files.library_folders())),
        "program": base64.b64encode(program).decode(),
        "scratch": str(scratch),
        **more,
    }
    return [sys.executable, "-I", "-B", "-X", "utf8", "-c", inside.BOOT, str(files.PACKAGE), json.dumps(told)]


def launch(command_for, folder, scratch=None):
    """Start a process that holds one end of a socket pair.

    Args:
        command_for: called with the number of that end, returns the command.
        folder: path of the scratch folder inside the sandbox.
        scratch: the Scratch, if it lies out here.

    Raises:
        SandboxError: when the command can't be started.
    """
    ours, theirs = socket.socketpair()
    log = tempfile.TemporaryFile()  # noqa: SIM115 (Running closes it)
    with theirs:
        command = command_for(theirs.fileno())
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment(folder),
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the grader
                cwd="/",
            )
        except OSError as error:
            ours.close()
            log.close()
            raise SandboxError(f"{command[0]} can't be started: {error.strerror}") from None
    return Running(ours, process, log, scratch)
