"""Pictures of how a class did, as images inside a page, each with words for who can't see it."""

import base64
import io
from statistics import median

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colours: told apart with any colour vision. Hatches tell them apart without colour.
_COLOURS = ("#009E73", "#E69F00", "#56B4E9", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
_HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")
_STYLE = {"svg.hashsalt": "gradcourse", "svg.fonttype": "path", "font.size": 10.0}  # the salt keeps ids the same


def scores(values, most):
    """Draw how the scores are distributed; return the image's address and its words."""
    bins = max(1, min(20, round(most)))
    figure, axes = _axes("score", "submissions")
    counts, edges, _ = axes.hist(values, bins=bins, range=(0, max(most, 1e-9)), color=_COLOURS[4], edgecolor="white")
    peak = max(range(bins), key=lambda index: counts[index])
    alt = (
        f"Histogram of {len(values)} scores out of {most:g}: median {median(values):g}, lowest {min(values):g}, "
        f"highest {max(values):g}; most, {counts[peak]:.0f}, between {edges[peak]:g} and {edges[peak + 1]:g}."
    )
    return _address(figure), alt


def times(values):
    """Draw how long the submissions took; return the image's address and its words."""
    figure, axes = _axes("seconds", "submissions")
    shortest, longest = (max(bound(values), 1e-3) for bound in (min, max))
    edges = np.geomspace(shortest / 1.1, longest * 1.1, 21)  # the first has a sandbox started, and takes a hundredfold
    axes.hist(np.maximum(values, 1e-3), bins=edges, color=_COLOURS[4], edgecolor="white")
    axes.set_xscale("log")
    alt = f"Histogram of the seconds per submission: median {median(values):.2g}, longest {max(values):.2g}."
    return _address(figure), alt


def mistakes(rows, total):
    """Draw for each question what share of the class made which mistake; return the image's address and its words.

    Args:
        rows: a pair (question, [(label, count), ...]) for each question; the first label stands for a right answer.
        total: number of submissions.
    """
    figure, axes = _axes("share of the submissions, %", "", height=1.2 + 0.45 * len(rows))
    for place, (_, parts) in enumerate(rows):
        left = 0.0
        for number, (label, count) in enumerate(parts):
            share = 100 * count / max(total, 1)
            look = {"color": _COLOURS[number % 8], "hatch": _HATCHES[number % 8], "edgecolor": "white"}
            axes.barh(place, share, left=left, **look)
            if share >= 4:
                white = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
                axes.text(left + share / 2, place, label, ha="center", va="center", bbox=white, parse_math=False)
            left += share
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    told = [f"{name}: " + ", ".join(f"{label} {count}" for label, count in parts) for name, parts in rows]
    return _address(figure), f"Bars of what came of each question among {total} submissions. {'; '.join(told)}."


def _axes(across, up, height=2.6):
    figure = Figure(figsize=(7.0, height), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _address(figure):
    """Return a figure as the address of an image that needs no file; the same bytes for the same figure."""
    drawn = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.getvalue()).decode()
