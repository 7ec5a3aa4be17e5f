"""The checks: right answers pass however they are written, wrong ones are rejected with the message that names them."""

import importlib
import importlib.util
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from wrong_answers import sigmoid_tanh_vanishing as bank

import gradcourse as gc
from gradcourse.sheets import Case, Question, Result, add_hidden, questions, run_hidden
from gradcourse.sheets.key import AnswerKey

SOLUTIONS = Path(__file__).resolve().parent.parent / "solutions"
SHEETS = {
    folder.name: importlib.import_module(f"wrong_answers.{folder.name.partition('_')[2]}")
    for folder in sorted(SOLUTIONS.iterdir())
    if folder.is_dir()
}
WRONG = [
    pytest.param(id, answer, words, id=f"{id}-{answer.__name__}")
    for sheet in SHEETS.values()
    for id, answers in sheet.WRONG.items()
    for answer, words in answers.items()
]


def right_answers():
    """(slug, id, answer, seed of the hidden cases); those of sheet 10 train 20 networks each."""
    for slug, sheet in SHEETS.items():
        for id, answers in sheet.RIGHT.items():
            for answer, seed in product(answers, range(3)):
                marks = pytest.mark.slow if slug.startswith("10") and seed > 0 else ()
                yield pytest.param(slug, id, answer, seed, id=f"{id}-{answer.__name__}-{seed}", marks=marks)


@pytest.mark.parametrize(("id", "answer", "words"), WRONG)
def test_wrong_answer_is_rejected_with_its_message(id, answer, words, capsys):
    result = gc.check(id, answer)
    assert not result.passed
    assert words in result.message
    printed = capsys.readouterr()
    assert words in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(("slug", "id", "answer", "seed"), list(right_answers()))
def test_right_answer_passes_visible_and_hidden(slug, id, answer, seed):
    result = run_hidden(slug, {id: answer}, seed=seed)[id]
    assert result.passed, result.message
    assert result.points == result.max_points
    assert result.award() is None


@pytest.mark.parametrize(("slug", "sheet"), SHEETS.items())
def test_answers_that_know_the_visible_cases_fail_the_hidden_ones(slug, sheet, capsys):
    for id, answer in sheet.ONLY_VISIBLE.items():
        assert gc.check(id, answer).passed
        result = run_hidden(slug, {id: answer})[id]
        assert not result.passed
        assert "know these inputs only" in result.message


@pytest.mark.parametrize("slug", SHEETS)
def test_every_question_has_enough_wrong_and_right_answers(slug):
    sheet = SHEETS[slug]
    for id in questions(slug):
        assert len(sheet.WRONG[id]) >= 3
        assert len(sheet.RIGHT[id]) >= 2


@pytest.mark.parametrize("slug", SHEETS)
def test_every_mistake_differs_from_the_oracle_and_is_seen_at_least_once(slug):
    """A mistake that gives the right values on all visible cases could never be told."""
    for question in questions(slug).values():
        for mistake in question.mistakes:
            key = AnswerKey(question, question.cases())
            result = key.result(key.outcomes(mistake.answer))
            assert not result.passed, mistake.message
            assert result.message.startswith(mistake.message), (mistake.message, result.message)


@pytest.mark.parametrize("slug", SHEETS)
def test_minutes_and_core_path_fit_a_lab(slug):
    sheet = questions(slug).values()
    assert 45 <= sum(question.minutes for question in sheet) <= 90
    core = [question for question in sheet if question.core]
    assert len(core) == 2
    assert sum(question.minutes for question in core) <= 30


@pytest.mark.parametrize("slug", SHEETS)
def test_hidden_cases_cover_every_question_and_differ_by_seed(slug):
    path = importlib.import_module("pathlib").Path(__file__).parents[1] / "solutions" / slug / "hidden.py"
    spec = importlib.util.spec_from_file_location("hidden", path)
    hidden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hidden)
    one, two = (hidden.cases(np.random.default_rng(seed)) for seed in (0, 1))
    for id in questions(slug):
        own = [case for case in one if case.question == id]
        assert len(own) >= 3
        assert repr(own) != repr([case for case in two if case.question == id])


# What a learner can do wrong --------------------------------------------------------------------------------------


def returns_none(factor, last, threshold):
    pass


def raises(factor, last, threshold):
    return 1 / 0


def not_answered(factor, last, threshold):
    raise NotImplementedError


def wrong_shape(factor, last, threshold):
    return np.array([bank.by_loop(factor, last, threshold)])


def not_a_number(factor, last, threshold):
    return float("nan")


def a_dict(factor, last, threshold):
    return {"depth": 3}


def a_word(factor, last, threshold):
    return "nine"


def two_arguments(factor, last):
    return 1


def leaves(factor, last, threshold):
    raise SystemExit(3)


def ragged(factor, last, threshold):
    return [[1.0], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.2361, "you passed the value 0.2361: pass depth_below itself, without calling it"),
        (returns_none, "returned None: does it end with return?"),
        (raises, "raised ZeroDivisionError: division by zero, at `return 1 / 0`; the call was depth_below(0.2361"),
        (not_answered, "is not answered yet"),
        (wrong_shape, "it has shape (1,) and must be a single number"),
        (not_a_number, "it holds NaN and must be 9"),
        (a_dict, "returned a dict"),
        (a_word, "gives 'nine'; it must be 9"),
        (two_arguments, "must take the arguments of depth_below(factor, last, threshold)"),
        (leaves, "raised SystemExit"),
        (ragged, "returned rows of different lengths"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_misuse_gives_one_clear_message(answer, words, capsys):
    result = gc.check("03-q2", answer)
    assert not result.passed
    assert result.points == 0
    printed = capsys.readouterr()
    message, *more = printed.out.splitlines()
    assert words in message
    assert more == ([] if answer is not_answered else ['Stuck? gc.hint("03-q2") opens the next hint.'])
    assert printed.err == ""


def test_a_right_answer_gets_no_hint_offered(capsys):
    assert gc.check("03-q2", bank.by_loop).passed
    assert "hint" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("id", "words"),
    [
        ("03-q9", "There is no question '03-q9'; this sheet has 03-q1, 03-q2, 03-q3, 03-q4."),
        (
            "99-q1",
            "There is no question '99-q1': there is no sheet '99-q1'; "
            f"there is {', '.join(slug.partition('_')[0] for slug in SHEETS)}.",
        ),
        (3, "There is no question 3"),
        (None, "There is no question None"),
    ],
)
def test_wrong_id_is_told_and_gives_no_points(id, words, capsys):
    result = gc.check(id, bank.by_loop)
    assert words in capsys.readouterr().out
    assert result.points == 0
    with pytest.raises(AssertionError):
        result.award()


def test_whole_numbers_are_taken_where_they_are_right_and_named_where_they_are_not(capsys):
    assert gc.check("03-q2", lambda factor, last, threshold: np.int64(bank.by_loop(factor, last, threshold))).passed
    result = gc.check("03-q1", lambda slope, weight_variance, q: int(bank.by_hermite_e(slope, weight_variance, q)))
    assert "whole numbers" in result.message


def test_a_tensor_that_requires_grad_is_taken():
    def answer(slope, weight_variance, q):
        return torch.tensor(bank.by_hermite_e(slope, weight_variance, q), requires_grad=True) * 1.0

    assert gc.check("03-q1", answer).passed


def test_rows_in_a_list_are_an_array_and_what_is_none_is_told():
    from wrong_answers.optimizers import loop_in_numpy as rows

    assert gc.check("09-q1", lambda *given: list(rows(*given))).passed
    assert gc.check("09-q1", lambda *given: [torch.tensor(row) for row in rows(*given)]).passed
    for other in ("word", [np.zeros(2), np.zeros(3)], (np.zeros(3), "word")):
        assert "it must be an array of shape (6, 3)" in gc.check("09-q1", lambda *given, other=other: other).message


def test_changing_an_argument_in_place_is_named_and_harms_no_other_case():
    def answer(batches, weight, bias):
        right = bank.by_concatenation(batches, weight, bias)
        batches[0] += 1.0
        return right

    assert "changed its argument number 1 in place" in gc.check("03-q4", answer).message
    assert gc.check("03-q4", bank.by_concatenation).passed


def test_an_answer_that_warns_or_writes_to_stderr_still_passes_and_stderr_stays_empty(capsys):
    import sys
    import warnings

    def answer(factor, last, threshold):
        warnings.warn("watch out", stacklevel=1)
        print("debugging", file=sys.stderr)
        np.log(np.array(0.0))
        return bank.by_loop(factor, last, threshold)

    assert gc.check("03-q2", answer).passed
    assert capsys.readouterr().err == ""


def test_refused_call_is_found_under_any_name():
    from gradcourse.theory import gaussian_mean as my_own_mean

    def answer(slope, weight_variance, q):
        return (weight_variance * my_own_mean(lambda u: torch.from_numpy(slope(u.numpy()) ** 2), q)) ** 0.5

    result = gc.check("03-q1", answer)
    assert "calls gradcourse.theory.gaussian_mean, which is what the question asks you to write" in result.message
    assert result.points == 0


def test_refused_names_exist():
    from gradcourse.sheets.calling import _resolve

    for slug in SHEETS:
        for question in questions(slug).values():
            assert all(callable(_resolve(name)) for name in question.refused)


def test_award_gives_none_part_or_an_assertion():
    assert Result("03-q1", 3, 3, 3.0, "").award() is None
    part = Result("03-q1", 1, 3, 3.0, "").award()
    assert type(part) is float
    assert part == 1.0
    with pytest.raises(AssertionError, match="0 of 3 points"):
        Result("03-q1", 0, 3, 3.0, "").award()


def test_hidden_cases_count_towards_the_points_and_show_nothing(capsys):
    result = gc.check("03-q2", bank.by_loop)
    capsys.readouterr()
    hidden = [Case("03-q2", (0.123456, 1.0, 1e-5)), Case("03-q1", ("not", "for", "q2"))]
    again = add_hidden(result, bank.by_loop, hidden)
    assert again.passed
    assert again.cases == result.cases + 1
    assert "0.123456" not in capsys.readouterr().out


def test_run_hidden_says_where_the_cases_are_missing():
    with pytest.raises(FileNotFoundError, match="stay with the instructor's copy"):
        run_hidden("03_no_such_sheet", {})


def _even(value, least):
    """Judge an answer of which many are right."""
    if value["number"] % 2:
        return f"{value['number']} is odd."
    return "" if value["number"] >= least else f"{value['number']} is below {least}."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda least: {"number": 2 * least}, "right on all 2 visible cases"),
        (lambda least: {"number": 100}, "right on all 2 visible cases"),
        (lambda least: {"number": 3}, "3 is odd. Only even ones. Seen at: even_number(4)."),
        (lambda least: {"number": 6}, "6 is below 9. Seen at: even_number(9)."),
        (lambda least: {"number": "six"}, "It must return a dict with an even number; with what it returned there was"),
        (lambda least: 6, "It must return a dict with an even number"),
        (lambda least: {}, "It must return a dict with an even number"),
        (lambda least: {"number": object()}, "returned a object, which is not a number"),
    ],
)
def test_question_with_many_right_answers_is_judged_and_says_what_is_wrong(answer, words):
    question = Question(
        id="00-q1",
        signature="even_number(least)",
        returns="a dict with an even number",
        points=2,
        minutes=1,
        core=False,
        oracle=None,
        cases=lambda: [Case("00-q1", (4,), hint="Only even ones."), Case("00-q1", (9,))],
        judge=_even,
    )
    key = AnswerKey(question, question.cases())
    result = key.result(key.outcomes(answer))
    assert words in result.message
    assert result.passed == ("right" in words)


def test_every_case_of_the_lsuv_question_can_be_answered():
    """A network that is dead for all inputs would have no answer; narrow random ones often are."""
    path = SOLUTIONS / "05_initialization" / "hidden.py"
    spec = importlib.util.spec_from_file_location("hidden_05", path)
    hidden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hidden)
    question = questions("05")["05-q4"]
    for seed in range(60):
        for case in hidden.cases(np.random.default_rng(seed)):
            if case.question == question.id:
                assert all(np.isfinite(weight).all() for weight in question.oracle(*case.arguments)), (seed, case.shown)
