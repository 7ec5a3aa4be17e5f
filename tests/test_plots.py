"""Plots are tested as data on the Axes, and by the numbers in their alt text."""

import re
import subprocess
import sys
from dataclasses import replace

import matplotlib
import matplotlib.pyplot
import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure

import gradcourse as gc

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


@pytest.mark.parametrize("guess", [0.25, gc.predict("99-p1", 0.25)], ids=["number", "prediction"])
def test_guess_is_a_dashed_geometric_sequence_from_the_last_hidden_layer(sigmoid, ax, guess):
    gc.plot_gradients(sigmoid, ax, guess=guess)
    drawn = line(ax, "your guess")
    assert drawn.get_linestyle() == "--"
    values = drawn.get_ydata()
    assert values[-1] == sigmoid.at_weights("delta")[-2]
    np.testing.assert_allclose(values[:-1] / values[1:], 0.25)


def test_guess_of_a_curve_is_dashed_points_in_units_of_the_last_hidden_layer(sigmoid, ax):
    gc.plot_gradients(sigmoid, ax, guess=gc.predict("99-p2", [0.01, 0.5], curve=[2, 5], slider=(1e-3, 1)))
    drawn = line(ax, "your guess")
    assert drawn.get_linestyle() == "--"
    np.testing.assert_array_equal(drawn.get_xdata(), [2, 5])
    np.testing.assert_allclose(drawn.get_ydata(), sigmoid.at_weights("delta")[-2] * np.array([0.01, 0.5]))


def test_guess_that_is_not_committed_is_not_drawn(sigmoid, ax, monkeypatch):
    monkeypatch.delenv("GRADCOURSE_UNATTENDED")
    monkeypatch.setattr("gradcourse.journal.read", list)
    gc.plot_gradients(sigmoid, ax, guess=gc.predict("99-p3", 0.25, slider=(0.01, 1)))
    assert "your guess" not in [drawn.get_label() for drawn in ax.lines]


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
    text = gc.describe(ax.figure)
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
    found = numbers(gc.describe(figure))
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
    assert metadata["image/png"]["alt"] == gc.describe(ax.figure)
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


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_legend_of_several_runs_names_each_run_and_each_quantity_once(sigmoid, relu, ax):
    gc.plot_gradients({"one": sigmoid, "two": relu}, ax, theory=True, guess=0.3)
    expected = ["one", "two", "RMS of ∂L/∂h", "norm of ∂L/∂W", "theory", "your guess"]
    assert legend_texts(ax) == expected


def test_legend_of_many_runs_says_how_many_more_there_are(sigmoid, ax):
    gc.plot_updates({f"run {n}": sigmoid for n in range(30)}, ax)
    assert any(text.endswith("more runs") for text in legend_texts(ax))
    assert len(legend_texts(ax)) < 20


def test_legend_goes_below_the_axes_where_it_would_cover_data(sigmoid):
    for filled in (False, True):
        ax = Figure(figsize=(6.4, 4.0), layout="constrained").add_subplot()
        if filled:
            ax.plot(np.tile([1, 8], 40), np.geomspace(1e-12, 1e3, 80), color="0.5", label="_scribble")
        gc.plot_gradients(sigmoid, ax)
        ax.figure.draw_without_rendering()
        assert (ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0) == filled


def test_zero_is_marked_at_the_bottom_edge_and_nan_at_the_top_and_both_are_said(sigmoid, ax):
    delta = sigmoid.delta.copy()
    layers = np.flatnonzero(sigmoid.has_weight)
    delta[0, layers[:2]], delta[0, layers[4]], delta[0, layers[5]] = 0.0, np.nan, np.inf
    gc.plot_gradients(replace(sigmoid, delta=delta), ax)
    np.testing.assert_array_equal(line(ax, "0: below the scale").get_xdata(), [1, 2])
    np.testing.assert_array_equal(line(ax, "inf or NaN").get_xdata(), [5, 6])
    assert max(line(ax, "0: below the scale").get_ydata()) < 0.2 < 0.8 < min(line(ax, "inf or NaN").get_ydata())
    assert "RMS of dL/dh is 0 at layers 1-2 and inf or NaN at layers 5-6." in gc.describe(ax)
    drawn = line(ax, "RMS of ∂L/∂h").get_ydata()
    np.testing.assert_array_equal(np.isnan(drawn), [True, True, False, False, True, True, False, False])


def test_a_later_step_is_named_in_the_title(sigmoid, ax):
    gc.plot_gradients(sigmoid, ax, step=-1)
    assert ax.get_title() == "Gradient of every layer, step 2"
    assert "step 2" in gc.describe(ax)


def test_gradients_are_drawn_without_delta_if_it_was_not_recorded(sigmoid, ax):
    alone = replace(sigmoid, delta=np.full_like(sigmoid.delta, np.nan))
    gc.plot_gradients(alone, ax)
    assert [drawn.get_label() for drawn in ax.lines] == ["norm of ∂L/∂W"]
    assert "dL/dh" not in gc.describe(ax)
    with pytest.raises(ValueError, match=r"holds no delta: name it in Recorder\(statistics=...\)"):
        gc.plot_gradients(alone, ax, guess=0.3)


def test_activations_leave_out_normalizations(ax):
    trace = gc.run(gc.Config(depth=4, width=8, activation="relu", init="he", norm="batch", steps=0))
    gc.plot_activations(trace, ax)
    expected = [trace.activation_rms[0, trace.layers.index(f"relu{n}")] for n in (1, 2, 3)]
    np.testing.assert_array_equal(line(ax, "activation").get_ydata(), expected)
    np.testing.assert_array_equal(line(ax, "activation").get_xdata(), [1, 2, 3])


def test_saturation_draws_saturated_outputs_of_one_run_and_dead_units_of_another(sigmoid, relu, ax):
    gc.plot_saturation({"one": sigmoid, "two": relu}, ax)
    np.testing.assert_array_equal(line(ax, "one: saturated outputs").get_ydata(), sigmoid.saturation[0, 1::2])
    np.testing.assert_array_equal(line(ax, "two: dead units").get_ydata(), relu.dead[0, 1::2])
    assert ax.get_yscale() == "linear"
    found = numbers(gc.describe(ax))
    assert any(np.isclose(number, relu.dead[0, 1], rtol=0.06) for number in found)


def test_updates_draw_the_ratio_with_the_guide_line(sigmoid, ax):
    gc.plot_updates(sigmoid, ax, step=1)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), sigmoid.at_weights("update_ratio", 1))
    assert set(line(ax, "guide: 1e-3").get_ydata()) == {1e-3}
    below = (sigmoid.at_weights("update_ratio", 1) < 1e-3).sum()
    assert f"{below} of 8 layers are below 1e-3" in gc.describe(ax)


@pytest.mark.parametrize(
    ("plot", "statistic", "remedy"),
    [
        (gc.plot_activations, "activation_rms", "name it in Recorder"),
        (gc.plot_saturation, "saturation", "sigmoid, tanh"),
        (gc.plot_updates, "update_ratio", "record at least one step of an optimizer"),
        (gc.plot_map, "delta", "name it in Recorder"),
    ],
)
def test_a_statistic_that_was_not_recorded_is_one_clear_line(sigmoid, ax, plot, statistic, remedy):
    without = replace(sigmoid, **{statistic: np.full_like(sigmoid.delta, np.nan)})
    with pytest.raises(ValueError, match=f"plot_.* holds no {statistic}.*{remedy}") as caught:
        plot(without, ax=ax)
    assert "\n" not in str(caught.value)
    assert not ax.has_data()


def test_theory_needs_all_layers_of_its_config(sigmoid, ax):
    with pytest.raises(ValueError, match="has 8 layers with weights and the trace holds 2"):
        gc.plot_gradients(sigmoid.select(layers=slice(0, 4)), ax, theory=True)


def test_a_trace_without_a_step_is_refused(sigmoid, ax):
    with pytest.raises(ValueError, match="holds no recorded step"):
        gc.plot_gradients(sigmoid.select(steps=[]), ax)


def test_neutral_colours_are_those_of_the_axes():
    colours = {}
    for style in ("default", "dark_background"):
        with matplotlib.style.context(style):
            ax = Figure(layout="constrained").add_subplot()
        trace = gc.run(gc.Config(depth=4, width=8, steps=0))
        gc.plot_gradients(trace, ax, theory=True)
        hollow = line(ax, "norm of ∂L/∂W").get_markerfacecolor()
        colours[style] = [matplotlib.colors.to_hex(colour) for colour in (line(ax, "theory").get_color(), hollow)]
        words = ax.get_legend().get_texts()[0].get_color()
        assert matplotlib.colors.same_color(words, ax.xaxis.label.get_color())
    assert colours == {"default": ["#000000", "#ffffff"], "dark_background": ["#ffffff", "#000000"]}


@pytest.mark.parametrize("paper", ["white", "black"])
def test_colours_of_runs_are_seen_on_light_and_dark_paper(paper):
    from gradcourse.plots import COLOURS

    def luminance(colour):
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for colour in COLOURS:
        high, low = sorted((luminance(colour), luminance(paper)), reverse=True)
        assert (high + 0.05) / (low + 0.05) > 2.0, colour  # the contrast ratio of WCAG


def test_text_and_lines_are_large_enough_for_a_projector(sigmoid, ax):
    gc.plot_gradients(sigmoid, ax, theory=True, guess=0.3)
    texts = [ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels(), *ax.get_legend().get_texts()]
    assert min(text.get_fontsize() for text in texts) >= 10
    assert min(drawn.get_linewidth() for drawn in ax.lines) >= 1.5


def test_200_layers_and_one_layer_are_drawn(ax):
    for depth in (200, 1):
        ax.clear()
        trace = gc.run(gc.Config(depth=depth, width=4, activation="relu", init="he", steps=1))
        for plot in (gc.plot_gradients, gc.plot_activations, gc.plot_updates, gc.plot_loss):
            ax.clear()
            plot(trace, ax)
            ax.figure.canvas.draw()
        assert "nan" not in gc.describe(ax)


def test_describe_takes_axes_several_axes_and_figures(sigmoid):
    figure = Figure()
    axes = figure.subplots(1, 2)
    gc.plot_gradients(sigmoid, axes[0])
    gc.plot_loss(sigmoid, axes[1])
    assert gc.describe(axes[0]).startswith("Gradient of every layer.")
    both = f"{gc.describe(axes[0])} {gc.describe(axes[1])}"
    assert gc.describe(axes) == gc.describe(list(axes)) == gc.describe(figure) == both
    with pytest.raises(TypeError, match="takes an Axes"):
        gc.describe(3)


def test_describe_says_what_is_drawn_now(sigmoid, relu, ax):
    gc.plot_gradients(sigmoid, ax)
    gc.plot_loss(relu, ax)
    assert "Gradient of every layer" in gc.describe(ax)
    assert "Training loss" in gc.describe(ax)
    ax.clear()
    gc.plot_loss(relu, ax)
    assert gc.describe(ax).startswith("Training loss")


def test_plots_work_in_a_kernel_that_shows_no_figures(sigmoid, ax, monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    monkeypatch.setattr("builtins.get_ipython", lambda: shell, raising=False)
    assert gc.plot_gradients(sigmoid, ax) is ax
    InteractiveShell.clear_instance()


def test_importing_the_plots_loads_neither_torch_nor_pyplot():
    code = "import gradcourse.plots, sys; print([m for m in ('torch', 'matplotlib', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_drawing_a_loaded_trace_loads_no_pyplot_on_given_axes(sigmoid, tmp_path):
    sigmoid.save(tmp_path / "a.npz")
    code = (
        "import sys; import gradcourse as gc; from matplotlib.figure import Figure\n"
        "gc.plot_gradients(gc.Trace.load('a.npz'), Figure().add_subplot())\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "False"


# --- several runs side by side


def test_compare_draws_each_run_in_a_panel_of_its_own_on_shared_axes(sigmoid, relu):
    axes = gc.compare({"one": sigmoid, "two": relu}, theory=True)
    for ax, trace in zip(axes, (sigmoid, relu), strict=True):
        np.testing.assert_array_equal(line(ax, "RMS of ∂L/∂h").get_ydata(), trace.at_weights("delta"))
        assert line(ax, "theory")
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [ax.get_title() for ax in axes] == ["one", "two"]
    (legend,) = axes[0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["RMS of ∂L/∂h", "norm of ∂L/∂W", "theory"]
    assert [ax.get_legend() for ax in axes] == [None, None]
    assert gc.describe(axes).startswith("one: Gradient of every layer.")
    assert " two: Gradient of every layer." in gc.describe(axes)
    matplotlib.pyplot.close(axes[0].figure)


def test_compare_gives_the_same_value_the_same_colour_in_all_maps(sigmoid, relu):
    axes = gc.compare({"one": sigmoid, "two": relu}, plot=gc.plot_map)
    limits = {ax.collections[0].get_clim() for ax in axes}
    cells = np.concatenate([trace.delta[:, trace.has_weight].ravel() for trace in (sigmoid, relu)])
    assert limits == {(cells.min(), cells.max())}
    assert len(axes[0].figure.axes) == 3  # two panels and one colour bar
    matplotlib.pyplot.close(axes[0].figure)


def test_compare_of_losses_is_on_a_log_scale_if_one_run_needs_it(sigmoid):
    growing = replace(sigmoid, loss=np.array([1.0, 100.0, 1e6]))
    axes = gc.compare({"one": growing, "two": sigmoid}, plot=gc.plot_loss)
    assert [ax.get_yscale() for ax in axes] == ["log", "log"]
    assert "log scale" in axes[0].get_ylabel()
    matplotlib.pyplot.close(axes[0].figure)


@pytest.mark.parametrize("count", [1, 4, 5, 7])
def test_compare_labels_the_outer_panels(sigmoid, count):
    axes = gc.compare({str(n): sigmoid for n in range(count)})
    assert len(axes) == count == len(axes[0].figure.axes)
    axes[0].figure.draw_without_rendering()
    columns = len({round(ax.get_position().x0, 3) for ax in axes})
    for index, ax in enumerate(axes):
        assert bool(ax.get_xlabel()) == (index + columns >= count)
        assert bool(ax.get_ylabel()) == (index % columns == 0)
    matplotlib.pyplot.close(axes[0].figure)


def test_compare_leaves_no_figure_behind_when_the_plot_refuses(sigmoid):
    before = matplotlib.pyplot.get_fignums()
    with pytest.raises(ValueError, match="holds no Config"):
        gc.compare({"one": replace(sigmoid, config=None)}, theory=True)
    with pytest.raises(ValueError, match="needs a Trace or a mapping"):
        gc.compare([sigmoid])
    assert matplotlib.pyplot.get_fignums() == before
