"""What grading leaves on disk: one JSON file per submission, under a safe name, written in one step."""

import contextlib
import hashlib
import json
import os
import re
import sys
import unicodedata
from numbers import Real
from pathlib import Path

RESULTS = "results"
"""Folder of a report with one JSON file per submission."""

_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")  # no file on Windows can have such a name
_HASHED = re.compile(r"-[0-9a-f]{16}$")


class ReportError(ValueError):
    """What the instructor has to mend, in one line."""


def safe_name(student):
    """Return a file name without extension for a student: ASCII, no separators, different for different students.

    A name that is safe stays; any other loses what is not and gets a fingerprint of the whole. So does one that only
    looks as if it had a fingerprint: nobody can choose a name that meets another student's.
    """
    plain = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9_.@+-]+", "_", plain).strip("._-")[:60]
    if kept and kept == student and not _DEVICE.match(kept) and not _HASHED.search(kept):
        return student
    return _with_fingerprint(kept, student)


def _with_fingerprint(kept, student):
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{'student' if _DEVICE.match(kept) or not kept else kept}-{digest[:16]}"


def stem(folder, student):
    """Return the file name, without extension, of a student's files in a report.

    It differs from `safe_name` only where the file system takes that of another student for it (Ada and ada).
    """
    name = safe_name(student)
    owner = _extra(Path(folder) / RESULTS / f"{name}.json", "student")
    return name if owner in (None, student) else _with_fingerprint(name, student)


def save(folder, record):
    """Write the JSON file of one record; return its path.

    Raises:
        ReportError: the record is none, the report is of another sheet, or the file can't be written.
    """
    if wrong := _fault(record):
        raise ReportError(f"this is no record of grading: {wrong}")
    extra = record["extra_data"]
    _check_sheet(Path(folder), extra["slug"])
    path = Path(folder) / RESULTS / f"{stem(folder, extra['student'])}.json"
    write_whole(path, json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return path


def _check_sheet(folder, slug):
    """Refuse to mix two sheets in one report; one file tells which sheet it is of."""
    first = next(_files(folder), None)
    found = _extra(first, "slug") if first else None
    if found not in (None, slug):
        raise ReportError(f"{folder} holds the report of {found}, not of {slug}: choose another folder")


def _extra(path, name):
    """Return an entry of a record's extra_data; None where the file can't be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        return json.loads(path.read_bytes())["extra_data"][name]
    return None


def _files(folder):
    """Yield the paths of the JSON files of a report, in no order."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder / RESULTS) as entries:
        yield from (Path(entry.path) for entry in entries if entry.name.endswith(".json") and entry.name[0] != ".")


def read(folder, say=None):
    """Return the records of a report, sorted by student; none where there is no report.

    Args:
        folder: the report.
        say: called with a line for each file that can't be read as a record and is left out; None: standard error.

    Raises:
        ReportError: the folder can't be read.
    """
    records = []
    try:
        for path in sorted(_files(Path(folder))):
            record, wrong = _load(path)
            if wrong:
                (say or _to_standard_error)(f"{path} is damaged and left out: {wrong}; grade again to replace it")
            else:
                records.append(record)
    except OSError as error:
        raise ReportError(f"can't read {folder}: {error.strerror or error}") from None
    return sorted(records, key=lambda record: record["extra_data"]["student"])


def _load(path):
    """Return a record and "", or None and what is wrong with the file."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None, "it is not JSON" if path.stat().st_size else "it is empty"
    wrong = _fault(record)
    return (None, wrong) if wrong else (record, "")


def _to_standard_error(line):
    print(line, file=sys.stderr)


def _fault(record):
    """Return why this is not a record; empty if it is one."""
    if not isinstance(record, dict):
        return "it is not an object"
    extra, tests = record.get("extra_data"), record.get("tests")
    if not isinstance(extra, dict) or not all(isinstance(extra.get(name), str) for name in ("student", "slug")):
        return "extra_data names no student and sheet"
    if not isinstance(tests, list) or not all(
        isinstance(test, dict) and isinstance(test.get("name"), str) for test in tests
    ):
        return "it has no list of tests with names"
    numbers = [part.get(name) for part in (record, *tests) for name in ("score", "max_score")]
    if not all(isinstance(number, Real) and abs(number) < 1e9 for number in numbers):  # False for NaN
        return "a score is not a number"
    return ""


def write_whole(path, content):
    """Write text or bytes so that the file is never seen half written.

    Raises:
        ReportError: it can't be written.
    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    part = path.with_name(f".{path.name[:80]}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path):
    """Turn what the system says about writing a file into one line."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise ReportError(
            f"can't write {where}: {error.strerror or error}; make room there or choose another place"
        ) from None
