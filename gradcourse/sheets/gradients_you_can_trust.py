"""Sheet 01: write a backward pass, check one, look inside one, and find the one that is wrong."""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradcourse.recording import measure
from gradcourse.sheets.question import Case, Mistake, Question

_TINY = 1e-30  # a complex step has no rounding error, so it may be as short as floats allow


def complex_step_gradients(loss, weights):
    """Return dL/dw for each array, from the imaginary part of L(w + ih): exact, with no difference and no chain rule.

    Args:
        loss: takes a list of arrays like the weights, complex ones too.
        weights: a list of arrays.
    """
    gradients = []
    for number, weight in enumerate(weights):
        gradient = np.zeros(weight.shape)
        for index in np.ndindex(weight.shape):
            moved = [w.astype(np.complex128) for w in weights]
            moved[number][index] += 1j * _TINY
            gradient[index] = loss(moved).imag / _TINY
        gradients.append(gradient)
    return gradients


# Question 1: the backward pass of two layers


def tanh(u):
    """Return tanh, on NumPy arrays."""
    return np.tanh(u)


def tanh_slope(u):
    """Return the derivative of tanh."""
    return 1.0 - np.tanh(u) ** 2


def softplus(u):
    """Return log(1 + exp(u)), a smooth ReLU."""
    return np.log(1.0 + np.exp(u))


def softplus_slope(u):
    """Return the derivative of softplus, the sigmoid."""
    return 1.0 / (1.0 + np.exp(-u))


def sine(u):
    """Return the sine."""
    return np.sin(u)


def sine_slope(u):
    """Return the derivative of the sine."""
    return np.cos(u)


ACTIVATIONS = ((tanh, tanh_slope), (softplus, softplus_slope), (sine, sine_slope))
"""Activations of this sheet, each with its slope."""


def backward_case(rng, batch, inputs, hidden, outputs, phi, slope):
    """Make a network of two layers and a batch for it."""
    x, y = rng.normal(size=(batch, inputs)), rng.normal(size=(batch, outputs))
    w1, w2 = rng.normal(size=(hidden, inputs)), rng.normal(size=(outputs, hidden))
    b1, b2 = rng.normal(size=hidden), rng.normal(size=outputs)
    sizes = f"{batch} inputs of size {inputs}, {hidden} hidden units, {outputs} outputs, {phi.__name__}"
    return Case("01-q1", (x, y, w1, b1, w2, b2, phi, slope), sizes)


def _backward_cases():
    rng = np.random.default_rng(1)  # square matrices: a forgotten transpose then gives numbers, not an error
    return [backward_case(rng, batch, 4, 4, 4, *pair) for batch, pair in zip((6, 3), ACTIVATIONS, strict=False)]


def _backward(x, y, w1, b1, w2, b2, phi, slope):
    def loss(weights):
        w1, b1, w2, b2 = weights
        error = phi(x @ w1.T + b1) @ w2.T + b2 - y
        return 0.5 * (error**2).sum() / len(x)

    return tuple(complex_step_gradients(loss, [w1, b1, w2, b2]))


def _backward_with(
    back=lambda delta, w2: delta @ w2,
    slope_at=lambda slope, z, h: slope(z),
    divisor=len,
    of_bias=lambda delta: delta.sum(axis=0),
    arranged=lambda delta, h: delta.T @ h,
):
    """Return a backward pass in which one step is done differently."""

    def answer(x, y, w1, b1, w2, b2, phi, slope):
        z = x @ w1.T + b1
        h = phi(z)
        delta = (h @ w2.T + b2 - y) / divisor(x)
        delta_z = back(delta, w2) * slope_at(slope, z, h)
        return arranged(delta_z, x), of_bias(delta_z), arranged(delta, h), of_bias(delta)

    return answer


def _loss_of_all_entries(x, y, w1, b1, w2, b2, phi, slope):
    return tuple(gradient / y.shape[1] for gradient in _backward(x, y, w1, b1, w2, b2, phi, slope))


def _two_for_the_half(x, y, w1, b1, w2, b2, phi, slope):
    return tuple(2.0 * gradient for gradient in _backward(x, y, w1, b1, w2, b2, phi, slope))


def _wrong_sign(x, y, w1, b1, w2, b2, phi, slope):
    return tuple(-gradient for gradient in _backward(x, y, w1, b1, w2, b2, phi, slope))


_BACKWARD_MISTAKES = (
    Mistake(
        "You carry the delta back with the wrong transpose of w2. The scores are h @ w2.T, so the way back is "
        "delta @ w2; square matrices hide the mistake.",
        _backward_with(back=lambda delta, w2: delta @ w2.T),
    ),
    Mistake(
        "You forgot 1/B: the loss is a mean over the batch, your gradients are a sum.",
        _backward_with(divisor=lambda x: 1.0),
    ),
    Mistake(
        "You take the slope at h = phi(z), after the activation. phi' belongs to the pre-activation z.",
        _backward_with(slope_at=lambda slope, z, h: slope(h)),
    ),
    Mistake(
        "The slope of the activation is missing: dL/dz is dL/dh times phi'(z).",
        _backward_with(slope_at=lambda slope, z, h: 1.0),
    ),
    Mistake(
        "You average over the batch twice for the biases: delta holds 1/B already, so sum it.",
        _backward_with(of_bias=lambda delta: delta.mean(axis=0)),
    ),
    Mistake(
        "dw1 and dw2 are transposed: a gradient is arranged like its weights, (outputs, inputs).",
        _backward_with(arranged=lambda delta, h: h.T @ delta),
    ),
    Mistake(
        "A factor of 2 too much: the loss holds 1/2, which the derivative of the square takes away.",
        _two_for_the_half,
    ),
    Mistake(
        "You divide by the number of outputs as well: the loss is a mean over the batch and a sum over the outputs.",
        _loss_of_all_entries,
    ),
    Mistake(
        "Every gradient has the wrong sign: it points to where the loss grows, and the minus belongs to the step.",
        _wrong_sign,
    ),
)

# Question 2: the central-difference checker


@dataclass(frozen=True)
class Wave:
    """A function of a vector: the sum of a sin(k w) over its entries, in the precision of w.

    Attributes:
        amplitudes: a, a tuple.
        frequencies: k, a tuple.
    """

    amplitudes: tuple
    frequencies: tuple

    def __call__(self, w):
        """Return the value at w, a float."""
        a, k = (np.asarray(values, dtype=w.dtype) for values in (self.amplitudes, self.frequencies))
        return float((a * np.sin(k * w)).sum(dtype=w.dtype))


def wave_case(rng, size, step, dtype=np.float64, spoil=0.1):
    """Make a function, a point and a gradient of which one entry is wrong."""
    wave = Wave(tuple(rng.uniform(0.5, 2.0, size)), tuple(rng.uniform(0.5, 2.0, size)))
    w = rng.normal(size=size).astype(dtype)
    gradient = np.array(wave.amplitudes) * wave.frequencies * np.cos(np.array(wave.frequencies) * w)
    gradient[rng.integers(size)] += spoil
    return Case("01-q2", (wave, w, gradient, step), f"f, {size} weights in {w.dtype}, gradient, h={step:g}")


def _gradient_error_cases():
    rng = np.random.default_rng(2)
    return [wave_case(rng, 5, 1e-5), wave_case(rng, 3, 0.5), wave_case(rng, 4, 1e-6, np.float32)]


def _central(wave, w, h):
    """The central difference in closed form: sin(k(w+h)) - sin(k(w-h)) = 2 cos(kw) sin(kh)."""
    a, k = np.array(wave.amplitudes), np.array(wave.frequencies)
    return a * np.cos(k * w.astype(np.float64)) * np.sin(k * h) / h


def _relative(gradient, trusted):
    return float(np.linalg.norm(gradient - trusted) / np.linalg.norm(trusted))


def _gradient_error(f, w, gradient, h):
    return _relative(gradient, _central(f, w, h))


def _differences(f, w, h, up=1.0, down=-1.0, over=2.0):
    """Divided differences of f, from `up` steps ahead to `down` steps ahead, in the precision of w."""
    values = []
    for index in range(len(w)):
        ahead, behind = w.copy(), w.copy()
        ahead[index] += up * h
        behind[index] += down * h
        values.append((f(ahead) - f(behind)) / (over * h))
    return np.array(values)


def _error_with(double=True, norm=_relative, step=None, **how):
    """Return a checker in which one step is done differently."""

    def answer(f, w, gradient, h):
        w = w.astype(np.float64) if double else w
        return norm(gradient, _differences(f, w, h if step is None else step, **how))

    return answer


_GRADIENT_ERROR_MISTAKES = (
    Mistake(
        "Your difference is one-sided, (f(w + h) - f(w)) / h: its error falls like h, that of the central difference "
        "like h**2. Step to both sides.",
        _error_with(down=0.0, over=1.0),
    ),
    Mistake(
        "Your difference is one-sided, (f(w) - f(w - h)) / h: its error falls like h, that of the central difference "
        "like h**2. Step to both sides.",
        _error_with(up=0.0, over=1.0),
    ),
    Mistake(
        "This is the absolute error. 1e-8 is a lot for a gradient of 1e-8: divide by the size of the central "
        "difference.",
        _error_with(norm=lambda gradient, trusted: np.linalg.norm(gradient - trusted)),
    ),
    Mistake(
        "You compute in float32, where a step of 1e-6 drowns in rounding: turn w into float64 first.",
        _error_with(double=False),
    ),
    Mistake(
        "You divide by h. From w - h to w + h it is 2h.",
        _error_with(over=1.0),
    ),
    Mistake(
        "You use a step of your own: h is given.",
        _error_with(step=1e-5),
    ),
    Mistake(
        "You divide by the size of the gradient that is under test. Divide by what you trust, the central difference.",
        _error_with(norm=lambda gradient, trusted: _relative(trusted, gradient)),
    ),
    Mistake(
        "You return the largest error of an entry. The question asks for the norm of all of them over the norm of "
        "the central difference.",
        _error_with(norm=lambda gradient, trusted: np.max(np.abs(gradient - trusted) / np.abs(trusted))),
    ),
    Mistake(
        "You return the square of the relative error: take the root of the sums of squares.",
        _error_with(norm=lambda gradient, trusted: _relative(gradient, trusted) ** 2),
    ),
)

# Question 3: delta, by hooks that are removed again


class Skip(nn.Module):
    """A network that is no chain: its second layer adds to its input.

    Its submodules `first`, `phi`, `second`, `psi` and `last` are called in this order.
    """

    def __init__(self, rng, inputs, width, outputs):
        super().__init__()
        self.first, self.phi = _linear(rng, inputs, width), nn.Tanh()
        self.second, self.psi = _linear(rng, width, width), nn.Sigmoid()
        self.last = _linear(rng, width, outputs)

    def forward(self, x):
        """Return the scores, shape (B, outputs)."""
        h = self.phi(self.first(x))  # (B, width)
        return self.last(h + self.psi(self.second(h)))


def _linear(rng, inputs, outputs):
    layer = torch.nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.normal(size=(outputs, inputs)) * inputs**-0.5))
        layer.bias.zero_()
    return layer


def hook_case(rng, batch, inputs, width, outputs, names):
    """Make a network with a skip connection, a batch, and the names of layers to look into."""
    model = Skip(rng, inputs, width, outputs)
    x = torch.from_numpy(rng.normal(size=(batch, inputs)))
    y = torch.from_numpy(rng.integers(outputs, size=batch))
    return Case("01-q3", (model, names, x, y), f"model, {names}, x, y")


def _layer_deltas_cases():
    rng = np.random.default_rng(3)
    return [
        hook_case(rng, 8, 5, 6, 4, ["first", "phi", "second", "psi", "last"]),
        hook_case(rng, 3, 4, 7, 5, ["psi", "first"]),
    ]


def _layer_deltas(model, names, x, y):
    trace = measure(model, (x, y), cross_entropy)
    return np.array([trace.delta[0, trace.layers.index(name)] for name in names])


def _with_size(size_of):
    """Return an answer that takes something else than the RMS of each dL/dh; `size_of` knows the batch, too."""

    def answer(model, names, x, y):
        outputs = {}
        for name in names:
            hook = partial(lambda name, layer, inputs, output: outputs.update({name: output}), name)
            model.get_submodule(name).register_forward_hook(hook)
        loss = cross_entropy(model(x), y)
        model.apply(lambda module: module._forward_hooks.clear())
        gradients = torch.autograd.grad(loss, [outputs[name] for name in names])
        return np.array([size_of(gradient, len(x)) for gradient in gradients])

    return answer


def _in_order(direction):
    """Return an answer whose deltas come in the order of the forward (1) or backward (-1) pass."""

    def answer(model, names, x, y):
        called = [name for name, _ in model.named_children() if name in names]
        return _layer_deltas(model, called[::direction], x, y)

    return answer


def _of_activations(model, names, x, y):
    trace = measure(model, (x, y), cross_entropy)
    return np.array([trace.activation_rms[0, trace.layers.index(name)] for name in names])


_LAYER_DELTAS_MISTAKES = (
    Mistake(
        "You return norms. The question asks for the root mean square over all entries of dL/dh, which does not grow "
        "with the batch or the width.",
        _with_size(lambda gradient, batch: gradient.norm().item()),
    ),
    Mistake(
        "You forgot the root: this is the mean square.",
        _with_size(lambda gradient, batch: gradient.square().mean().item()),
    ),
    Mistake(
        "You return the mean of |dL/dh|; the question asks for the root mean square.",
        _with_size(lambda gradient, batch: gradient.abs().mean().item()),
    ),
    Mistake(
        "You measure the outputs themselves: delta is the gradient of the loss with respect to them.",
        _of_activations,
    ),
    Mistake("Your deltas come in the order of the backward pass. Return them in the order of names.", _in_order(-1)),
    Mistake("Your deltas come in the order of the forward pass. Return them in the order of names.", _in_order(1)),
    Mistake(
        "Your loss is a sum over the batch; cross_entropy(model(x), y) is a mean.",
        _with_size(lambda gradient, batch: batch * gradient.square().mean().sqrt().item()),
    ),
)

_LAYER_DELTAS_PROBLEMS = (
    (
        "NoneType",
        "The .grad of a tensor that is not a leaf is None: autograd keeps gradients for leaves, such as weights, "
        "alone. Hook the output itself, or call its retain_grad() before the backward pass.",
    ),
)

# Question 4: which of four backward passes is wrong, and where

BUGS = ("slope after the activation", "no slope", "no 1/B", "wrong transpose", "batch's last image left out")
"""What can be planted in a backward pass."""
_LAYERS = 3


def planted_network(rng, bug="", layer=0, scale=1.0, width=4, batch=5):
    """Make a network of three tanh layers as (loss, backward, weights), its backward pass right or wrong.

    Args:
        rng: a NumPy generator.
        bug: one of BUGS, or "" for none.
        layer: where the bug sits; the gradients of this layer's weights and of those before it are wrong.
        scale: factor on the loss and its gradients.
        width: of all layers, outputs included.
        batch: number of inputs.
    """
    x, y = rng.normal(size=(batch, width)), rng.normal(size=(batch, width))
    weights = [rng.normal(size=(width, width)) * width**-0.5 for _ in range(_LAYERS)]

    def forward(weights):
        outputs = [x]
        for weight in weights:
            outputs.append(np.tanh(outputs[-1] @ weight.T))
        return outputs

    def loss(weights):
        return scale * 0.5 * ((forward(weights)[-1] - y) ** 2).sum() / batch

    def backward(weights):
        outputs = forward(weights)
        delta, gradients = scale * (outputs[-1] - y) / batch, [None] * _LAYERS
        for number in reversed(range(_LAYERS)):
            delta = _through_tanh(delta, outputs[number + 1], bug if number == layer else "")
            kept = -1 if bug == BUGS[4] and number == layer else None
            gradients[number] = delta[:kept].T @ outputs[number][:kept]
            delta = delta @ (weights[number].T if bug == BUGS[3] and number == layer + 1 else weights[number])
        return gradients

    return loss, backward, weights


def _through_tanh(delta, output, bug):
    if bug == BUGS[0]:
        return delta * (1.0 - np.tanh(output) ** 2)
    if bug == BUGS[1]:
        return delta
    return delta * (1.0 - output**2) * (len(delta) if bug == BUGS[2] else 1.0)


def planted_case(rng, bug, layer, place, scales=(1.0, 1.0, 1.0, 1.0), hint=""):
    """Make four networks; the one at `place` has a bug."""
    networks = [
        planted_network(rng, bug if number == place else "", layer, scale) for number, scale in enumerate(scales)
    ]
    return Case("01-q4", (networks,), "networks", hint)


def _find_bug_cases():
    rng = np.random.default_rng(4)
    return [
        planted_case(rng, BUGS[0], 1, 2, hint="In this case the array nearest the loss is right: compare all of them."),
        planted_case(
            rng,
            BUGS[2],
            0,
            1,
            hint="In this case a gradient points the right way and has the wrong length: no cosine can tell.",
        ),
        planted_case(
            rng,
            BUGS[1],
            2,
            3,
            scales=(1.0, 1.0, 1e8, 1e-9),
            hint="In this case the gradients have sizes from 1e-9 to 1e8: judge by the relative error.",
        ),
        planted_case(rng, BUGS[3], 1, 0, hint="In this case a matrix was transposed on the way back."),
    ]


def _errors_of(network):
    """Relative errors of a network's gradients, by the complex step."""
    loss, backward, weights = network
    pairs = zip(backward(weights), complex_step_gradients(loss, weights), strict=True)
    return [_relative(gradient, exact) for gradient, exact in pairs]


def _find_bug(networks):
    errors = np.array([_errors_of(network) for network in networks])  # (4, arrays)
    wrong = errors > 1e-8
    network = int(np.flatnonzero(wrong.any(axis=1))[0])
    return float(network), float(np.flatnonzero(wrong[network])[-1])


def _nearest_the_input(networks):
    number = _find_bug(networks)[0]
    return number, float(np.flatnonzero(np.array(_errors_of(networks[int(number)])) > 1e-8)[0])


def _largest_error(networks):
    number = int(_find_bug(networks)[0])
    return float(number), float(np.argmax(_errors_of(networks[number])))


def _by_absolute_error(networks):
    """Judge by |g - d| above 1e-6, with central differences: large gradients fail it, tiny ones pass."""
    for number, (loss, backward, weights) in enumerate(networks):
        pairs = list(zip(backward(weights), _central_gradients(loss, weights, 1e-5), strict=True))
        wrong = [index for index, (gradient, d) in enumerate(pairs) if np.abs(gradient - d).max() > 1e-6]
        if wrong:
            return float(number), float(wrong[-1])
    return math.nan, math.nan


def _central_gradients(loss, weights, step):
    gradients = [np.zeros(weight.shape) for weight in weights]
    for number, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ahead, behind = ([w.copy() for w in weights] for _ in range(2))
            ahead[number][index] += step
            behind[number][index] -= step
            gradient[index] = (loss(ahead) - loss(behind)) / (2.0 * step)
    return gradients


def _counted_from_one(networks):
    return tuple(number + 1.0 for number in _find_bug(networks))


_FIND_BUG_MISTAKES = (
    Mistake(
        "You judge by the absolute error. Gradients of size 1e8 miss any such bound by rounding alone, and a wrong one "
        "of size 1e-9 keeps it: divide by the size of the gradient.",
        _by_absolute_error,
    ),
    Mistake(
        "You name the first array that is wrong, counted from the input. A bug spoils what is computed after it, and "
        "the backward pass ends at the input: name the wrong array nearest the loss.",
        _nearest_the_input,
    ),
    Mistake(
        "You name the array with the largest error. A bug spoils everything computed after it, by more or by less: "
        "name the wrong array nearest the loss.",
        _largest_error,
    ),
    Mistake(
        "Your networks or arrays are counted from 1. Count from 0, as Python does.",
        _counted_from_one,
    ),
    Mistake(
        "You swapped the two numbers: first which network, then which array.",
        lambda networks: _find_bug(networks)[::-1],
    ),
)

QUESTIONS = (
    Question(
        id="01-q1",
        signature="backward(x, y, w1, b1, w2, b2, phi, slope)",
        returns="dL/dw1, dL/db1, dL/dw2 and dL/db2",
        points=4,
        minutes=15,
        core=True,
        oracle=_backward,
        cases=_backward_cases,
        mistakes=_BACKWARD_MISTAKES,
        rtol=1e-8,
    ),
    Question(
        id="01-q2",
        signature="gradient_error(f, w, gradient, h)",
        returns="the relative error of a gradient against central differences",
        points=3,
        minutes=15,
        core=True,
        oracle=_gradient_error,
        cases=_gradient_error_cases,
        mistakes=_GRADIENT_ERROR_MISTAKES,
        refused=("torch.autograd.gradcheck:gradcheck",),
        rtol=1e-5,
    ),
    Question(
        id="01-q3",
        signature="layer_deltas(model, names, x, y)",
        returns="the root mean square of dL/dh for each named layer",
        points=4,
        minutes=15,
        core=False,
        oracle=_layer_deltas,
        cases=_layer_deltas_cases,
        mistakes=_LAYER_DELTAS_MISTAKES,
        problems=_LAYER_DELTAS_PROBLEMS,
        refused=("gradcourse.recording:measure", "gradcourse.recording:Recorder.__init__"),
    ),
    Question(
        id="01-q4",
        signature="find_bug(networks)",
        returns="which network's backward pass is wrong, and the wrong array nearest the loss",
        points=4,
        minutes=20,
        core=False,
        oracle=_find_bug,
        cases=_find_bug_cases,
        mistakes=_FIND_BUG_MISTAKES,
    ),
)
