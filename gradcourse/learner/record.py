"""What a learner's events amount to: what was done, how good her predictions are, what comes next."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from statistics import median

WINDOW = 5  # reveals under a running median
_IN_LESSON = ("prediction", "reveal", "explore")
_HUGE = 1e308  # beyond it there are no floats


@dataclass(frozen=True)
class Reveal:
    """How good a prediction was.

    Attributes:
        id: of the prediction.
        score: from 0 to 1.
        off: orders of magnitude between a guessed number and the measured one; None for what is no such number.
    """

    id: str
    score: float
    off: float | None


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        text: in words.
        address: of the notebook, for a page in the folder of lessons; empty when all is done.
    """

    text: str
    address: str = ""


class Record:
    """A learner's events, summed up.

    Args:
        events: as gradcourse.journal reads them.
    """

    def __init__(self, events):
        self.events = list(events)

    def _ids(self, *kinds):
        return {event["id"] for event in self.events if event["kind"] in kinds}

    @cached_property
    def opened(self):
        """Numbers of the lessons in which something was predicted, measured or moved."""
        return set(self._beginnings)

    @cached_property
    def predicted(self):
        """Ids of the predictions that were committed."""
        return self._ids("prediction", "reveal")

    @cached_property
    def passed(self):
        """Ids of the questions that passed."""
        return {event["id"] for event in self.events if event["kind"] == "check" and event.get("passed") is True}

    @cached_property
    def tries(self):
        """Question id -> how often it was checked until it passed, without what lesson 00 shows of gc.check."""
        count, passed = Counter(), set()
        for place, event in enumerate(self.events):
            if event["kind"] == "check" and event["id"] not in passed and not self._is_shown(place):
                count[event["id"]] += 1
                passed |= {event["id"]} if event.get("passed") is True else set()
        return dict(count)

    def _is_shown(self, place):
        """Whether an event may be a check that another lesson shows: it failed, and its own was opened later."""
        event = self.events[place]
        return _failed(event) and self._beginnings.get(event["id"][:2], -1) > place

    @cached_property
    def _beginnings(self):
        """Number of a lesson -> the place of the first event in it."""
        places = {}
        for place, event in enumerate(self.events):
            if event["kind"] in _IN_LESSON:
                places.setdefault(event["id"][:2], place)
        return places

    @cached_property
    def hints(self):
        """Question id -> how many different hints were opened."""
        opened = {(event["id"], event.get("number")) for event in self.events if is_hint(event)}
        return dict(Counter(id for id, _ in opened))

    @cached_property
    def reveals(self):
        """The Reveals in order, of each prediction the first: after that its answer is known."""
        first = {}
        for event in self.events:
            if event["kind"] == "reveal" and is_score(event.get("score")):
                off = orders_of_magnitude(event.get("guess"), event.get("measured"))
                first.setdefault(event["id"], Reveal(event["id"], float(event["score"]), off))
        return list(first.values())

    @property
    def last(self):
        """Number of the lesson that was worked on last; empty if none was.

        A failed check without its lesson does not count: lesson 00 shows one.
        """
        work = (event for event in reversed(self.events) if not _failed(event) or event["id"][:2] in self.opened)
        return next((event["id"][:2] for event in work), "")


def _failed(event):
    return event["kind"] == "check" and event.get("passed") is not True


def is_hint(event):
    """Whether an event is an opened hint, with its number."""
    return event["kind"] == "hint" and type(event.get("number")) is int


def is_score(value):
    """Whether a value can be a score."""
    return type(value) in (int, float) and 0 <= value <= 1


def orders_of_magnitude(guess, measured):
    """Return |log10(guess / measured)|; None unless both are finite numbers of one sign."""
    numbers = all(type(value) in (int, float) and 0 < abs(value) < _HUGE for value in (guess, measured))
    if not numbers or (guess < 0) != (measured < 0):
        return None
    return abs(math.log10(abs(guess)) - math.log10(abs(measured)))


def running_median(values, window=WINDOW):
    """Return for each value the median of the last few up to it."""
    return [median(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]


def next_step(lessons, record):
    """Return the Step: the first core thing not done, from the lesson on that was worked on last."""
    start = next((place for place, lesson in enumerate(lessons) if lesson.number == record.last), 0)
    steps = (_step(lesson, record) for lesson in [*lessons[start:], *lessons[:start]])
    done = Step("You have done the core path of the whole course." if lessons else "The lessons are not at hand.")
    return next(filter(None, steps), done)


def _step(lesson, record):
    """Return what the core path of a lesson and its sheet lacks, None if nothing."""
    questions = [task.id for task in lesson.questions if task.core and task.id not in record.passed]
    finished = lesson.questions and not questions  # whoever passes the sheet needs no prediction any more
    predictions = [task.id for task in lesson.predictions if task.core and task.id not in record.predicted]
    name = f"lesson {lesson.number}, {lesson.title}"
    if predictions and not finished:
        return Step(_begin_or_go_on(name, predictions[0], lesson.number in record.opened), lesson.address)
    if questions:
        return Step(f"Answer question {questions[0]} of sheet {lesson.number}", lesson.sheet_address)
    return None


def _begin_or_go_on(name, prediction, opened):
    return f"Go on with {name}: prediction {prediction} is next" if opened else f"Begin {name}"


def summary(lessons, record):
    """Return the table that `gradcourse progress` prints, and the lines below it."""
    rows = [("lesson", "predictions", "questions", "hints"), *(_row(lesson, record) for lesson in lessons)]
    width = max(len(row[0]) for row in rows)
    table = [f"{row[0]:{width}}  {row[1]:>11}  {row[2]:>9}  {row[3]:>5}" for row in rows]
    return "\n".join([*table, "", calibration(record), f"Next step: {next_step(lessons, record).text}."])


def _row(lesson, record):
    return (
        f"{lesson.number} {lesson.title}",
        done(lesson.predictions, record.predicted),
        done(lesson.questions, record.passed),
        str(hints(lesson, record) or "-"),
    )


def done(tasks, ids):
    """Return "2 of 5", or "-" where there is nothing to do."""
    return f"{sum(task.id in ids for task in tasks)} of {len(tasks)}" if tasks else "-"


def hints(lesson, record):
    """Return how many hints of a lesson's sheet were opened."""
    return sum(record.hints.get(task.id, 0) for task in lesson.questions)


def calibration(record):
    """Return in words how good the predictions are."""
    scores = [reveal.score for reveal in record.reveals]
    if not scores:
        return "No prediction is measured yet: gc.predict commits a guess, gc.reveal holds it against the run."
    text = f"{len(scores)} predictions measured, median score {median(scores):.2f} of 1"
    if len(scores) > WINDOW:
        text += f", of the last {WINDOW} {median(scores[-WINDOW:]):.2f}"
    off = [reveal.off for reveal in record.reveals if reveal.off is not None]
    return f"{text}; numbers are off by a factor of {10 ** median(off):.2g} in the median." if off else f"{text}."
