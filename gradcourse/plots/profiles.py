"""Pictures over the layers at one step, input side left."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcourse.plots.alt_text import lost_values, say
from gradcourse.plots.style import (
    LINE,
    drawable,
    entry,
    finish,
    guess_style,
    hollow,
    ink,
    mark_lost,
    run_style,
    shortened,
    start,
    theory_style,
    tone,
)
from gradcourse.plots.traces import at_step, holds, labelled, need, prefix

_LAYERS = "layer (1 = next to the input)"
_UPDATE_GUIDE = 1e-3


@dataclass(frozen=True)
class _Profile:
    """One quantity of one run over the layers."""

    name: str
    numbers: np.ndarray  # of the layers, counted in layers with weights
    values: np.ndarray
    second: bool = False  # drawn hollow and dotted, beside a first one

    @classmethod
    def at_weights(cls, name, trace, statistic, step, second=False):
        """Take a statistic at the layers with weights."""
        values = trace.at_weights(statistic, step)
        return cls(name, np.arange(1, len(values) + 1), values, second)

    @classmethod
    def elsewhere(cls, name, trace, statistic, step, columns, second=False):
        """Take a statistic at some layers, each counted as the layer with weights before it."""
        trace.at_weights(statistic, step)  # a step that was not recorded is refused there
        numbers = np.cumsum(trace.has_weight)[columns]
        return cls(name, numbers, getattr(trace, statistic)[step, columns], second)


def plot_gradients(traces, ax=None, *, step=0, theory=False, guess=None):
    """Draw the gradient of every layer with weights, on a log scale, input side left.

    Filled markers: root mean square of dL/dh (delta). Hollow markers: norm of dL/dW. They are different pictures: dL/dW
    also carries the size of the layer's input. A value of 0 is marked at the bottom edge, inf and NaN at the top.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.
        theory: also draw theory's profile of delta, anchored at the output layer (needs a Config in the trace).
        guess: drawn dashed, beside the first trace: a factor per layer, from the last hidden layer on; or a mapping
            from layers to delta in units of that at the last hidden layer; or a Prediction of either, which draws
            nothing until it is committed.

    Returns:
        The Axes.

    Raises:
        ValueError: when there is nothing to draw, or no Config to predict from.
        IndexError: for a step that was not recorded.
    """
    traces = labelled(traces)
    guess = getattr(guess, "drawn", guess)  # a Prediction knows whether it is committed
    profiles = {label: _gradients(trace, step, theory or guess is not None) for label, trace in traces.items()}
    predicted = {label: _predicted(label, trace, step) for label, trace in traces.items()} if theory else {}
    ax = start(ax)
    ax.set_yscale("log")
    handles = _draw(ax, profiles)
    for index, values in enumerate(predicted.values()):
        number = np.arange(1, len(values) + 1)
        (line,) = ax.plot(number, values, label="theory" if index == 0 else "_theory", **theory_style(ax))
        handles += [line] if index == 0 else []
    if guess is not None:
        handles += _draw_guess(ax, next(iter(profiles.values()))[0], guess)
    title = "Gradient of every layer"
    finish(ax, title + at_step(traces, step), x=_LAYERS, y="gradient (log scale)", handles=handles)
    said = (_gradients_in_words(label, trace, step, profiles[label]) for label, trace in traces.items())
    say(ax, f"{title}{at_step(traces, step)}. {' '.join(said)}")
    return ax


def _gradients(trace, step, needs_delta):
    need("plot_gradients", trace, "delta", *([] if needs_delta else ["weight_gradient"]))
    wanted = (("RMS of ∂L/∂h", "delta", False), ("norm of ∂L/∂W", "weight_gradient", True))
    return [_Profile.at_weights(name, trace, key, step, second) for name, key, second in wanted if holds(trace, key)]


def _predicted(label, trace, step):
    if trace.config is None:
        raise ValueError(f"plot_gradients(theory=True): the trace {label!r} holds no Config to predict from")
    from gradcourse.theory import gradient_profile

    delta = trace.at_weights("delta", step)
    profile = gradient_profile(trace.config)
    if len(profile) != len(delta):
        raise ValueError(
            f"plot_gradients(theory=True): the Config of {trace!r} has {len(profile)} layers with weights and the "
            f"trace holds {len(delta)} of them: draw the whole trace"
        )
    return profile * delta[-1]


def _draw_guess(ax, delta, guess):
    anchor, number = delta.values[:-1][-1:], delta.numbers[:-1]
    if isinstance(guess, Mapping):
        number, values, marker = np.array(list(guess)), np.array(list(guess.values())), "x"
    else:
        values, marker = float(guess) ** (number[-1:] - number), ""
    return ax.plot(number, anchor * values, label="your guess", marker=marker, **guess_style(ax))


def _gradients_in_words(label, trace, step, profiles):
    held = {profile.name: profile for profile in profiles}
    said = []
    if delta := held.get("RMS of ∂L/∂h"):
        first, last = delta.values[0], delta.values[-1]
        said += [f"RMS of dL/dh is {first:.2g} at layer 1 and {last:.2g} at layer {len(delta.values)}"]
        said[0] += _factor(", a factor of {:.3g} per hidden layer", trace, "delta", step)
    if "norm of ∂L/∂W" in held:
        norm = held["norm of ∂L/∂W"].values
        ends = f"the norm of dL/dW is {norm[0]:.2g} at layer 1 and {norm[-1]:.2g} at layer {len(norm)}"
        said += [_factor("the norm of dL/dW changes by {:.3g} per layer", trace, "weight_gradient", step) or ends]
    lost = (lost_values(profile.name.replace("∂", "d"), profile.values, profile.numbers) for profile in profiles)
    return " ".join(filter(None, [f"{prefix(label)}{'; '.join(said)}.", *lost]))


def _factor(words, trace, statistic, step):
    factor = trace.factor_per_layer(statistic, step)
    return "" if np.isnan(factor) else words.format(factor)


def plot_activations(traces, ax=None, *, step=0):
    """Draw the root mean square of every layer's output h, input side left, before and after its activation.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.

    Returns:
        The Axes.

    Raises:
        ValueError: when there is nothing to draw.
        IndexError: for a step that was not recorded.
    """
    traces = labelled(traces)
    profiles = {label: _activations(trace, step) for label, trace in traces.items()}
    ax = start(ax)
    ax.set_yscale("log")
    handles = _draw(ax, profiles)
    title = "Size of the forward signal"
    y = "RMS of the layer's output (log scale)"
    finish(ax, title + at_step(traces, step), x=_LAYERS, y=y, handles=handles)
    said = (_activations_in_words(label, *parts) for label, parts in profiles.items())
    say(ax, f"{title}{at_step(traces, step)}. {' '.join(said)}")
    return ax


def _activations(trace, step):
    need("plot_activations", trace, "activation_rms")
    normalizes = ~np.isnan(trace.weight_gradient).all(axis=0)  # a norm has weights, though no weight matrix
    columns = np.flatnonzero(~trace.has_weight & ~normalizes)
    before = _Profile.at_weights("pre-activation", trace, "activation_rms", step)
    after = _Profile.elsewhere("activation", trace, "activation_rms", step, columns, second=True)
    return [before, *([after] if len(columns) else [])]


def _activations_in_words(label, before, *others):
    first, last, count = before.values[0], before.values[-1], len(before.values)
    lost = (lost_values(profile.name, profile.values, profile.numbers) for profile in (before, *others))
    words = f"{prefix(label)}pre-activations have RMS {first:.2g} at layer 1 and {last:.2g} at layer {count}."
    return " ".join(filter(None, [words, *lost]))


def plot_saturation(traces, ax=None, *, step=0):
    """Draw the share of each activation that passes no gradient on: saturated outputs, or dead units.

    Filled markers: the fraction of outputs where less than 2 % of the steepest slope is left (sigmoid, tanh and others
    that level off on both sides). Hollow markers: the fraction of units that are 0 for the whole batch (ReLU).

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.

    Returns:
        The Axes.

    Raises:
        ValueError: when no activation of a trace can saturate or die.
        IndexError: for a step that was not recorded.
    """
    traces = labelled(traces)
    profiles = {label: _saturation(trace, step) for label, trace in traces.items()}
    ax = start(ax)
    handles = _draw(ax, profiles, log=False)
    ax.set_ylim(-0.04, 1.04)
    title = "What passes no gradient on"
    y = "fraction of the layer, from 0 to 1"
    finish(ax, title + at_step(traces, step), x=_LAYERS, y=y, handles=handles)
    said = (_saturation_in_words(label, parts) for label, parts in profiles.items())
    say(ax, f"{title}{at_step(traces, step)}. {' '.join(said)}")
    return ax


def _saturation(trace, step):
    need("plot_saturation", trace, "saturation", "dead")
    profiles = []
    for name, statistic, second in (("saturated outputs", "saturation", False), ("dead units", "dead", True)):
        columns = np.flatnonzero(~np.isnan(getattr(trace, statistic)).all(axis=0))
        if len(columns):
            profiles.append(_Profile.elsewhere(name, trace, statistic, step, columns, second))
    return profiles


def _saturation_in_words(label, profiles):
    said = []
    for profile in profiles:
        where = np.nanargmax(profile.values) if not np.isnan(profile.values).all() else 0
        most = f"most at layer {profile.numbers[where]}: {profile.values[where]:.2g}"
        ends = f"{profile.values[0]:.2g} at layer {profile.numbers[0]}"
        ends += f" and {profile.values[-1]:.2g} at layer {profile.numbers[-1]}"
        said.append(f"the fraction of {profile.name} is {ends}, {most}.")
    return prefix(label) + " ".join(said)


def plot_updates(traces, ax=None, *, step=0):
    """Draw how far one step moves the weights of every layer: |step of W| / |W|, with the guide line at 1e-3.

    A rule of thumb, not a law: ratios far below 1e-3 learn slowly, far above they are unstable. A layer that did not
    move is marked at the bottom edge.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.

    Returns:
        The Axes.

    Raises:
        ValueError: when a trace holds no step of an optimizer.
        IndexError: for a step that was not recorded.
    """
    traces = labelled(traces)
    for trace in traces.values():
        need("plot_updates", trace, "update_ratio")
    ratio = "|step of W| / |W|"
    profiles = {label: [_Profile.at_weights(ratio, trace, "update_ratio", step)] for label, trace in traces.items()}
    ax = start(ax)
    ax.set_yscale("log")
    handles = _draw(ax, profiles)
    handles.append(ax.axhline(_UPDATE_GUIDE, color=ink(ax), linewidth=LINE, linestyle="--", label="guide: 1e-3"))
    title = "Size of the weights' update"
    finish(ax, title + at_step(traces, step), x=_LAYERS, y=f"{ratio} (log scale)", handles=handles)
    said = (_updates_in_words(label, *parts) for label, parts in profiles.items())
    say(ax, f"{title}{at_step(traces, step)}. {' '.join(said)} The guide line is at 1e-3.")
    return ax


def _updates_in_words(label, ratios):
    first, last, count = ratios.values[0], ratios.values[-1], len(ratios.values)
    below = int((ratios.values < _UPDATE_GUIDE).sum())
    words = f"{prefix(label)}the update is {first:.2g} of the weights at layer 1 and {last:.2g} at layer {count}; "
    words += f"{below} of {count} layers are below 1e-3."
    return " ".join(filter(None, [words, lost_values("the update", ratios.values, ratios.numbers)]))


def _draw(ax, profiles, log=True):
    """Draw the profiles of every run and return the legend's entries: the runs, then the quantities.

    Args:
        ax: where to draw.
        profiles: label -> list of _Profile.
        log: whether 0 can't be shown and is marked at the edge.
    """
    marks = {}
    for index, (label, parts) in enumerate(profiles.items()):
        for part in parts:
            style = run_style(ax, index, len(part.values)) | (hollow(ax) if part.second else {})
            ax.plot(part.numbers, drawable(part.values, log), label=prefix(label) + part.name, **style)
        for part in parts if log else ():
            for mark in mark_lost(ax, part.numbers, part.values, index, style["color"]):
                marks.setdefault(mark.get_label(), mark)
    quantities = {part.name: part.second for parts in profiles.values() for part in parts}
    return _entries(ax, profiles, quantities) + [
        entry(ax, name, marker=mark.get_marker(), linestyle="none", markeredgewidth=1.8) for name, mark in marks.items()
    ]


def _entries(ax, profiles, quantities):
    if len(profiles) == 1:
        drawn = [line for line in ax.lines if line.get_label().endswith(tuple(quantities))]
        return drawn[-len(quantities) :]
    runs = shortened(ax, [entry(ax, label, **run_style(ax, index)) for index, label in enumerate(profiles)])
    if len(quantities) == 1:
        return runs
    grey = {"color": tone(ax, 0.6), "marker": "o"}
    look = {True: grey | hollow(ax), False: grey}
    return runs + [entry(ax, name, **look[second]) for name, second in quantities.items()]
