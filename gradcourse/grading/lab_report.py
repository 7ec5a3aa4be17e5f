"""A class's own records, handed in by its learners: how well it predicts, and which questions were hard for it.

A report is index.html, which holds all of it, and the pictures alone: predictions.png, order.png, questions.png.
"""

import base64
import io
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean, median

import numpy as np
from matplotlib.figure import Figure

from gradcourse.grading import pages
from gradcourse.grading.records import ReportError, write_whole
from gradcourse.learner import course, export
from gradcourse.learner.record import done
from gradcourse.plots import COLOURS

_BLUE, _ORANGE = COLOURS[:2]
_HARDEST = 5  # questions that are printed too


@dataclass(frozen=True)
class Difficulty:
    """How a class did on one question.

    Attributes:
        id: of the question.
        tried: number of learners who checked an answer.
        passed: the share of them who passed.
        tries: number of checks until it passed, of each who passed.
        hints: mean number of hints that they opened.
    """

    id: str
    tried: int
    passed: float
    tries: tuple
    hints: float

    @property
    def median_tries(self):
        """The median number of checks of those who passed; NaN if nobody did."""
        return median(self.tries) if self.tries else np.nan


def write(folder, output):
    """Write the report of a folder of exported files.

    Args:
        folder: of the files, also in folders of their own.
        output: folder of the report; made if it is missing.

    Returns:
        Lines that say what was left out, which questions were hardest, and where the report is.

    Raises:
        ReportError: in one line, why there is no report.
    """
    lessons = course.lessons(course.folder())
    if not lessons:
        raise ReportError("the lessons are not at hand: run this command in the course's folder")
    found, left_out = collect(Path(folder))
    if not found:
        more = f"; {left_out[0]}" if left_out else ""
        raise ReportError(f"{folder} holds no usable file of `gradcourse progress --export`{more}")
    hardest = difficulties([task.id for lesson in lessons for task in lesson.questions], found)
    pictures = _pictures(lessons, found, hardest)
    for name, _, png, _ in pictures:
        write_whole(Path(output) / f"{name}.png", png)
    write_whole(Path(output) / "index.html", _page(lessons, found, left_out, hardest, pictures))
    return [*left_out, *_told(found, hardest), f"{output}/index.html"]


def collect(folder):
    """Return what learners handed in, by name, and a line for each file that is left out.

    Raises:
        ReportError: the folder is none.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is no folder: name the one that holds the class's files")
    found, left_out = {}, []
    for path in sorted(folder.rglob("*.json")):
        name = path.relative_to(folder).as_posix()
        try:
            handed = export.read(path)
        except export.NoProgress as error:
            left_out.append(f"left out: {pages.clean(name)} {error}")
        else:
            _add(found, left_out, name, handed)
    named = ((pages.clean(one.name or Path(name).stem), one.record) for name, one in found.values())
    return sorted(named, key=lambda pair: pair[0]), left_out


def _add(found, left_out, name, handed):
    """Keep of several exports of one record the longest."""
    before, earlier = found.get(handed.origin, (None, None))
    if earlier and len(earlier.record.events) >= len(handed.record.events):
        name, before = before, name
    else:
        found[handed.origin] = (name, handed)
    if before:
        before, name = pages.clean(before), pages.clean(name)
        left_out.append(f"left out: {before} is of the same learner as {name} and holds no more")


# -- what the class did -----------------------------------------------------------------------------------------------


def difficulties(ids, found):
    """Return the Difficulty of each question that was tried, the hardest first."""
    tried = (_difficulty(id, [record for _, record in found if id in record.tries]) for id in ids)
    return sorted(
        filter(None, tried), key=lambda one: (one.passed, -np.nan_to_num(one.median_tries, nan=np.inf), -one.hints)
    )


def _difficulty(id, records):
    if not records:
        return None
    tries = tuple(record.tries[id] for record in records if id in record.passed)
    hints = fmean(record.hints.get(id, 0) for record in records)
    return Difficulty(id, len(records), len(tries) / len(records), tries, hints)


def scores_of(ids, found):
    """Return prediction id -> the scores of all learners, where there are any."""
    wanted = {id: [] for id in ids}
    for _, record in found:
        for reveal in record.reveals:
            if reveal.id in wanted:
                wanted[reveal.id].append(reveal.score)
    return {id: scores for id, scores in wanted.items() if scores}


def scores_by_order(ids, found):
    """Return for the first, second, ... prediction that a learner measured the scores of all learners."""
    rows = [[reveal.score for reveal in record.reveals if reveal.id in ids] for _, record in found]
    longest = max(map(len, rows), default=0)
    return [[row[place] for row in rows if place < len(row)] for place in range(longest)]


# -- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(lessons, found, hardest):
    """Return (file name, title, PNG, words) of each picture."""
    ids = [task.id for lesson in lessons for task in lesson.predictions]
    scores, order = scores_of(ids, found), scores_by_order(set(ids), found)
    drawn = (
        ("predictions", "How good the predictions were", _draw_predictions, scores),
        ("order", "Do predictions get better?", _draw_order, order),
        ("questions", "Which questions were hard", _draw_questions, hardest),
    )
    return [(name, title, *draw(data)) for name, title, draw, data in drawn if data]


def _draw_predictions(scores):
    figure, axes = _axes(height=1.2 + 0.24 * len(scores))
    _rows(axes, [f"{id} ({len(values)})" for id, values in scores.items()])
    _draw_middle_halves(axes, scores.values(), _BLUE)
    axes.set(xlabel="score (1: right): median and middle half of the class", xlim=(-0.03, 1.03))
    told = ", ".join(f"{id} {median(values):.2f} of {len(values)}" for id, values in scores.items())
    return _png(figure), f"Score of each prediction, median and middle half of the class. Medians: {told}."


def _draw_order(order):
    figure, axes = _axes(height=3.2)
    low, middle, high = np.transpose([np.percentile(values, (25, 50, 75)) for values in order])
    numbers = np.arange(1, len(order) + 1)
    axes.fill_between(numbers, low, high, color=_BLUE, alpha=0.25, label="middle half of the class")
    axes.plot(numbers, middle, "o-", color=_BLUE, label="median")
    axes.set(xlabel="prediction number, in each learner's own order", ylabel="score (1: right)", ylim=(-0.03, 1.03))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, loc="best")
    half = max(len(order) // 2, 1)
    first, last = (median(chain.from_iterable(part)) for part in (order[:half], order[-half:]))
    return _png(figure), (
        f"Score of the class's predictions in the order in which each learner made them, 1 to {len(order)}: "
        f"median {first:.2f} in the first half, {last:.2f} in the second."
    )


def _draw_questions(hardest):
    figure, (share, tries) = _axes(height=1.2 + 0.24 * len(hardest), columns=2)
    _rows(share, [f"{one.id} ({one.tried})" for one in hardest])
    share.barh(range(len(hardest)), [one.passed for one in hardest], color=_ORANGE, height=0.7)
    share.set(xlabel="passed, of those who tried", xlim=(0, 1))
    _draw_middle_halves(tries, [one.tries for one in hardest], _BLUE)
    tries.set(xlabel="checks until it passed: median, middle half", xlim=(0.5, None))
    tries.xaxis.get_major_locator().set_params(integer=True)
    told = ", ".join(f"{one.id} {one.passed:.0%} of {one.tried}, {_number(one.median_tries)}" for one in hardest)
    return _png(figure), (
        "Share of those who tried that passed, and number of checks until then (median and middle half of the class), "
        f"hardest question first: {told}."
    )


def _axes(height, columns=1):
    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="x", color="0.9")
        one.tick_params(axis="y", length=0)
        one.set_axisbelow(True)
    return figure, axes if columns > 1 else axes[0]


def _rows(axes, names):
    """Name the rows from the top, where the scale stands too: the last row may lie far below."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for one in axes.figure.axes:
        one.xaxis.tick_top()
        one.xaxis.set_label_position("top")
        one.spines["bottom"].set_visible(False)


def _draw_middle_halves(axes, rows, colour):
    """Draw for each row of numbers their median and where the middle half of them lies."""
    for row, values in enumerate(rows):
        if len(values):
            low, middle, high = np.percentile(values, (25, 50, 75))
            axes.plot([low, high], [row, row], color=colour, linewidth=5, solid_capstyle="butt", alpha=0.5)
            axes.plot(middle, row, "o", color=colour)


def _png(figure):
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110, metadata={"Software": None})
    return drawn.getvalue()


# -- words ------------------------------------------------------------------------------------------------------------


def _page(lessons, found, left_out, hardest, pictures):
    predictions = tuple(task for lesson in lessons for task in lesson.predictions)
    questions = tuple(task for lesson in lessons for task in lesson.questions)
    learners = [
        {
            "name": name,
            "predictions": done(predictions, record.predicted),
            "score": _number(median([reveal.score for reveal in record.reveals] or [np.nan])),
            "questions": done(questions, record.passed),
        }
        for name, record in found
    ]
    shown = [(title, _address(png), words) for _, title, png, words in pictures]
    hard = [(one.id, one.tried, f"{one.passed:.0%}", _number(one.median_tries), f"{one.hints:.1f}") for one in hardest]
    return pages.render("lab", learners=learners, pictures=shown, questions=hard, left_out=left_out)


def _number(value):
    return "-" if np.isnan(value) else f"{value:.2g}"


def _address(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _told(found, hardest):
    count = len(found)
    yield f"{count} learner{'s' if count > 1 else ''}"
    for one in hardest[:_HARDEST]:
        yield (
            f"{one.id}: {one.passed:.0%} of {one.tried} passed, {_number(one.median_tries)} tries in the median, "
            f"{one.hints:.1f} hints each"
        )
