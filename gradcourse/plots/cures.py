"""Which cure helps which disease, as one picture of a sweep."""

from textwrap import fill

import numpy as np

from gradcourse.plots.alt_text import say
from gradcourse.plots.style import COLOURS, finish, paper, start, tone

VERDICTS = ("cures", "helps in part", "no help", "harms")
"""What a cure can do to a disease."""

_LEARNT = 0.7  # training accuracies of ten classes, where chance is 0.1
_CLEARLY = 0.1
_WRAP = 11  # letters in a line of a column's name


def cure_verdicts(sweep, untreated="none"):
    """Judge each cell of a sweep over `disease`, `cure` and other axes, such as seeds.

    All runs of a cell have to agree: "cures" when each ends with a training accuracy above 0.7; "helps in part" when
    each is better by 0.1 than every run that is not treated, "harms" when each is worse by 0.1; "no help" else, also
    where seeds differ. A run that ends without finite scores counts as one at accuracy 0.

    Args:
        sweep: a Sweep with the axes "disease" and "cure".
        untreated: name of the cure that changes nothing.

    Returns:
        (disease, cure) -> a name in VERDICTS, for every cure but `untreated`.

    Raises:
        ValueError: for a sweep without these axes or without `untreated` among its cures.
    """
    cells = _cells(sweep, untreated)
    return {
        (disease, cure): _verdict(accuracies, cells[disease, untreated])
        for (disease, cure), accuracies in cells.items()
        if cure != untreated
    }


def _cells(sweep, untreated):
    axes = getattr(sweep, "axes", {})
    missing = [name for name in ("disease", "cure") if name not in axes]
    if missing:
        raise ValueError(
            f"plot_cures: this sweep has no axis {missing[0]!r}: gc.sweep(base, disease={{...}}, cure={{...}})"
        )
    if untreated not in axes["cure"]:
        raise ValueError(f"plot_cures: no cure {untreated!r} to compare with; there is {', '.join(axes['cure'])}")
    places = [list(axes).index(name) for name in ("disease", "cure")]
    cells = {(disease, cure): [] for disease in axes["disease"] for cure in axes["cure"]}
    for key, trace in sweep.items():
        cells[tuple(key[place] for place in places)].append(trace.train_accuracy)
    return {key: np.array(accuracies) for key, accuracies in cells.items()}


def _verdict(accuracies, untreated):
    treated, before = np.nan_to_num(accuracies), np.nan_to_num(untreated)
    if treated.min() > _LEARNT:
        return "cures"
    if treated.min() > max(before.max(), _CLEARLY) + _CLEARLY:  # from NaN to chance is no help
        return "helps in part"
    return "harms" if treated.max() < before.min() - _CLEARLY else "no help"


def plot_cures(sweep, ax=None, *, untreated="none"):
    """Draw which cure helps which disease: a verdict for each pair, and the median training accuracy.

    Args:
        sweep: a Sweep over the axes "disease" and "cure", and others such as seeds: gc.clinic.matrix().
        ax: where to draw; None: on a new figure.
        untreated: name of the cure that changes nothing; it is the first row, without a verdict.

    Returns:
        The Axes.

    Raises:
        ValueError: for a sweep without these axes, or without `untreated` among its cures.
    """
    from matplotlib.patches import Patch, Rectangle

    verdicts, cells = cure_verdicts(sweep, untreated), _cells(sweep, untreated)
    diseases = sweep.axes["disease"]
    cures = [untreated, *(cure for cure in sweep.axes["cure"] if cure != untreated)]
    ax = _wide(ax, len(diseases), len(cures))
    looks = _looks(ax)
    for (disease, cure), accuracies in cells.items():
        place = (diseases.index(disease) - 0.5, cures.index(cure) - 0.5)
        look = looks[verdicts[disease, cure]] if cure != untreated else looks[None]
        ax.add_patch(Rectangle(place, 1, 1, edgecolor=paper(ax), linewidth=2.0, **look))
        _write(ax, place, accuracies, look)
    ax.set_xlim(-0.5, len(diseases) - 0.5)
    ax.set_ylim(len(cures) - 0.5, -0.5)
    ax.set_xticks(range(len(diseases)), [fill(disease, _WRAP) for disease in diseases], fontsize="small")
    ax.set_yticks(range(len(cures)), cures)
    ax.tick_params(length=0)
    handles = [Patch(label=verdict, edgecolor=paper(ax), **looks[verdict]) for verdict in VERDICTS]
    finish(ax, "Which cure helps which disease", x="", y="", handles=[], filled=True)
    ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=4, frameon=False, borderaxespad=0.0)
    ax.set_title(ax.get_title(), pad=30.0)  # above the legend
    say(ax, f"Which cure helps which disease. {_in_words(verdicts, diseases)}")
    return ax


def _wide(ax, columns, rows):
    if ax is None:
        from matplotlib import pyplot as plt

        ax = plt.subplots(figsize=(max(6.4, 1.8 + 0.85 * columns), 1.6 + 0.36 * rows), layout="constrained")[1]
    return start(ax)


def _looks(ax):
    """Return how each verdict is filled; None: without one."""
    return {
        "cures": {"facecolor": COLOURS[0]},
        "helps in part": {"facecolor": COLOURS[5], "hatch": ".."},
        "no help": {"facecolor": tone(ax, 0.12)},
        "harms": {"facecolor": COLOURS[1], "hatch": "//"},
        None: {"facecolor": paper(ax)},
    }


def _write(ax, place, accuracies, look):
    from matplotlib.colors import to_rgb

    median = np.median(accuracies)  # NaN where one run is
    text = "NaN" if np.isnan(median) else f"{median:.2f}".removeprefix("0")
    red, green, blue = to_rgb(look["facecolor"])
    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
    box = {"facecolor": look["facecolor"], "edgecolor": "none", "pad": 1.0} if "hatch" in look else None
    style = {"ha": "center", "va": "center", "fontsize": "small", "color": "black" if bright else "white"}
    ax.text(place[0] + 0.5, place[1] + 0.5, text, bbox=box, **style)


def _in_words(verdicts, diseases):
    words = []
    for disease in diseases:
        own = {verdict: [c for (d, c), v in verdicts.items() if d == disease and v == verdict] for verdict in VERDICTS}
        words.append(f"{disease}: " + "; ".join(f"{verdict}: {', '.join(c)}" for verdict, c in own.items() if c) + ".")
    return " ".join(words)
