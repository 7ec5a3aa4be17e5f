"""Which section of a lesson a question belongs to, for the links in the feedback."""

import functools
import json
import re
from pathlib import Path
from urllib.parse import quote

_NOTEBOOKS = Path(__file__).parents[2] / "notebooks"

SECTIONS = {
    "01": (2, 1, 5, 2),
    "02": (4, 3, 4, 5, 4),
    "03": (1, 2, 1, 3),
    "04": (4, 1, 2, 4),
    "05": (2, 2, 3, 5),
    "06": (1, 2, 4, 2, 4),
    "07": (3, 3, 4, 2, 5),
    "08": (3, 2, 3, 1),
    "09": (1, 2, 2, 2, 4, 5, 5),
    "10": (1, 3, 3, 3),
}
"""Sheet -> for each question in order the section of its lesson; a question without one leads to the lesson's top."""


def section(question, slug):
    """Return the heading of the section that a question belongs to; empty if it is not known."""
    sheet, _, number = question.partition("-q")
    place = dict(enumerate(SECTIONS.get(sheet, ()), start=1)).get(int(number) if number.isdecimal() else 0)
    return next((heading for heading in _headings(slug) if heading.startswith(f"{place} · ")), "")


def link(question, slug, base="../notebooks/"):
    """Return the text and the address of a link to what a question is about.

    Args:
        question: its id.
        slug: of the sheet, and of the lesson.
        base: where the lessons are, for who follows the link: a folder relative to the page, or an address.
    """
    heading = section(question, slug)
    # JupyterLab and GitHub make a heading's anchor by putting a hyphen for each space.
    anchor = f"#{quote(heading.replace(' ', '-'))}" if heading else ""
    text = f"Lesson {slug.partition('_')[0]}"
    place = f"{text}, section {heading.removesuffix(' (core)')}" if heading else text
    return place, f"{base.rstrip('/')}/{quote(slug)}.ipynb{anchor}"


@functools.cache
def _headings(slug):
    """List the headings of the second level of a lesson; none where the lesson is not at hand."""
    try:
        cells = json.loads((_NOTEBOOKS / f"{slug}.ipynb").read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return ()
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return tuple(re.findall(r"^## (.+?)\s*$", text, flags=re.MULTILINE))
