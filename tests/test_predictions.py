"""Predictions: committed before, by hand or by a button; compared after."""

import itertools
import math
import random
import re
import subprocess
import sys
from statistics import geometric_mean

import ipywidgets
import nbformat
import numpy as np
import pytest
from nbval_variants import TESTS

import gradcourse as gc
from gradcourse import journal
from gradcourse.predictions import Ordering, commit, kinds, score

OPTIONS = {"a": "it grows", "b": "it shrinks"}
NAMES = ["he", "xavier", "normal", "zero"]
WIDGETS = {  # one question of each kind: the guess, the keywords, a better guess, the measurement
    "number": (0.25, {"slider": (1e-3, 10)}, 0.5, 0.5),
    "integer": (6, {"slider": range(7)}, 5, 5),
    "choice": ("a", {"options": OPTIONS}, "b", "b"),
    "ordering": (NAMES, {"order": NAMES}, NAMES[::-1], NAMES[::-1]),
    "curve": ([1, 1, 1], {"curve": [1, 5, 9], "slider": (1e-6, 1e3)}, [0.01, 0.1, 1], [0.01, 0.1, 1]),
}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A kernel that has predicted nothing, and a record that begins empty."""
    kept = []
    monkeypatch.setattr(commit, "predictions", {})
    monkeypatch.setattr(score, "predictions", commit.predictions)
    monkeypatch.setattr(score, "_reminded", set())
    monkeypatch.setattr(score, "_known_before", set())
    monkeypatch.setattr(journal, "read", lambda: list(kept))

    def note(kind, id, **facts):
        if not journal.unattended():
            kept.append({"kind": kind, "id": id, **facts})

    monkeypatch.setattr(journal, "note", note)
    return kept


@pytest.fixture
def attended(fresh, monkeypatch):
    """A learner sits there; what is noted."""
    monkeypatch.delenv("GRADCOURSE_UNATTENDED")
    return fresh


@pytest.fixture
def bundle_of(monkeypatch):
    """A function: what a front end gets of a prediction, MIME type -> data."""
    shown = []

    def display(data, raw=False, **options):
        shown.append(data)

    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr("gradcourse.widgets.display", display)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)

    def bundle_of(prediction):
        prediction._ipython_display_()
        return shown.pop()

    return bundle_of


@pytest.fixture(params=WIDGETS)
def question(request):
    return WIDGETS[request.param]


def restart_kernel():
    commit.predictions.clear()
    score._reminded.clear()
    score._known_before.clear()


def parts(widget):
    """All widgets in a widget."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child)


def find(prediction, kind, description=""):
    found = [one for one in parts(prediction.panel) if isinstance(one, kind)]
    return next(one for one in found if description in one.description)


def press(prediction, description="Commit"):
    find(prediction, ipywidgets.Button, description).click()


def buttons(prediction):
    found = [one for one in parts(prediction.panel) if isinstance(one, ipywidgets.Button)]
    return [one for one in found if one.description == "Move up"]


def order_of(prediction):
    """The items as they are written on the screen."""
    said = [one.value for one in parts(prediction.panel) if isinstance(one, ipywidgets.HTML)]
    return [one.partition(". ")[2] for one in said if re.match(r"\d\. ", one)]


def status(prediction):
    said = [one.value for one in parts(prediction.panel) if isinstance(one, ipywidgets.HTML)]
    return next(one for one in said if 'role="status"' in one)


def move(prediction, guess):
    """Set the controls as a learner would."""
    if isinstance(guess, str):
        find(prediction, ipywidgets.RadioButtons).value = guess
    elif isinstance(guess, list) and isinstance(guess[0], str):
        for place in range(len(guess)):
            for above in range(order_of(prediction).index(guess[place]), place, -1):
                buttons(prediction)[above - 1].click()  # the first item has none
    else:
        kinds = ipywidgets.BoundedFloatText | ipywidgets.BoundedIntText
        fields = [one for one in parts(prediction.panel) if isinstance(one, kinds)]
        for field, one in zip(fields, np.ravel(guess), strict=True):
            field.value = one


# -- typed guesses ----------------------------------------------------------------------------------------------------


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
        (1e200, 1e-200, "off by a factor of more than 1e+300"),
        (1.0, math.nan, "there is nothing finite to compare with"),
        (1.0, math.inf, "there is nothing finite to compare with"),
        (np.float32(0.5), np.float64(0.5), "exactly right"),
        ("B ", "b", "right"),
        ("a", "b", "not so"),
    ],
)
def test_reveal_compares_guess_and_measurement(guess, measured, words, capsys):
    gc.predict("99-p1", guess)
    gc.reveal("99-p1", measured)
    assert capsys.readouterr().out.rstrip().endswith(f": {words}.")


def test_reveal_without_a_guess_asks_once_and_then_shows(capsys):
    gc.reveal("99-p1", 0.123)
    asked = capsys.readouterr().out
    assert "no guess yet" in asked
    assert "0.12" not in asked
    assert asked.count("\n") == 1
    gc.reveal("99-p1", 0.123)
    assert "0.123" in capsys.readouterr().out


def test_reveal_of_an_unknown_id_names_those_that_were_predicted(capsys):
    gc.predict("03-p1", 1.0)
    gc.predict("05-p2", 1.0)
    gc.reveal("03-p7", 1.0)
    said = capsys.readouterr().out
    assert "knows 03-p1, 05-p2; did you mean 03-p1?" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("measured", [None, [0.5], object, np.ones(3), "a"], ids=repr)
@pytest.mark.parametrize("id", ["99-p1", "99-p2", 3, None, ["99-p1"]], ids=repr)
def test_reveal_never_raises(id, measured, capsys):
    gc.predict("99-p1", 0.5)
    gc.reveal(id, measured)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(("guess", "measured"), [("a", 0.5), (0.5, "a")])
def test_reveal_names_a_guess_of_the_wrong_kind(guess, measured, capsys):
    gc.predict("99-p2", guess)
    gc.reveal("99-p2", measured)
    assert "the question asks for" in capsys.readouterr().out


def test_committing_again_replaces_the_guess(capsys):
    gc.predict("99-p3", 1.0)
    gc.predict("99-p3", 2.0)
    gc.reveal("99-p3", 2.0)
    assert "exactly right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("id", "guess", "asked", "words"),
    [
        ("99-p4", None, {}, "a number or the letter"),
        ("99-p4", [1], {}, "a number or the letter"),
        ("99-p4", True, {}, "a number or the letter"),
        ("99-p4", math.nan, {}, "finite"),
        ("99-p4", math.inf, {}, "finite"),
        ("99p4", 1.0, {}, "such as '03-p1'"),
        (["99-p4"], 1.0, {}, "such as '03-p1'"),
        ("99-p4", 11, {"slider": (1, 10)}, "between 1 and 10"),
        ("99-p4", "a", {"slider": (1, 10)}, "a number"),
        ("99-p4", 7, {"slider": range(7)}, "between 0 and 6"),
        ("99-p4", 2.5, {"slider": range(7)}, "a whole number between 0 and 6"),
        ("99-p4", 1, {"slider": (0, 10)}, "0 < low < high"),
        ("99-p4", 1, {"slider": (1, math.inf)}, "0 < low < high"),
        ("99-p4", 1, {"slider": 3}, "(low, high)"),
        ("99-p4", "c", {"options": OPTIONS}, "the options are a, b"),
        ("99-p4", 1, {"options": OPTIONS}, "the letter of an option"),
        ("99-p4", "a", {"options": ["a", "b"]}, "maps two letters"),
        ("99-p4", ["he", "xavier"], {"order": NAMES}, "'normal' is missing"),
        ("99-p4", [*NAMES, "lecun"], {"order": NAMES}, "'lecun' is none of them"),
        ("99-p4", [*NAMES, "he"], {"order": NAMES}, "one comes twice"),
        ("99-p4", "he", {"order": NAMES}, "a list"),
        ("99-p4", ["he", "he"], {"order": ["he", "he"]}, "two different names"),
        ("99-p4", [1, 1], {"curve": [1, 2, 3], "slider": (0.1, 10)}, "has 3 numbers here"),
        ("99-p4", [1, 1, 20], {"curve": [1, 2, 3], "slider": (0.1, 10)}, "between 0.1 and 10"),
        ("99-p4", [1, 1], {"curve": [2, 1], "slider": (0.1, 10)}, "growing order"),
        ("99-p4", [1, 1], {"curve": [1, 2]}, "needs slider=(low, high)"),
        ("99-p4", "a", {"options": OPTIONS, "order": NAMES}, "options= and order= do not go together"),
        ("99-p4", "a", {"options": OPTIONS, "curve": [1, 2]}, "options= and curve= do not go together"),
    ],
)
def test_predict_refuses_in_one_line_and_commits_nothing(id, guess, asked, words, capsys):
    prediction = gc.predict(id, guess, **asked)
    said = capsys.readouterr().out
    assert words in said
    assert said.count("\n") == 1
    assert said.startswith(f"predict({id!r}, {guess!r}): ")
    assert prediction.guess is None
    assert "nothing committed yet" in repr(prediction)


def test_refused_guess_leaves_the_committed_one(capsys):
    gc.predict("99-p4", "b", options=OPTIONS)
    gc.predict("99-p4", "c")  # typed, but the options are still known
    gc.predict("99-p4", 0.5, slider=(1, 10))  # and of another kind
    gc.reveal("99-p4", "b")
    assert capsys.readouterr().out.endswith("you said b, the run says b: right.\n")


def test_prediction_is_a_number_where_one_is_needed():
    assert float(gc.predict("99-p6", 0.25)) == 0.25
    assert repr(gc.predict("99-p6", 0.25)) == "Prediction 99-p6: 0.25"


# -- comparisons ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guess", "measured", "expected"), [(1, 1, 1), (1, 10, 0.5), (10, 1, 0.5), (1, 1e5, 0), (-1, 1, 0), (0, 1, 0)]
)
def test_numbers_score_by_orders_of_magnitude(guess, measured, expected):
    assert kinds.score_numbers(guess, measured) == pytest.approx(expected)


@pytest.mark.parametrize("order", list(itertools.permutations("wxyz")), ids="".join)
def test_ordering_counts_the_pairs_in_the_right_order(order):
    """Against the fewest swaps of neighbours that sort the guess: each swap mends one pair."""
    swaps, sorting = 0, list(order)
    for _ in sorting:
        for place in range(3):
            if sorting[place] > sorting[place + 1]:
                sorting[place], sorting[place + 1] = sorting[place + 1], sorting[place]
                swaps += 1
    words, value = Ordering(("w", "x", "y", "z")).compare(list(order), list("wxyz"))
    assert value == (6 - swaps) / 6
    assert words == ("right" if swaps == 0 else f"{6 - swaps} of 6 pairs stand in the right order")


def test_curve_that_is_only_moved_has_the_right_shape(capsys):
    curve = {"curve": [1, 5, 9, 13], "slider": (1e-9, 1e9)}
    measured = [random.Random(0).uniform(0.1, 10) for _ in range(4)]
    gc.predict("99-p1", [30 * one for one in measured], **curve)
    gc.reveal("99-p1", np.array(measured))
    assert "off by a factor of 30 on average, the shape alone by 1.0." in capsys.readouterr().out


def test_curve_is_judged_by_its_mean_ratio():
    guess, measured = [1.0, 1.0, 1.0], [0.001, 0.1, 5.0]
    words, value = kinds.Curve((1, 2, 3), (1e-9, 1e9)).compare(guess, measured)
    ratios = [max(one, 1 / one) for one in measured]
    assert f"by a factor of {geometric_mean(ratios):.0f} on average" in words
    assert value == pytest.approx(np.mean([max(0, 1 - math.log10(one) / 2) for one in ratios]))


def test_curve_with_a_zero_is_still_compared(capsys):
    gc.predict("99-p1", [1, 1], curve=[1, 2], slider=(0.1, 10))
    gc.reveal("99-p1", [0.0, 1.0])
    assert "a 0 or another sign" in capsys.readouterr().out


@pytest.mark.parametrize(("guess", "over", "expected"), [(0.5, 20, 2.0**-20), (3.0, 7, 3.0**7), (-2, 3, -8)])
def test_reveal_says_what_a_factor_makes_over_many_layers(guess, over, expected, capsys):
    gc.predict("99-p1", guess)
    gc.reveal("99-p1", 2.0, over=over, unit="blocks")
    said = capsys.readouterr().out.splitlines()[1]
    implied = re.fullmatch(rf"Over {over} blocks your factor makes (\S+), the measured one (\S+)\.", said)
    assert [float(one) for one in implied.groups()] == pytest.approx([expected, 2.0**over], rel=0.05)


def test_implied_factor_may_leave_the_range_of_floats(capsys):
    gc.predict("99-p1", 1e-30)
    gc.reveal("99-p1", 1e30, over=100)
    assert "makes 1.0e-3000, the measured one 1.0e+3000." in capsys.readouterr().out


# -- widgets ----------------------------------------------------------------------------------------------------------


def test_nothing_counts_until_the_button_is_pressed(question, attended, capsys):
    guess, keywords, _, measured = question
    prediction = gc.predict("99-p1", guess, **keywords)
    assert prediction.guess is prediction.drawn is None
    gc.reveal("99-p1", measured)
    assert "no guess yet" in capsys.readouterr().out
    assert attended == []


def test_button_commits_what_the_controls_say(question, attended, capsys):
    guess, keywords, better, measured = question
    prediction = gc.predict("99-p1", guess, **keywords)
    move(prediction, better)
    assert prediction.guess is None
    press(prediction)
    assert prediction.guess == better
    assert "Committed" in status(prediction)
    gc.reveal("99-p1", measured)
    assert "right" in capsys.readouterr().out or prediction.drawn is not None
    predicted, revealed = attended
    assert (predicted["kind"], predicted["guess"]) == ("prediction", better)
    assert (revealed["kind"], revealed["measured"], revealed["score"]) == ("reveal", measured, 1)


def test_controls_start_at_the_guess_and_commit_it_as_it_is(question, attended):
    guess, keywords, *_ = question
    prediction = gc.predict("99-p1", guess, **keywords)
    if isinstance(guess, str):  # a choice has to be made
        press(prediction)
        assert "choose an option first" in status(prediction)
        move(prediction, guess)
    press(prediction)
    assert prediction.guess == guess


def test_stored_text_is_the_same_by_widget_and_by_hand(question, attended, monkeypatch, bundle_of):
    guess, keywords, *_ = question
    prediction = gc.predict("99-p1", guess, **keywords)
    move(prediction, guess)
    press(prediction)
    committed = bundle_of(prediction)
    assert "application/vnd.jupyter.widget-view+json" in committed
    monkeypatch.setenv("GRADCOURSE_UNATTENDED", "1")
    restart_kernel()
    built = bundle_of(gc.predict("99-p1", guess, **keywords))
    assert built == {"text/plain": committed["text/plain"]}


def test_unattended_run_takes_the_fixed_guess_and_notes_nothing(question, fresh, capsys):
    guess, keywords, _, measured = question
    assert gc.predict("99-p1", guess, **keywords).guess == guess
    gc.reveal("99-p1", measured)
    assert "you said" in capsys.readouterr().out
    assert fresh == []


def test_restart_keeps_the_committed_guess(question, attended, capsys):
    guess, keywords, better, measured = question
    prediction = gc.predict("99-p1", guess, **keywords)
    move(prediction, better)
    press(prediction)
    gc.reveal("99-p1", measured)
    restart_kernel()
    again = gc.predict("99-p1", guess, **keywords)
    assert again.guess == better
    assert "last time" in status(again)
    capsys.readouterr()
    gc.reveal("99-p1", measured)
    assert "you said" in capsys.readouterr().out
    assert [event["kind"] for event in attended] == ["prediction", "reveal"]  # nothing counts twice


def test_guess_of_a_question_that_has_changed_is_forgotten(attended):
    gc.predict("99-p1", "b", options=OPTIONS)
    gc.predict("99-p1", "b")
    restart_kernel()
    assert gc.predict("99-p1", 2, slider=(1, 10)).guess is None


def test_running_the_cell_again_keeps_the_committed_guess(attended):
    first = gc.predict("99-p1", 1, slider=(0.1, 10))
    move(first, 5)
    press(first)
    again = gc.predict("99-p1", 1, slider=(0.1, 10))
    assert again is first  # what holds the prediction, such as a plot's cell, sees the present guess
    assert float(again) == 5


def test_guess_may_be_typed_where_there_is_no_button(attended, bundle_of):
    prediction = gc.predict("99-p1", "a", options=OPTIONS)
    assert "Type it: gc.predict('99-p1', your guess)" in bundle_of(prediction)["text/plain"]
    gc.predict("99-p1", "b")
    assert prediction.guess == "b"


def test_guess_after_the_measurement_was_shown_is_not_scored(attended, capsys):
    for _ in range(2):
        gc.reveal("99-p1", 0.5)
    gc.predict("99-p1", 0.5)
    gc.reveal("99-p1", 0.5)
    assert "exactly right" in capsys.readouterr().out
    assert [event["kind"] for event in attended] == ["prediction"]


def test_typed_guess_shows_as_text(attended, bundle_of):
    gc.predict("99-p1", 1, slider=(0.1, 10))
    assert bundle_of(gc.predict("99-p1", 2)) == {"text/plain": "Prediction 99-p1: 2"}


def test_without_ipywidgets_the_text_appears(attended, monkeypatch, bundle_of):
    monkeypatch.setitem(sys.modules, "gradcourse.predictions.panel", None)
    shown = bundle_of(gc.predict("99-p1", "a", options=OPTIONS))
    assert list(shown) == ["text/plain"]
    assert "Type it" in shown["text/plain"]


def test_second_commit_is_a_second_score(attended):
    prediction = gc.predict("99-p1", 1, slider=(0.1, 10))
    for guess in (1, 5):
        move(prediction, guess)
        press(prediction)
        press(prediction)  # twice is once
        gc.reveal("99-p1", 5.0)
        gc.reveal("99-p1", 5.0)
    assert [event["kind"] for event in attended] == ["prediction", "reveal"] * 2


def test_ordering_is_moved_by_buttons_that_say_what_they_move(attended):
    prediction = gc.predict("99-p1", NAMES, order=NAMES)
    first, second, third = buttons(prediction)
    assert order_of(prediction) == ["he", "xavier", "normal", "zero"]
    assert third.tooltip == "Move zero up"
    third.click()
    assert order_of(prediction) == ["he", "xavier", "zero", "normal"]
    assert (second.tooltip, third.tooltip) == ("Move zero up", "Move normal up")
    first.click()
    press(prediction)
    assert prediction.guess == order_of(prediction) == ["xavier", "he", "zero", "normal"]


def test_number_and_slider_move_together(attended):
    prediction = gc.predict("99-p1", 0.5, slider=(1e-3, 10))
    field, slider = find(prediction, ipywidgets.BoundedFloatText), find(prediction, ipywidgets.IntSlider)
    assert field.value == 0.5
    slider.value += 75  # of 300 places in four decades
    assert field.value == pytest.approx(5, rel=0.02)
    assert field.value == float(f"{field.value:.3g}")  # more digits than these no hand can mean
    field.value = 0.654321  # typed: kept as it is
    press(prediction)
    assert prediction.guess == field.value == 0.654321
    for end in (slider.max, slider.min):
        slider.value = end
        press(prediction)  # the ends are allowed
        assert "Committed" in status(prediction)
    assert prediction.guess == 1e-3


def test_curve_is_drawn_as_it_is_moved(attended):
    prediction = gc.predict("99-p1", [1, 1, 1], curve=[1, 5, 9], slider=(0.01, 100))

    def heights():
        pictures = [one.value for one in parts(prediction.panel) if isinstance(one, ipywidgets.HTML)]
        drawn = next(one for one in pictures if "<svg" in one)
        return [float(one) for one in re.findall(r'cy="([\d.]+)"', drawn)]

    assert len(set(heights())) == 1
    move(prediction, [0.01, 1, 100])
    low, middle, high = heights()
    assert low > middle > high  # SVG counts from the top
    assert low - middle == pytest.approx(middle - high, abs=0.11)


def test_every_control_has_a_label(question, attended):
    guess, keywords, *_ = question
    passive = ipywidgets.Box | ipywidgets.HTML | ipywidgets.IntSlider  # beside its field
    controls = [one for one in parts(gc.predict("99-p1", guess, **keywords).panel) if not isinstance(one, passive)]
    assert len(controls) > 1
    assert all(one.description for one in controls)


def test_text_of_a_question_is_no_markup(attended):
    prediction = gc.predict("99-p1", ["<b>", "x"], order=["<b>", "x"])
    press(prediction)
    assert "<b>, x" not in status(prediction)
    assert "&lt;b&gt;, x" in status(prediction)


# -- plots ------------------------------------------------------------------------------------------------------------


def test_curve_is_drawn_as_a_mapping_from_its_positions():
    prediction = gc.predict("99-p1", [0.1, 0.2], curve=[1, 5], slider=(0.01, 1))
    assert prediction.drawn == {1: 0.1, 5: 0.2}


# -- lessons ----------------------------------------------------------------------------------------------------------


def predictions_of(path):
    """The code cells of a lesson that predict."""
    cells = nbformat.v4.reads(path.read_text(encoding="utf-8")).cells
    return [cell for cell in cells if cell.cell_type == "code" and "gc.predict(" in cell.source]


@pytest.mark.parametrize("path", sorted((TESTS.parent / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_each_lesson_asks_by_controls_under_ids_of_its_own(path, attended, capsys):
    ids = []
    for cell in predictions_of(path):
        exec(cell.source, {"gc": gc, "range": range})
        assert capsys.readouterr().out == "", cell.id
        ids.append(*re.findall(r'gc\.predict\(\s*"([^"]+)"', cell.source))
        prediction = commit.predictions[ids[-1]]
        assert prediction.panel is not None, cell.id
        (output,) = cell.outputs
        assert re.fullmatch(rf"Prediction {ids[-1]}: \S.*", output.data["text/plain"])
    assert ids == [f"{path.stem[:2]}-p{number}" for number in range(1, len(ids) + 1)]


def test_predicting_needs_no_torch():
    code = "import sys, gradcourse as gc; gc.predict('99-p1', 0.5, slider=(0.1, 1)); gc.reveal('99-p1', 0.5)"
    code += "; print('torch' in sys.modules, 'ipywidgets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
