"""Sheet 03: measure by how much a gradient changes per layer, and judge what you measured."""

import math

import numpy as np
import torch

from gradcourse.sheets.question import Case, Mistake, Question
from gradcourse.theory import gaussian_mean
from gradcourse.training import Config, run

# Question 1: the factor per layer, by Gauss-Hermite quadrature


def sigmoid_slope(u):
    """Return the derivative of the sigmoid, on NumPy arrays."""
    return np.exp(-np.abs(u)) / (1.0 + np.exp(-np.abs(u))) ** 2


def tanh_slope(u):
    """Return the derivative of tanh, on NumPy arrays."""
    return 1.0 - np.tanh(u) ** 2


def _mean(function, variance):
    """Return E[f(sqrt(variance) z)] of a NumPy function, by adaptive quadrature."""
    return gaussian_mean(lambda u: torch.from_numpy(function(u.numpy())), variance)


def _layer_factor(slope, weight_variance, q):
    return math.sqrt(weight_variance * _mean(lambda u: slope(u) ** 2, q))


def _steepest(slope):
    return float(slope(np.linspace(-8.0, 8.0, 16001)).max())


def _layer_factor_cases():
    return [
        Case("03-q1", (sigmoid_slope, 1.0, 0.2647), "sigmoid_slope, 1.0, 0.2647"),
        Case("03-q1", (sigmoid_slope, 16.0, 5.855), "sigmoid_slope, 16.0, 5.855"),
        Case("03-q1", (tanh_slope, 1.3, 0.3153), "tanh_slope, 1.3, 0.3153"),
    ]


_LAYER_FACTOR_MISTAKES = (
    Mistake(
        "0.25 is the largest slope of the sigmoid. It only bounds the factor from above, and for no other activation: "
        "compute with the slope, the variance of the weights and q.",
        lambda slope, weight_variance, q: 0.25,
    ),
    Mistake(
        "You return the largest slope. It only bounds the factor from above: a unit is rarely where it is steepest, "
        "and the weights count too.",
        lambda slope, weight_variance, q: _steepest(slope),
    ),
    Mistake(
        "You use the largest slope. It only bounds the factor from above: take the mean of the squared slope over "
        "the pre-activations, which are Gaussian with variance q.",
        lambda slope, weight_variance, q: math.sqrt(weight_variance) * _steepest(slope),
    ),
    Mistake(
        "This is chi, the factor of the mean SQUARE of the gradient. The gradient itself changes by its square root.",
        lambda slope, weight_variance, q: _layer_factor(slope, weight_variance, q) ** 2,
    ),
    Mistake(
        "You left out the weights: the backward pass multiplies by W too, which gives a factor weight_variance under "
        "the root.",
        lambda slope, weight_variance, q: _layer_factor(slope, 1.0, q),
    ),
    Mistake(
        "You multiply by weight_variance outside the root; outside it belongs the standard deviation of the weights, "
        "inside it the variance.",
        lambda slope, weight_variance, q: weight_variance * _layer_factor(slope, 1.0, q),
    ),
    Mistake(
        "You take the slope at z instead of sqrt(q) z: the pre-activations have variance q, not 1.",
        lambda slope, weight_variance, q: _layer_factor(slope, weight_variance, 1.0),
    ),
    Mistake(
        "You take the slope at q z instead of sqrt(q) z: q is a variance.",
        lambda slope, weight_variance, q: _layer_factor(slope, weight_variance, q * q),
    ),
    Mistake(
        "You average the slope and square afterwards. Square first: E[phi'^2] is not E[phi']^2.",
        lambda slope, weight_variance, q: math.sqrt(weight_variance) * _mean(slope, q),
    ),
    Mistake(
        "You evaluate at the nodes of np.polynomial.hermite.hermgauss, which belong to the weight exp(-x^2): "
        "put z = sqrt(2) x, or take hermite_e.hermegauss.",
        lambda slope, weight_variance, q: _layer_factor(slope, weight_variance, q / 2.0),
    ),
    Mistake(
        "The weights of hermegauss sum to sqrt(2 pi): divide by it to get a mean.",
        lambda slope, weight_variance, q: (2.0 * math.pi) ** 0.25 * _layer_factor(slope, weight_variance, q),
    ),
    Mistake(
        "The weights of hermgauss sum to sqrt(pi): divide by it to get a mean.",
        lambda slope, weight_variance, q: math.pi**0.25 * _layer_factor(slope, weight_variance, q),
    ),
)

# Question 2: the depth at which nothing is left


def _depth_below(factor, last, threshold):
    depth = 1
    while last * factor ** (depth - 1) >= threshold:
        depth += 1
    return depth


def _steps_needed(factor, last, threshold):
    return math.log(threshold / last) / math.log(factor)


def _depth_below_cases():
    return [
        Case("03-q2", (0.2361, 1e-3, 1e-8)),
        Case("03-q2", (0.5, 1.0, 2.0**-10)),
        Case("03-q2", (0.9, 2e-2, 1e-8)),
        Case("03-q2", (0.25, 1e-9, 1e-8)),
    ]


_DEPTH_BELOW_MISTAKES = (
    Mistake(
        "Off by one: you count the steps between layers. The first layer of a network of L layers is L - 1 steps away.",
        lambda factor, last, threshold: _depth_below(factor, last, threshold) - 1,
    ),
    Mistake(
        "Off by one: from the last layer to the first of L layers it is L - 1 steps, not L + 1.",
        lambda factor, last, threshold: _depth_below(factor, last, threshold) + 1,
    ),
    Mistake(
        "Off by one, at the boundary: below means strictly below, and here the gradient meets the threshold exactly.",
        lambda factor, last, threshold: max(1, 1 + math.ceil(_steps_needed(factor, last, threshold))),
    ),
    Mistake(
        "You mix two bases of the logarithm: log10 above and ln below, or the other way round. Any base will do, but "
        "the same for both.",
        lambda factor, last, threshold: max(1, 2 + math.floor(math.log10(threshold / last) / math.log(factor))),
    ),
    Mistake(
        "You mix two bases of the logarithm: log10 above and ln below, or the other way round. Any base will do, but "
        "the same for both.",
        lambda factor, last, threshold: max(1, 1 + math.ceil(math.log10(threshold / last) / math.log(factor))),
    ),
    Mistake(
        "You start from a gradient of 1: the last layer's gradient is given.",
        lambda factor, last, threshold: _depth_below(factor, 1.0, threshold),
    ),
    Mistake(
        "A network has at least one layer: where the last layer's gradient is below the threshold, the depth is 1.",
        lambda factor, last, threshold: 2 + math.floor(_steps_needed(factor, last, threshold)),
    ),
    Mistake(
        "A depth is a whole number: the first one at which the gradient is below the threshold.",
        lambda factor, last, threshold: 1 + _steps_needed(factor, last, threshold),
    ),
)

# Question 3: two gradients, one verdict


def _between_ends(values):
    return float((values[0] / values[-1]) ** (1.0 / (len(values) - 1)))


def _verdict(factor):
    return "vanishing" if factor < 0.9 else "exploding" if factor > 1.1 else "neither"


def _hidden_layers(trace, statistic):
    return getattr(trace, statistic)[0, trace.has_weight][:-1]


def _growth(trace):
    delta = _between_ends(_hidden_layers(trace, "delta"))
    weight_gradient = _between_ends(_hidden_layers(trace, "weight_gradient"))
    return delta, weight_gradient, _verdict(delta)


def _growth_cases():
    configs = {
        "the trace of ReLU with Xavier weights": Config(depth=20, activation="relu", init="xavier", steps=0),
        "the trace of sigmoid with Xavier weights": Config(depth=12, activation="sigmoid", init="xavier", steps=0),
        "the trace of ReLU with He weights times 2": Config(depth=12, activation="relu", init="he", gain=2.0, steps=0),
        "the trace of ReLU with He weights": Config(depth=20, activation="relu", init="he", steps=0),
    }
    return [Case("03-q3", (run(config),), shown) for shown, config in configs.items()]


def _from_weights_alone(trace):
    delta, weight_gradient, _ = _growth(trace)
    return delta, weight_gradient, _verdict(weight_gradient)


def _with_output_layer(trace):
    delta = _between_ends(trace.delta[0, trace.has_weight])
    return delta, _between_ends(trace.weight_gradient[0, trace.has_weight]), _verdict(delta)


def _towards_output(trace):
    delta, weight_gradient, _ = _growth(trace)
    return 1.0 / delta, 1.0 / weight_gradient, _verdict(1.0 / delta)


def _without_root(trace):
    delta, weight_gradient = (_hidden_layers(trace, name) for name in ("delta", "weight_gradient"))
    total = float(delta[0] / delta[-1])
    return total, float(weight_gradient[0] / weight_gradient[-1]), _verdict(total)


def _root_of_count(trace):
    delta, weight_gradient = (_hidden_layers(trace, name) for name in ("delta", "weight_gradient"))
    factors = [float((values[0] / values[-1]) ** (1.0 / len(values))) for values in (delta, weight_gradient)]
    return *factors, _verdict(factors[0])


_GROWTH_MISTAKES = (
    Mistake(
        "Your verdict looks at dL/dW alone. Its size is delta's times that of the layer's input, and the two can "
        "change against each other: judge by delta, which is what the layers below receive.",
        _from_weights_alone,
    ),
    Mistake(
        "You count towards the output. The gradient travels from the last layer to the first: divide the first "
        "layer's value by the last one's.",
        _towards_output,
    ),
    Mistake(
        "The output layer is among your layers. Leave it out: its gradient is set by the loss.",
        _with_output_layer,
    ),
    Mistake(
        "You return what all layers make together. Per layer it is the n-th root of that, for n steps between layers.",
        _without_root,
    ),
    Mistake(
        "You take the n-th root for n layers. Between n layers there are n - 1 steps.",
        _root_of_count,
    ),
    Mistake(
        "You return the two factors in the wrong order: delta's first.",
        lambda trace: (_growth(trace)[1], _growth(trace)[0], _growth(trace)[2]),
    ),
)

# Question 4: dead units, over the whole set


def _pre_activations(batches, weight, bias):
    return [batch @ weight.T + bias for batch in batches]  # (B, width) each


def _dead_units(batches, weight, bias):
    alive = np.zeros(len(bias), dtype=bool)
    for pre_activation in _pre_activations(batches, weight, bias):
        alive |= (pre_activation > 0).any(axis=0)
    return int((~alive).sum())


def _dead_in_each(batches, weight, bias):
    return np.array([((z <= 0).all(axis=0)).sum() for z in _pre_activations(batches, weight, bias)], dtype=np.float64)


def dead_case(rng, units, inputs, batches, images):
    """Make a layer some of whose units are dead and others silent in all batches but one."""
    weight = rng.normal(size=(units, inputs))
    data = [np.abs(rng.normal(size=(images, inputs))) for _ in range(batches)]
    reach = np.stack([(batch @ weight.T).max(axis=0) for batch in data])  # (batches, units)
    bias = -0.5 * reach.min(axis=0)
    order = rng.permutation(units)
    dead, rare = order[: units // 4], order[units // 4 : units // 2]
    bias[dead] = -reach[:, dead].max(axis=0) - 0.1
    bias[rare] = -0.5 * (np.sort(reach[:, rare], axis=0)[-2:].sum(axis=0))  # between the largest reach and the second
    return Case("03-q4", (data, weight, bias), f"{batches} batches of {images} images, {units} units")


def _dead_units_cases():
    rng = np.random.default_rng(3)
    return [dead_case(rng, 12, 8, 3, 20), dead_case(rng, 32, 16, 4, 10)]


_DEAD_UNITS_MISTAKES = (
    Mistake(
        "You add up what is silent in each batch. A unit is dead when it is silent in ALL batches: one active image "
        "in one batch is enough to keep it alive.",
        lambda batches, weight, bias: _dead_in_each(batches, weight, bias).sum(),
    ),
    Mistake(
        "You average over batches what is silent in each. A unit is dead when it is silent in ALL batches: one active "
        "image in one batch is enough to keep it alive.",
        lambda batches, weight, bias: _dead_in_each(batches, weight, bias).mean(),
    ),
    Mistake(
        "You look at the last batch only: a unit that is silent there may be active in another one.",
        lambda batches, weight, bias: _dead_in_each(batches, weight, bias)[-1],
    ),
    Mistake(
        "You look at the first batch only: a unit that is silent there may be active in another one.",
        lambda batches, weight, bias: _dead_in_each(batches, weight, bias)[0],
    ),
    Mistake(
        "You count a unit that is silent in any one batch. A unit is dead when it is silent in ALL of them.",
        lambda batches, weight, bias: np.any(
            [(z <= 0).all(axis=0) for z in _pre_activations(batches, weight, bias)], axis=0
        ).sum(),
    ),
    Mistake(
        "You count outputs that are 0, image by image. Count units: those that are 0 for every image.",
        lambda batches, weight, bias: sum((z <= 0).sum() for z in _pre_activations(batches, weight, bias)),
    ),
    Mistake(
        "You return a fraction; the question asks for the number of dead units.",
        lambda batches, weight, bias: _dead_units(batches, weight, bias) / len(bias),
    ),
    Mistake(
        "You left out the bias: the unit computes relu(x W^T + b).",
        lambda batches, weight, bias: _dead_units(batches, weight, 0.0 * bias),
    ),
    Mistake(
        "You count the units that live; the question asks for the dead ones.",
        lambda batches, weight, bias: len(bias) - _dead_units(batches, weight, bias),
    ),
)

QUESTIONS = (
    Question(
        id="03-q1",
        signature="layer_factor(slope, weight_variance, q)",
        returns="the factor by which the size of the gradient changes per layer",
        points=3,
        minutes=15,
        core=True,
        oracle=_layer_factor,
        cases=_layer_factor_cases,
        mistakes=_LAYER_FACTOR_MISTAKES,
        refused=(
            "gradcourse.theory:gradient_factor",
            "gradcourse.theory:mean_square_slope",
            "gradcourse.theory:gaussian_mean",
            "gradcourse.theory:gradient_profile",
        ),
        rtol=1e-4,
    ),
    Question(
        id="03-q2",
        signature="depth_below(factor, last, threshold)",
        returns="the smallest depth at which the first layer's gradient is below the threshold",
        points=2,
        minutes=10,
        core=False,
        oracle=_depth_below,
        cases=_depth_below_cases,
        mistakes=_DEPTH_BELOW_MISTAKES,
    ),
    Question(
        id="03-q3",
        signature="growth(trace)",
        returns="delta's factor per layer, the weight gradient's, and a verdict",
        points=4,
        minutes=15,
        core=True,
        oracle=_growth,
        cases=_growth_cases,
        mistakes=_GROWTH_MISTAKES,
        refused=(
            "gradcourse.recording:factor_per_layer",
            "gradcourse.recording:Trace.factor_per_layer",
            "gradcourse.diagnosis:diagnose",
        ),
    ),
    Question(
        id="03-q4",
        signature="dead_units(batches, weight, bias)",
        returns="the number of units that are 0 for every image of every batch",
        points=3,
        minutes=15,
        core=False,
        oracle=_dead_units,
        cases=_dead_units_cases,
        mistakes=_DEAD_UNITS_MISTAKES,
    ),
)
