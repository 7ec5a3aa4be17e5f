"""A learner's progress as a picture: what was done in each lesson, and how good the predictions are over time."""

import numpy as np
from matplotlib import pyplot as plt

from gradcourse import journal
from gradcourse.learner import course, record
from gradcourse.plots import style
from gradcourse.plots.alt_text import say

_HEIGHT = 0.26  # of a bar; a lesson has the height 1
_FIGURE = (11.0, 5.2)  # inches


def draw(lessons=None, done=None):
    """Return the Figure of a learner's progress.

    Args:
        lessons: of the course; None: of the course around the current folder.
        done: the Record; None: the learner's own.
    """
    lessons = course.lessons(course.folder()) if lessons is None else lessons
    done = record.Record(journal.read()) if done is None else done
    figure, (left, right) = plt.subplots(1, 2, figsize=_FIGURE, layout="constrained", width_ratios=(3, 2))
    _draw_lessons(left, lessons, done)
    _draw_calibration(right, done)
    plt.close(figure)  # else a notebook shows it twice: as an open figure, and as what a cell ends with
    return figure


def _draw_lessons(ax, lessons, done):
    parts = (
        ("predictions made", [_share(lesson.predictions, done.predicted) for lesson in lessons], ""),
        ("questions passed", [_share(lesson.questions, done.passed) for lesson in lessons], "///"),
    )
    rows = np.arange(len(lessons))
    for index, (label, shares, hatch) in enumerate(parts):
        look = {"color": style.COLOURS[index], "hatch": hatch, "edgecolor": style.paper(ax), "linewidth": 0}
        ax.barh(rows + (index - 0.5) * _HEIGHT, shares, height=_HEIGHT, label=label, **look)
    ax.set_yticks(rows, [_row_label(lesson, done) for lesson in lessons], parse_math=False)
    ax.set_xlim(0, 1)
    ax.set_ylim(len(lessons) - 0.4, -0.6)
    ax.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    handles, _ = ax.get_legend_handles_labels()
    style.finish(ax, "Done in each lesson", x="share done", y="", handles=handles, filled=True)
    say(ax, _say_lessons(lessons, done))


def _share(tasks, ids):
    return sum(task.id in ids for task in tasks) / max(len(tasks), 1)


def _row_label(lesson, done):
    hints = record.hints(lesson, done)
    short = lesson.title.partition(":")[0]
    return f"{lesson.number} {short}{f', {_counted(hints)}' if hints else ''}"


def _counted(hints):
    return f"{hints} hint{'' if hints == 1 else 's'}"


def _say_lessons(lessons, done):
    said = []
    for lesson in lessons:
        hints = record.hints(lesson, done)
        opened = "" if lesson.number in done.opened else "not opened, "
        questions = f"{record.done(lesson.questions, done.passed)} questions, {_counted(hints)}"
        said.append(
            f"{lesson.number} {opened}{record.done(lesson.predictions, done.predicted)} predictions, "
            f"{questions if lesson.questions else 'no sheet'}"
        )
    opened = sum(lesson.number in done.opened for lesson in lessons)
    return f"{opened} of {len(lessons)} lessons opened. Done in each lesson: {'; '.join(said)}."


def _draw_calibration(ax, done):
    scores = np.array([reveal.score for reveal in done.reveals])
    count = np.arange(1, len(scores) + 1)
    number = np.array([reveal.off is not None for reveal in done.reveals], dtype=bool)
    handles = []
    for index, (label, chosen) in enumerate((("numbers", number), ("choices and other", ~number))):
        look = style.run_style(ax, index) | {"linestyle": "none", "label": label}
        handles += ax.plot(count[chosen], scores[chosen], **look) if chosen.any() else []
    if len(scores):
        line = {"color": style.ink(ax), "linewidth": style.LINE, "label": f"median of the last {record.WINDOW}"}
        handles += ax.plot(count, record.running_median(list(scores)), **line)
    else:
        ax.text(0.5, 0.5, "no prediction measured yet", ha="center", va="center", transform=ax.transAxes)
    ax.set_ylim(-0.05, 1.05)
    ax.set_xlim(0.5, max(len(scores), 4) + 0.5)
    style.finish(ax, "How good your predictions are", x="predictions, in order", y="score (1: right)", handles=handles)
    say(ax, record.calibration(done) + _say_scores(done))


def _say_scores(done):
    said = ", ".join(f"{reveal.id} {reveal.score:.2g}" for reveal in done.reveals)
    return f" Scores in order: {said}." if said else ""
