"""Predictions: committed before, compared after."""

import pytest

import gradcourse as gc


@pytest.mark.parametrize(
    ("guess", "measured", "words"),
    [
        (0.25, 0.236, "close"),
        (0.5, 0.5, "exactly right"),
        (0.1, 0.5, "the right order of magnitude, off by a factor of 5.0"),
        (1.0, 1e-2, "off by a factor of 100"),
        (0.01, 1e-12, "off by a factor of 1e+10"),
        (-1.0, 1.0, "another sign"),
        (0.0, 1.0, "one of the two is 0"),
        ("B ", "b", "right"),
        ("a", "b", "not so"),
    ],
)
def test_reveal_compares_guess_and_measurement(guess, measured, words, capsys):
    gc.predict("t-p1", guess)
    gc.reveal("t-p1", measured)
    assert capsys.readouterr().out.rstrip().endswith(f": {words}.")


def test_reveal_without_a_guess_asks_for_one_and_shows_nothing(capsys):
    gc.reveal("t-never", 0.123)
    printed = capsys.readouterr().out
    assert "no guess yet" in printed
    assert "0.12" not in printed


@pytest.mark.parametrize(("guess", "measured"), [("a", 0.5), (0.5, "a")])
def test_reveal_names_a_guess_of_the_wrong_kind(guess, measured, capsys):
    gc.predict("t-p2", guess)
    gc.reveal("t-p2", measured)
    assert "the question asks for" in capsys.readouterr().out


def test_committing_again_replaces_the_guess(capsys):
    gc.predict("t-p3", 1.0)
    gc.predict("t-p3", 2.0)
    gc.reveal("t-p3", 2.0)
    assert "exactly right" in capsys.readouterr().out


@pytest.mark.parametrize("guess", [None, [1], True])
def test_predict_refuses_what_is_no_guess(guess):
    with pytest.raises(TypeError, match="a number or the letter"):
        gc.predict("t-p4", guess)


@pytest.mark.parametrize("guess", [float("nan"), float("inf")])
def test_predict_refuses_numbers_that_are_not_finite(guess):
    with pytest.raises(ValueError, match="finite"):
        gc.predict("t-p5", guess)


def test_prediction_is_a_number_where_one_is_needed():
    assert float(gc.predict("t-p6", 0.25)) == 0.25
    assert repr(gc.predict("t-p6", 0.25)) == "Prediction t-p6: 0.25"
