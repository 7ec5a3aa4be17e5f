"""What students get: lessons, sheets, the package and how to set it up; no solutions and no hidden cases.

What is in it is listed here by name, never "all but": a new file of the instructor's stays out until somebody adds it.
All of it is then searched for answers and hidden cases before anything is written.
"""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path

from gradcourse.grading.records import ReportError, write_whole, writing

COURSE = Path(__file__).parents[2]
RECORD = ".gradcourse-bundle.json"
"""Remembers in a bundle which files are its own, for the next one into the same folder."""

_README = "docs/learners.md"
_PLACE_OF_LESSONS = "<!-- lessons -->"
_SET_UP = (
    "pyproject.toml",
    "requirements.lock",
    "environment.yml",
    "start.py",
    "LICENSE",
    "LICENSE-text.md",
    "LICENSE-data.md",
)
_TO_READ = ("CITATION.cff", "references.bib", ".gitattributes", ".gitignore", "docs/first_experiment.png")
_PATTERNS = ("notebooks/*.ipynb", "docs/glossary/README.md", "docs/gallery/README.md", "docs/gallery/*.png")
_LONG_LINE = 40  # characters of a line of hidden.py that nobody writes twice by chance


def bundle(target, course=COURSE, archive=False):
    """Write what students get, into a folder or a zip.

    A folder may be an earlier bundle, also with a .git in it: files of the earlier one are replaced or removed, files
    that were edited or added there stay.

    Args:
        target: the folder, or the zip file with `archive`.
        course: the instructor's copy of the course.
        archive: whether to write a zip; its bytes are the same for the same course.

    Returns:
        Lines that say what was done.

    Raises:
        ReportError: in one line; nothing was written, unless it says that writing failed.
    """
    course, target = Path(course), Path(target).expanduser()
    if target.resolve() == course.resolve() or course.resolve() in target.resolve().parents:
        raise ReportError(f"{target} is inside the course: choose a folder outside it")
    files = learner_files(course)
    if found := leaks(files, course):
        raise ReportError(
            f"nothing was bundled: {found[0]}; run `gradcourse build`, or take the answer out of that file"
        )
    if not archive:
        return _update(target, files, course)
    if target.exists() or target.is_symlink():
        raise ReportError(f"{target} exists and is not replaced: choose another name or move it away")
    write_whole(target, zipped(files, executable=("start.py",)))
    return [f"{target}: {len(files)} files"]


def learner_files(course=COURSE):
    """Return name -> bytes of all that students get.

    Raises:
        ReportError: this is no instructor's copy of the course, or a file is missing.
    """
    course = Path(course)
    slugs = sorted(path.parent.name for path in course.glob("solutions/*/hidden.py"))
    if not slugs:
        raise ReportError(f"{course} has no solutions/: make the bundle from the instructor's copy of the course")
    names = [*_SET_UP, *_TO_READ, *(f"exercises/{slug}/{slug}.ipynb" for slug in slugs)]
    names += [path.relative_to(course).as_posix() for pattern in _PATTERNS for path in course.glob(pattern)]
    return dict(sorted((package_files(course) | _read(course, names) | {"README.md": _readme(course)}).items()))


def package_files(course=COURSE):
    """Return name -> bytes of the package, without caches."""
    paths = (path for suffix in ("py", "npz") for path in (Path(course) / "gradcourse").rglob(f"*.{suffix}"))
    return _read(course, [path.relative_to(course).as_posix() for path in paths])


def _read(course, names):
    try:
        return {name: (Path(course) / name).read_bytes() for name in sorted(names) if "/." not in name}
    except OSError as error:
        raise ReportError(
            f"can't read {error.filename}: {error.strerror}; the course is not whole, get it again"
        ) from None


def _readme(course):
    """Return the learners' README, with the table of lessons from the instructor's."""
    texts = _read(course, [_README, "README.md"])
    lines = texts["README.md"].decode().splitlines()
    table = [line for line in lines if re.match(r"\| Lesson \||\| \[\d\d\]\(notebooks/", line)]
    table.insert(1, "|---" * (table[0].count("|") - 1) + "|" if table else "")
    return texts[_README].decode().replace(_PLACE_OF_LESSONS, "\n".join(table)).encode()


# -- what must not be in it -------------------------------------------------------------------------------------------


def leaks(files, course=COURSE):
    """Say in a line each where a file holds an answer of two lines or more, or a part of a hidden.py."""
    secrets = [*_answers(Path(course)), *_hidden_parts(Path(course))]
    texts = {name: _text(name, content) for name, content in files.items()}
    return [f"{name} holds {what}" for name, text in texts.items() for what, secret in secrets if secret in text]


def _answers(course):
    """Yield what and text for each answer of two lines or more."""
    for path in sorted(course.glob("solutions/*/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for region in re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", "".join(cell["source"]), re.DOTALL):
                lines = _bare(region)
                if lines.count("\n") > 2:
                    yield f"the answer {cell.get('id')} of {path.parent.name}", lines


def _hidden_parts(course):
    """Yield what and text for each long line of a hidden.py, and for each three lines that follow each other."""
    for path in sorted(course.glob("solutions/*/hidden.py")):
        lines = _bare(path.read_text(encoding="utf-8")).strip("\n").split("\n")
        parts = [line for line in lines if len(line) >= _LONG_LINE and not line.startswith(("from ", "import ", '"""'))]
        parts += ["\n".join(lines[place : place + 3]) for place in range(len(lines) - 2)]
        yield from ((f"a part of the hidden cases of {path.parent.name}", f"\n{part}\n") for part in parts)


def _text(name, content):
    """Return the text of a file, of a notebook that of its cells and outputs, without indentation and empty lines."""
    text = content.decode("utf-8", "replace")
    if name.endswith(".ipynb"):
        text = "\n".join(_strings(json.loads(text)))
    return _bare(text)


def _strings(value):
    """Yield every string in parsed JSON; a list of strings, as notebooks hold their lines, as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and all(isinstance(part, str) for part in value):
        yield "".join(value)
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def _bare(text):
    return "\n" + "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


# -- writing ----------------------------------------------------------------------------------------------------------


def zipped(files, executable=()):
    """Return a zip of files, name -> bytes, the same for the same files: no times, no order but that of the names."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.compress_type = 3, zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(entry, content)
    return made.getvalue()


def _update(target, files, course):
    """Bring a folder to these files; return what was done, in lines."""
    sent = _sent(target)
    lines, changed = [], 0
    for name, content in files.items():
        if _is_edited(target / name, sent.get(name), content):
            lines.append(f"kept {name}: it was edited there; move it away to get the course's")
        elif not (target / name).is_file() or (target / name).read_bytes() != content:
            write_whole(target / name, content)
            changed += 1
    with writing(target):
        (target / "start.py").chmod(0o755)
    lines += _remove(target, {name: print_ for name, print_ in sent.items() if name not in files})
    prints = {name: _print(content) for name, content in files.items()}
    about = "what `gradcourse bundle` wrote here"
    write_whole(target / RECORD, json.dumps({"about": about, "files": prints}, indent=1, sort_keys=True) + "\n")
    return [*lines, f"{target}: {changed} files written, {len(files) - changed} as they were"]


def _sent(target):
    """Return name -> fingerprint of what an earlier bundle wrote into a folder.

    Raises:
        ReportError: it is a file, or a folder with other things.
    """
    if target.exists() and not target.is_dir():
        raise ReportError(f"{target} is a file: name a folder, or give --zip")
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))["files"]
        return {name: print_ for name, print_ in record.items() if ".." not in name.split("/") and name[0] != "/"}
    except FileNotFoundError:
        if target.is_dir() and any(target.iterdir()) and not (target / ".git").exists():
            raise ReportError(
                f"{target} is not empty and no earlier bundle: choose an empty folder or a git clone"
            ) from None
        return {}
    except (ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        raise ReportError(f"can't read {target / RECORD} ({error}): choose an empty folder") from None


def _is_edited(path, sent, content):
    """Whether a file holds something that neither an earlier bundle nor this one put there."""
    return path.is_file() and _print(path.read_bytes()) not in (sent, _print(content))


def _remove(target, gone):
    """Remove files of an earlier bundle that are no longer part of the course; return what was done, in lines."""
    lines = []
    for name, sent in gone.items():
        path = target / name
        if path.is_file():
            edited = _print(path.read_bytes()) != sent
            if not edited:
                with writing(path):
                    path.unlink()
            lines.append(f"{'kept' if edited else 'removed'} {name}: no longer part of the course")
    return lines


def _print(content):
    return hashlib.sha256(content).hexdigest()
