"""Reading submissions: folders and zips as learning platforms give them, notebooks in any state."""

import json
import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

MOST_BYTES = 100 * 2**20
"""Of one notebook."""

_MOST_FILES = 20_000
_CANVAS = re.compile(r"^(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_(?P<attempt>\d+)_(?P<file>.+)$")
_MOODLE = re.compile(r"^(?P<name>.+)_(?P<id>\d+)_assignsubmission_file_?$")


@dataclass(frozen=True)
class Submission:
    """A notebook that somebody handed in.

    Attributes:
        student: who, as the name of the folder or file tells.
        file: where it was found, for people.
        path: of the notebook, or of the zip that holds it.
        member: its name in the zip; empty outside one.
        lms_id: the learning platform's number of the student; empty if the name has none.
    """

    student: str
    file: str
    path: Path
    member: str = ""
    lms_id: str = ""

    def read(self):
        """Return its bytes.

        Raises:
            Unreadable: when it is no plain file or too large.
        """
        try:
            return _from_zip(self.path, self.member) if self.member else _from_file(self.path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise Unreadable(f"the file can't be read: {error}") from None


@dataclass(frozen=True)
class CodeCell:
    """A code cell.

    Attributes:
        id: its nbgrader grade_id, else its own id, else empty.
        source: its text.
    """

    id: str
    source: str


class Unreadable(Exception):
    """A notebook that can't be read; the text says why, for the student."""


def find(submitted, slug):
    """List the submissions for a sheet, sorted by student.

    Args:
        submitted: a folder of ``<student>/<slug>.ipynb``, a flat folder of notebooks or zips whose names carry the
            student (Canvas, Moodle), or a zip of either.
        slug: of the sheet.

    Returns:
        The Submissions, one for each student (the last attempt where names tell), and notes about what was left out.

    Raises:
        ValueError: when there is nothing to grade.
    """
    submitted = Path(submitted)
    if not submitted.exists():
        raise ValueError(f"{submitted} does not exist: give a folder of submissions or a zip")
    listed = _in_zip(submitted) if submitted.is_file() else _in_folder(submitted)
    found, notes = {}, []
    for path, member, name, is_link in listed:
        problem = _refused(name, is_link)
        if problem:
            notes.append(f"{name} was left out: {problem}")
            continue
        submission, attempt = _owner(path, member, name, slug)
        who = submission.student, submission.lms_id
        before = found.get(who)
        if before:
            notes.append(
                f"{submission.student} has several notebooks: {submission.file} and {before[0].file}; one is taken"
            )
        if not before or attempt >= before[1]:
            found[who] = submission, attempt
    if not found:
        raise ValueError(
            f"{submitted} holds no notebook: it needs <student>/{slug}.ipynb, or notebooks named by student"
        )
    names = Counter(student for student, _ in found)
    taken = [
        submission if names[student] == 1 else replace(submission, student=f"{student} {number}".strip())
        for (student, number), (submission, _) in sorted(found.items())
    ]
    return taken, notes


def _in_folder(folder):
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if path.suffix == ".ipynb" and not hidden:
            yield path, "", name, any(part.is_symlink() for part in (path, *path.parents) if folder in part.parents)


def _in_zip(path):
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path} is neither a folder nor a zip that can be read: {error}") from None
    if len(members) > _MOST_FILES:
        raise ValueError(f"{path} holds {len(members)} files, and {_MOST_FILES} are the most: unzip it and look")
    for member in members:
        name = member.filename.replace("\\", "/")
        hidden = [part for part in PurePosixPath(name).parts if part.startswith(".") and part != ".."]
        if name.endswith(".ipynb") and not hidden and not name.startswith("__MACOSX"):
            yield path, member.filename, name, stat.S_ISLNK(member.external_attr >> 16)


def _refused(name, is_link):
    """Return why a file is not taken; empty if it is."""
    if is_link:
        return "it is a symbolic link"
    return "its name leads out of the folder" if ".." in PurePosixPath(name).parts or name.startswith("/") else ""


def _owner(path, member, name, slug):
    """Return the Submission, and what is larger for the one to take where a student has several."""
    parts = PurePosixPath(name).parts
    folders = list(parts[:-1])
    stem = parts[-1].removesuffix(".ipynb")
    moodle = next((match for match in map(_MOODLE.match, folders) if match), None)
    canvas = _CANVAS.match(stem)
    named = [folder for folder in folders if folder != slug]
    number, attempt = "", 0
    if moodle:
        student, number = moodle["name"], moodle["id"]
    elif canvas:
        student, number, attempt = canvas["name"], canvas["id"], int(canvas["attempt"])
    else:
        student = named[-1] if named else stem.replace(slug, "").strip("_- ") or stem
    return Submission(student.strip(), name, path, member, number), (stem == slug, attempt)


def _from_file(path):
    if not path.is_file():
        raise Unreadable("there is a folder in place of the notebook" if path.is_dir() else "it is not a plain file")
    if path.stat().st_size > MOST_BYTES:
        raise Unreadable(f"the notebook is larger than {MOST_BYTES >> 20} MB: clear its outputs")
    return path.read_bytes()


def _from_zip(path, member):
    with zipfile.ZipFile(path) as archive, archive.open(member) as opened:
        content = opened.read(MOST_BYTES + 1)  # what the zip says of its size is not to be trusted
    if len(content) > MOST_BYTES:
        raise Unreadable(f"the notebook is larger than {MOST_BYTES >> 20} MB: clear its outputs")
    return content


def code_cells(content):
    """Return the code cells of a notebook, whatever state it is in.

    Args:
        content: the bytes of the file.

    Returns:
        The CodeCells in order, and notes about what is unusual.

    Raises:
        Unreadable: for what is no notebook.
    """
    document = _document(content)
    notes = []
    cells = document.get("cells")
    if cells is None and isinstance(document.get("worksheets"), list):  # nbformat 3
        sheets = [sheet for sheet in document["worksheets"] if isinstance(sheet, dict)]
        cells = [cell for sheet in sheets for cell in sheet.get("cells") or []]
        notes.append("the notebook is in the old format 3")
    if not isinstance(cells, list):
        raise Unreadable("the file is JSON and no notebook: it has no cells")
    language = _text(_inside(document, "metadata", "kernelspec", "language") or "python")
    if language.lower() != "python":
        notes.append(f"its kernel is for {language}; it was run as Python")
    found = [cell for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    return [CodeCell(_id_of(cell), _source_of(cell)) for cell in found], notes


def _document(content):
    if not content.strip():
        raise Unreadable("the file is empty")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Unreadable("the file is not text in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the file is not a notebook, its JSON is broken: {error}") from None
    if not isinstance(document, dict):
        raise Unreadable("the file is JSON and no notebook")
    return document


def _inside(value, *names):
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _id_of(cell):
    grade_id = _inside(cell, "metadata", "nbgrader", "grade_id")
    return _text(grade_id if grade_id is not None else cell.get("id"))


def _source_of(cell):
    source = cell.get("source", cell.get("input", ""))
    text = "".join(map(_text, source)) if isinstance(source, list) else _text(source)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _text(value):
    return value if isinstance(value, str) else ""
