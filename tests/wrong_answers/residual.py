"""Answers that learners give to sheet 08, wrong and right, written as a learner would write them."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gradcourse import theory

# 08-q1 ---------------------------------------------------------------------------------------------------------------


def no_skip(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    return torch.relu(norm(h)) @ w2.T


def relu_behind_the_sum(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    return torch.relu(x + torch.relu(norm(h)) @ w2.T)


def the_original_block(x, norm, w1, w2):
    h = torch.relu(norm(x @ w1.T))
    return torch.relu(x + norm(h @ w2.T))


def weights_first(x, norm, w1, w2):
    h = torch.relu(norm(x @ w1.T))
    return x + norm(h @ w2.T)


def weights_norm_relu_twice(x, norm, w1, w2):
    h = torch.relu(norm(x @ w1.T))
    return x + torch.relu(norm(h @ w2.T))


def relu_before_norm(x, norm, w1, w2):
    h = norm(torch.relu(x)) @ w1.T
    return x + norm(torch.relu(h)) @ w2.T


def skip_from_the_norm(x, norm, w1, w2):
    x = norm(x)
    h = torch.relu(x) @ w1.T
    return x + torch.relu(norm(h)) @ w2.T


def skip_from_the_relu(x, norm, w1, w2):
    x = torch.relu(norm(x))
    h = x @ w1.T
    return x + torch.relu(norm(h)) @ w2.T


def one_norm_only(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    return x + torch.relu(h) @ w2.T


def second_norm_only(x, norm, w1, w2):
    h = torch.relu(x) @ w1.T
    return x + torch.relu(norm(h)) @ w2.T


def no_relu(x, norm, w1, w2):
    return x + norm(norm(x) @ w1.T) @ w2.T


def relu_at_the_end_of_the_branch(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    return x + torch.relu(torch.relu(norm(h)) @ w2.T)


def not_transposed(x, norm, w1, w2):
    return x + torch.relu(norm(torch.relu(norm(x)) @ w1)) @ w2


def adds_in_place(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    x += torch.relu(norm(h)) @ w2.T
    return x


def only_small_batches(x, norm, w1, w2):
    return by_lines(x, norm, w1, w2) if x.shape in ((5, 4), (7, 3)) else x


def by_lines(x, norm, w1, w2):
    h = torch.relu(norm(x)) @ w1.T
    h = torch.relu(norm(h)) @ w2.T
    return x + h


def by_functional_linear(x, norm, w1, w2):
    h = x
    for weight in (w1, w2):
        h = functional.linear(functional.relu(norm(h)), weight)
    return h.add(x)


def by_numpy(x, norm, w1, w2):
    h = np.maximum(norm(x).numpy(), 0) @ w1.numpy().T
    return x.numpy() + np.maximum(norm(torch.from_numpy(h)).numpy(), 0) @ w2.numpy().T


def by_a_module(x, norm, w1, w2):
    class Block(nn.Module):
        def forward(self, h):
            return h + torch.relu(norm(torch.relu(norm(h)) @ w1.T)) @ w2.T

    return Block()(x)


# 08-q2 ---------------------------------------------------------------------------------------------------------------


def one_plus_alpha(start, alpha, weight_variance, blocks):
    return start * (1 + alpha) ** blocks


def square_of_the_sum(start, alpha, weight_variance, blocks):
    return start * (1 + alpha) ** (2 * blocks)


def square_of_the_sum_with_weights(start, alpha, weight_variance, blocks):
    return start * (1 + alpha * np.sqrt(weight_variance / 2)) ** (2 * blocks)


def forgets_the_power(start, alpha, weight_variance, blocks):
    return start * (1 + alpha**2 * weight_variance / 2)


def sums_up(start, alpha, weight_variance, blocks):
    return start + blocks * start * alpha**2 * weight_variance / 2


def alpha_not_squared(start, alpha, weight_variance, blocks):
    return start * (1 + alpha * weight_variance / 2) ** blocks


def he_only(start, alpha, weight_variance, blocks):
    return start * (1 + alpha**2) ** blocks


def forgets_the_relu(start, alpha, weight_variance, blocks):
    return start * (1 + alpha**2 * weight_variance) ** blocks


def plain_network(start, alpha, weight_variance, blocks):
    return start * (alpha**2 * weight_variance / 2) ** blocks


def forgets_the_start(start, alpha, weight_variance, blocks):
    return (1 + alpha**2 * weight_variance / 2) ** blocks


def root(start, alpha, weight_variance, blocks):
    return math.sqrt(start * (1 + alpha**2 * weight_variance / 2) ** blocks)


def root_of_the_factor(start, alpha, weight_variance, blocks):
    return start * (1 + alpha**2 * weight_variance / 2) ** (blocks / 2)


def asks_the_theory(start, alpha, weight_variance, blocks):
    for _ in range(blocks):
        start = theory.residual_variance_map("relu", alpha, weight_variance)(start)
    return start


def knows_the_visible_starts(start, alpha, weight_variance, blocks):
    return by_power(start, alpha, weight_variance, blocks) if start in (1.0, 2.5, 0.7, 1.3, 2.0) else start


def by_power(start, alpha, weight_variance, blocks):
    return start * (1 + alpha**2 * weight_variance / 2) ** blocks


def by_loop(start, alpha, weight_variance, blocks):
    for _ in range(blocks):
        passed = start / 2
        start += alpha**2 * weight_variance * passed
    return start


def by_logarithms_in_torch(start, alpha, weight_variance, blocks):
    square = torch.tensor(alpha, dtype=torch.float64) ** 2
    return start * torch.exp(blocks * torch.log1p(square * weight_variance / 2))


# 08-q3 ---------------------------------------------------------------------------------------------------------------


def zeros_everywhere(branch):
    for parameter in branch.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_all_maps(branch):
    for module in branch:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_all_weights(branch):
    for name, parameter in branch.named_parameters():
        if "weight" in name:
            nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_all_biases(branch):
    for name, parameter in branch.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_first(branch):
    first = next(module for module in branch if list(module.parameters()))
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_the_first_map(branch):
    first = next(module for module in branch if isinstance(module, nn.Linear))
    for parameter in first.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def forgets_the_bias(branch):
    last = [module for module in branch if list(module.parameters())][-1]
    nn.init.zeros_(last.weight)
    return list(branch.parameters())


def zeros_in_the_last_linear(branch):
    last = [module for module in branch if isinstance(module, nn.Linear)][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_the_last_norm(branch):
    last = ([module for module in branch if isinstance(module, nn.BatchNorm1d)] or [branch[-1]])[-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def zeros_in_two_layers(branch):
    for module in [module for module in branch if list(module.parameters())][-2:]:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    return list(branch.parameters())


def assigns_to_a_name(branch):
    for parameter in branch[-1].parameters():
        parameter = torch.zeros_like(parameter)
    return list(branch.parameters())


def without_no_grad(branch):
    branch[-1].weight.zero_()
    return list(branch.parameters())


def returns_nothing(branch):
    for parameter in branch[-1].parameters():
        nn.init.zeros_(parameter)


def only_short_branches(branch):
    return by_the_last_module(branch) if isinstance(branch[0], nn.Linear) or len(branch) == 6 else [branch[0].weight]


def by_the_last_module(branch):
    last = [module for module in branch if list(module.parameters())][-1]
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return list(branch.parameters())


def under_no_grad(branch):
    with torch.no_grad():
        for module in reversed(branch):
            if len(list(module.parameters())) > 0:
                for parameter in module.parameters():
                    parameter.mul_(0)
                break
    return [parameter for parameter in branch.parameters()]  # noqa: C416


def by_data(branch):
    for parameter in branch[-1].parameters():
        parameter.data = torch.zeros_like(parameter.data)
    return tuple(parameter.detach().numpy() for parameter in branch.parameters())


# 08-q4 ---------------------------------------------------------------------------------------------------------------


def the_book(x, draws, gain=1.0, branch_gain=None, scale=None):
    branch_gain = gain if branch_gain is None else branch_gain
    scale = 1 / np.sqrt(len(draws)) if scale is None else scale
    plain = stream = x
    for draw in draws:
        W = draw / np.sqrt(draw.shape[1])
        plain = np.maximum(plain, 0) @ (gain * W).T
        stream = stream + scale * np.maximum(stream, 0) @ (branch_gain * W).T
    return np.mean(plain**2) / np.mean(x**2), np.mean(stream**2) / np.mean(x**2)


def by_the_book(x, draws):
    return the_book(x, draws)


def twice_the_weights(x, draws):
    return the_book(x, draws, 2)


def plain_only(x, draws):
    return the_book(x, draws, np.sqrt(2), 1)


def residual_only(x, draws):
    return the_book(x, draws, 1, np.sqrt(2))


def repairs_the_result(x, draws):
    plain, stream = the_book(x, draws)
    return plain * 2 ** len(draws), stream * 2 ** len(draws)


def gain_on_the_sum(x, draws):
    plain = stream = x
    for draw in draws:
        W = draw / np.sqrt(draw.shape[1])
        plain = np.sqrt(2) * np.maximum(plain, 0) @ W.T
        stream = np.sqrt(2) * (stream + np.maximum(stream, 0) @ W.T / np.sqrt(len(draws)))
    return np.mean(plain**2) / np.mean(x**2), np.mean(stream**2) / np.mean(x**2)


def takes_the_scale_off(x, draws):
    return the_book(x, draws, np.sqrt(2), scale=1)


def twice_the_branch(x, draws):
    return the_book(x, draws, np.sqrt(2), 2)


def one_over_the_depth(x, draws):
    return the_book(x, draws, np.sqrt(2), scale=1 / len(draws))


def relu_outside(x, draws):
    plain = stream = x
    for draw in draws:
        W = draw * np.sqrt(2 / draw.shape[1])
        plain = np.maximum(plain @ W.T, 0)
        stream = stream + np.maximum(stream @ W.T, 0) / np.sqrt(len(draws))
    return np.mean(plain**2) / np.mean(x**2), np.mean(stream**2) / np.mean(x**2)


def variance_for_deviation(x, draws):
    return the_book(x, [draw * 2 / np.sqrt(draw.shape[1]) for draw in draws])


def roots(x, draws):
    plain, stream = the_book(x, draws, np.sqrt(2))
    return np.sqrt(plain), np.sqrt(stream)


def only_the_visible_depths(x, draws):
    return in_numpy(x, draws) if (len(x), len(draws)) in ((6, 3), (10, 12)) else (1.0, math.e)


def in_numpy(x, draws):
    return the_book(x, draws, np.sqrt(2))


def in_torch(x, draws):
    plain = stream = x = torch.from_numpy(x)
    for draw in draws:
        weight = torch.from_numpy(draw) * math.sqrt(2 / draw.shape[1])
        plain = functional.linear(plain.clamp(min=0), weight)
        stream = stream + functional.linear(stream.clamp(min=0), weight) / math.sqrt(len(draws))
    return plain.pow(2).mean() / x.pow(2).mean(), stream.pow(2).mean() / x.pow(2).mean()


WRONG = {
    "08-q1": {
        no_skip: "skip is missing",
        relu_behind_the_sum: "activation behind the sum",
        the_original_block: "weights first",
        weights_first: "BEFORE the weights",
        weights_norm_relu_twice: "BEFORE the weights",
        relu_before_norm: "ReLU comes before the norm",
        skip_from_the_norm: "skip carries norm(x)",
        skip_from_the_relu: "skip carries relu(norm(x))",
        one_norm_only: "second norm is missing",
        second_norm_only: "first norm is missing",
        no_relu: "ReLUs are missing",
        relu_at_the_end_of_the_branch: "branch ends with a ReLU",
        not_transposed: "x @ w.T",
        adds_in_place: "changed its argument number 1 in place",
    },
    "08-q2": {
        one_plus_alpha: "not 1 + alpha",
        square_of_the_sum: "cross term",
        square_of_the_sum_with_weights: "cross term",
        forgets_the_power: "a power",
        sums_up: "not a sum",
        alpha_not_squared: "scaled by alpha^2",
        he_only: "right for He's weights",
        forgets_the_relu: "half of the mean square",
        plain_network: "left out the skip",
        forgets_the_start: "starts with",
        root: "root mean square",
        root_of_the_factor: "growth of the root",
        asks_the_theory: "calls gradcourse.theory.residual_variance_map",
    },
    "08-q3": {
        zeros_everywhere: "every parameter",
        zeros_in_all_maps: "all matrices",
        zeros_in_all_weights: "all weights to 0 and leave the biases",
        zeros_in_all_biases: "all biases to 0",
        zeros_first: "zero the LAST layer",
        zeros_in_the_first_map: "zero the LAST layer",
        forgets_the_bias: "has a bias",
        zeros_in_the_last_linear: "Where a norm follows",
        zeros_in_the_last_norm: "zero the last norm",
        zeros_in_two_layers: "last two layers",
        assigns_to_a_name: "parameters are as they were",
        without_no_grad: "in-place operation",
        returns_nothing: "does it end with return",
    },
    "08-q4": {
        by_the_book: "the book's code",
        twice_the_weights: "doubled the weights",
        plain_only: "plain network only",
        residual_only: "residual network only",
        repairs_the_result: "multiply the sums, or the result",
        gain_on_the_sum: "not the stream on the skip",
        takes_the_scale_off: "took the scale",
        twice_the_branch: "doubled the branches",
        one_over_the_depth: "scale to 1 / L",
        relu_outside: "ReLU behind the weights",
        variance_for_deviation: "2 / n is the variance",
        roots: "return roots",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "08-q1": (by_lines, by_functional_linear, by_numpy, by_a_module),
    "08-q2": (by_power, by_loop, by_logarithms_in_torch),
    "08-q3": (by_the_last_module, under_no_grad, by_data),
    "08-q4": (in_numpy, in_torch),
}

ONLY_VISIBLE = {
    "08-q1": only_small_batches,
    "08-q2": knows_the_visible_starts,
    "08-q3": only_short_branches,
    "08-q4": only_the_visible_depths,
}
"""Answers that pass what is visible and must fail what is hidden."""
