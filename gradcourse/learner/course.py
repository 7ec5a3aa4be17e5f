"""The course as it lies in its folder: lessons with their predictions, sheets with their questions and hints."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

LESSONS, SHEETS = "notebooks", "exercises"
_NUMBERED = "[0-9][0-9]_*.ipynb"
_PREDICTION = re.compile(r"""\bgc\.(?:predict|reveal)\(\s*["'](\d\d-p\d+)["']""")
_HINT = re.compile(r"<details>\s*<summary>.*?</summary>(.*?)</details>", re.DOTALL)
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)  # what a notebook in any state may cause


@dataclass(frozen=True)
class Task:
    """A prediction of a lesson, or a question of a sheet.

    Attributes:
        id: such as "03-p1" or "03-q1".
        core: whether it belongs to the core path.
        hints: a question's, from mild to strong, as Markdown.
    """

    id: str
    core: bool
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lesson:
    """A lesson and its sheet.

    Attributes:
        slug: such as "03_sigmoid_tanh_vanishing".
        title: of the lesson, without its number.
        question: that the lesson answers, as Markdown.
        minutes: for all of it.
        core_minutes: for the core path.
        predictions: its Tasks.
        questions: the Tasks of its sheet; empty where there is none.
    """

    slug: str
    title: str
    question: str
    minutes: int
    core_minutes: int
    predictions: tuple[Task, ...]
    questions: tuple[Task, ...]

    @property
    def number(self):
        """The number that its ids begin with, such as "03"."""
        return self.slug[:2]

    @property
    def address(self):
        """Where the lesson is, for a page in the folder of lessons."""
        return f"{self.slug}.ipynb"

    @property
    def sheet_address(self):
        """Where its sheet is, for a page in the folder of lessons."""
        return f"../{SHEETS}/{self.slug}/{self.slug}.ipynb"


def folder(place=None):
    """Return the folder that holds the course: the nearest around a place, else that of this package; or None.

    Args:
        place: a folder; None stands for the current one.
    """
    place = Path(place or Path.cwd()).resolve()
    around = (place, *place.parents, Path(__file__).resolve().parents[2])
    return next((one for one in around if any((one / LESSONS).glob(_NUMBERED))), None)


def lessons(course):
    """Return the Lessons of a course's folder, in order; a notebook that can't be read is left out."""
    paths = sorted((course / LESSONS).glob(_NUMBERED)) if course else []
    return tuple(filter(None, map(_lesson, paths)))


def questions(path):
    """Return the Tasks of a sheet; none where it can't be read."""
    try:
        return tuple(_questions(_cells(path)))
    except _UNREADABLE:
        return ()


def sheets(number, place=None):
    """Return where a sheet may lie: beside the running notebook, in the course around it, in that of this package.

    Args:
        number: of the sheet, such as "03".
        place: a folder; None stands for the current one.
    """
    place = Path(place or Path.cwd())
    name = f"{number}_*.ipynb"
    found = [*place.glob(name)]
    for course in dict.fromkeys((folder(place), folder(Path(__file__).parent))):
        found += course.glob(f"{SHEETS}/{number}_*/{name}") if course else []
    return found


def _lesson(path):
    try:
        cells = _cells(path)
        head = _text(cells[0])
        minutes = re.search(r"^\*\*Minutes\*\* (\d+)(?:; the core path is (\d+))?", head, re.MULTILINE)
        return Lesson(
            slug=path.stem,
            title=re.match(r"# \d\d · (.+)", head)[1],
            question=re.search(r"^\*\*Question\.\*\* (.+)", head, re.MULTILINE)[1],
            minutes=int(minutes[1]),
            core_minutes=int(minutes[2] or minutes[1]),
            predictions=tuple(_predictions(cells)),
            questions=questions(path.parents[1] / SHEETS / path.stem / path.name),
        )
    except _UNREADABLE:
        return None


def _cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def _text(cell):
    return "".join(cell["source"])


def _predictions(cells):
    """Yield the predictions of a lesson; where no section is marked as core, all of it is."""
    found, core = {}, False
    for cell in cells:
        if cell["cell_type"] == "markdown":
            core = _core(_text(cell), core)
        for id in _PREDICTION.findall(_text(cell)) if cell["cell_type"] == "code" else ():
            found.setdefault(id, core)
    marked = any(found.values())
    return [Task(id, core or not marked) for id, core in found.items()]


def _core(text, before):
    """Whether the last heading of a text marks a section as core."""
    headings = re.findall(r"^## .*", text, re.MULTILINE)
    return "(core)" in headings[-1] if headings else before


def _questions(cells):
    """Yield the questions of a sheet, each with the hints of the text before its answer cell."""
    text = ""
    for cell in cells:
        id = cell["metadata"].get("nbgrader", {}).get("grade_id") or cell.get("id", "")
        if cell["cell_type"] == "markdown":
            text += "\n" + _text(cell)
        elif re.fullmatch(r"\d\d-q\d+", id):
            yield Task(id, _core(text, False), tuple(hint.strip() for hint in _HINT.findall(text)))
            text = ""
