"""Pictures that need the network itself: the spread of its values, and the singular values of its Jacobian."""

import numpy as np

from gradcourse.plots.alt_text import say
from gradcourse.plots.maps import draw_cells
from gradcourse.plots.style import (
    dense,
    drawable,
    entry,
    finish,
    mark_lost,
    run_style,
    shortened,
    start,
    tone,
    whole_numbers,
)
from gradcourse.plots.traces import prefix

_OF = {
    "activations": "output of the activation",
    "pre_activations": "output of the layer with weights",
    "gradients": "|∂L/∂h| at the layers with weights",
    "weights": "weight",
}
_BINS = 60
_TAIL = 1e-3  # share of a layer's values on either side that does not stretch the scale


def plot_histograms(model, batch, loss_fn, ax=None, *, of="activations"):
    """Draw how the values of every layer are spread: one histogram per column, input side left.

    The colour is the share of the layer's values in the bin; the outermost bins also count the few values beyond them.
    Gradients are drawn by size, on a log scale; those that are 0 are told in the description. The model is left as it
    was.

    Args:
        model: any torch module that the Recorder takes.
        batch: inputs and targets, ``(x, y)``.
        loss_fn: called as ``loss_fn(model(x), y)``; must return a scalar.
        ax: where to draw; None: on a new figure. A colour bar is set beside it.
        of: "activations" (outputs of activation modules), "pre_activations" (outputs of layers with weights),
            "gradients" (dL/dh of these) or "weights".

    Returns:
        The Axes.

    Raises:
        ValueError: for another `of`, a model without such layers, or values that are all 0, inf or NaN.
    """
    if of not in _OF:
        raise ValueError(f"plot_histograms(of={of!r}): take one of {', '.join(_OF)}")
    layers = _values_of_layers(model, batch, loss_fn, of)
    usable = [_usable(values, of) for values in layers]
    if not layers or not any(len(values) for values in usable):
        found = "no finite value other than 0" if layers else "no such layer"
        raise ValueError(f"plot_histograms(of={of!r}): this model has {found}: take another of {', '.join(_OF)}")
    edges = _bins(usable, of)
    shares = np.stack([_shares(values, edges) for values in usable], axis=1)
    ax = start(ax)
    ax.set_yscale("log" if of == "gradients" else "linear")
    _draw_shares(ax, edges, shares)
    title = f"Spread of the {of.replace('_', '-')} in every layer"
    y = _OF[of] + (" (log scale)" if of == "gradients" else "")
    finish(ax, title, x="layer (1 = next to the input)", y=y, handles=[], filled=True)
    say(ax, f"{title}. {_spread_in_words(layers)}")
    return ax


def _values_of_layers(model, batch, loss_fn, of):
    """Return a flat float64 array per layer, in call order."""
    from gradcourse.recording import measure

    trace = measure(model, batch, loss_fn)
    modules = dict(model.named_modules())
    weighted = [name for name, has in zip(trace.layers, trace.has_weight, strict=True) if has]
    if of == "weights":
        return [_flat(_weights(modules[name])) for name in weighted]
    others = [name for name in trace.layers if name not in weighted and _activates(modules[name])]
    chosen = {name: modules[name] for name in (others if of == "activations" else weighted)}
    outputs, gradients = _one_pass(model, batch, loss_fn, chosen)
    return [_flat(parts) for parts in (gradients if of == "gradients" else outputs).values()]


def _weights(module):
    own = [parameter for name, parameter in module.named_parameters() if "bias" not in name and parameter.ndim > 1]
    return [parameter.detach() for parameter in own]


def _activates(module):
    """Tell an activation from a normalization: that has one weight per unit or none, and running statistics or not."""
    from torch import nn

    return isinstance(module, nn.PReLU) or not list(module.parameters(recurse=False))


def _one_pass(model, batch, loss_fn, modules):
    """Return the outputs of some modules and dL/dh, as lists by name; the model's buffers stay as they are."""
    import torch
    from torch.func import functional_call

    x, y = batch
    outputs, gradients = ({name: [] for name in modules} for _ in range(2))

    def watch(name):
        def after_forward(module, inputs, output):
            outputs[name].append(output.detach().clone())  # what follows may change it in place
            if output.requires_grad:
                output.register_hook(lambda gradient: gradients[name].append(gradient))

        return after_forward

    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            loss = loss_fn(functional_call(model, buffers, (x,)), y)
            torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, gradients


def _flat(tensors):
    arrays = [tensor.detach().double().cpu().numpy().ravel() for tensor in tensors]
    return np.concatenate(arrays) if arrays else np.array([])


def _usable(values, of):
    values = values[np.isfinite(values)]
    return np.abs(values[values != 0]) if of == "gradients" else values


def _bins(layers, of):
    filled = [values for values in layers if len(values)]
    if of == "gradients":
        low, high = min(values.min() for values in filled), max(values.max() for values in filled)
        return np.geomspace(low, high * 1.001, _BINS + 1)
    low, high = (pick(np.quantile(values, q) for values in filled) for pick, q in ((min, _TAIL), (max, 1.0 - _TAIL)))
    margin = 0.5 * (abs(low) or 1.0) if low == high else 0.0
    return np.linspace(low - margin, high + margin, _BINS + 1)


def _shares(values, edges):
    """Return the share of a layer's values in each bin; the outermost bins take what lies beyond."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(len(values), 1)


def _draw_shares(ax, edges, shares):
    from matplotlib.colors import PowerNorm

    columns = np.arange(shares.shape[1] + 1) + 0.5
    norm = PowerNorm(0.5, 0.0, shares.max())  # the root: a wide and a narrow spread are both seen
    whole_numbers(ax.xaxis)
    draw_cells(ax, columns, edges, shares, norm, "share of the layer's values", dense(ax))


def _spread_in_words(layers):
    said = []
    for number in sorted({1, len(layers)}):
        values = layers[number - 1]
        finite = values[np.isfinite(values)]
        if len(finite):
            spread = f"mean {finite.mean():.2g}, standard deviation {finite.std():.2g}"
            said.append(f"Layer {number}: {spread}, from {finite.min():.2g} to {finite.max():.2g}")
            said[-1] += f", {np.mean(finite == 0):.0%} are 0." if (finite == 0).any() else "."
    lost = [number for number, values in enumerate(layers, start=1) if not np.isfinite(values).all()]
    return " ".join([*said, *([f"Layers with inf or NaN: {len(lost)}, the first is {lost[0]}."] if lost else [])])


def plot_singular_values(of, x=None, ax=None):
    """Draw the singular values of a Jacobian, largest first, on a log scale.

    They are the factors by which a network stretches small changes of its input, and the gradient on its way back: all
    near 1 (the dashed line) is what initialization aims at. Values that are only rounding are below the dotted line.

    Args:
        of: a matrix; or a torch module, whose Jacobian at the input x is taken; or a mapping from labels to either.
        x: one input without a batch axis, for modules. One with BatchNorm must be in evaluation mode.
        ax: where to draw; None: on a new figure.

    Returns:
        The Axes.

    Raises:
        ValueError: for anything but a matrix, a module without x, and for inf or NaN in the matrix.
    """
    given = dict(of) if hasattr(of, "items") and not callable(of) else {"": of}
    found = {str(label): _singular_values(matrix, x) for label, matrix in given.items()}
    if not found:
        raise ValueError("plot_singular_values: an empty mapping; pass a matrix, or a module and an input")
    ax = start(ax)
    ax.set_yscale("log")
    handles, marks = [], {}
    for index, (label, (values, rounding)) in enumerate(found.items()):
        number = np.arange(1, len(values) + 1)
        style = run_style(ax, index, len(values))
        handles += ax.plot(number, drawable(values, log=True), label=label or "singular values", **style)
        for mark in mark_lost(ax, number, values, index, style["color"]):
            marks[mark.get_label()] = entry(ax, mark.get_label(), marker=mark.get_marker(), linestyle="none")
        if values[-1] < rounding:
            style = {"color": style["color"], "linestyle": ":", "linewidth": 1.5}
            ax.axhline(rounding, label="_rounding", **style)
            marks["rounding"] = entry(ax, "below: rounding", linestyle=":")
    marks["one"] = ax.axhline(1.0, color=tone(ax, 0.65), linestyle="--", linewidth=1.5, label="1: length is kept")
    title = "Singular values of the Jacobian"
    handles = shortened(ax, handles) + list(marks.values())
    finish(ax, title, x="number, largest first", y="singular value (log scale)", handles=handles)
    say(ax, f"{title}. {' '.join(_singular_in_words(label, *parts) for label, parts in found.items())}")
    return ax


def _singular_values(of, x):
    """Return the singular values of a matrix or of a module's Jacobian, and the size of their rounding error."""
    if callable(of):
        if x is None:
            raise ValueError("plot_singular_values: a module needs an input x to take its Jacobian at")
        of = _jacobian(of, x)
    matrix = np.asarray(of.detach().cpu() if hasattr(of, "detach") else of)
    if matrix.ndim != 2 or not matrix.size or not np.issubdtype(matrix.dtype, np.number):
        raise ValueError(f"plot_singular_values: it takes a matrix, not an array of shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("plot_singular_values: the matrix holds inf or NaN: it has no singular values")
    exact = np.finfo(matrix.dtype if np.issubdtype(matrix.dtype, np.floating) else np.float64).eps
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return values, values[0] * exact * max(matrix.shape)


def _jacobian(model, x):
    """Return dy/dx of shape (outputs, inputs); the model's buffers and gradients stay as they are."""
    import torch
    from torch.func import functional_call

    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def outputs(x):
        return functional_call(model, buffers, (x.unsqueeze(0),)).flatten()

    with torch.random.fork_rng(devices=[]):
        jacobian = torch.autograd.functional.jacobian(outputs, torch.as_tensor(x).detach())
    return jacobian.reshape(len(jacobian), -1)


def _singular_in_words(label, values, rounding):
    ends = f"{len(values)} values from {values[0]:.2g} down to {values[-1]:.2g}"
    size = f"root mean square {np.sqrt(np.mean(values**2)):.2g}"
    words = f"{prefix(label)}{ends}, {size}."
    below = int((values < rounding).sum())
    return words + (f" Only rounding: {below} of them, below {rounding:.1g}." if below else "")
