"""Judging answers: visible cases with messages that name the mistake, hidden cases that only count."""

import importlib.util
from importlib import import_module
from pathlib import Path

import numpy as np

from gradcourse import journal
from gradcourse.sheets.calling import takes
from gradcourse.sheets.key import AnswerKey, shown
from gradcourse.sheets.question import Result

_SHEETS = {  # number in the questions' ids -> module of this package
    "01": "gradients_you_can_trust",
    "02": "products_of_matrices",
    "03": "sigmoid_tanh_vanishing",
    "04": "activations",
    "05": "initialization",
    "06": "clipping",
    "07": "batchnorm",
    "08": "residual",
    "09": "optimizers",
    "10": "clinic",
}


def questions(slug):
    """Return the questions of a sheet, by id.

    Args:
        slug: such as "03_sigmoid_tanh_vanishing"; its number alone will do.

    Raises:
        KeyError: for a sheet that does not exist.
    """
    return {question.id: question for question in module_of(slug).QUESTIONS}


def module_of(slug):
    """Return the module that holds a sheet's questions, as `questions` does."""
    number = slug.partition("_")[0].partition("-")[0]
    if number not in _SHEETS:
        raise KeyError(f"there is no sheet {slug!r}; there is {', '.join(sorted(_SHEETS))}")
    return import_module(f"{__package__}.{_SHEETS[number]}")


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
    if result.cases and "not answered yet" not in result.message:  # an unknown id and an empty answer cell are no try
        facts = {"passed": result.passed, "points": result.points, "max_points": result.max_points}
        journal.note("check", result.question, **facts)
        if not result.passed:
            print(f'Stuck? gc.hint("{result.question}") opens the next hint.')
    return result


def _check(question_id, answer):
    try:
        question = questions(str(question_id))[str(question_id)]
    except KeyError:
        return Result(str(question_id), 0, 0, 0.0, _unknown(question_id))
    key = AnswerKey(question, question.cases())
    if not callable(answer):
        return key.nothing(
            f"The question asks for the function {question.signature}, and you passed the value {shown(answer)}: "
            f"pass {question.name} itself, without calling it.",
        )
    if not takes(answer, len(key.cases[0].arguments)):
        return key.nothing(f"Your function must take the arguments of {question.signature}, in this order.")
    return key.result(key.outcomes(answer, question.refused))


def _unknown(question_id):
    try:
        known = ", ".join(questions(str(question_id)))
        return f"There is no question {question_id!r}; this sheet has {known}."
    except KeyError as error:
        return f"There is no question {question_id!r}: {error.args[0]}."


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
    key = AnswerKey(question, cases)
    return key.count(key.outcomes(answer, question.refused))


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
