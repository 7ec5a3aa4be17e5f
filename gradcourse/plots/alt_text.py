"""What a picture says in words, and how it gets into a saved notebook."""

import numpy as np


def describe(drawn):
    """Return the alt text of a picture: what its plots say about themselves, with their numbers.

    Args:
        drawn: an Axes, several of them (as compare returns), or a Figure.

    Raises:
        TypeError: for anything else.
    """
    axes = getattr(drawn, "axes", drawn) if not hasattr(drawn, "get_gid") or hasattr(drawn, "savefig") else [drawn]
    axes = list(np.ravel(np.array(axes, dtype=object)))
    if not all(hasattr(ax, "get_gid") for ax in axes):
        raise TypeError(f"describe({type(drawn).__name__}): it takes an Axes, several of them or a Figure")
    return " ".join(ax.get_gid() for ax in axes if ax.get_gid())


def say(ax, text):
    """Add to what an Axes says about itself, and see that the PNG of its figure carries it as alt text."""
    ax.set_gid(" ".join(filter(None, [ax.get_gid(), text])))
    _carry_alt_text()


def _carry_alt_text():
    """Make this kernel's PNGs of figures carry their description into the saved notebook.

    nbconvert and screen readers find it in the output's metadata. Outside IPython, or where it shows no figures, there
    is nothing to do.
    """
    from matplotlib.figure import Figure

    try:
        formatter = get_ipython().display_formatter.formatters["image/png"]
        render = formatter.lookup_by_type(Figure)
    except (NameError, KeyError):
        return
    if getattr(render, "carries_alt_text", False):
        return

    def with_alt_text(figure):
        rendered = render(figure)
        png, metadata = rendered if isinstance(rendered, tuple) else (rendered, {})
        text = describe(figure)
        return (png, {**metadata, "alt": text}) if text and png is not None else rendered

    with_alt_text.carries_alt_text = True
    formatter.for_type(Figure, with_alt_text)


def places(mask, numbers, what="layer"):
    """Name where a mask holds, as runs: "layers 1-3 and 7"; only how many where there are more than four runs."""
    runs = []
    for index in np.flatnonzero(mask):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    if len(runs) > 4:
        return f"{int(np.sum(mask))} {what}s"
    parts = [f"{numbers[a]}" if a == b else f"{numbers[a]}-{numbers[b]}" for a, b in runs]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{what}{'s' if np.sum(mask) > 1 else ''} {listed}"


def lost_values(name, values, numbers, what="layer"):
    """Say where values are 0 or not finite, "" where none is."""
    zero, lost = values == 0, ~np.isfinite(values)
    said = [f"0 at {places(zero, numbers, what)}"] if zero.any() else []
    said += [f"inf or NaN at {places(lost, numbers, what)}"] if lost.any() else []
    return f"{name} is {' and '.join(said)}." if said else ""
