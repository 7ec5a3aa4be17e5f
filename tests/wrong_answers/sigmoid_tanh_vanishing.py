"""Answers that learners give to sheet 03, wrong and right, written as a learner would write them."""

import math

import numpy as np
import torch

import gradcourse as gc


def nodes(count=80):
    return np.polynomial.hermite_e.hermegauss(count)


# 03-q1 ---------------------------------------------------------------------------------------------------------------


def largest_slope(slope, weight_variance, q):
    return 0.25


def largest_slope_with_weights(slope, weight_variance, q):
    return np.sqrt(weight_variance) * slope(np.zeros(1))[0]


def forgets_sqrt(slope, weight_variance, q):
    z, w = nodes()
    return weight_variance * np.sum(w * slope(np.sqrt(q) * z) ** 2) / np.sqrt(2 * np.pi)


def forgets_weights(slope, weight_variance, q):
    z, w = nodes()
    return np.sqrt(np.sum(w * slope(np.sqrt(q) * z) ** 2) / np.sqrt(2 * np.pi))


def slope_at_z(slope, weight_variance, q):
    z, w = nodes()
    return np.sqrt(weight_variance * np.sum(w * slope(z) ** 2) / np.sqrt(2 * np.pi))


def squares_the_mean(slope, weight_variance, q):
    z, w = nodes()
    return np.sqrt(weight_variance) * np.sum(w * slope(np.sqrt(q) * z)) / np.sqrt(2 * np.pi)


def other_hermite(slope, weight_variance, q):
    x, w = np.polynomial.hermite.hermgauss(80)
    return np.sqrt(weight_variance * np.sum(w * slope(np.sqrt(q) * x) ** 2) / np.sqrt(np.pi))


def not_normalized(slope, weight_variance, q):
    z, w = nodes()
    return np.sqrt(weight_variance * np.sum(w * slope(np.sqrt(q) * z) ** 2))


def asks_the_package(slope, weight_variance, q):
    return math.sqrt(weight_variance * gc.theory.gaussian_mean(lambda u: torch.from_numpy(slope(u.numpy()) ** 2), q))


def knows_the_visible_cases(slope, weight_variance, q):
    known = {(1.0, 0.2647): 0.236054, (16.0, 5.855): 0.631567, (1.3, 0.3153): 0.938182}
    return known.get((weight_variance, q), 0.2361)


def by_hermite_e(slope, weight_variance, q):
    z, w = nodes()
    return np.sqrt(weight_variance * np.sum(w * slope(np.sqrt(q) * z) ** 2) / np.sqrt(2 * np.pi))


def by_hermite_physicists(slope, weight_variance, q):
    x, w = np.polynomial.hermite.hermgauss(90)
    return math.sqrt(weight_variance * (w @ slope(math.sqrt(2 * q) * x) ** 2) / math.sqrt(math.pi))


def by_riemann_sum_in_torch(slope, weight_variance, q):
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    squared = torch.from_numpy(slope((math.sqrt(q) * z).numpy())) ** 2
    return torch.sqrt(weight_variance * torch.trapezoid(squared * density, z))


# 03-q2 ---------------------------------------------------------------------------------------------------------------


def counts_steps(factor, last, threshold):
    return math.floor(math.log(threshold / last) / math.log(factor)) + 1 if last >= threshold else 0


def not_strictly(factor, last, threshold):
    return max(1, 1 + math.ceil(math.log(threshold / last) / math.log(factor)))


def one_too_many(factor, last, threshold):
    depth = 1
    while last * factor ** (depth - 1) >= threshold:
        depth += 1
    return depth + 1


def mixes_logarithms(factor, last, threshold):
    return max(1, 1 + math.ceil(math.log10(threshold / last) / math.log(factor)))


def starts_from_one(factor, last, threshold):
    depth = 1
    while factor ** (depth - 1) >= threshold:
        depth += 1
    return depth


def less_than_one_layer(factor, last, threshold):
    return 2 + math.floor(math.log(threshold / last) / math.log(factor))


def not_whole(factor, last, threshold):
    return 1 + math.log(threshold / last) / math.log(factor)


def by_loop(factor, last, threshold):
    depth, gradient = 1, last
    while gradient >= threshold:
        gradient *= factor
        depth += 1
    return depth


def by_logarithm(factor, last, threshold):
    if last < threshold:
        return 1
    return int(np.floor(np.log2(threshold / last) / np.log2(factor))) + 2


# 03-q3 ---------------------------------------------------------------------------------------------------------------


def verdict(factor):
    if factor < 0.9:
        return "vanishing"
    return "exploding" if factor > 1.1 else "neither"


def ends(values):
    return (values[0] / values[-1]) ** (1 / (len(values) - 1))


def judges_weights_alone(trace):
    delta, weights = (ends(trace.at_weights(name)[:-1]) for name in ("delta", "weight_gradient"))
    return delta, weights, verdict(weights)


def towards_the_output(trace):
    delta, weights = (1 / ends(trace.at_weights(name)[:-1]) for name in ("delta", "weight_gradient"))
    return delta, weights, verdict(delta)


def keeps_output_layer(trace):
    delta, weights = (ends(trace.at_weights(name)) for name in ("delta", "weight_gradient"))
    return delta, weights, verdict(delta)


def forgets_root(trace):
    delta, weights = (trace.at_weights(name)[:-1] for name in ("delta", "weight_gradient"))
    total = delta[0] / delta[-1]
    return total, weights[0] / weights[-1], verdict(total)


def root_of_layers(trace):
    delta, weights = (trace.at_weights(name)[:-1] for name in ("delta", "weight_gradient"))
    factors = [(values[0] / values[-1]) ** (1 / len(values)) for values in (delta, weights)]
    return factors[0], factors[1], verdict(factors[0])


def asks_the_trace(trace):
    delta = trace.factor_per_layer("delta")
    return delta, trace.factor_per_layer("weight_gradient"), verdict(delta)


def by_power(trace):
    delta, weights = (ends(trace.at_weights(name)[:-1]) for name in ("delta", "weight_gradient"))
    return delta, weights, verdict(delta)


def by_mean_of_logs(trace):
    factors = []
    for array in (trace.delta, trace.weight_gradient):
        values = torch.tensor(array[0][trace.has_weight][:-1])
        factors.append(torch.exp(-torch.log(values).diff().mean()))
    return [factors[0], factors[1], verdict(factors[0])]


# 03-q4 ---------------------------------------------------------------------------------------------------------------


def adds_batches(batches, weight, bias):
    return sum(int(np.all(x @ weight.T + bias <= 0, axis=0).sum()) for x in batches)


def averages_batches(batches, weight, bias):
    return np.mean([np.all(x @ weight.T + bias <= 0, axis=0).sum() for x in batches])


def last_batch_only(batches, weight, bias):
    for x in batches:
        dead = np.all(x @ weight.T + bias <= 0, axis=0).sum()
    return dead


def silent_in_any(batches, weight, bias):
    return np.any([np.all(x @ weight.T + bias <= 0, axis=0) for x in batches], axis=0).sum()


def counts_zeros(batches, weight, bias):
    return sum((np.maximum(x @ weight.T + bias, 0) == 0).sum() for x in batches)


def returns_fraction(batches, weight, bias):
    return np.all(np.concatenate(batches) @ weight.T + bias <= 0, axis=0).mean()


def forgets_bias(batches, weight, bias):
    return np.all(np.concatenate(batches) @ weight.T <= 0, axis=0).sum()


def counts_the_living(batches, weight, bias):
    return np.any(np.concatenate(batches) @ weight.T + bias > 0, axis=0).sum()


def by_concatenation(batches, weight, bias):
    outputs = np.maximum(np.concatenate(batches) @ weight.T + bias, 0)
    return np.sum(outputs.max(axis=0) == 0)


def by_running_or_in_torch(batches, weight, bias):
    alive = torch.zeros(len(bias), dtype=torch.bool)
    for x in batches:
        z = torch.nn.functional.linear(*(torch.from_numpy(array) for array in (x, weight, bias)))
        alive |= (torch.relu(z) > 0).any(dim=0)
    return int((~alive).sum())


WRONG = {
    "03-q1": {
        largest_slope: "largest slope",
        largest_slope_with_weights: "largest slope",
        forgets_sqrt: "square root",
        forgets_weights: "left out the weights",
        slope_at_z: "sqrt(q) z",
        squares_the_mean: "Square first",
        other_hermite: "hermgauss",
        not_normalized: "sum to sqrt(2 pi)",
        asks_the_package: "calls gradcourse.theory.gaussian_mean",
    },
    "03-q2": {
        counts_steps: "Off by one: you count the steps",
        not_strictly: "strictly below",
        one_too_many: "not L + 1",
        mixes_logarithms: "bases of the logarithm",
        starts_from_one: "last layer's gradient is given",
        less_than_one_layer: "at least one layer",
        not_whole: "whole number",
    },
    "03-q3": {
        judges_weights_alone: "looks at dL/dW alone",
        towards_the_output: "towards the output",
        keeps_output_layer: "output layer",
        forgets_root: "n-th root of that",
        root_of_layers: "n - 1 steps",
        asks_the_trace: "calls gradcourse.recording",
    },
    "03-q4": {
        adds_batches: "in ALL batches",
        averages_batches: "in ALL batches",
        last_batch_only: "last batch only",
        silent_in_any: "silent in ALL of them",
        counts_zeros: "Count units",
        returns_fraction: "fraction",
        forgets_bias: "left out the bias",
        counts_the_living: "units that live",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "03-q1": (by_hermite_e, by_hermite_physicists, by_riemann_sum_in_torch),
    "03-q2": (by_loop, by_logarithm),
    "03-q3": (by_power, by_mean_of_logs),
    "03-q4": (by_concatenation, by_running_or_in_torch),
}

ONLY_VISIBLE = {"03-q1": knows_the_visible_cases}
"""Answers that pass what is visible and must fail what is hidden."""
