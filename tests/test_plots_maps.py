"""Heat maps: their cells are compared with the arrays they were made from."""

import itertools
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import gradcourse as gc

matplotlib.use("agg")


@pytest.fixture(scope="module")
def trace():
    return gc.run(gc.Config(depth=6, width=16, activation="relu", init="he", steps=9, record_every=2))


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


class FakeSweep(dict):
    """What plot_phase needs of a sweep: a mapping from tuples of axis values to Traces, with axes."""

    def __init__(self, base, **axes):
        self.axes = axes
        keys = itertools.product(*axes.values())
        super().__init__({key: gc.run(replace(base, **dict(zip(axes, key, strict=True)))) for key in keys})


@pytest.fixture(scope="module")
def sweep():
    base = gc.Config(depth=6, width=16, activation="tanh", steps=0)
    return FakeSweep(base, gain=[0.5, 1.0, 3.0], bias_std=[0.1, 0.2], seed=[0, 1, 2])


def cells(ax):
    return ax.collections[0].get_array()


def words(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def corners(polygons):
    """The lower left and upper right corner of each path."""
    return [(*path.vertices.min(axis=0), *path.vertices.max(axis=0)) for path in polygons.get_paths()]


@pytest.mark.parametrize("statistic", ["delta", "weight_gradient", "update_ratio", "activation_rms"])
def test_map_of_a_size_shows_layers_with_weights_on_a_log_scale(trace, ax, statistic):
    assert gc.plot_map(trace, statistic, ax) is ax
    np.testing.assert_array_equal(cells(ax), getattr(trace, statistic)[:, trace.has_weight].T)
    assert isinstance(ax.collections[0].norm, LogNorm)
    assert "log scale" in ax.collections[0].colorbar.ax.get_ylabel()


def test_map_of_a_fraction_shows_the_activations_from_0_to_1(trace, ax):
    gc.plot_map(trace, "dead", ax)
    np.testing.assert_array_equal(cells(ax), trace.dead[:, ~trace.has_weight].T)
    assert ax.collections[0].get_clim() == (0.0, 1.0)


def test_map_stands_at_the_steps_and_layers(trace, ax):
    gc.plot_map(trace, "delta", ax)
    edges = ax.collections[0].get_coordinates()
    np.testing.assert_array_equal(edges[0, :, 0], [-1, 1, 3, 5, 7, 9])
    np.testing.assert_array_equal(edges[:, 0, 1], np.arange(7) + 0.5)
    ax.figure.draw_without_rendering()
    assert all(float(place).is_integer() for place in (*ax.get_xticks(), *ax.get_yticks()))


def test_map_marks_what_has_no_colour(trace, ax):
    delta = trace.delta.copy()
    layers = np.flatnonzero(trace.has_weight)
    delta[2:4, layers[1]] = np.nan
    delta[4, layers[5]] = np.inf
    delta[0, layers[0]] = 0.0
    gc.plot_map(replace(trace, delta=delta), "delta", ax)
    hidden = np.ma.getmaskarray(cells(ax))
    assert set(zip(*np.nonzero(hidden), strict=True)) == {(1, 2), (1, 3), (5, 4), (0, 0)}
    assert corners(ax.collections[1]) == [(3, 1.5, 7, 2.5), (7, 5.5, 9, 6.5)]
    assert ax.collections[1].get_hatch()
    assert words(ax) == ["inf or NaN", "blank: 0"]
    assert "1 of 30 cells are 0, first at step 0." in gc.describe(ax)
    assert "3 of 30 cells are inf or NaN, first at step 4." in gc.describe(ax)


def test_map_says_its_extremes_and_where_they_are(trace, ax):
    gc.plot_map(trace, "update_ratio", ax)
    values = trace.update_ratio[:, trace.has_weight]
    step, layer = np.unravel_index(values.argmax(), values.shape)
    said = f"largest {values.max():.2g} at layer {layer + 1}, step {trace.steps[step]}"
    assert said in gc.describe(ax)


def test_map_of_one_step_and_of_some_steps(trace, ax):
    gc.plot_map(gc.run(gc.Config(depth=3, width=8, steps=0)), ax=ax)
    ax.figure.draw_without_rendering()
    assert cells(ax).shape == (3, 1)
    other = gc.plot_map(trace, "delta", Figure().add_subplot(), steps=[4, 8])
    np.testing.assert_array_equal(cells(other), trace.delta[[2, 4]][:, trace.has_weight].T)


def test_map_of_all_layers_lost_is_drawn(trace, ax):
    lost = gc.run(gc.Config(depth=12, activation="relu", init="he", gain=1e9, steps=3))
    gc.plot_map(lost, "delta", ax)
    ax.figure.draw_without_rendering()
    assert words(ax) == ["inf or NaN"]


def test_map_refuses_several_traces_and_unknown_statistics(trace, ax):
    with pytest.raises(ValueError, match=r"gc.compare\(traces, plot=gc.plot_map\)"):
        gc.plot_map({"one": trace}, ax=ax)
    with pytest.raises(ValueError, match="a trace holds delta, weight_gradient"):
        gc.plot_map(trace, "gradient", ax)
    with pytest.raises(ValueError, match="holds no saturation: record a net with sigmoid"):
        gc.plot_map(trace, "saturation", ax)


# --- the phase diagram of a sweep


def test_phase_is_the_median_over_the_other_axes(sweep, ax):
    gc.plot_phase(sweep, ax)
    for (row, bias), (column, gain) in itertools.product(enumerate([0.1, 0.2]), enumerate([0.5, 1.0, 3.0])):
        deltas = [sweep[gain, bias, seed].at_weights("delta") for seed in range(3)]
        expected = sorted(np.log10(delta[0]) - np.log10(delta[-2]) for delta in deltas)[1]
        assert cells(ax)[row, column] == pytest.approx(expected)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("gain", "bias_std")
    assert ax.collections[0].norm.vcenter == 0
    low, high = cells(ax).min(), cells(ax).max()
    assert f"Lowest {low:.2g} at gain=0.5" in gc.describe(ax)
    assert f"highest {high:.2g} at gain=3" in gc.describe(ax)


def test_phase_takes_any_axes_and_any_number(sweep, ax):
    gc.plot_phase(sweep, ax, x="seed", y="gain", value=lambda trace: trace.loss[0], label="loss (nats)")
    expected = [[np.median([sweep[g, b, s].loss[0] for b in (0.1, 0.2)]) for s in range(3)] for g in (0.5, 1.0, 3.0)]
    np.testing.assert_allclose(cells(ax), expected)
    assert ax.collections[0].colorbar.ax.get_ylabel() == "loss (nats)"


def test_phase_hatches_cells_that_were_not_run_or_have_no_finite_value(sweep, ax):
    part = FakeSweep.__new__(FakeSweep)
    part.update({key: trace for key, trace in sweep.items() if key[:2] != (3.0, 0.2)})
    part.axes = sweep.axes
    gc.plot_phase(part, ax, value=lambda trace: np.inf if trace.config.gain == 0.5 else 1.0)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells(ax)), [[True, False, False], [True, False, True]])
    assert "3 cells have no finite value." in gc.describe(ax)


def test_phase_of_names_and_of_geometric_axes(ax):
    base = gc.Config(depth=4, width=8, steps=0)
    gc.plot_phase(FakeSweep(base, gain=[0.5, 1.0, 2.0, 4.0], activation=["tanh", "relu"]), ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["tanh", "relu"]
    assert ax.get_xscale() == "log"
    np.testing.assert_allclose(ax.collections[0].get_coordinates()[0, :, 0], 0.5 * 2.0 ** np.arange(-0.5, 4))


def test_phase_draws_theory_as_a_line_from_x_to_y(sweep, ax):
    gc.plot_phase(sweep, ax, theory=lambda gain: 0.1 + gain / 100)
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), 0.1 + line.get_xdata() / 100)
    assert line.get_xdata().min() == pytest.approx(0.25)
    assert line.get_xdata().max() == pytest.approx(4.0)
    with pytest.raises(ValueError, match="two axes of numbers"):
        gc.plot_phase(
            FakeSweep(gc.Config(depth=3, width=8, steps=0), gain=[1.0, 2.0], activation=["tanh", "relu"]),
            Figure().add_subplot(),
            theory=lambda gain: gain,
        )


def test_phase_refuses_what_is_no_sweep_over_two_axes(sweep, trace, ax):
    with pytest.raises(ValueError, match="a sweep over two axes or more, not Trace"):
        gc.plot_phase(trace, ax)
    one = FakeSweep(gc.Config(depth=3, width=8, steps=0), gain=[1.0])
    with pytest.raises(ValueError, match="not one over gain"):
        gc.plot_phase(one, ax)
    with pytest.raises(ValueError, match="no axis 'width' in this sweep; it has gain, bias_std, seed"):
        gc.plot_phase(sweep, ax, x="width")
    with pytest.raises(ValueError, match="two different axes"):
        gc.plot_phase(sweep, ax, x="gain", y="gain")


def test_other_plots_label_a_sweep_s_runs_by_its_axes(sweep, ax):
    gc.plot_gradients(sweep, ax)
    assert ax.lines[0].get_label() == "gain=0.5, bias_std=0.1, seed=0: RMS of ∂L/∂h"
