"""A class of made-up learners for the tests of progress and of the lab report."""

import math
import random
from datetime import UTC, datetime, timedelta

from gradcourse.learner import course

LESSONS = course.lessons(course.folder())
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind, id, seconds=0.0, **facts):
    """An event as gradcourse.journal reads it."""
    return {"kind": kind, "id": id, "at": (BEGIN + timedelta(seconds=seconds)).isoformat()} | facts


def reveal(id, guess, measured, score, seconds=0.0):
    return event("reveal", id, seconds, guess=guess, measured=measured, score=score, verdict="close")


def check(id, passed, seconds=0.0):
    return event("check", id, seconds, passed=passed, points=3.0 * passed, max_points=3.0)


def learner(seed, lessons=LESSONS):
    """The events of a learner who guesses better from lesson to lesson."""
    rng, events = random.Random(seed), []
    for number, lesson in enumerate(lessons):
        for task in lesson.predictions:
            measured = 10.0 ** rng.uniform(-8, 0)
            guess = measured * 10 ** rng.gauss(0, 3 / (number + 1))
            score = max(0.0, 1.0 - abs(math.log10(guess / measured)) / 3)
            events += [event("prediction", task.id, guess=guess), reveal(task.id, guess, measured, score)]
        for task in lesson.questions:
            events += [event("hint", task.id, number=number) for number in range(1, rng.randint(1, 4))]
            events += [check(task.id, passed) for passed in [False] * rng.randint(0, 3) + [True] * (rng.random() < 0.9)]
    for place, one in enumerate(events):
        one["at"] = (BEGIN + timedelta(days=seed, seconds=60.001 * place)).isoformat()
    return events
