"""The loss with its events, and paths on a surface."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import gradcourse as gc
from gradcourse.trace import Event

matplotlib.use("agg")


@pytest.fixture(scope="module")
def trace():
    return gc.run(gc.Config(depth=4, width=16, steps=6))


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


def marked(ax, kind):
    return [line for line in ax.lines if line.get_label() == f"_{kind}"]


@pytest.mark.parametrize(
    ("config", "label"),
    [
        (gc.Config(), "cross-entropy loss (nats)"),
        (gc.Config(loss="mse"), "mean squared error"),
        (None, "loss"),
    ],
)
def test_label_of_the_loss_is_that_of_its_config(trace, ax, config, label):
    gc.plot_loss(replace(trace, config=config), ax)
    assert ax.get_ylabel() == label


def test_label_of_different_losses_is_loss(trace, ax):
    gc.plot_loss({"one": trace, "two": replace(trace, config=None)}, ax)
    assert ax.get_ylabel() == "loss"


def test_loss_over_more_than_three_decades_is_on_a_log_scale(trace, ax):
    gc.plot_loss(replace(trace, loss=np.array([2.0, 1e2, 1e4, 1e8, np.inf, np.nan])), ax)
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "cross-entropy loss (nats, log scale)"
    assert ax.get_ylim()[1] < 1e10
    assert gc.describe(ax) == "Training loss. from 2 to nan in 6 steps."


def test_loss_with_zeros_stays_on_a_linear_scale(trace, ax):
    gc.plot_loss(replace(trace, loss=np.array([2.0, 1e-4, 0.0, 1.0, 1.0, 1.0])), ax)
    assert ax.get_yscale() == "linear"


def test_events_are_marked_at_their_steps_and_said(trace, ax):
    events = (
        Event("clipped", 1, raw=9.0, used=1.0),
        Event("clipped", 3, raw=9.0, used=1.0),
        Event("zero update", 4, "linear1"),
        Event("zero update", 4, "linear2"),
        Event("non-finite", 5, "linear3", "forward"),
    )
    gc.plot_loss(replace(trace, events=events), ax)
    steps = {kind: marked(ax, kind)[0].get_xdata().tolist() for kind in ("clipped", "zero update", "non-finite")}
    assert steps == {"clipped": [1, 3], "zero update": [4], "non-finite": [5]}
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["loss", "gradient clipped", "a layer stops moving", "first inf or NaN"]
    said = gc.describe(ax)
    assert "The gradient was clipped at 2 steps, first at step 1." in said
    assert "The first value that is not finite is at step 5, linear3." in said
    assert "2 layers stopped moving, first linear1 at step 4." in said


def test_events_do_not_lie_on_the_curves(trace, ax):
    runs = {str(n): replace(trace, events=(Event("clipped", 2), Event("non-finite", 5, "loss"))) for n in range(3)}
    gc.plot_loss(runs, ax)
    ax.figure.draw_without_rendering()
    curves = [line for line in ax.lines if line.get_label() in runs]
    low, high = (
        pick(ax.transAxes.inverted().transform(ax.transData.transform(line.get_xydata()))[:, 1].tolist())
        for pick, line in ((min, curves[0]), (max, curves[0]))
    )
    for mark in marked(ax, "clipped") + marked(ax, "non-finite"):
        assert not low <= mark.get_ydata()[0] <= high


def test_a_run_that_diverged_at_once_is_drawn(trace, ax):
    lost = replace(trace, loss=np.full(6, np.nan), events=(Event("non-finite", 0, "linear1", "forward"),))
    gc.plot_loss(lost, ax)
    ax.figure.draw_without_rendering()
    assert marked(ax, "non-finite")[0].get_xdata().tolist() == [0]


# --- paths on a surface


def bowl(a, b):
    return a**2 + 10 * b**2


PATH = np.array([[3.0, 1.0], [2.0, 0.5], [1.0, -0.2]])


def test_surface_draws_the_paths_and_their_ends(ax):
    gc.plot_surface(bowl, {"SGD": PATH, "Adam": -PATH}, ax)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines[::-1]}
    np.testing.assert_array_equal(lines["SGD"], PATH)
    np.testing.assert_array_equal(lines["Adam"], -PATH)
    np.testing.assert_array_equal(lines["_start"], PATH[:1])
    np.testing.assert_array_equal(lines["_end"], PATH[-1:])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["SGD", "Adam", "start", "end"]


def test_surface_says_the_loss_at_both_ends(ax):
    gc.plot_surface(bowl, PATH, ax)
    assert "from (3, 1) with loss 19 to (1, -0.2) with loss 1.4 in 2 steps." in gc.describe(ax)


def test_contours_are_those_of_the_loss(ax):
    gc.plot_surface(bowl, PATH, ax, x=(-4, 4), y=(-2, 2))
    assert (ax.get_xlim(), ax.get_ylim()) == ((-4, 4), (-2, 2))
    lines = ax.collections[1]
    for level, path in zip(lines.levels[1:6], lines.get_paths()[1:6], strict=True):
        np.testing.assert_allclose(bowl(*path.vertices.T), level, rtol=0.05, atol=0.05)


def test_surface_says_when_a_path_leaves_the_picture(ax):
    away = np.array([[1.0, 1.0], [-30.0, 10.0], [np.inf, 1e300], [np.nan, np.nan]])
    gc.plot_surface(bowl, away, ax, x=(-2, 2), y=(-2, 2))
    ax.figure.canvas.draw()
    assert "It leaves the picture at step 1." in gc.describe(ax)


def test_surface_refuses_paths_and_losses_of_another_shape(ax):
    with pytest.raises(ValueError, match=r"the path 'SGD' has shape \(3, 3\); a path is \(S, 2\)"):
        gc.plot_surface(bowl, {"SGD": np.ones((3, 3))}, ax)
    with pytest.raises(ValueError, match="with a finite point"):
        gc.plot_surface(bowl, np.full((3, 2), np.nan), ax)
    with pytest.raises(ValueError, match="it must work on arrays"):
        gc.plot_surface(lambda a, b: 1.0, PATH, ax)
    with pytest.raises(ValueError, match="no path to draw"):
        gc.plot_surface(bowl, {}, ax)
