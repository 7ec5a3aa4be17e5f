"""A picture as PNG, drawn once by matplotlib: what every viewer of notebooks shows, and nbconvert with its alt text."""

import io

import numpy as np
from matplotlib.figure import Figure

from gradcourse.explorer.picture import FAINT, SOFT

_INCHES = (4.6, 3.5)  # of a panel
_POINTS = 0.72  # of a unit of the SVG
_SHORT = 16  # characters of a label of which three stand side by side
_DASHES = {"-": "-", "--": (0, (5, 3)), ":": (0, (1, 2)), "-.": (0, (6, 2, 1, 2))}
_ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def png(picture):
    """Return a Picture as PNG, bytes."""
    width, height = _INCHES
    figure = Figure(figsize=(width * len(picture.panels), height), layout="constrained", facecolor="white")
    for ax, panel in zip(np.atleast_1d(figure.subplots(1, len(picture.panels))), picture.panels, strict=True):
        _draw(ax, panel)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100, metadata={"Software": None})
    return drawn.getvalue()


def _draw(ax, panel):
    for side, axis in (("x", panel.x), ("y", panel.y)):
        ticks = axis.labelled_ticks()
        ax.set(**{f"{side}scale": "log" if axis.log else "linear", f"{side}lim": (axis.low, axis.high)})
        ax.set(**{f"{side}label": axis.label, f"{side}ticks": list(ticks), f"{side}ticklabels": list(ticks.values())})
    ax.minorticks_off()
    ax.grid(color=FAINT, linewidth=0.7)
    ax.tick_params(colors=SOFT)
    ax.set_axisbelow(True)
    for mark, told in panel.marks:
        _MARKS[mark](ax, **told)
    labels = ax.get_legend_handles_labels()[1]
    columns = 3 if max(map(len, labels), default=0) <= _SHORT else 2
    if labels:
        look = {"loc": "lower left", "bbox_to_anchor": (-0.02, 0.99), "frameon": False, "fontsize": 8, "borderpad": 0.1}
        ax.legend(ncols=columns, **look).set_in_layout(False)
    ax.set_title(panel.title, loc="left", pad=12 + 12 * -(-len(labels) // columns), fontsize=11, fontweight="bold")


def _line(ax, *, x, y, label, colour, dash, marker, width):
    style = {"color": colour, "linestyle": _DASHES[dash], "linewidth": width * _POINTS}
    ax.plot(x, y, label=label or "_", marker=marker or None, markersize=4.5, **style)


def _point(ax, *, x, y, label, colour, size):
    dot = {"marker": "o", "linestyle": "none", "markersize": 2 * size * _POINTS, "color": colour}
    ax.plot([x], [y], label=label or "_", markeredgecolor="white", zorder=5, **dot)


def _text(ax, *, x, y, text, colour, lift, anchor):
    place = {"xytext": (0, lift * _POINTS), "textcoords": "offset points", "ha": _ANCHORS[anchor]}
    ax.annotate(text, (x, y), color=colour, fontsize=9, annotation_clip=True, zorder=6, **place)


def _area(ax, *, x, y, colour, opacity):
    ax.fill(x, y, color=colour, alpha=opacity, linewidth=0)


_MARKS = {"line": _line, "point": _point, "text": _text, "area": _area}
