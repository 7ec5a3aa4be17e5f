"""What lies around for attacks: a secret, files that anyone may write, listening sockets, a process to end."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from gradcourse.grading.sandbox import files


class Bait:
    """What lies around for attacks, and shows what they have done.

    Attributes:
        told: what an attack is told of it.
    """

    def __init__(self):
        self._word = f"gradcourse-bait-{secrets.token_hex(8)}"
        self._folder = Path(tempfile.mkdtemp(prefix="gradcourse-bait-"))
        self._places = [str(self._folder), *_places()]
        self._sockets = {}

    def __enter__(self):
        os.chmod(self._folder, 0o777)  # the sandbox must hold where modes of files do not
        self._before = self._lay_out()
        os.environ["GRADCOURSE_BAIT"] = self._word
        self._process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", self._word])
        self.told = {
            "word": self._word,
            "folder": str(self._folder),
            "secret": str(self._folder / "secret"),
            "victim": str(self._folder / "victim"),
            "private": [str(path) for path in _private()],
            "modules": [f"gradcourse.sheets.{path.stem}" for path in _answers()],
            "places": self._places,
            "process": self._process.pid,
            **self._listen(),
        }
        return self

    def __exit__(self, *exception):
        self._process.kill()
        self._process.wait()
        os.environ.pop("GRADCOURSE_BAIT", None)
        for sock in self._sockets.values():
            sock.close()
        for place in self._places:
            with contextlib.suppress(OSError):
                Path(place, self._word).unlink()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lay_out(self):
        for name in ("secret", "victim"):
            path = self._folder / name
            path.write_text(self._word)
            path.chmod(0o666)
        return self._state()

    def _state(self):
        """Return names, modes, times and contents of the folder."""
        found = {}
        for path in sorted(self._folder.iterdir()):
            about = path.lstat()
            content = path.read_text() if path.is_file() else ""
            found[path.name] = about.st_mode, about.st_mtime_ns, content
        return {name: known for name, known in found.items() if name not in ("unix", "datagram")}

    def _listen(self):
        unix, datagram = str(self._folder / "unix"), str(self._folder / "datagram")
        kinds = {
            "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "unix": (socket.AF_UNIX, socket.SOCK_STREAM, unix),
            "datagram": (socket.AF_UNIX, socket.SOCK_DGRAM, datagram),
            "abstract": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self._word}"),
        }
        for name, (family, kind, address) in kinds.items():
            self._sockets[name] = listening = socket.socket(family, kind)
            listening.bind(address)
            if kind == socket.SOCK_STREAM:
                listening.listen()
            listening.setblocking(False)
        for path in (unix, datagram):
            os.chmod(path, 0o777)
        ports = {name: self._sockets[name].getsockname()[1] for name in ("tcp", "udp")}
        return ports | {"unix": unix, "datagram": datagram}

    def harm(self):
        """Return what attacks have done to it, in words; empty if nothing."""
        harm = [f"{name} was reached" for name, listening in self._sockets.items() if _was_reached(listening)]
        if self._state() != self._before:
            harm.append("files were changed")
        harm += [f"a file was made in {place}" for place in self._places if Path(place, self._word).exists()]
        if self._process.poll() is not None:
            harm.append("a process was ended")
        return ", ".join(harm)


def _was_reached(listening):
    with contextlib.suppress(BlockingIOError):
        if listening.type == socket.SOCK_DGRAM:
            listening.recv(16)
        else:
            listening.accept()[0].close()
        return True
    return False


def _places():
    """List folders in which a submission might make files."""
    package = Path(__file__).resolve().parents[1]
    return [*("/", "/tmp", "/var/tmp", "/dev/shm", "/run", "/usr/lib", "/etc"), str(Path.home()), str(package)]


def _answers():
    sheets = files.PACKAGE / "sheets"
    return [path for path in sorted(sheets.glob("*.py")) if path.name not in files.SHEETS_OPEN]


def _private():
    """List files of the course, and of this machine, that no submission may read."""
    package = Path(__file__).resolve().parents[1]
    course = package.parent
    found = [*_answers(), *course.glob("solutions/*/*"), *course.glob("tests/*.py"), course / ".git" / "HEAD"]
    found += [*Path.home().glob(".bash*"), *Path.home().glob(".ssh/*")]
    return [path for path in found if path.is_file()]
