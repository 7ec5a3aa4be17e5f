"""Heat maps: a statistic over steps and layers, and a number over two axes of a sweep."""

import math
from itertools import product

import numpy as np

from gradcourse.plots.alt_text import say
from gradcourse.plots.style import LINE, finish, ink, start, whole_numbers
from gradcourse.plots.traces import need
from gradcourse.trace import STATISTICS, Trace

_NAMES = {
    "delta": "RMS of ∂L/∂h",
    "weight_gradient": "norm of ∂L/∂W",
    "update_ratio": "|step of W| / |W|",
    "activation_rms": "RMS of h",
    "saturation": "fraction of saturated outputs",
    "dead": "fraction of dead units",
}
_FRACTIONS = ("saturation", "dead")
_NOT_FINITE = "#D55E00"  # is on neither colour map
_MOST_TICKS = 9


def plot_map(trace, statistic="delta", ax=None, *, steps=None):
    """Draw one statistic of every layer and step as colours: sizes on a log scale, fractions from 0 to 1.

    Cells that are inf or NaN are hatched, cells of a size that are 0 are left blank. Layers are those with weights,
    for fractions the activations that have them.

    Args:
        trace: a Trace; for several see compare.
        statistic: a name in gradcourse.recording.STATISTICS.
        ax: where to draw; None: on a new figure. A colour bar is set beside it.
        steps: optimizer steps to draw, as Trace.select takes them; None: all.

    Returns:
        The Axes.

    Raises:
        ValueError: for an unknown statistic or one that the trace does not hold, and for several traces.
    """
    if not isinstance(trace, Trace):
        raise ValueError(
            f"plot_map: it draws one Trace, not {type(trace).__name__}: for several write "
            "gc.compare(traces, plot=gc.plot_map)"
        )
    if statistic not in STATISTICS:
        raise ValueError(f"plot_map({statistic!r}): a trace holds {', '.join(STATISTICS)}")
    trace = trace if steps is None else trace.select(steps=steps)
    need("plot_map", trace, statistic)
    numbers, values = _of_layers(trace, statistic)
    ax = start(ax)
    edges = _edges(trace.steps), np.arange(len(numbers) + 1) + 0.5
    fraction = statistic in _FRACTIONS
    norm = _fraction_norm() if fraction else _log_norm(values)
    name = _NAMES[statistic]
    handles = draw_cells(ax, *edges, values, norm, name if fraction else f"{name} (log scale)")
    whole_numbers(ax.xaxis)
    _label_layers(ax, numbers)
    title = f"{name[0].upper()}{name[1:]} by layer and step"
    finish(ax, title, x="optimizer step", y="layer (1 = next to the input)", handles=handles, filled=True)
    say(ax, f"{title.replace('∂', 'd')}. {_in_words(trace.steps, numbers, values, not fraction)}")
    return ax


def _of_layers(trace, statistic):
    """Return the layers' numbers, counted in layers with weights, and the values, of shape (layers, steps)."""
    values = getattr(trace, statistic)
    has = ~np.isnan(values).all(axis=0) if statistic in _FRACTIONS else trace.has_weight
    return np.cumsum(trace.has_weight)[has], values[:, has].T


def _label_layers(ax, numbers):
    if (np.diff(numbers) == 1).all() and numbers[0] == 1:
        whole_numbers(ax.yaxis)
        return
    shown = range(0, len(numbers), math.ceil(len(numbers) / _MOST_TICKS))
    ax.set_yticks([row + 1 for row in shown], [str(numbers[row]) for row in shown])


def _edges(centres, log=False):
    """Return the edges of cells around increasing centres, halfway between neighbours."""
    centres = np.log(centres) if log else np.asarray(centres, dtype=np.float64)
    if len(centres) == 1:
        half = np.array([0.5])
        edges = np.concatenate([centres - half, centres + half])
    else:
        between = (centres[:-1] + centres[1:]) / 2
        edges = np.concatenate([[2 * centres[0] - between[0]], between, [2 * centres[-1] - between[-1]]])
    return np.exp(edges) if log else edges


def _fraction_norm():
    from matplotlib.colors import Normalize

    return Normalize(0.0, 1.0)


def _log_norm(values):
    from matplotlib.colors import LogNorm

    shown = values[np.isfinite(values) & (values > 0)]
    low, high = (shown.min(), shown.max()) if len(shown) else (0.1, 1.0)
    return LogNorm(low, high) if high > low * 1.01 else LogNorm(low / 3, high * 3)


def draw_cells(ax, x, y, values, norm, label, cmap="viridis"):
    """Draw cells with a colour bar; return legend entries for those that have no colour.

    Args:
        ax: where to draw.
        x: edges of the columns.
        y: edges of the rows.
        values: of shape (rows, columns).
        norm: from values to colours; with a LogNorm cells that are 0 stay blank.
        label: of the colour bar.
        cmap: name of the colour map.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Patch

    lost, zero = ~np.isfinite(values), (values == 0) & isinstance(norm, LogNorm)
    mesh = ax.pcolormesh(x, y, np.ma.masked_array(values, lost | zero), norm=norm, cmap=cmap, rasterized=True)
    ax.figure.colorbar(mesh, ax=ax, label=label)
    handles = []
    if lost.any():
        look = {"facecolor": "white", "edgecolor": _NOT_FINITE, "hatch": "xxx"}
        ax.add_collection(_rectangles(x, y, lost, **look))
        handles.append(Patch(label="inf or NaN", **look))
    if zero.any():
        handles.append(Patch(label="blank: 0", facecolor="none", edgecolor=ink(ax)))
    return handles


def _rectangles(x, y, mask, **look):
    """Return the marked cells as one collection: neighbours along x become one rectangle, so that there are few."""
    from matplotlib.collections import PolyCollection

    corners = []
    for row, marked in enumerate(mask):
        flips = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(int)))
        for left, right in flips.reshape(-1, 2):
            corners.append(list(product((x[left], x[right]), (y[row], y[row + 1]))))
    order = [0, 1, 3, 2]  # around the rectangle
    return PolyCollection([[points[i] for i in order] for points in corners], linewidth=0.0, label="_lost", **look)


def _in_words(steps, numbers, values, log):
    words = f"Steps {steps[0]} to {steps[-1]}, {len(numbers)} layers."
    shown = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
    if not np.isnan(shown).all():
        for name, pick in (("Smallest", np.nanargmin), ("largest", np.nanargmax)):
            row, column = np.unravel_index(pick(shown), shown.shape)
            words += f"{' ' if name == 'Smallest' else ', '}{name} {values[row, column]:.2g} "
            words += f"at layer {numbers[row]}, step {steps[column]}"
        words += "."
    for name, mask in (("0", (values == 0) & log), ("inf or NaN", ~np.isfinite(values))):
        if mask.any():
            first = steps[mask.any(axis=0)][0]
            words += f" {int(mask.sum())} of {mask.size} cells are {name}, first at step {first}."
    return words


def gradient_growth(trace):
    """Return log10 of delta at the first layer over delta at the last hidden one, at the first recorded step.

    Below 0 the gradient vanishes towards the input, above 0 it explodes.
    """
    delta = trace.at_weights("delta")
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.log10(delta[0] / delta[-2])) if len(delta) > 1 else float("nan")


def plot_phase(sweep, ax=None, *, value=gradient_growth, x=None, y=None, label=None, center=None, theory=None):
    """Draw a number of every run over two axes of a sweep: a phase diagram.

    Over the other axes (seeds) the median is taken. Cells without a finite number, or whose run was not done, are
    hatched.

    Args:
        sweep: a mapping from tuples of axis values to Traces, with ``axes``, a mapping from names to values.
        ax: where to draw; None: on a new figure. A colour bar is set beside it.
        value: function of a Trace that returns a number; without one log10 of delta at the first layer over delta at
            the last hidden layer, white where the gradient keeps its size.
        x: name of the axis that runs to the right; None: the first.
        y: name of the axis that runs upwards; None: the first that is left.
        label: of the colour bar, with the unit.
        center: number where the colours change sides; None: colours from low to high.
        theory: function from x to y, drawn as a line where it is finite; both axes must be numbers.

    Returns:
        The Axes.

    Raises:
        ValueError: for anything but a sweep over two axes or more, and for an unknown name of an axis.
    """
    names = _two_axes(sweep, x, y)
    columns, rows = (list(sweep.axes[name]) for name in names)
    cells = _medians(sweep, names, columns, rows, value)
    if value is gradient_growth:
        label, center = label or "log₁₀ of delta, first / last hidden layer", 0.0 if center is None else center
    label = label or getattr(value, "__name__", "value").replace("<lambda>", "value")
    ax = start(ax)
    edges = _scaled(ax.xaxis, columns), _scaled(ax.yaxis, rows)
    norm, cmap = _phase_norm(cells, center)
    handles = draw_cells(ax, *edges, cells, norm, label, cmap)
    if theory is not None:
        handles += _draw_theory(ax, theory, *edges, columns, rows)
    finish(ax, "Phase diagram", x=names[0], y=names[1], handles=handles, filled=True)
    say(ax, f"Phase diagram: {label}. {_phase_in_words(cells, names, columns, rows)}")
    return ax


def _two_axes(sweep, x, y):
    axes = getattr(sweep, "axes", None)
    if not hasattr(axes, "keys") or not hasattr(sweep, "items") or len(axes) < 2:
        found = type(sweep).__name__ if not hasattr(axes, "keys") else f"one over {', '.join(axes) or 'nothing'}"
        raise ValueError(f"plot_phase: it draws a sweep over two axes or more, not {found}: gc.sweep(base, a=.., b=..)")
    for name in filter(None, (x, y)):
        if name not in axes:
            raise ValueError(f"plot_phase: no axis {name!r} in this sweep; it has {', '.join(axes)}")
    x = x or next(name for name in axes if name != y)
    y = y or next(name for name in axes if name != x)
    if x == y:
        raise ValueError(f"plot_phase(x={x!r}, y={y!r}): take two different axes of {', '.join(axes)}")
    return x, y


def _medians(sweep, names, columns, rows, value):
    """Return the median of value over the runs of each cell, of shape (rows, columns)."""
    places = [list(sweep.axes).index(name) for name in names]
    found = {}
    for key, trace in sweep.items():
        found.setdefault(tuple(key[place] for place in places), []).append(float(value(trace)))
    cells = np.full((len(rows), len(columns)), np.nan)
    with np.errstate(invalid="ignore"):  # inf beside -inf has no median
        for (row, up), (column, right) in product(enumerate(rows), enumerate(columns)):
            if (right, up) in found:
                cells[row, column] = np.median(found[right, up])
    return cells


def _scaled(axis, values):
    """Scale an axis for these values and return the cells' edges: in numbers if they increase, else one by one."""
    numeric = all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in values)
    if not numeric or not (np.diff(values) > 0).all():
        axis.set_ticks(np.arange(len(values)), [str(value) for value in values])
        return np.arange(len(values) + 1) - 0.5
    ratios = np.divide(values[1:], values[:-1]) if values[0] > 0 else np.array([])
    log = len(ratios) > 1 and np.allclose(ratios, ratios[0], rtol=0.05) and values[-1] >= 8 * values[0]
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log" if log else "linear")
    shown = values[:: math.ceil(len(values) / _MOST_TICKS)]
    axis.set_ticks(shown, [f"{value:.3g}" for value in shown])
    axis.set_ticks([], minor=True)
    return _edges(values, log)


def _phase_norm(cells, center):
    from matplotlib.colors import CenteredNorm, Normalize

    finite = cells[np.isfinite(cells)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if center is None:
        return Normalize(low, high), "viridis"
    return CenteredNorm(center, max(high - center, center - low) or 1.0), "PuOr_r"


def _draw_theory(ax, theory, x, y, columns, rows):
    from matplotlib.patheffects import withStroke

    if not all(isinstance(value, (int, float, np.number)) for value in (*columns, *rows)):
        raise ValueError("plot_phase(theory=...): a line needs two axes of numbers")
    inside = [value for value in columns if x[0] < value < x[-1]]
    across = np.array([x[0] + 1e-9 * (x[-1] - x[0]), *inside, x[-1]])
    line = ax.plot(across, [float(theory(right)) for right in across], color="black", label="theory", linewidth=2.0)
    line[0].set_path_effects([withStroke(linewidth=2.0 + 2 * LINE, foreground="white")])  # seen on every cell
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    return line


def _phase_in_words(cells, names, columns, rows):
    finite = np.where(np.isfinite(cells), cells, np.nan)
    words = f"{len(columns)} x {len(rows)} cells over {names[0]} and {names[1]}."
    if not np.isnan(finite).all():
        for name, pick in (("Lowest", np.nanargmin), ("highest", np.nanargmax)):
            row, column = np.unravel_index(pick(finite), finite.shape)
            words += f"{' ' if name == 'Lowest' else ', '}{name} {cells[row, column]:.2g} "
            words += f"at {names[0]}={_shown(columns[column])}, {names[1]}={_shown(rows[row])}"
        words += "."
    lost = int(np.isnan(finite).sum())
    return words + (f" {lost} cells have no finite value." if lost else "")


def _shown(value):
    return f"{value:.3g}" if isinstance(value, (float, np.floating)) else str(value)
