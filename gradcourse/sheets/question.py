"""What a question is made of, and what comes of checking an answer to it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One call of an answer.

    Attributes:
        question: id of the question, such as "03-q1".
        arguments: what the answer is called with; functions, numbers, arrays, lists of arrays, Traces.
        shown: how the arguments read in a message; empty: their repr.
        hint: what is special about this case, told where it is the first to fail by a mistake without a name.
        known: what the question's judge is told besides the arguments, and the answer is not.
    """

    question: str
    arguments: tuple
    shown: str = ""
    hint: str = ""
    known: tuple = ()


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that learners really give.

    Attributes:
        message: what is wrong, for the learner who made it.
        answer: a function that makes this mistake, called like the question's own.
    """

    message: str
    answer: Callable


@dataclass(frozen=True)
class Symptom:
    """What a wrong value shows of a mistake that can be made in many ways, or in one case among several others.

    Attributes:
        message: what is wrong, for the learner.
        shows: called as ``shows(value, expected, *arguments)`` for the first case that fails, with a value of the
            expected one's form (number of parts, shapes); whether it looks like this mistake.
    """

    message: str
    shows: Callable


@dataclass(frozen=True)
class Question:
    """An exercise that asks for a function.

    Attributes:
        id: such as "03-q1".
        signature: the function as the sheet writes it, such as "layer_factor(slope, weight_variance, q)".
        returns: what it returns, in words.
        points: for a right answer.
        minutes: that it takes.
        core: whether it belongs to the core path.
        oracle: what a right answer returns, computed in a way independent of the reference solution; None where many
            values are right.
        cases: a function that makes the visible cases anew.
        mistakes: known wrong answers, the likeliest first.
        judge: in place of the oracle, called as ``judge(value, *arguments, *known)`` with the returned value as plain
            data (see gradcourse.sheets.calling.data) and what the Case knows: what is wrong with it, for the learner;
            empty if it is right. It may raise for a value of another form.
        symptoms: looked for where no known mistake gives just what the answer gives, the likeliest first.
        problems: pairs (words in an exception's text, message that explains them).
        refused: dotted names of functions that would answer the question for the learner.
        in_place: whether the answer is to change its arguments, as an initializer changes a model.
        rtol: relative tolerance for numbers.
    """

    id: str
    signature: str
    returns: str
    points: float
    minutes: int
    core: bool
    oracle: Callable | None
    cases: Callable
    mistakes: tuple[Mistake, ...] = ()
    judge: Callable | None = None
    problems: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()
    symptoms: tuple[Symptom, ...] = ()
    in_place: bool = False
    rtol: float = 1e-6

    @property
    def name(self):
        """The name of the function asked for."""
        return self.signature.partition("(")[0]


class NotYet(AssertionError):
    """Raised by Result.award when nothing passed; shown in a notebook as one line, without a traceback."""

    def _render_traceback_(self):
        return [str(self)]


@dataclass(frozen=True)
class Result:
    """What came of checking one answer.

    Attributes:
        question: id of the question.
        cases_passed: number of cases that passed.
        cases: number of cases that were tried.
        max_points: for all cases.
        message: what to know or to do, in one or two sentences.
    """

    question: str
    cases_passed: int
    cases: int
    max_points: float
    message: str

    @property
    def passed(self):
        """Whether every case passed."""
        return self.cases > 0 and self.cases_passed == self.cases

    @property
    def points(self):
        """The share of max_points that the passed cases earn."""
        return round(self.max_points * self.cases_passed / self.cases, 2) if self.cases else 0.0

    def award(self):
        """Hand the points to nbgrader, as the last line of a test cell.

        Returns:
            None when every case passed, which earns full points; else the points as a plain float.

        Raises:
            NotYet: an AssertionError, when nothing passed.
        """
        if self.passed:
            return None
        if self.points == 0:
            raise NotYet(
                f"{self.question}: 0 of {self.max_points:g} points so far. Change the answer and run it again."
            )
        return self.points

    def __str__(self):
        mark = "passed" if self.passed else "not yet"
        return f"{self.question}: {mark}, {self.points:g} of {self.max_points:g} points. {self.message}"

    def __repr__(self):
        return f"<Result {self.question}: {self.points:g} of {self.max_points:g} points>"
