"""Hints of a question, one at a time; their single source is the sheet."""

import re
import sys

from gradcourse import journal
from gradcourse.learner import course

_given = {}  # id -> how many in this kernel


def hint(id):
    """Print the next hint of a question, from mild to strong; a new kernel begins with the first one again.

    Args:
        id: of the question, such as "03-q1".
    """
    id = str(id)
    question = _find(id)
    if question is None:
        print(_unknown(id))
        return
    number = _given.get(id, 0) + 1
    if number > len(question.hints):
        print(f"{id}: that was the last of {len(question.hints)} hints; the lesson's section is worth another look.")
        return
    _given[id] = number
    _show(f"{id}, hint {number} of {len(question.hints)}", question.hints[number - 1])
    journal.note("hint", id, number=number)


def _find(id):
    """Return the Task of a question; None if no sheet at hand has it."""
    if not re.fullmatch(r"\d\d-q\d+", id):
        return None
    tasks = (task for path in course.sheets(id[:2]) for task in course.questions(path))
    return next((task for task in tasks if task.id == id), None)


def _unknown(id):
    number = re.match(r"\d\d", id)
    known = [task.id for path in course.sheets(number[0]) for task in course.questions(path)] if number else []
    if known:
        return f"There is no question {id!r}; this sheet has {', '.join(dict.fromkeys(known))}."
    return f"There is no question {id!r} in a sheet at hand: give the id of its answer cell, such as gc.hint('03-q1')."


def _show(title, text):
    """Show Markdown where a notebook does, else print it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        print(f"{title}\n\n{text}")
        return
    data = {"text/markdown": f"**{title}**\n\n{text}", "text/plain": f"{title}\n\n{text}"}
    ipython.display.display(data, raw=True)
