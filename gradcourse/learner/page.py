"""The start page: lessons, sheets, progress and the next step, with links."""

import re
from html import escape

from gradcourse import journal
from gradcourse.learner import course, record

NOTEBOOK = "start.ipynb"
"""The notebook that shows the page, in the folder of lessons."""

_CELL = "start-page"  # the id of its cell
# No colours: the page takes those of the theme it is shown in.
_TABLE = "border-collapse: collapse; text-align: left"
_PAD = "padding: 0.3em 1em 0.3em 0; text-align: left; vertical-align: top"


class StartPage:
    """What a notebook shows as HTML, and a terminal as text.

    Args:
        lessons: of the course.
        done: the learner's Record.
    """

    def __init__(self, lessons, done):
        self._lessons, self._record = lessons, done

    def __repr__(self):
        return record.summary(self._lessons, self._record)

    def _repr_html_(self):
        step = record.next_step(self._lessons, self._record)
        text = f'<a href="{escape(step.address)}">{escape(step.text)}</a>' if step.address else escape(step.text)
        heads = ("Lesson", "Question", "Minutes", "Predictions", "Sheet", "Questions passed", "Hints")
        head = "".join(f'<th scope="col" style="{_PAD}">{name}</th>' for name in heads)
        rows = "".join(f"<tr>{self._row(lesson)}</tr>" for lesson in self._lessons)
        return (
            f"<p><strong>Next step:</strong> {text}</p>"
            f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
            f"<p>{escape(record.calibration(self._record))}</p>"
        )

    def _row(self, lesson):
        minutes = str(lesson.minutes)
        minutes += f" (core {lesson.core_minutes})" if lesson.core_minutes < lesson.minutes else ""
        sheet = f'<a href="{escape(lesson.sheet_address)}">Sheet {lesson.number}</a>' if lesson.questions else "-"
        name = f"{lesson.number} {lesson.title}"
        cells = (
            _inline(lesson.question),
            minutes,
            record.done(lesson.predictions, self._record.predicted),
            sheet,
            record.done(lesson.questions, self._record.passed),
            str(record.hints(lesson, self._record) or "-"),
        )
        link = f'<th scope="row" style="{_PAD}"><a href="{escape(lesson.address)}">{_inline(name)}</a></th>'
        return link + "".join(f'<td style="{_PAD}">{cell}</td>' for cell in cells)


def start_page():
    """Return the start page of the course around this notebook."""
    return StartPage(course.lessons(course.folder()), record.Record(journal.read()))


def refresh(notebook, place):
    """Put the page as it is now into the start notebook that a server is about to hand out.

    Args:
        notebook: its content, as a dict; changed in place.
        place: the folder it lies in.
    """
    page = StartPage(course.lessons(course.folder(place)), record.Record(journal.read()))
    cells = (cell for cell in notebook["cells"] if cell.get("id") == _CELL and cell["cell_type"] == "code")
    for output in (output for cell in cells for output in cell["outputs"]):
        if "text/html" in output.get("data", {}):
            output["data"] |= {"text/html": page._repr_html_(), "text/plain": repr(page)}


def _inline(markdown):
    """Return a line of Markdown as HTML: code is marked, all else is text."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(markdown))
