"""Folders outside a sandbox that a submission writes to: made, measured, removed, those of dead graders too."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

_PREFIX = "gradcourse-scratch-"
_MOST_SIZE, _MOST_ENTRIES = 256 * 2**20, 20_000
_LEAST_ROOM = 48 * 2**20


class Scratch:
    """A folder that is locked as long as its grader lives.

    Attributes:
        path: of the folder.
    """

    def __init__(self):
        home = _home()
        _remove_stale(home)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self):
        """Remove it."""
        _remove(self.path)
        os.close(self._lock)  # not before: a grader that starts now would remove it at the same time

    def is_small(self):
        """Whether it is within its size; what can't be looked at counts as too large."""
        size, entries, left = 0, 0, [str(self.path)]
        try:
            while left and size <= _MOST_SIZE and entries <= _MOST_ENTRIES:
                for entry in os.scandir(left.pop()):
                    entries += 1
                    with contextlib.suppress(FileNotFoundError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
        except FileNotFoundError:  # deleted meanwhile
            return True
        except OSError:
            return False
        return size <= _MOST_SIZE and entries <= _MOST_ENTRIES


def _home():
    """Return where scratch folders are made: in memory if there is room, which is faster."""
    with contextlib.suppress(OSError):
        room = os.statvfs("/dev/shm")
        if os.access("/dev/shm", os.W_OK) and room.f_bavail * room.f_frsize > _LEAST_ROOM:
            return "/dev/shm"
    return tempfile.gettempdir()


def _remove_stale(home):
    """Remove the folders of graders that were killed: nobody holds their locks."""
    for path in Path(home).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(lock)


def _remove(folder):
    """Remove a folder that a submission has filled, however closed and however deep: shutil's way recurses."""
    remove = ["rm", "-rf", "--", folder]
    subprocess.run(remove, check=False, capture_output=True)
    if folder.exists():
        subprocess.run(["chmod", "-R", "u+rwX", "--", folder], check=False, capture_output=True)
        subprocess.run(remove, check=False, capture_output=True)
