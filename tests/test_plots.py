"""Plots are tested as data on the Axes, and by the numbers in their alt text."""

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import gradcourse as gc
from gradcourse import plots

matplotlib.use("agg")


@pytest.fixture(scope="module")
def sigmoid():
    return gc.run(gc.Config(depth=8, width=16, activation="sigmoid", steps=3))


@pytest.fixture(scope="module")
def relu():
    return gc.run(gc.Config(depth=8, width=16, activation="relu", init="he", steps=3))


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


def line(ax, label):
    return next(line for line in ax.lines if line.get_label() == label)


def test_plot_gradients_draws_what_the_trace_holds(sigmoid, ax):
    assert gc.plot_gradients(sigmoid, ax, step=2) is ax
    np.testing.assert_array_equal(line(ax, "RMS of ∂L/∂h").get_ydata(), sigmoid.delta[2, sigmoid.has_weight])
    weights = line(ax, "norm of ∂L/∂W")
    np.testing.assert_array_equal(weights.get_ydata(), sigmoid.weight_gradient[2, sigmoid.has_weight])
    np.testing.assert_array_equal(weights.get_xdata(), np.arange(1, 9))
    assert ax.get_yscale() == "log"
    assert "log scale" in ax.get_ylabel()
    assert "layer" in ax.get_xlabel()


def test_plot_gradients_tells_traces_apart_by_colour_and_marker(sigmoid, relu, ax):
    gc.plot_gradients({"one": sigmoid, "two": relu}, ax)
    one, two = line(ax, "one: RMS of ∂L/∂h"), line(ax, "two: RMS of ∂L/∂h")
    assert one.get_color() != two.get_color()
    assert one.get_marker() != two.get_marker()


def test_theory_line_is_the_profile_anchored_at_the_output(sigmoid, ax):
    gc.plot_gradients(sigmoid, ax, theory=True)
    expected = gc.theory.gradient_profile(sigmoid.config) * sigmoid.at_weights("delta")[-1]
    np.testing.assert_allclose(line(ax, "theory").get_ydata(), expected)


@pytest.mark.parametrize("guess", [0.25, gc.predict("test-guess", 0.25)], ids=["number", "prediction"])
def test_guess_is_a_dashed_geometric_sequence_from_the_last_hidden_layer(sigmoid, ax, guess):
    gc.plot_gradients(sigmoid, ax, guess=guess)
    drawn = line(ax, "your guess")
    assert drawn.get_linestyle() == "--"
    values = drawn.get_ydata()
    assert values[-1] == sigmoid.at_weights("delta")[-2]
    np.testing.assert_allclose(values[:-1] / values[1:], 0.25)


def test_plot_activations_draws_before_and_after_the_activation(sigmoid, ax):
    gc.plot_activations(sigmoid, ax)
    before, after = line(ax, "pre-activation").get_ydata(), line(ax, "activation").get_ydata()
    np.testing.assert_array_equal(before, sigmoid.activation_rms[0, sigmoid.has_weight])
    np.testing.assert_array_equal(after, sigmoid.activation_rms[0, ~sigmoid.has_weight])


def test_plot_loss_draws_loss_against_step(sigmoid, ax):
    gc.plot_loss(sigmoid, ax)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), sigmoid.loss)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), sigmoid.steps)


def numbers(text):
    return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


def test_alt_text_holds_the_numbers_of_the_trace(sigmoid, ax):
    gc.plot_gradients(sigmoid, ax)
    text = plots.description(ax.figure)
    delta = sigmoid.at_weights("delta")
    steps = len(delta) - 2
    factor = np.exp(np.polyfit(np.arange(steps + 1), np.log(delta[:-1]), 1)[0] * -1)
    found = numbers(text)
    for expected in (delta[0], delta[-1], factor):
        assert any(np.isclose(number, expected, rtol=0.06) for number in found), (expected, text)


def test_alt_text_of_activations_and_loss_hold_their_numbers(sigmoid):
    figure = Figure()
    gc.plot_activations(sigmoid, figure.add_subplot(1, 2, 1))
    gc.plot_loss(sigmoid, figure.add_subplot(1, 2, 2))
    found = numbers(plots.description(figure))
    rms = sigmoid.at_weights("activation_rms")
    for expected in (rms[0], rms[-1], sigmoid.loss[0], sigmoid.loss[-1]):
        assert any(np.isclose(number, expected, rtol=0.06) for number in found)


def test_plots_touch_neither_rcparams_nor_other_figures(sigmoid, ax):
    before = dict(matplotlib.rcParams)
    open_before = matplotlib.pyplot.get_fignums()
    for plot in (gc.plot_gradients, gc.plot_activations, gc.plot_loss):
        plot(sigmoid, ax)
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.pyplot.get_fignums() == open_before


def test_png_in_a_kernel_carries_the_alt_text(sigmoid, ax, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    formatter = shell.display_formatter.formatters["image/png"]
    formatter.for_type(Figure, lambda figure: b"png")
    for _ in range(2):  # wrapping twice would nest
        gc.plot_gradients(sigmoid, ax)
    data, metadata = shell.display_formatter.format(ax.figure)
    assert data["image/png"] == b"png"
    assert metadata["image/png"]["alt"] == plots.description(ax.figure)
    InteractiveShell.clear_instance()


def test_missing_data_raise_one_clear_line(sigmoid, ax):
    with pytest.raises(ValueError, match="needs a Trace or a mapping"):
        gc.plot_gradients([1, 2], ax)
    with pytest.raises(ValueError, match="needs a Trace or a mapping"):
        gc.plot_gradients({}, ax)
    with pytest.raises(ValueError, match="holds no Config"):
        gc.plot_gradients(replace(sigmoid, config=None), ax, theory=True)
    with pytest.raises(ValueError, match="holds no loss"):
        gc.plot_loss(replace(sigmoid, loss=np.full(3, np.nan)), ax)
    with pytest.raises(IndexError, match="3 recorded steps"):
        gc.plot_gradients(sigmoid, ax, step=7)


def test_a_gradient_that_is_zero_or_nan_is_drawn_as_a_gap_without_a_warning(sigmoid, ax):
    delta = sigmoid.delta.copy()
    delta[0, :2] = 0.0
    delta[0, 4] = np.nan
    gc.plot_gradients(replace(sigmoid, delta=delta), ax)
    ax.figure.canvas.draw()
