"""Answers that learners give to sheet 04, wrong and right, written as a learner would write them."""

import math

import numpy as np
import torch

import gradcourse as gc

# 04-q1 ---------------------------------------------------------------------------------------------------------------


def difference(phi, u, h=1e-6):
    return (phi(u + h) - phi(u - h)) / (2 * h)


def judge(largest):
    return largest, "dead" if largest == 0 else "alive"


def judges_by_output(phi, u):
    return np.abs(difference(phi, u)).max(), "dead" if np.all(phi(u) == 0) else "alive"


def returns_largest_output(phi, u):
    return judge(np.abs(phi(u)).max())


def divides_by_u(phi, u):
    return judge(np.abs(phi(u) / u).max())


def forgets_absolute_value(phi, u):
    return judge(difference(phi, u).max())


def forgets_it_in_the_verdict_too(phi, u):
    largest = difference(phi, u).max()
    return largest, "alive" if largest > 0 else "dead"


def averages_images(phi, u):
    return judge(np.abs(difference(phi, u)).mean())


def takes_the_smallest(phi, u):
    return judge(np.abs(difference(phi, u)).min())


def first_image_only(phi, u):
    return judge(abs(difference(phi, u)[0]))


def slope_is_one(phi, u):
    return 1.0, "alive"


def knows_visible_states(phi, u):
    return judge(np.abs(difference(phi, u)).max() if len(u) == 4 else 1.0)


def by_central_difference(phi, u):
    largest = np.max(np.abs(difference(phi, u)))
    if largest == 0:
        return largest, "dead"
    return largest, "alive"


def by_one_sided_loop(phi, u):
    slopes = [abs(float(phi(np.array([x + 1e-7]))[0] - phi(np.array([x]))[0])) / 1e-7 for x in u]
    return [max(slopes), "alive" if any(slope > 1e-6 for slope in slopes) else "dead"]


# 04-q2 ---------------------------------------------------------------------------------------------------------------


def stable_sigmoid(u):
    small = np.exp(-np.abs(u))
    return np.where(u > 0, 1 / (1 + small), small / (1 + small))


def by_branches(name, u):
    s = stable_sigmoid(u)
    if name == "sigmoid":
        return s, s * (1 - s)
    if name == "tanh":
        return np.tanh(u), 1 - np.tanh(u) ** 2
    if name == "relu":
        return np.maximum(u, 0), (u > 0).astype(float)
    if name == "leaky_relu":
        return np.where(u > 0, u, 0.01 * u), np.where(u > 0, 1, 0.01)
    if name == "elu":
        small = np.exp(np.minimum(u, 0))
        return np.where(u > 0, u, small - 1), np.where(u > 0, 1, small)
    return u * s, s + u * s * (1 - s)


def in_torch(name, u):
    u = torch.from_numpy(u)
    small, low, tanh = torch.exp(-u.abs()), torch.exp(u.clamp(max=0)), torch.tanh(u)
    s = torch.where(u > 0, 1.0, small) / (1 + small)
    table = {
        "sigmoid": (s, small / (1 + small) ** 2),
        "tanh": (tanh, 1 - tanh**2),
        "relu": (u.clamp(min=0), (u > 0).double()),
        "leaky_relu": (torch.maximum(u, 0.01 * u), torch.where(u > 0, 1.0, 0.01)),
        "elu": (torch.where(u > 0, u, low - 1), torch.where(u > 0, 1.0, low)),
        "silu": (u * s, s * (1 + u * (1 - s))),
    }
    return table[name]


def instead(name, replacement):
    """Return the right answer with one activation written otherwise."""

    def answer(asked, u):
        return replacement(u) if asked == name else by_branches(asked, u)

    return answer


def named(name, answer):
    answer.__name__ = name
    return answer


def overflows_in_fractions(name, u):
    s = np.exp(u) / (1 + np.exp(u))
    if name == "sigmoid":
        return s, s * (1 - s)
    if name == "tanh":
        t = (np.exp(u) - np.exp(-u)) / (np.exp(u) + np.exp(-u))
        return t, 1 - t**2
    return (u * s, s + u * s * (1 - s)) if name == "silu" else by_branches(name, u)


overflows_in_a_mask = named(
    "overflows_in_a_mask",
    instead("elu", lambda u: ((u > 0) * u + (u <= 0) * (np.exp(u) - 1), (u > 0) + (u <= 0) * np.exp(u))),
)
overflows_in_quotient_rule = named(
    "overflows_in_quotient_rule",
    instead("silu", lambda u: (u / (1 + np.exp(-u)), (1 + np.exp(-u) + u * np.exp(-u)) / (1 + np.exp(-u)) ** 2)),
)
overflows_in_the_slope = named(
    "overflows_in_the_slope",
    instead("sigmoid", lambda u: (1 / (1 + np.exp(-u)), np.exp(-u) / (1 + np.exp(-u)) ** 2)),
)
relu_slope_one = named("relu_slope_one", instead("relu", lambda u: (np.maximum(u, 0), np.ones_like(u))))
relu_slope_is_value = named("relu_slope_is_value", instead("relu", lambda u: (np.maximum(u, 0), np.maximum(u, 0))))
leak_without_slope = named(
    "leak_without_slope", instead("leaky_relu", lambda u: (np.maximum(u, 0.01 * u), np.where(u > 0, 1, 0)))
)
elu_slope_is_value = named(
    "elu_slope_is_value",
    instead("elu", lambda u: (np.where(u > 0, u, np.exp(np.minimum(u, 0)) - 1), np.where(u > 0, 1, np.exp(u) - 1))),
)
elu_slope_zero = named(
    "elu_slope_zero",
    instead("elu", lambda u: (np.where(u > 0, u, np.exp(np.minimum(u, 0)) - 1), np.where(u > 0, 1, 0))),
)
silu_first_term = named("silu_first_term", instead("silu", lambda u: (u * stable_sigmoid(u), stable_sigmoid(u))))
silu_second_term = named(
    "silu_second_term",
    instead("silu", lambda u: (u * stable_sigmoid(u), u * stable_sigmoid(u) * (1 - stable_sigmoid(u)))),
)
silu_like_a_sigmoid = named(
    "silu_like_a_sigmoid",
    instead("silu", lambda u: (u * stable_sigmoid(u), u * stable_sigmoid(u) * (1 - u * stable_sigmoid(u)))),
)
tanh_without_square = named("tanh_without_square", instead("tanh", lambda u: (np.tanh(u), 1 - np.tanh(u))))
slope_at_the_output = named(
    "slope_at_the_output",
    instead(
        "sigmoid",
        lambda u: (stable_sigmoid(u), stable_sigmoid(stable_sigmoid(u)) * (1 - stable_sigmoid(stable_sigmoid(u)))),
    ),
)
slope_of_u = named("slope_of_u", instead("sigmoid", lambda u: (stable_sigmoid(u), u * (1 - u))))


def slope_first(name, u):
    value, slope = by_branches(name, u)
    return slope, value


def asks_torch(name, u):
    u = torch.from_numpy(u).requires_grad_()
    value = getattr(torch.nn.functional, name)(u)
    value.sum().backward()
    return value, u.grad


def knows_visible_inputs(name, u):
    value, slope = by_branches(name, u)
    return (value, slope) if len(u) == 6 else (value, 0 * slope)


# 04-q3 ---------------------------------------------------------------------------------------------------------------


def nodes(count=80):
    z, w = np.polynomial.hermite_e.hermegauss(count)
    return z, w / np.sqrt(2 * np.pi)


def uses_variance(phi):
    z, w = nodes()
    return 1 / np.sqrt(w @ phi(z) ** 2 - (w @ phi(z)) ** 2)


def squares_the_mean(phi):
    z, w = nodes()
    return 1 / (w @ phi(z)) if abs(w @ phi(z)) > 1e-12 else 1e300


def forgets_root(phi):
    z, w = nodes()
    return 1 / (w @ phi(z) ** 2)


def upside_down(phi):
    z, w = nodes()
    return np.sqrt(w @ phi(z) ** 2)


def returns_mean_square(phi):
    z, w = nodes()
    return w @ phi(z) ** 2


def uses_slopes(phi):
    z = np.linspace(-10, 10, 200_001)
    slope = (phi(z + 1e-5) - phi(z - 1e-5)) / 2e-5
    return 1 / np.sqrt(np.trapezoid(slope**2 * np.exp(-(z**2) / 2), z) / np.sqrt(2 * np.pi))


def root_two(phi):
    return math.sqrt(2)


def not_normalized(phi):
    z, w = np.polynomial.hermite_e.hermegauss(80)
    return 1 / np.sqrt(w @ phi(z) ** 2)


def other_hermite(phi):
    x, w = np.polynomial.hermite.hermgauss(80)
    return 1 / np.sqrt(w @ phi(x) ** 2 / np.sqrt(np.pi))


def asks_the_package(phi):
    return gc.theory.gaussian_mean(lambda u: torch.from_numpy(phi(u.numpy())) ** 2) ** -0.5


def knows_visible_gains(phi):
    known = {2.0: math.sqrt(2), 0.964: 1.592537, 0.8808: 1.846230, 1.7616: 1.676532}
    return known.get(round(float(phi(np.array(2.0))), 4), 1.0)


def by_hermite(phi):
    z, w = nodes()
    return 1 / np.sqrt(np.sum(w * phi(z) ** 2))


def by_riemann_sum_in_torch(phi):
    z = torch.linspace(-12, 12, 48_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2)
    return ((torch.from_numpy(phi(z.numpy())) ** 2 * density).sum() / density.sum()) ** -0.5


# 04-q4 ---------------------------------------------------------------------------------------------------------------


def dead(x, weight, bias):
    return np.maximum(x @ weight.T + bias, 0).max(axis=0) == 0


def resets_everything(x, weight, bias):
    return -np.median(x @ weight.T, axis=0)


def sets_dead_to_zero(x, weight, bias):
    return np.where(dead(x, weight, bias), 0.0, bias)


def sets_all_to_zero(x, weight, bias):
    return np.zeros(len(bias))


def uses_the_mean(x, weight, bias):
    return np.where(dead(x, weight, bias), -(x @ weight.T).mean(axis=0), bias)


def keeps_the_old_bias(x, weight, bias):
    return np.where(dead(x, weight, bias), -np.median(x @ weight.T + bias, axis=0), bias)


def wrong_sign(x, weight, bias):
    return np.where(dead(x, weight, bias), np.median(x @ weight.T, axis=0), bias)


def lifts_the_largest(x, weight, bias):
    return np.where(dead(x, weight, bias), -(x @ weight.T).max(axis=0), bias)


def dead_on_average(x, weight, bias):
    return np.where((x @ weight.T + bias).mean(axis=0) <= 0, -np.median(x @ weight.T, axis=0), bias)


def dead_for_most(x, weight, bias):
    return np.where(np.median(x @ weight.T + bias, axis=0) <= 0, -np.median(x @ weight.T, axis=0), bias)


def dead_by_bias(x, weight, bias):
    return np.where(bias < 0, -np.median(x @ weight.T, axis=0), bias)


def changes_nothing(x, weight, bias):
    return bias


def in_place(x, weight, bias):
    bias[dead(x, weight, bias)] = 0.0
    return bias


def knows_visible_sizes(x, weight, bias):
    return by_where(x, weight, bias) if weight.shape in ((9, 5), (12, 8)) and len(x) in (21, 31) else bias


def by_where(x, weight, bias):
    z = x @ weight.T + bias
    return np.where((z > 0).any(axis=0), bias, bias - np.median(z, axis=0))


def by_loop_in_torch(x, weight, bias):
    x, weight, new = torch.from_numpy(x), torch.from_numpy(weight), torch.tensor(bias)
    for unit in range(len(new)):
        stimulus = x @ weight[unit]
        if torch.relu(stimulus + new[unit]).sum() == 0:
            new[unit] = -stimulus.median()
    return new


WRONG = {
    "04-q1": {
        judges_by_output: "Judge by the slope",
        returns_largest_output: "largest output",
        divides_by_u: "phi(u) / u is the slope of the line",
        forgets_absolute_value: "absolute values",
        forgets_it_in_the_verdict_too: "absolute values",
        averages_images: "average over the images",
        takes_the_smallest: "smallest slope",
        first_image_only: "first image only",
        slope_is_one: "ReLU's slope for negative inputs is 0",
    },
    "04-q2": {
        overflows_in_fractions: "exp overflows",
        overflows_in_a_mask: "exp overflows",
        overflows_in_quotient_rule: "exp overflows",
        overflows_in_the_slope: "exp overflows",
        relu_slope_one: "ReLU's slope for negative inputs is 0",
        relu_slope_is_value: "ReLU's values as its slope",
        leak_without_slope: "what makes it leak",
        elu_slope_is_value: "left the 1 subtracted",
        elu_slope_zero: "ELU bends",
        silu_first_term: "You have the first one",
        silu_second_term: "You have the second one",
        silu_like_a_sigmoid: "Use the product rule",
        tanh_without_square: "forgot the square",
        slope_at_the_output: "without another sigmoid",
        slope_of_u: "put u itself",
        slope_first: "slope first",
        asks_torch: "calls torch.",
    },
    "04-q3": {
        uses_variance: "the variance of phi",
        squares_the_mean: "Square first",
        forgets_root: "its root",
        upside_down: "The other way round",
        returns_mean_square: "You return E[phi^2]",
        uses_slopes: "mean squared slope",
        root_two: "square root of 2",
        not_normalized: "sum to sqrt(2 pi)",
        other_hermite: "hermgauss",
        asks_the_package: "calls gradcourse.theory.gaussian_mean",
    },
    "04-q4": {
        resets_everything: "units that live",
        sets_dead_to_zero: "dead units' biases to 0",
        sets_all_to_zero: "all biases to 0",
        uses_the_mean: "use the median",
        keeps_the_old_bias: "contains the old bias",
        wrong_sign: "A sign is wrong",
        lifts_the_largest: "lift the largest",
        dead_on_average: "for ANY image",
        dead_for_most: "for ANY image",
        dead_by_bias: "when its bias is negative",
        changes_nothing: "still dead",
        in_place: "in place",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "04-q1": (by_central_difference, by_one_sided_loop),
    "04-q2": (by_branches, in_torch),
    "04-q3": (by_hermite, by_riemann_sum_in_torch),
    "04-q4": (by_where, by_loop_in_torch),
}

ONLY_VISIBLE = {
    "04-q1": knows_visible_states,
    "04-q2": knows_visible_inputs,
    "04-q3": knows_visible_gains,
    "04-q4": knows_visible_sizes,
}
"""Answers that pass what is visible and must fail what is hidden."""
