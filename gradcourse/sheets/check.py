"""Judging answers: visible cases with messages that name the mistake, hidden cases that only count."""

import importlib.util
from importlib import import_module
from pathlib import Path

import numpy as np

from gradcourse.sheets.calling import call, takes
from gradcourse.sheets.question import Result

_SHEETS = {  # number in the questions' ids -> module of this package
    "01": "gradients_you_can_trust",
    "02": "products_of_matrices",
    "03": "sigmoid_tanh_vanishing",
    "04": "activations",
    "05": "initialization",
    "09": "optimizers",
}


def questions(slug):
    """Return the questions of a sheet, by id.

    Args:
        slug: such as "03_sigmoid_tanh_vanishing"; its number alone will do.

    Raises:
        KeyError: for a sheet that does not exist.
    """
    number = slug.partition("_")[0].partition("-")[0]
    if number not in _SHEETS:
        raise KeyError(f"there is no sheet {slug!r}; there is {', '.join(sorted(_SHEETS))}")
    sheet = import_module(f"{__package__}.{_SHEETS[number]}")
    return {question.id: question for question in sheet.QUESTIONS}


def check(id, answer):
    """Try an answer on the visible cases of a question, print what came of it and return it.

    Never raises and never writes to standard error, whatever the answer does.

    Args:
        id: of the question, such as "03-q1".
        answer: the function that the question asks for, not its value.

    Returns:
        A Result; in a sheet its ``award()`` ends the test cell.
    """
    result = _check(id, answer)
    print(result)
    return result


def _check(question_id, answer):
    try:
        question = questions(str(question_id))[str(question_id)]
    except KeyError:
        return Result(str(question_id), 0, 0, 0.0, _unknown(question_id))
    if not callable(answer):
        return _nothing(
            question,
            f"The question asks for the function {question.signature}, and you passed the value {_shown(answer)}: "
            f"pass {question.name} itself, without calling it.",
        )
    cases = question.cases()
    if not takes(answer, len(cases[0].arguments)):
        return _nothing(question, f"Your function must take the arguments of {question.signature}, in this order.")
    return _judge_visible(question, answer, cases)


def _unknown(question_id):
    try:
        known = ", ".join(questions(str(question_id)))
        return f"There is no question {question_id!r}; this sheet has {known}."
    except KeyError as error:
        return f"There is no question {question_id!r}: {error.args[0]}."


def _nothing(question, message):
    return Result(question.id, 0, len(question.cases()), question.points, message)


def _judge_visible(question, answer, cases):
    outcomes = [call(answer, case.arguments, question.refused, question.in_place) for case in cases]
    refused = [outcome.refused for outcome in outcomes if outcome.refused]
    if refused:
        name = refused[0].replace(":", ".")
        return _nothing(question, f"Your function calls {name}, which is what the question asks you to write.")
    expected = [question.oracle(*case.arguments) for case in cases]
    right = [_agrees(question, *pair) for pair in zip(outcomes, expected, strict=True)]
    if all(right):
        message = f"{question.name} is right on all {len(cases)} visible cases."
    else:
        message = _explain(question, cases, outcomes, expected, right)
    return Result(question.id, sum(right), len(cases), question.points, message)


def _agrees(question, outcome, expected):
    return not outcome.problem and not outcome.refused and _difference(outcome.value, expected, question.rtol) == ""


def _difference(value, expected, rtol):
    """Return how a plain value differs from the expected one, in words; empty if it does not."""
    if isinstance(expected, tuple):
        if not isinstance(value, tuple) and not (isinstance(value, np.ndarray) and value.ndim == 1):
            return f"it must return a tuple of {len(expected)} values"
        if len(value) != len(expected):
            return f"it must return {len(expected)} values, not {len(value)}"
        pairs = enumerate(zip(value, expected, strict=True), start=1)
        differences = [(number, _difference(v, e, rtol)) for number, (v, e) in pairs]
        return next((f"{_which(number, value)}: {text}" for number, text in differences if text), "")
    if isinstance(value, tuple) and isinstance(expected, np.ndarray):
        value = _stacked(value)
    if isinstance(expected, str) or isinstance(value, (str, tuple)):
        same = isinstance(value, str) and isinstance(expected, str) and value == expected
        return "" if same else f"it must be {_wanted(expected)}"
    return _number_difference(value, expected, rtol)


def _stacked(values):
    """Return a list of rows as the array that they make; as they are, where they make none."""
    alike = len({np.shape(value) for value in values}) == 1 and not any(isinstance(v, (str, tuple)) for v in values)
    return np.stack(values) if alike else values


def _wanted(expected):
    return f"an array of shape {expected.shape}" if isinstance(expected, np.ndarray) else _shown(expected)


def _which(number, values):
    """Name one of several values; an array, which _shown leaves out among others, with its entries."""
    value = values[number - 1]
    return f"value number {number}, {_shown(value)}" if np.ndim(value) else f"value number {number}"


def _number_difference(value, expected, rtol):
    shape, wanted = np.shape(value), np.shape(expected)
    if shape != wanted:
        return f"it has shape {shape} and must " + (f"have shape {wanted}" if wanted else "be a single number")
    if np.isnan(value).any() and not np.isnan(expected).any():
        return f"it holds NaN and must be {_shown(expected)}"
    if np.allclose(value, expected, rtol=rtol, atol=0, equal_nan=True):
        return ""
    return f"it must be {_shown(expected)}"


def _explain(question, cases, outcomes, expected, right):
    """Say what is wrong at the first case that fails, by the name of the mistake where it is a known one."""
    first = right.index(False)
    case, outcome = cases[first], outcomes[first]
    if outcome.problem:
        return _explain_problem(question, case, outcome.problem)
    difference = _difference(outcome.value, expected[first], question.rtol)
    text = f"{_call_text(question, case)} gives {_shown(outcome.value)}; {difference}."
    named = _named_mistake(question, cases, outcomes) or _named_symptom(question, case, outcome.value, expected[first])
    if named:
        return f"{named} Seen at: {text}"
    if outcome.integers and not np.all(np.asarray(expected[first]) % 1 == 0):
        return f"It returns whole numbers: does // or an integer array round on the way? Seen at: {text}"
    return f"{case.hint} Seen at: {text}" if case.hint else text


def _explain_problem(question, case, problem):
    """Say why a call gave nothing to compare, and what is behind it where that is known."""
    about = f"Your function {problem}"
    if "not answered yet" in about:
        return f"{about}."
    known = [message for words, message in question.problems if words in problem] or [case.hint]
    return " ".join(filter(None, [known[0], f"{about}; the call was {_call_text(question, case)}."]))


def _named_mistake(question, cases, outcomes):
    """Return the message of the known mistake that gives just what this answer gives, on every case."""
    for mistake in question.mistakes:
        tried = [call(mistake.answer, case.arguments, in_place=question.in_place) for case in cases]
        pairs = zip(outcomes, tried, strict=True)
        if all(not wrong.problem and _agrees(question, outcome, wrong.value) for outcome, wrong in pairs):
            return mistake.message
    return ""


def _named_symptom(question, case, value, expected):
    """Return the message of the first symptom that a wrong value shows."""
    if _form(value) != _form(expected):
        return ""
    found = (symptom for symptom in question.symptoms if symptom.shows(value, expected, *case.arguments))
    return next((symptom.message for symptom in found), "")


def _form(value):
    """Return the shapes of a plain value's parts; strings are alike."""
    if isinstance(value, tuple):
        return [_form(part) for part in value]
    return str if isinstance(value, str) else np.shape(value)


def _call_text(question, case):
    return f"{question.name}({case.shown or ', '.join(map(_shown, case.arguments))})"


def _shown(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(f'array of shape {np.shape(v)}' if np.ndim(v) else _shown(v) for v in value)})"
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=4, threshold=6, separator=", ").replace("\n", "")
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def add_hidden(result, answer, cases):
    """Try an answer on hidden cases too, print a line and return the Result over all cases.

    Nothing of a hidden case is shown but how many passed.

    Args:
        result: of `check`.
        answer: the same function.
        cases: the hidden cases of the sheet; those of other questions are left out.

    Returns:
        The Result over visible and hidden cases.
    """
    own = [case for case in cases if case.question == result.question]
    if not own or not callable(answer):
        return result
    question = questions(result.question)[result.question]
    passed = _count_hidden(question, answer, own)
    message = f"{passed} of {len(own)} hidden cases pass."
    if result.passed and passed < len(own):
        message += " The visible ones do: does your function compute, or does it know these inputs only?"
    print(f"{result.question}: {message}")
    return Result(result.question, result.cases_passed + passed, result.cases + len(own), result.max_points, message)


def _count_hidden(question, answer, cases):
    if not takes(answer, len(cases[0].arguments)):
        return 0
    outcomes = [call(answer, case.arguments, question.refused, question.in_place) for case in cases]
    if any(outcome.refused for outcome in outcomes):
        return 0
    expected = [question.oracle(*case.arguments) for case in cases]
    return sum(_agrees(question, *pair) for pair in zip(outcomes, expected, strict=True))


def run_hidden(slug, functions, seed=0):
    """Check the functions of a whole sheet on visible and hidden cases.

    Args:
        slug: of the sheet, such as "03_sigmoid_tanh_vanishing".
        functions: answers by question id.
        seed: of the hidden cases.

    Returns:
        A Result for each question that has an answer, by id.

    Raises:
        FileNotFoundError: where hidden.py is not at hand: it never leaves the instructor.
    """
    path = Path(__file__).parents[2] / "solutions" / slug / "hidden.py"
    if not path.is_file():
        raise FileNotFoundError(f"run_hidden({slug!r}): no {path}; the hidden cases stay with the instructor's copy")
    spec = importlib.util.spec_from_file_location(f"hidden_{slug}", path)
    hidden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hidden)
    cases = hidden.cases(np.random.default_rng(seed))
    return {id: add_hidden(_check(id, answer), answer, cases) for id, answer in functions.items()}
