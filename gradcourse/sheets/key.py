"""The answer key of a question: judges what an answer gave, and says what is wrong with it."""

from functools import cached_property

import numpy as np

from gradcourse.sheets.calling import call, data, quiet
from gradcourse.sheets.question import Result

_UNFIT = (ValueError, TypeError, LookupError, AttributeError)  # what a judge meets in a value of another form


class AnswerKey:
    """What the cases of a question give, and what known mistakes give on them, computed once for many answers.

    Attributes:
        question: the Question.
        cases: some of its cases.
    """

    def __init__(self, question, cases):
        self.question, self.cases = question, list(cases)
        self._mistaken = {}

    @cached_property
    def expected(self):
        """What the oracle gives on each case; None where many values are right."""
        oracle = self.question.oracle
        with quiet():
            return [oracle(*case.arguments) if oracle else None for case in self.cases]

    def outcomes(self, answer, refused=()):
        """Call an answer on each case and return the Outcomes."""
        return [self._call(answer, case, refused) for case in self.cases]

    def _call(self, answer, case, refused=()):
        question = self.question
        return call(answer, case.arguments, refused, question.in_place, data if question.judge else None)

    def wrong(self, outcomes):
        """Return for each case what is wrong with what the answer gave, in words; empty where it is right."""
        return [self._wrong(number, outcome) for number, outcome in enumerate(outcomes)]

    def _wrong(self, number, outcome):
        question = self.question
        if outcome.problem or outcome.refused:
            return outcome.problem or f"calls {outcome.refused}"
        if question.judge is None:
            return difference(outcome.value, self.expected[number], question.rtol)
        try:
            case = self.cases[number]
            return question.judge(outcome.value, *case.arguments, *case.known)
        except _UNFIT as error:
            return (
                f"It must return {question.returns}; with what it returned there was: {' '.join(str(error).split())}."
            )

    def nothing(self, message):
        """Return the Result of an answer that could not be tried."""
        return Result(self.question.id, 0, len(self.cases), self.question.points, message)

    def result(self, outcomes):
        """Return the Result of an answer with these Outcomes; its message names the mistake where it is a known one."""
        question = self.question
        refused = [outcome.refused for outcome in outcomes if outcome.refused]
        if refused:
            name = refused[0].replace(":", ".")
            return self.nothing(f"Your function calls {name}, which is what the question asks you to write.")
        wrong = self.wrong(outcomes)
        if any(wrong):
            message = self._explain(outcomes, wrong)
        else:
            message = f"{question.name} is right on all {len(self.cases)} visible cases."
        return Result(question.id, wrong.count(""), len(self.cases), question.points, message)

    def count(self, outcomes):
        """Return how many cases an answer with these Outcomes passes."""
        return 0 if any(outcome.refused for outcome in outcomes) else self.wrong(outcomes).count("")

    def _explain(self, outcomes, wrong):
        """Say what is wrong at the first case that fails."""
        first = next(number for number, words in enumerate(wrong) if words)
        case, outcome = self.cases[first], outcomes[first]
        if outcome.problem:
            return self._explain_problem(case, outcome.problem)
        if self.question.judge:
            hint = f" {case.hint}" if case.hint else ""
            return f"{wrong[first]}{hint} Seen at: {self._call_text(case)}."
        expected = self.expected[first]
        text = f"{self._call_text(case)} gives {shown(outcome.value)}; {wrong[first]}."
        named = self._named(outcomes, first)
        if named:
            return f"{named} Seen at: {text}"
        if outcome.integers and not np.all(np.asarray(expected) % 1 == 0):
            return f"It returns whole numbers: does // or an integer array round on the way? Seen at: {text}"
        return f"{case.hint} Seen at: {text}" if case.hint else text

    def _explain_problem(self, case, problem):
        """Say why a call gave nothing to compare, and what is behind it where that is known."""
        about = f"Your function {problem}"
        if "not answered yet" in about:
            return f"{about}."
        known = [message for words, message in self.question.problems if words in problem] or [case.hint]
        return " ".join(filter(None, [known[0], f"{about}; the call was {self._call_text(case)}."]))

    def mistake(self, outcomes):
        """Return the message of the mistake that an answer with these Outcomes makes; empty if it is no known one."""
        if self.question.judge:
            return ""
        first = next((number for number, words in enumerate(self.wrong(outcomes)) if words), None)
        if first is None or outcomes[first].problem or outcomes[first].refused:
            return ""
        return self._named(outcomes, first)

    def _named(self, outcomes, first):
        found = self._named_symptom(self.cases[first], outcomes[first].value, self.expected[first])
        return self._named_mistake(outcomes) or found

    def _named_mistake(self, outcomes):
        """Return the message of the known mistake that gives just what this answer gives, on every case."""
        for mistake in self.question.mistakes:
            tried = self._tried(mistake)
            if all(self._alike(*pair) for pair in zip(outcomes, tried, strict=True)):
                return mistake.message
        return ""

    def _tried(self, mistake):
        if mistake not in self._mistaken:
            self._mistaken[mistake] = self.outcomes(mistake.answer)
        return self._mistaken[mistake]

    def _alike(self, outcome, wrong):
        """Whether a call gave what a known mistake gives."""
        if outcome.problem or outcome.refused or wrong.problem:
            return False
        return difference(outcome.value, wrong.value, self.question.rtol) == ""

    def _named_symptom(self, case, value, expected):
        """Return the message of the first symptom that a wrong value shows."""
        if _form(value) != _form(expected):
            return ""
        found = (symptom for symptom in self.question.symptoms if symptom.shows(value, expected, *case.arguments))
        return next((symptom.message for symptom in found), "")

    def _call_text(self, case):
        return f"{self.question.name}({case.shown or ', '.join(map(shown, case.arguments))})"


def difference(value, expected, rtol):
    """Return how a plain value differs from the expected one, in words; empty if it does not."""
    if isinstance(expected, tuple):
        if not isinstance(value, tuple) and not (isinstance(value, np.ndarray) and value.ndim == 1):
            return f"it must return a tuple of {len(expected)} values"
        if len(value) != len(expected):
            return f"it must return {len(expected)} values, not {len(value)}"
        pairs = enumerate(zip(value, expected, strict=True), start=1)
        differences = [(number, difference(v, e, rtol)) for number, (v, e) in pairs]
        return next((f"{_which(number, value)}: {text}" for number, text in differences if text), "")
    if isinstance(value, tuple) and isinstance(expected, np.ndarray):
        value = _stacked(value)
    if expected is None or value is None or isinstance(expected, str) or isinstance(value, (str, tuple)):
        same = type(value) is type(expected) and value == expected
        return "" if same else f"it must be {_wanted(expected)}"
    return _number_difference(value, expected, rtol)


def _stacked(values):
    """Return a list of rows as the array that they make; as they are, where they make none."""
    alike = len({np.shape(value) for value in values}) == 1 and all(np.ndim(v) or isinstance(v, float) for v in values)
    return np.stack(values) if alike else values


def _wanted(expected):
    return f"an array of shape {expected.shape}" if isinstance(expected, np.ndarray) else shown(expected)


def _which(number, values):
    """Name one of several values; an array, which `shown` leaves out among others, with its entries."""
    value = values[number - 1]
    return f"value number {number}, {shown(value)}" if np.ndim(value) else f"value number {number}"


def _number_difference(value, expected, rtol):
    shape, wanted = np.shape(value), np.shape(expected)
    if shape != wanted:
        return f"it has shape {shape} and must " + (f"have shape {wanted}" if wanted else "be a single number")
    if np.isnan(value).any() and not np.isnan(expected).any():
        return f"it holds NaN and must be {shown(expected)}"
    if np.allclose(value, expected, rtol=rtol, atol=0, equal_nan=True):
        return ""
    return f"it must be {shown(expected)}"


def _form(value):
    """Return the shapes of a plain value's parts; strings are alike, and so are Nones."""
    if isinstance(value, tuple):
        return [_form(part) for part in value]
    return type(value) if value is None or isinstance(value, str) else np.shape(value)


def shown(value):
    """Return how a value reads in a message."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(f'array of shape {np.shape(v)}' if np.ndim(v) else shown(v) for v in value)})"
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=4, threshold=6, separator=", ").replace("\n", "")
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
