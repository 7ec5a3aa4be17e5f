"""Traces as pictures. Each function draws on one Axes and returns it; each picture carries its numbers as alt text."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradcourse import theory as _theory
from gradcourse.recording import Trace

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
"""Okabe and Ito's colours, told apart with every common form of colour blindness."""

_MARKERS = "os^Dv<>P"
_THEORY_STYLE = {"color": "black", "linewidth": 1.0, "linestyle": "-", "zorder": 4}  # a thin line over the markers
_GUESS_STYLE = {"color": "#555555", "linewidth": 1.6, "linestyle": "--", "zorder": 4}


def plot_gradients(traces, ax=None, *, step=0, theory=False, guess=None):
    """Draw the gradient of every layer with weights, on a log scale, input side left.

    Filled markers: root mean square of dL/dh (delta). Hollow markers: norm of dL/dW. They are different pictures: dL/dW
    also carries the size of the layer's input.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.
        theory: also draw theory's profile of delta, anchored at the output layer (needs a Config in the trace).
        guess: a factor per layer, drawn dashed from the last hidden layer of the first trace.

    Returns:
        The Axes.

    Raises:
        ValueError: when there is nothing to draw.
    """
    ax = _axes(ax)
    traces = _labelled(traces)
    described = []
    for index, (label, trace) in enumerate(traces.items()):
        delta = trace.at_weights("delta", step)
        weight_gradient = trace.at_weights("weight_gradient", step)
        number = np.arange(1, len(delta) + 1)
        style = {"color": COLOURS[index % 8], "marker": _MARKERS[index % 8], "markersize": 5}
        ax.plot(number, delta, label=f"{label}RMS of ∂L/∂h", **style)
        ax.plot(
            number,
            weight_gradient,
            label=f"{label}norm of ∂L/∂W",
            markerfacecolor="white",
            linestyle=":",
            **style,
        )
        if theory:
            predicted = _predicted(trace, label) * delta[-1]
            ax.plot(number, predicted, label=f"{label}theory" if index == 0 else None, **_THEORY_STYLE)
        described.append(_describe_gradients(label, trace, step))
    if guess is not None:
        first = next(iter(traces.values()))
        anchor = first.at_weights("delta", step)[:-1]
        number = np.arange(1, len(anchor) + 1)
        ax.plot(number, anchor[-1] * float(guess) ** (number[-1] - number), label="your guess", **_GUESS_STYLE)
    ax.set_yscale("log")
    ax.set_xlabel("layer (1 = next to the input)")
    ax.set_ylabel("gradient (log scale)")
    _finish(ax, "Gradient of every layer", described)
    return ax


def _predicted(trace, label):
    if trace.config is None:
        raise ValueError(f"plot_gradients(theory=True): the trace {label!r} holds no Config to predict from")
    return _theory.gradient_profile(trace.config)


def _describe_gradients(label, trace, step):
    delta = trace.at_weights("delta", step)
    return (
        f"{label}RMS of dL/dh is {delta[0]:.2g} at layer 1 and {delta[-1]:.2g} at layer {len(delta)}, a factor of "
        f"{trace.factor_per_layer('delta', step):.3g} per hidden layer; the norm of dL/dW changes by "
        f"{trace.factor_per_layer('weight_gradient', step):.3g} per layer."
    )


def plot_activations(traces, ax=None, *, step=0):
    """Draw the root mean square of every layer's output h, input side left, before and after its activation.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.
        step: index into the recorded steps.

    Returns:
        The Axes.
    """
    ax = _axes(ax)
    described = []
    for index, (label, trace) in enumerate(_labelled(traces).items()):
        pre, post = _pre_and_post(trace, step)
        style = {"color": COLOURS[index % 8], "marker": _MARKERS[index % 8], "markersize": 5}
        ax.plot(np.arange(1, len(pre) + 1), pre, label=f"{label}pre-activation", **style)
        ax.plot(
            np.arange(1, len(post) + 1),
            post,
            label=f"{label}activation",
            markerfacecolor="white",
            linestyle=":",
            **style,
        )
        described.append(
            f"{label}pre-activations have RMS {pre[0]:.2g} at layer 1 and {pre[-1]:.2g} at layer {len(pre)}."
        )
    ax.set_yscale("log")
    ax.set_xlabel("layer (1 = next to the input)")
    ax.set_ylabel("RMS of the layer's output (log scale)")
    _finish(ax, "Size of the forward signal", described)
    return ax


def _pre_and_post(trace, step):
    rms = trace.activation_rms[step]
    return rms[trace.has_weight], rms[~trace.has_weight]


def plot_loss(traces, ax=None):
    """Draw the loss against the optimizer step.

    Args:
        traces: a Trace, or a mapping from labels to Traces.
        ax: where to draw; None: on a new figure.

    Returns:
        The Axes.

    Raises:
        ValueError: when a trace holds no loss.
    """
    ax = _axes(ax)
    described = []
    for index, (label, trace) in enumerate(_labelled(traces).items()):
        if np.isnan(trace.loss).all() and not any(event.kind == "non-finite" for event in trace.events):
            raise ValueError(f"plot_loss: {trace!r} holds no loss; call recorder.log_loss(loss) in the loop")
        ax.plot(trace.steps, trace.loss, label=label.rstrip(": ") or "loss", color=COLOURS[index % 8])
        described.append(f"{label}from {trace.loss[0]:.2g} to {trace.loss[-1]:.2g} in {len(trace.steps)} steps.")
    ax.set_xlabel("optimizer step")
    ax.set_ylabel("cross-entropy loss (nats)")
    _finish(ax, "Training loss", described)
    return ax


def _axes(ax):
    return plt.subplots(figsize=(6.4, 4.0), layout="constrained")[1] if ax is None else ax


def _labelled(traces):
    """Return a mapping from the prefix of each legend entry to its Trace."""
    if isinstance(traces, Trace):
        return {"": traces}
    if not hasattr(traces, "items") or not traces:
        raise ValueError(f"a plot needs a Trace or a mapping from labels to Traces, not {type(traces).__name__}")
    return {f"{label}: ": trace for label, trace in traces.items()}


def _finish(ax, title, described):
    ax.set_title(title)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # layers and steps are counted
    ax.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.legend(frameon=False, fontsize="small")
    ax.set_gid(f"{title}. {' '.join(described)}")
    _carry_alt_text()


def description(figure):
    """Return a figure's alt text: what its plots say about themselves, in the order of its Axes."""
    return " ".join(ax.get_gid() for ax in figure.axes if ax.get_gid())


def _carry_alt_text():
    """Make this kernel's PNGs of figures carry their description into the saved notebook.

    nbconvert and screen readers find it in the output's metadata. Outside IPython there is nothing to do.
    """
    try:
        shell = get_ipython()
    except NameError:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    render = formatter.lookup_by_type(Figure)
    if getattr(render, "carries_alt_text", False):
        return

    def with_alt_text(figure):
        rendered = render(figure)
        png, metadata = rendered if isinstance(rendered, tuple) else (rendered, {})
        text = description(figure)
        return (png, {**metadata, "alt": text}) if text and png is not None else rendered

    with_alt_text.carries_alt_text = True
    formatter.for_type(Figure, with_alt_text)
