"""The learner's own record: an append-only file of events in her data folder, which nothing sends anywhere.

One JSON object a line. A line that a crash tore is skipped, and the next event starts a line of its own.
"""

import contextlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

VERSION = 1
FOLDER = "GRADCOURSE_DATA_DIR"  # this environment variable names another folder
UNATTENDED = "GRADCOURSE_UNATTENDED"  # set where programs run notebooks
_MARK = "gradcourse"  # the first key of each line: the version that wrote it
_START = f'{{"{_MARK}":'.encode()
_PATIENCE = 1.0  # seconds to wait for another process; it needs less than a millisecond
_UNUSABLE = (OSError, ValueError, TypeError, RuntimeError)  # no home, no room, no permission, facts that are no data


class _Kernel:
    """What this process has done already."""

    def __init__(self):
        self.told = False
        self.examined = set()  # files


_kernel = _Kernel()


def unattended():
    """Whether a program runs the notebook, as `gradcourse build`, nbval and the grader do: then nothing is kept."""
    return os.environ.get(UNATTENDED, "0") not in ("", "0")


def path():
    """Return where the record is kept.

    Raises:
        RuntimeError: the user has no home folder.
    """
    folder = os.environ.get(FOLDER) or platformdirs.user_data_dir("gradcourse", appauthor=False)
    return Path(folder).expanduser() / "journal.jsonl"


def note(kind, id, **facts):
    """Append one event. Never raises; what goes wrong is said in one line, once in a kernel.

    Args:
        kind: "prediction", "reveal", "check", "hint" or "explore".
        id: of the prediction, the question or the explorer.
        **facts: numbers, strings, None, and lists of them; never a learner's code.
    """
    if unattended():
        return
    try:
        _append([_line({_MARK: VERSION, "kind": kind, "id": id, "at": _now(), **facts})])
    except _UNUSABLE as error:
        _tell_unusable(error)


def read():
    """Return the events in the order in which they were kept: dicts with kind, id, at and the facts."""
    if unattended():
        return []
    try:
        with _locked(path()):
            return [event for event, _ in _examine(path())]
    except _UNUSABLE as error:
        _tell_unusable(error)
        return []


def _now():
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _line(event):
    return json.dumps(event, default=_plain).encode()


def _plain(value):
    """Return what JSON can hold for a NumPy number or array, or a tensor."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


# -- writing ----------------------------------------------------------------------------------------------------------


def _append(lines):
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked(file):
        if file not in _kernel.examined:
            _examine(file)
            _kernel.examined.add(file)
        _write(file, lines)


def _write(file, lines):
    """Append lines in one call of the system, so that a process that dies leaves all of them or a torn last one."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        data = b"".join(line + b"\n" for line in lines)
        data = data if _ends_a_line(descriptor) else b"\n" + data
        if os.write(descriptor, data) < len(data):
            raise OSError(None, "no room for all of it", str(file))
    finally:
        os.close(descriptor)


def _ends_a_line(descriptor):
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return True
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) == b"\n"


@contextlib.contextmanager
def _locked(file):
    """Keep other processes out: on Windows and on network disks two appends at once could mix.

    A process that dies gives its lock back. Where a folder can't be written or its disk knows no locks, it goes on
    without one: on a local disk of Linux or macOS one append is whole by itself.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            descriptor = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, descriptor)
            _wait_for(descriptor)
        yield


def _wait_for(descriptor):
    end = time.monotonic() + _PATIENCE
    while not _try_lock(descriptor) and time.monotonic() < end:
        time.sleep(0.005)


if os.name == "nt":
    import msvcrt

    def _try_lock(descriptor):
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


# -- reading ----------------------------------------------------------------------------------------------------------


def _examine(file):
    """Return the events of a file with their lines; set it aside if it is damaged or of a newer version."""
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    parsed = [(_event(line), line) for line in lines if line.strip()]
    good = [(event, line) for event, line in parsed if _is_event(event)]
    newer = any(isinstance(event, dict) and _version(event) > VERSION for event, _ in parsed)
    foreign = any(event is None and not _is_torn(line) for event, line in parsed)
    if newer or foreign:
        try:
            _set_aside(file, "newer" if newer else "damaged", [line for _, line in good])
        except OSError as error:  # a folder that can only be read
            _tell_unusable(error)
    return good


def _event(line):
    """Return what a line holds; None if it is no line of a record."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and _version(event) else None


def _version(event):
    version = event.get(_MARK)
    return version if type(version) is int and version > 0 else 0


def _is_event(event):
    return (
        event is not None
        and _version(event) <= VERSION
        and all(isinstance(event.get(key), str) for key in ("kind", "id", "at"))
    )


def _is_torn(line):
    """Whether a line is the beginning of one of ours, as a crash or a full disk leaves it."""
    return line.startswith(_START) or _START.startswith(line)


def _set_aside(file, why, lines):
    """Rename a file, and go on with the lines of it that can be read."""
    number = 1
    while (aside := file.with_name(f"journal.{why}{number}.jsonl")).exists():
        number += 1
    os.rename(file, aside)
    about = "was written by a newer version of the course" if why == "newer" else "has lines that are no record"
    _tell(f"your progress file {about}: it is kept as {aside}, and what could be read of it goes on")
    if lines:
        _write(file, lines)


# -- telling ----------------------------------------------------------------------------------------------------------


def _tell_unusable(error):
    where = "your home folder"
    with contextlib.suppress(*_UNUSABLE):
        where = path().parent
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    _tell(
        f"your progress can't be kept in {where} ({reason}): the lesson goes on without; "
        f"make room there, or set {FOLDER} to a folder that you can write to"
    )


def _tell(text):
    """Print a line, once in a kernel; to standard output, since nbgrader takes points for standard error."""
    if not _kernel.told:
        _kernel.told = True
        print(f"gradcourse: {text}")
