"""Several runs side by side, each in the same plot."""

import math

import numpy as np

from gradcourse.plots.profiles import plot_gradients
from gradcourse.plots.traces import labelled

_COLUMNS = 3
_PANEL = (3.6, 3.0)  # inches


def compare(traces, plot=plot_gradients, **options):
    """Draw the same plot for several runs side by side, on the same axes and with the same colours.

    Args:
        traces: a mapping from labels to Traces.
        plot: a function that draws one Trace, called as plot(trace, ax=ax, **options).
        **options: handed to plot.

    Returns:
        NumPy array of the Axes, in the order of the traces.

    Raises:
        ValueError: for anything but a mapping with at least one Trace, and what the plot raises.
    """
    from matplotlib import pyplot as plt

    traces = labelled(traces)
    columns = 2 if len(traces) == 4 else min(_COLUMNS, len(traces))
    rows = math.ceil(len(traces) / columns)
    size = (max(6.4, _PANEL[0] * columns), _PANEL[1] * rows + 0.8)
    figure, grid = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    try:
        axes = _draw_panels(traces, grid.ravel(), columns, plot, options)
    except Exception:
        plt.close(figure)  # a half-drawn figure would be shown under the error
        raise
    figure.set_layout_engine("constrained")
    _share_label(axes, columns)
    _share_colours(axes)
    _share_legend(figure, axes)
    return axes


def _draw_panels(traces, panels, columns, plot, options):
    for index, (label, trace) in enumerate(traces.items()):
        ax = panels[index]
        plot(trace, ax=ax, **options)
        ax.figure.suptitle(ax.get_title())
        ax.set_title(label)
        ax.set_gid(f"{label}: {ax.get_gid()}" if label else ax.get_gid())
        if index + columns < len(traces):
            ax.set_xlabel("")
        else:
            ax.tick_params(labelbottom=True)  # also where the row below ends earlier
    for ax in panels[len(traces) :]:
        ax.remove()
    return np.array(panels[: len(traces)])


def _share_label(axes, columns):
    """Give the panels that share a y axis the fullest of their labels: one of them may have made its scale a log."""
    fullest = max((ax.get_ylabel() for ax in axes), key=len)
    for index, ax in enumerate(axes):
        ax.set_ylabel("" if index % columns else fullest)


def _share_colours(axes):
    """Let the same colour stand for the same value in all panels, with one colour bar."""
    meshes = [mesh for ax in axes for mesh in ax.collections if getattr(mesh, "colorbar", None)]
    if meshes:
        limits = np.array([mesh.get_clim() for mesh in meshes])
        for mesh in meshes:
            mesh.set_clim(limits[:, 0].min(), limits[:, 1].max())
        label = meshes[0].colorbar.ax.get_ylabel()
        for mesh in meshes:
            mesh.colorbar.remove()
        axes[0].figure.colorbar(meshes[0], ax=list(axes), label=label)


def _share_legend(figure, axes):
    """Put the entries of all panels' legends into one below them."""
    entries = {}
    for legend in filter(None, (ax.get_legend() for ax in axes)):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            entries.setdefault(text.get_text(), handle)
        color = legend.get_texts()[0].get_color()
        legend.remove()
    if entries:
        look = {"fontsize": "medium", "frameon": False, "labelcolor": color}
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=min(4, len(entries)), **look)
