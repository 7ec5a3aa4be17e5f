"""Traces as pictures. Each function draws on one Axes and returns it; each picture carries its numbers as alt text.

Colours and edges are taken from the Axes that is drawn on, so that a picture is readable on light and dark paper;
rcParams are never touched. pyplot is imported when a figure has to be made.
"""

from gradcourse.plots.alt_text import describe, say
from gradcourse.plots.cures import cure_verdicts, plot_cures
from gradcourse.plots.curves import plot_loss, plot_surface
from gradcourse.plots.distributions import plot_histograms, plot_singular_values
from gradcourse.plots.maps import plot_map, plot_phase
from gradcourse.plots.panels import compare
from gradcourse.plots.profiles import plot_activations, plot_gradients, plot_saturation, plot_updates
from gradcourse.plots.style import COLOURS

__all__ = [
    "COLOURS",
    "compare",
    "cure_verdicts",
    "describe",
    "plot_activations",
    "plot_cures",
    "plot_gradients",
    "plot_histograms",
    "plot_loss",
    "plot_map",
    "plot_phase",
    "plot_saturation",
    "plot_singular_values",
    "plot_surface",
    "plot_updates",
    "say",
]
