"""Answers that learners give to sheet 05, wrong and right, written as a learner would write them."""

import copy
import math

import numpy as np
import torch
from torch import nn

import gradcourse as gc

# 05-q1 ---------------------------------------------------------------------------------------------------------------


def plain_he(slope, fan_in):
    return 2 / fan_in


def slope_not_squared(slope, fan_in):
    return 2 / ((1 + slope) * fan_in)


def minus_slope(slope, fan_in):
    return 2 / ((1 - slope**2) * fan_in)


def squares_the_sum(slope, fan_in):
    return 2 / ((1 + slope) ** 2 * fan_in)


def returns_std(slope, fan_in):
    return np.sqrt(2 / ((1 + slope**2) * fan_in))


def forgets_fan_in(slope, fan_in):
    return 2 / (1 + slope**2)


def forgets_the_two(slope, fan_in):
    return 1 / ((1 + slope**2) * fan_in)


def wrong_way_round(slope, fan_in):
    return 2 * (1 + slope**2) / fan_in


def variance_of_output(slope, fan_in):
    z = np.linspace(-12, 12, 200001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    out = np.where(z > 0, z, slope * z)
    return 1 / (fan_in * (density @ out**2 - (density @ out) ** 2))


def asks_torch(slope, fan_in):
    return nn.init.calculate_gain("leaky_relu", slope) ** 2 / fan_in


def knows_the_visible_slopes(slope, fan_in):
    factor = {0.1: 1.01, 0.0: 1.0, 0.8: 1.64, 5**0.5: 6.0, -0.5: 1.25}
    return 2 / (factor.get(slope, 1.0) * fan_in)


def by_formula(slope, fan_in):
    return 2 / (fan_in * (1 + slope**2))


def by_integral_in_torch(slope, fan_in):
    z = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return 1 / (fan_in * torch.trapezoid(nn.functional.leaky_relu(z, slope) ** 2 * density, z))


# 05-q2 ---------------------------------------------------------------------------------------------------------------


def channels_only(layer):
    return math.sqrt(2 / layer.weight.shape[1])


def in_channels_only(layer):
    inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return (2 / inputs) ** 0.5


def uses_fan_out(layer):
    return math.sqrt(2 / (layer.weight.shape[0] * math.prod(layer.weight.shape[2:])))


def forgets_groups(layer):
    if isinstance(layer, nn.Linear):
        return math.sqrt(2 / layer.in_features)
    return math.sqrt(2 / (layer.in_channels * math.prod(layer.kernel_size)))


def one_side_of_the_kernel(layer):
    side = layer.weight.shape[2] if layer.weight.ndim > 2 else 1
    return math.sqrt(2 / (layer.weight.shape[1] * side))


def square_kernel(layer):
    if isinstance(layer, nn.Linear):
        return math.sqrt(2 / layer.in_features)
    return math.sqrt(2 / (layer.weight.shape[1] * layer.kernel_size[0] ** 2))


def all_weights(layer):
    return math.sqrt(2 / layer.weight.numel())


def returns_variance(layer):
    return 2 / layer.weight[0].numel()


def without_the_two(layer):
    return math.sqrt(1 / layer.weight[0].numel())


def xavier(layer):
    kernel = math.prod(layer.weight.shape[2:])
    return math.sqrt(2 / (layer.weight[0].numel() + layer.weight.shape[0] * kernel))


def torch_default(layer):
    return (1 / (3 * layer.weight[0].numel())) ** 0.5


def measures_torch(layer):
    return nn.init.kaiming_normal_(torch.empty_like(layer.weight), nonlinearity="relu").std()


def knows_the_visible_layers(layer):
    fan_in = {(128, 64): 64, (16, 3, 3, 3): 27, (32, 8, 3, 5): 120, (24, 4, 3, 3): 36, (10, 6, 5): 30}
    return math.sqrt(2 / fan_in.get(tuple(layer.weight.shape), 64))


def by_slice(layer):
    return torch.sqrt(torch.tensor(2.0, dtype=torch.float64) / layer.weight[0].numel())


def by_attributes(layer):
    if isinstance(layer, nn.Linear):
        return np.sqrt(2 / layer.in_features)
    return np.sqrt(2 / (layer.in_channels // layer.groups * np.prod(layer.kernel_size)))


# 05-q3 ---------------------------------------------------------------------------------------------------------------


def any_bias_breaks_it(w1, b1, w2):
    if (b1 != 0).any():
        return len(b1)
    return len(np.unique(np.column_stack([w1, b1, w2.T]), axis=0))


def weights_only(w1, b1, w2):
    return len(np.unique(w1, axis=0))


def no_biases(w1, b1, w2):
    return len(np.unique(np.hstack([w1, w2.T]), axis=0))


def no_outgoing_weights(w1, b1, w2):
    return len({(*w, b) for w, b in zip(w1.tolist(), b1.tolist(), strict=True)})


def each_array_by_itself(w1, b1, w2):
    return max(len(np.unique(w1, axis=0)), len(np.unique(b1)), len(np.unique(w2, axis=1).T))


def rank_of_everything(w1, b1, w2):
    return np.linalg.matrix_rank(np.column_stack([w1, b1, w2.T]))


def rank_of_w1(w1, b1, w2):
    return np.linalg.matrix_rank(w1)


def counts_copies(w1, b1, w2):
    return len(b1) - len(np.unique(np.column_stack([w1, b1, w2.T]), axis=0))


def counts_all(w1, b1, w2):
    return w1.shape[0]


def knows_the_visible_units(w1, b1, w2):
    if len(b1) != 4:
        return len(b1)
    return by_unique_rows(w1, b1, w2)


def by_unique_rows(w1, b1, w2):
    return len(np.unique(np.concatenate([w1, b1[:, None], w2.T], axis=1), axis=0))


def by_set(w1, b1, w2):
    return len({(*w1[unit], b1[unit], *w2[:, unit]) for unit in range(len(b1))})


def in_torch(w1, b1, w2):
    units = torch.cat([torch.from_numpy(w1), torch.from_numpy(b1)[:, None], torch.from_numpy(w2).T], dim=1)
    return torch.unique(units, dim=0).shape[0]


# 05-q4 ---------------------------------------------------------------------------------------------------------------


def without_no_grad(model, x):
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight /= layer(x).std(correction=0)
        x = layer(x)
    return [layer.weight for layer in model if isinstance(layer, nn.Linear)]


@torch.no_grad()
def scale(model, x, spread, last=None):
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in model:
        if layer in linear:
            layer.weight.div_((last if last and layer is linear[-1] else spread)(layer(x)))
        x = layer(x)
    return [layer.weight for layer in linear]


def after_the_relu(model, x):
    return scale(model, x, lambda z: torch.relu(z).std(correction=0))


def after_the_relu_where_there_is_one(model, x):
    return scale(model, x, lambda z: torch.relu(z).std(correction=0), last=lambda z: z.std(correction=0))


def torchs_std(model, x):
    return scale(model, x, lambda z: z.std())


def by_variance(model, x):
    return scale(model, x, lambda z: z.var(correction=0))


def by_root_mean_square(model, x):
    return scale(model, x, lambda z: z.square().mean().sqrt())


def each_unit(model, x):
    return scale(model, x, lambda z: z.std(dim=0, correction=0)[:, None])


def not_the_last(model, x):
    return scale(model, x, lambda z: z.std(correction=0), last=lambda z: 1.0)


def all_measured_first(model, x):
    before = copy.deepcopy(model)
    weights = []
    with torch.no_grad():
        for layer, old in zip(model, before, strict=True):
            if isinstance(layer, nn.Linear):
                layer.weight.div_(old(x).std(correction=0))
                weights.append(layer.weight)
            x = old(x)
    return weights


def by_the_weights(model, x):
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    return [(layer.weight / layer.weight.std(correction=0)).detach() for layer in linear]


def without_relu(model, x):
    weights = []
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.div_(layer(x).std(correction=0))
                weights.append(layer.weight)
                x = layer(x)
    return weights


def changes_nothing(model, x):
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            x = x / x.std(correction=0)
    return [layer.weight for layer in model if isinstance(layer, nn.Linear)]


def asks_the_package(model, x):
    gc.models.lsuv(model, x)
    return [layer.weight for layer in model if isinstance(layer, nn.Linear)]


def only_two_layers(model, x):
    return scale(model, x, lambda z: z.std(correction=0)) if len(x) in (8, 10) else list(model.parameters())[::2]


def under_no_grad(model, x):
    return scale(model, x, lambda z: z.std(correction=0))


def by_data(model, x):
    weights = []
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data = layer.weight.data / layer(x).std(correction=0).item()
            weights.append(layer.weight.data)
        x = layer(x)
    return weights


def in_numpy(model, x):
    h, weights = x.numpy(), []
    for layer in model:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().numpy()
            weight /= (h @ weight.T).std()  # shares the parameter's memory
            weights.append(weight)
            h = h @ weight.T
        else:
            h = np.maximum(h, 0)
    return weights


WRONG = {
    "05-q1": {
        plain_he: "plain ReLU",
        slope_not_squared: "slope must be squared",
        minus_slope: "not 1 - slope^2",
        squares_the_sum: "square is of the slope alone",
        returns_std: "standard deviation of a weight",
        forgets_fan_in: "left out the fan-in",
        forgets_the_two: "The 2 is missing",
        wrong_way_round: "weights must be smaller",
        variance_of_output: "Its mean counts too",
        asks_torch: "calls torch.nn.init.calculate_gain",
    },
    "05-q2": {
        channels_only: "input channels only",
        in_channels_only: "input channels only",
        uses_fan_out: "fan-out",
        forgets_groups: "With groups",
        one_side_of_the_kernel: "k * k places, not k",
        square_kernel: "need not be square",
        all_weights: "all weights of the layer",
        returns_variance: "This is the variance",
        without_the_two: "The 2 is missing",
        xavier: "Xavier's",
        torch_default: "PyTorch's default",
        measures_torch: "calls torch.nn.init.kaiming_normal_",
    },
    "05-q3": {
        any_bias_breaks_it: "An equal bias does not",
        weights_only: "compare w1 only",
        no_biases: "leave out the biases",
        no_outgoing_weights: "leave out the outgoing weights",
        each_array_by_itself: "not each array by itself",
        rank_of_everything: "rank counts directions",
        rank_of_w1: "rank of w1 alone",
        counts_copies: "how many different units",
        counts_all: "equal in everything",
    },
    "05-q4": {
        without_no_grad: "in-place operation",
        after_the_relu: "after the ReLU",
        after_the_relu_where_there_is_one: "after the ReLU",
        torchs_std: "correction=0",
        by_variance: "divide by the variance",
        by_root_mean_square: "root mean square",
        each_unit: "one number per layer",
        not_the_last: "last linear layer",
        all_measured_first: "network as it was",
        by_the_weights: "standard deviation of the weights",
        without_relu: "linear layers only",
        changes_nothing: "weights are as they were",
        asks_the_package: "calls gradcourse.initialization.lsuv",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "05-q1": (by_formula, by_integral_in_torch),
    "05-q2": (by_slice, by_attributes),
    "05-q3": (by_unique_rows, by_set, in_torch),
    "05-q4": (under_no_grad, by_data, in_numpy),
}

ONLY_VISIBLE = {
    "05-q1": knows_the_visible_slopes,
    "05-q2": knows_the_visible_layers,
    "05-q3": knows_the_visible_units,
    "05-q4": only_two_layers,
}
"""Answers that pass what is visible and must fail what is hidden."""
