"""Pictures over training: the loss, and paths on a surface."""

import numpy as np

from gradcourse.plots.alt_text import say
from gradcourse.plots.style import LINE_STYLES, entry, finish, ink, paper, run_style, shortened, start, tone
from gradcourse.plots.traces import labelled, prefix

_LOSS_NAMES = {"cross_entropy": ("cross-entropy loss", "nats"), "mse": ("mean squared error", "")}  # and the unit
_DECADES = 3  # a loss that spans more is drawn on a log scale
_ENDS = {"start": {"marker": "D", "markersize": 9}, "end": {"marker": "*", "markersize": 14}}  # of a path
_ROW = 0.05  # height of a row of events, as a share of the picture
_EVENTS = {  # kind -> marker and name in the legend
    "clipped": ("|", "gradient clipped"),
    "zero update": ("s", "a layer stops moving"),
    "non-finite": ("X", "first inf or NaN"),
}


def plot_loss(traces, ax=None):
    """Draw the loss against the optimizer step, and what happened on the way.

    Events are marked: clipped gradients and layers that stop moving near the bottom edge, the first value that is not
    finite at the top edge. A loss that spans more than three decades is drawn on a log scale.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.

    Returns:
        The Axes.

    Raises:
        ValueError: when a trace holds no loss.
    """
    traces = labelled(traces)
    for trace in traces.values():
        if np.isnan(trace.loss).all() and not any(event.kind == "non-finite" for event in trace.events):
            raise ValueError(f"plot_loss: {trace!r} holds no loss; call recorder.log_loss(loss) in the loop")
    ax = start(ax)
    for index, (label, trace) in enumerate(traces.items()):
        _draw_curve(ax, trace.steps, trace.loss, index, label or "loss")
    if _spans_decades(np.concatenate([trace.loss for trace in traces.values()])):
        ax.set_yscale("log")
    marks = _mark_events(ax, traces)
    handles = [line for line in ax.lines if line.get_label() in ({label or "loss" for label in traces})]
    handles = shortened(ax, handles[-len(traces) :]) if len(traces) > 1 or marks else []
    finish(
        ax,
        "Training loss",
        x="optimizer step",
        y=_loss_name(traces, ax.get_yscale()),
        handles=handles + list(marks.values()),
    )
    say(ax, f"Training loss. {' '.join(_in_words(label, trace) for label, trace in traces.items())}")
    return ax


def _draw_curve(ax, steps, values, index, label):
    style = run_style(ax, index) | {"linestyle": LINE_STYLES[index % len(LINE_STYLES)]}
    style["markevery"] = (0.03 * (index % 4), 0.13)  # shares of the line's length, so that runs don't cover each other
    if np.isfinite(values).sum() < 3:
        style["markevery"] = None
    ax.plot(steps, np.where(np.isfinite(values), values, np.nan), label=label, **style)


def _spans_decades(loss):
    finite = loss[np.isfinite(loss) & (loss > 0)]
    return len(finite) > 0 and finite.max() > 10**_DECADES * finite.min() and (loss[np.isfinite(loss)] > 0).all()


def _loss_name(traces, scale):
    losses = {getattr(trace.config, "loss", None) for trace in traces.values()}
    name, unit = _LOSS_NAMES.get(losses.pop(), ("loss", "")) if len(losses) == 1 else ("loss", "")
    said = ", ".join(filter(None, [unit, "log scale" if scale == "log" else ""]))
    return f"{name} ({said})" if said else name


def _mark_events(ax, traces):
    """Mark the traces' events in rows along the edges; return a legend entry for each kind."""
    entries, rows = {}, 0
    for index, trace in enumerate(traces.values()):
        for kind, (marker, name) in _EVENTS.items():
            steps = sorted({event.step for event in trace.events if event.kind == kind})
            if steps:
                style = {"marker": marker, "linestyle": "none", "markersize": 8}
                height = np.full(len(steps), 0.96 if kind == "non-finite" else 0.03 + _ROW * rows)
                rows += kind != "non-finite"
                color = run_style(ax, index)["color"]
                ax.plot(steps, height, color=color, transform=ax.get_xaxis_transform(), label=f"_{kind}", **style)
                entries[kind] = entry(ax, name, **style)
    if entries:
        ax.margins(y=_ROW * (rows + 1))  # the curves stay clear of the rows
    return entries


def _in_words(label, trace):
    words = f"{prefix(label)}from {trace.loss[0]:.2g} to {trace.loss[-1]:.2g} in {_count(len(trace.steps), 'step')}."
    clipped = [event.step for event in trace.events if event.kind == "clipped"]
    if clipped:
        words += f" The gradient was clipped at {_count(len(clipped), 'step')}, first at step {clipped[0]}."
    for event in trace.events:
        if event.kind == "non-finite":
            words += f" The first value that is not finite is at step {event.step}, {event.layer}."
    stopped = [event for event in trace.events if event.kind == "zero update"]
    if stopped:
        words += f" {_count(len(stopped), 'layer')} stopped moving, first {stopped[0].layer} at step {stopped[0].step}."
    return words


def _count(number, what):
    return f"{number} {what}{'' if number == 1 else 's'}"


def plot_surface(f, paths, ax=None, *, x=None, y=None, labels=("w₁", "w₂")):
    """Draw the contours of a loss of two weights, and the paths of optimizers on it.

    Each path begins at a diamond and ends at a star. Dark is low. A path that leaves the picture is cut at its edge.

    Args:
        f: the loss: takes two NumPy arrays of the same shape and returns one of it.
        paths: points of shape (S, 2), or a mapping from labels to such.
        ax: where to draw; None: on a new figure.
        x: lowest and highest w₁ that is drawn; None: what the paths need.
        y: the same for w₂.
        labels: of the axes.

    Returns:
        The Axes.

    Raises:
        ValueError: for a path of another shape, without a finite point, or an f that does not return one value for
            each point.
    """
    paths = _as_paths(paths)
    points = np.concatenate([path[np.isfinite(path).all(axis=1)] for path in paths.values()])
    limits = [given or _around(points[:, axis]) for axis, given in enumerate((x, y))]
    grid = np.meshgrid(*(np.linspace(*limit, 121) for limit in limits))
    values = _values(f, *grid)
    ax = start(ax)
    _draw_contours(ax, *grid, values)
    for index, (label, path) in enumerate(paths.items()):
        _draw_path(ax, path, limits, index, label)
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    handles = [line for line in ax.lines if not line.get_label().startswith("_")] if any(paths) else []
    handles += [entry(ax, name, linestyle="none", **look) for name, look in _ENDS.items()]
    finish(ax, "Paths on the loss", x=labels[0], y=labels[1], handles=handles, filled=True)
    said = (_path_in_words(f, label, path, limits) for label, path in paths.items())
    say(ax, f"Paths on the loss of {labels[0]} and {labels[1]}. {' '.join(said)}")
    return ax


def _as_paths(paths):
    paths = dict(paths) if hasattr(paths, "items") else {"": paths}
    found = {str(label): np.array(path, dtype=np.float64) for label, path in paths.items()}
    if not found:
        raise ValueError("plot_surface: no path to draw: pass points of shape (S, 2), or a mapping from labels to such")
    for label, path in found.items():
        if path.ndim != 2 or path.shape[1] != 2 or not np.isfinite(path).all(axis=1).any():
            where = f"the path {label!r}" if label else "the path"
            raise ValueError(
                f"plot_surface: {where} has shape {path.shape}; a path is (S, 2), one row per step, with a finite point"
            )
    return found


def _around(values):
    low, high = values.min(), values.max()
    margin = 0.15 * (high - low) or 1.0
    return low - margin, high + margin


def _values(f, *grid):
    with np.errstate(all="ignore"):  # a path may lead to where the loss overflows
        values = np.asarray(f(*grid), dtype=np.float64)
    if values.shape != grid[0].shape:
        raise ValueError(
            f"plot_surface: f returned shape {values.shape} for points of shape {grid[0].shape}: it must work on "
            "arrays, elementwise; numpy.vectorize makes it do so"
        )
    return values


def _draw_contours(ax, x, y, values):
    """Draw levels that stand close near the minimum, as a valley's walls are steep."""
    finite = np.where(np.isfinite(values), values, np.nan)
    low, high = np.nanmin(finite), np.nanmax(finite)
    if not high > low:
        return
    levels = low + (high - low) * np.linspace(0.0, 1.0, 15) ** 3
    shades = ax.contourf(x, y, finite, levels=levels, colors=_shades(ax, len(levels) - 1))
    shades.set_rasterized(True)
    ax.contour(x, y, finite, levels=levels, colors=[ink(ax)], linewidths=0.4, alpha=0.5)


def _shades(ax, count):
    """Return neutral tones from darker (low) to the paper, all pale enough for coloured paths to stand out."""
    return [tone(ax, share) for share in np.linspace(0.32, 0.02, count)]


def _draw_path(ax, path, limits, index, label):
    color = run_style(ax, index)["color"]
    marked = run_style(ax, index, len(path)) | {"linewidth": 2.0, "markersize": 4.0}
    far = 10.0 * np.ptp(limits, axis=1)
    near = np.clip(path, np.min(limits, axis=1) - far, np.max(limits, axis=1) + far)  # what lies beyond is not seen
    ax.plot(*near.T, label=label or "_path", zorder=3, **marked)
    finite = path[np.isfinite(path).all(axis=1)]
    ends = {"color": color, "linestyle": "none", "zorder": 4, "markeredgecolor": paper(ax)}
    ax.plot(*finite[0], label="_start", **ends | _ENDS["start"])
    ax.plot(*finite[-1], label="_end", **ends | _ENDS["end"])


def _path_in_words(f, label, path, limits):
    first, last = path[0], path[-1]
    before, after = _values(f, *path[[0, -1]].T)
    words = f"{prefix(label)}from ({first[0]:.2g}, {first[1]:.2g}) with loss {before:.2g} "
    words += f"to ({last[0]:.2g}, {last[1]:.2g}) with loss {after:.2g} in {_count(len(path) - 1, 'step')}."
    low, high = np.transpose(limits)
    outside = np.flatnonzero(~((path >= low) & (path <= high)).all(axis=1))
    return words + (f" It leaves the picture at step {outside[0]}." if len(outside) else "")
