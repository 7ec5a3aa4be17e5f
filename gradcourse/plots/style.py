"""How the pictures look: colours that are told apart, neutral tones of the Axes at hand, a legend beside the data."""

import numpy as np

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart with every common form of colour blindness.

Without their yellow, which is lost on white, and their black, which is lost on black: neutral lines take the colour
of the text.
"""

LINE_STYLES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = "os^Dv<P"  # one more than colours: 42 runs differ
_MOST_MARKERS = 40  # per line: more touch each other
_WIDTH = 72  # of a legend below the Axes, in characters
_BELOW_LABELS = 3.4  # heights of the x label under the Axes: there it ends, and the labels of the ticks
LINE = 1.6
THEORY_ZORDER = 4  # a line over the markers


def start(ax):
    """Return the Axes to draw on, a new figure's for None. An empty one has nothing to say yet."""
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")[1]
    if not ax.has_data():
        ax.set_gid(None)
    return ax


def ink(ax):
    """Return the colour of the text of an Axes, which is seen on its paper."""
    return ax.xaxis.label.get_color()


def paper(ax):
    """Return the colour that is drawn on, opaque."""
    from matplotlib.colors import to_rgb

    return to_rgb(ax.get_facecolor())


def tone(ax, share):
    """Return a neutral colour: this share of ink on the paper."""
    from matplotlib.colors import to_rgb

    return tuple(share * np.array(to_rgb(ink(ax))) + (1.0 - share) * np.array(paper(ax)))


def dense(ax):
    """Return a colour map from the paper (few) to the ink (many)."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    blues = sorted((COLOURS[0], COLOURS[5]), key=lambda colour: abs(sum(to_rgb(colour)) - sum(paper(ax))))
    return LinearSegmentedColormap.from_list("dense", [paper(ax), *blues, ink(ax)])


def theory_style(ax):
    """Return how a theory is drawn."""
    return {"color": ink(ax), "linewidth": LINE, "linestyle": "-", "zorder": THEORY_ZORDER}


def guess_style(ax):
    """Return how a learner's guess is drawn."""
    return {"color": tone(ax, 0.65), "linewidth": 2.0, "linestyle": "--", "zorder": THEORY_ZORDER}


def run_style(ax, index, count=1):
    """Return how the run of this number is drawn, as a line of so many points with filled markers."""
    every = max(1, -(-count // _MOST_MARKERS))
    style = {"color": COLOURS[index % len(COLOURS)], "marker": _MARKERS[index % len(_MARKERS)], "markersize": 5.5}
    return style | {"linewidth": LINE, "markevery": every}


def hollow(ax):
    """Return what makes a line the second quantity of a run: hollow markers, dotted."""
    return {"markerfacecolor": paper(ax), "linestyle": ":"}


def drawable(values, log):
    """Return the values with gaps where the scale has no place for them: at inf, and on a log scale at 0."""
    return np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)


def mark_lost(ax, numbers, values, index, color):
    """Mark what a log scale can't show: 0 at the bottom edge, inf and NaN at the top edge. Return the artists."""
    marked = []
    for where, marker, name, edge, towards in (
        (values == 0, "v", "0: below the scale", 0.03, 0.05),
        (~np.isfinite(values), "x", "inf or NaN", 0.97, -0.05),
    ):
        if where.any():
            height = np.full(where.sum(), edge + towards * (index % 6))
            style = {"color": color, "marker": marker, "markersize": 7, "markeredgewidth": 1.8, "linestyle": "none"}
            marked += ax.plot(numbers[where], height, transform=ax.get_xaxis_transform(), label=name, **style)
    return marked


def entry(ax, label, **style):
    """Return a legend entry that stands for no single line, in neutral colour unless told."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **{"color": ink(ax), "linewidth": LINE, "markersize": 5.5, **style})


def shortened(ax, runs):
    """Return the legend entries of the first runs, and how many more there are."""
    shown = 4 * _columns(runs)
    more = len(runs) - shown
    return runs if more <= 0 else [*runs[:shown], entry(ax, f"... {more} more runs", linestyle="none")]


def _columns(handles):
    """Return in how many columns a legend below the Axes is not wider than they are."""
    longest = max(len(handle.get_label()) for handle in handles)
    return max(1, min(len(handles), 4, _WIDTH // (longest + 7)))


def whole_numbers(axis):
    """Let an axis count: layers, steps."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def finish(ax, title, *, x, y, handles, filled=False):
    """Put title, labels, grid and legend on an Axes.

    Args:
        ax: the Axes.
        title: of the picture.
        x: label of the x axis.
        y: label of the y axis.
        handles: the legend's entries.
        filled: whether the picture fills the Axes, so that there is no room for a grid and a legend in it.
    """
    ax.set_title(title)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if not filled:
        whole_numbers(ax.xaxis)
        ax.grid(visible=True, which="major", color=tone(ax, 0.15), linewidth=0.6)
        ax.set_axisbelow(True)
    _make_room(ax)
    if handles:
        _place_legend(ax, handles, filled)


def _make_room(ax):
    """Let a log scale span some range also where all values are alike: matplotlib's own would be empty."""
    drawn = [line.get_ydata() for line in ax.lines if line.get_transform().contains_branch_seperately(ax.transData)[1]]
    values = np.concatenate([np.ravel(y) for y in drawn]) if drawn else np.array([])
    values = values[np.isfinite(values) & (values > 0)]
    if ax.get_yscale() == "log" and len(values) and values.max() < 1.05 * values.min():
        ax.dataLim.update_from_data_y([values.min() / 3, values.max() * 3], ignore=False)


def _place_legend(ax, handles, filled):
    """Put the legend where it covers no data: inside if there is room, else below the Axes."""
    from matplotlib.transforms import offset_copy

    look = {"handles": handles, "fontsize": "medium", "labelcolor": ink(ax), "frameon": False}
    legend = ax.legend(loc="best", **look)
    # Where nothing arranges the figure, a legend outside could fall off it.
    if ax.figure.get_layout_engine() is not None and (filled or _covers_data(legend, ax)):
        legend.remove()
        height = ax.xaxis.label.get_fontsize()
        below = offset_copy(ax.transAxes, ax.figure, y=-_BELOW_LABELS * height, units="points")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), bbox_transform=below, ncols=_columns(handles), **look)


def _covers_data(legend, ax):
    """Whether a legend lies over a line or one of its markers, as far as it is known before the figure is arranged."""
    ax.autoscale_view()  # else the data are not yet where they will be drawn
    box = legend.get_window_extent().padded(6)
    lines = [line.get_transform().transform_path(line.get_path()) for line in ax.lines if len(line.get_xdata())]
    return any(path.intersects_bbox(box, filled=False) for path in lines)
