"""The laws beyond q* and chi, each against a closed form, another integrator, linear algebra or a simulated network.

The networks here are written in plain torch, apart from gradcourse.models: theory and simulation share no code.
"""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from torch.nn import functional as F

import gradcourse as gc
from gradcourse import theory
from gradcourse.models import ACTIVATIONS

WIDTH = 300


def clamp(u):
    return u.clamp(-0.7, 1.3)


def kinked(u):
    return torch.relu(u - 0.4)


def leaky(u):
    return torch.where(u > 0, u, 0.2 * u)


def step(u):
    return (u > 0).double()


def randn(*shape, generator):
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


# --- two correlated variables

CORRELATIONS = (-1.0, -0.6, 0.0, 0.3, 0.9, 1 - 1e-6, 1.0)


def mean_of_clamp(centre, spread):
    """E[clamp(centre + spread z)]: it is -0.7 + relu(u + 0.7) - relu(u - 1.3)."""

    def relu_mean(c):
        return c * norm.cdf(c / spread) + spread * norm.pdf(c / spread) if spread else max(c, 0.0)

    return -0.7 + relu_mean(centre + 0.7) - relu_mean(centre - 1.3)


def pair_mean_of_clamp(q, c):
    """E over u1 of clamp(u1) E[clamp(u2) | u1]: the inner mean in closed form, the outer by scipy between its bends."""
    spread = math.sqrt(q * max(0.0, 1 - c * c))
    bends = {k for kink in (-0.7, 1.3) for k in (kink, *((kink + r * spread) / (c or 1) for r in (-8, -2, 0, 2, 8)))}
    edges = [-12.0, *sorted(bend / math.sqrt(q) for bend in bends if abs(bend) < 12 * math.sqrt(q)), 12.0]

    def integrand(z):
        u = math.sqrt(q) * z
        return min(max(u, -0.7), 1.3) * mean_of_clamp(c * u, spread) * norm.pdf(z)

    return sum(quad(integrand, *ends, epsabs=1e-13, limit=200)[0] for ends in pairwise(edges))


PAIRS = {
    "relu": (torch.relu, lambda q, c: q / (2 * math.pi) * (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c)),
    "step": (step, lambda q, c: (math.pi - math.acos(c)) / (2 * math.pi)),
    "erf": (torch.erf, lambda q, c: 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q))),
    "erf'": (
        lambda u: 2 / math.sqrt(math.pi) * torch.exp(-(u**2)),
        lambda q, c: 4 / math.pi / math.sqrt((1 + 2 * q) ** 2 - (2 * q * c) ** 2),
    ),
    "clamp": (clamp, pair_mean_of_clamp),
}


@pytest.mark.parametrize("q", [0.01, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("name", PAIRS)
def test_gaussian_pair_mean_equals_the_closed_form(name, q):
    function, expected = PAIRS[name]
    pair_mean = theory.gaussian_pair_mean(function, q)
    for c in CORRELATIONS:
        assert pair_mean(c) == pytest.approx(expected(q, c), rel=1e-9, abs=1e-10 * max(q, 1.0)), c


def test_gaussian_pair_mean_finds_kinks_anywhere():
    generator = np.random.default_rng(0)
    for place, c in zip(generator.uniform(-2, 2, 20), generator.uniform(-1, 1, 20), strict=True):
        measured = theory.gaussian_pair_mean(lambda u, place=place: (u > place).double())(c)
        # P(u1 > a, u2 > a) by a single integral over the correlation (Plackett)
        area, _ = quad(lambda r, a=place: math.exp(-a * a / (1 + r)) / (2 * math.pi * math.sqrt(1 - r * r)), 0, c)
        assert measured == pytest.approx(norm.sf(place) ** 2 + area, abs=1e-9), (place, c)


def test_gaussian_pair_mean_refuses_what_is_no_correlation():
    with pytest.raises(ValueError, match=r"correlation=1.5: a correlation lies in \[-1, 1\]"):
        theory.gaussian_pair_mean(torch.relu)(1.5)


@pytest.mark.parametrize("variance", [0.3, 1.0, 20.0])
def test_correlation_map_of_relu_is_the_arc_cosine_kernel(variance):
    next_correlation = theory.correlation_map("relu", 2.0, 0.0, variance)
    for c in CORRELATIONS:
        angle = math.acos(c)
        assert next_correlation(c) == pytest.approx((math.sin(angle) + (math.pi - angle) * c) / math.pi, abs=1e-11)


def erf_network(weight, bias):
    """q* and the correlation map of an erf network, in closed form."""
    q = brentq(lambda q: weight * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + bias - q, 1e-6, 50, xtol=1e-14)
    return q, lambda c: (weight * 2 / math.pi * math.asin(2 * q * c / (1 + 2 * q)) + bias) / q


ERF = [(1.0, 0.1), (2.0, 0.1), (4.0, 0.3)]


@pytest.mark.parametrize(("weight", "bias"), ERF)
def test_correlation_map_of_erf_equals_its_closed_form(weight, bias):
    next_correlation, (_, expected) = theory.correlation_map(torch.erf, weight, bias), erf_network(weight, bias)
    for c in CORRELATIONS:
        assert next_correlation(c) == pytest.approx(expected(c), abs=1e-10)


@pytest.mark.parametrize(("weight", "bias"), ERF)
def test_correlation_fixed_point_and_depth_scale_of_erf_equal_their_closed_form(weight, bias):
    q, expected = erf_network(weight, bias)
    chaotic = weight * 4 / math.pi / math.sqrt(1 + 4 * q) > 1
    c = brentq(lambda c: expected(c) - c, 0, 1 - 1e-6) if chaotic else 1.0
    assert theory.correlation_fixed_point(torch.erf, weight, bias) == pytest.approx(c, abs=1e-9)
    inner = 2 * q / (1 + 2 * q)
    derivative = weight / q * 2 / math.pi * inner / math.sqrt(1 - (inner * c) ** 2)
    assert theory.depth_scale(torch.erf, weight, bias) == pytest.approx(-1 / math.log(derivative), rel=1e-7)


@pytest.mark.parametrize(
    ("weight", "bias", "c", "scale"),
    [(1.0, 0.05, 1.0, 3.63), (1.3, 0.05, 1.0, 7.83), (2.5, 0.05, 0.447, 11.8), (4.0, 0.05, 0.165, 6.98)],
)
def test_correlation_of_tanh_settles_where_it_was_measured(weight, bias, c, scale):
    assert theory.correlation_fixed_point("tanh", weight, bias) == pytest.approx(c, abs=6e-4)
    assert theory.depth_scale("tanh", weight, bias) == pytest.approx(scale, rel=2e-3)


def test_correlation_fixed_point_of_an_odd_activation_without_bias_is_0_in_the_chaotic_phase():
    assert theory.correlation_fixed_point("tanh", 2.0) == 0.0
    q = theory.variance_fixed_point("tanh", 2.0)
    slope_at_0 = 2.0 * quad(lambda z: norm.pdf(z) / math.cosh(math.sqrt(q) * z) ** 2, -12, 12)[0] ** 2
    assert theory.depth_scale("tanh", 2.0) == pytest.approx(-1 / math.log(slope_at_0), rel=1e-8)


@pytest.mark.parametrize(("activation", "weight", "bias"), [("relu", 2.0, 0.0), ("identity", 1.0, 0.0)])
def test_depth_scale_is_infinite_at_criticality(activation, weight, bias):
    assert theory.correlation_fixed_point(activation, weight, bias) == 1.0
    assert theory.depth_scale(activation, weight, bias) == math.inf


@pytest.mark.parametrize("quantity", ["correlation_map", "correlation_fixed_point", "depth_scale"])
@pytest.mark.parametrize(
    ("arguments", "words"), [(("tanh", 0.5), "dies out"), (("relu", 3.0), "grows without bound")], ids=["0", "inf"]
)
def test_correlations_need_a_variance_that_settles(quantity, arguments, words):
    with pytest.raises(ValueError, match=f"{quantity}.*{words}"):
        getattr(theory, quantity)(*arguments)


def test_depth_scale_refuses_an_activation_with_a_jump():
    with pytest.raises(ValueError, match="activation sign jumps"):
        theory.depth_scale(torch.sign, 1.0, 0.1)


def simulated_correlations(phi, weight, bias, q, layers, start, *, width=500, seeds=5):
    """Correlation of the pre-activations of two inputs in each layer, mean over networks, shape (layers,)."""
    seen = []
    for seed in range(seeds):
        g = torch.Generator().manual_seed(seed)
        first = randn(width, generator=g)
        second = start * first + math.sqrt(1 - start**2) * randn(width, generator=g)
        h = math.sqrt(q) * torch.stack([first, second])
        for _ in range(layers):
            seen.append(float(F.cosine_similarity(h[0], h[1], dim=0)))
            w = randn(width, width, generator=g) * math.sqrt(weight / width)
            h = phi(h) @ w.T + math.sqrt(bias) * randn(width, generator=g)
    return np.reshape(seen, (seeds, layers)).mean(axis=0)


@pytest.mark.parametrize(
    ("phi", "weight", "bias"),
    [(torch.tanh, 2.5, 0.05), (torch.tanh, 1.3, 0.05), (clamp, 2.5, 0.2), (F.softplus, 1.2, 0.1), (kinked, 1.5, 0.3)],
    ids=["tanh chaotic", "tanh ordered", "clamp", "softplus", "kinked"],
)
def test_correlation_map_equals_simulated_networks(phi, weight, bias):
    q = theory.variance_fixed_point(phi, weight, bias)
    next_correlation = theory.correlation_map(phi, weight, bias)
    expected = [0.5]
    for _ in range(9):
        expected.append(next_correlation(expected[-1]))
    measured = simulated_correlations(phi, weight, bias, q, 10, 0.5)
    np.testing.assert_allclose(measured, expected, atol=0.05)


@pytest.mark.parametrize(
    ("phi", "weight", "bias"), [(torch.tanh, 1.0, 0.05), (F.softplus, 1.8, 0.1)], ids=["tanh", "softplus"]
)
def test_depth_scale_equals_the_decay_in_simulated_networks(phi, weight, bias):
    q = theory.variance_fixed_point(phi, weight, bias)
    distance = 1 - simulated_correlations(phi, weight, bias, q, 12, 0.9)
    slope = np.polyfit(np.arange(12), np.log(distance), 1)[0]
    assert slope == pytest.approx(-1 / theory.depth_scale(phi, weight, bias), abs=0.04)


# --- the critical line and the phases


@pytest.mark.parametrize(
    ("bias", "weight"), [(0.0, 1.0), (0.05, 1.76095), (0.1, 1.98607), (0.3, 2.50513)], ids=lambda value: f"{value:g}"
)
def test_critical_weight_variance_of_tanh_is_where_it_was_measured(bias, weight):
    assert theory.critical_weight_variance("tanh", bias) == pytest.approx(weight, abs=6e-6)


@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize(
    ("activation", "weight"), [("relu", 2.0), ("identity", 1.0), (leaky, 2 / 1.04), (torch.nn.LeakyReLU(0.5), 1.6)]
)
def test_critical_weight_variance_of_two_straight_pieces_is_one_over_their_mean_square(activation, weight, bias):
    assert theory.critical_weight_variance(activation, bias) == pytest.approx(weight, rel=1e-9)


@pytest.mark.parametrize("bias", [0.02, 0.5])
def test_critical_weight_variance_of_erf_equals_its_closed_form(bias):
    def excess(weight):
        return weight * 4 / math.pi / math.sqrt(1 + 4 * erf_network(weight, bias)[0]) - 1

    assert theory.critical_weight_variance(torch.erf, bias) == pytest.approx(brentq(excess, 0.3, 9), rel=1e-8)


@pytest.mark.parametrize("activation", ["sigmoid", "selu", "elu"])
def test_critical_weight_variance_gives_a_gradient_factor_of_1(activation):
    weight = theory.critical_weight_variance(activation, 0.05)
    assert theory.gradient_factor(activation, weight, 0.05) == pytest.approx(1.0, abs=1e-9)
    assert [theory.phase(activation, weight * (1 + shift), 0.05) for shift in (-0.02, 0, 0.02)] == [
        "ordered",
        "critical",
        "chaotic",
    ]


def test_critical_weight_variance_says_that_the_factor_of_gelu_jumps():
    with pytest.raises(ValueError, match=r"gelu.*jumps over 1, from 0.588 to 1.07") as caught:
        theory.critical_weight_variance("gelu")
    assert "\n" not in str(caught.value)


def test_critical_weight_variance_refuses_an_activation_without_slope():
    with pytest.raises(ValueError, match="does not cross 1"):
        theory.critical_weight_variance(torch.sign, 0.1)


def test_phase_of_a_rounded_critical_value_is_critical():
    assert theory.phase("tanh", 1.76095, 0.05) == "critical"
    assert theory.phase("relu", 2.0) == "critical"
    assert theory.phase("tanh", 1.3, 0.05) == "ordered"
    assert theory.phase("tanh", 1.3, 0.05, tolerance=0.2) == "critical"
    assert theory.phase("tanh", 2.5, 0.05) == "chaotic"


# --- normalization


def test_batchnorm_gradient_factor_of_relu_and_leaky_relu_in_closed_form():
    assert theory.batchnorm_gradient_factor("relu") == pytest.approx(math.pi / (math.pi - 1), rel=1e-10)
    mean_square, mean = (1 + 0.2**2) / 2, 0.8 / math.sqrt(2 * math.pi)
    assert theory.batchnorm_gradient_factor(leaky) == pytest.approx(mean_square / (mean_square - mean**2), rel=1e-10)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, torch.sin, clamp, kinked, lambda u: u**2 - u])
def test_batchnorm_gradient_factor_is_at_least_1_and_1_only_for_linear_activations(activation):
    factor = theory.batchnorm_gradient_factor(activation)
    assert factor == pytest.approx(1.0, rel=1e-10) if activation == "identity" else factor > 1.0001


def test_layernorm_gradient_factor_of_two_straight_pieces_is_1_and_of_odd_ones_that_of_batchnorm():
    for activation in ("relu", leaky, "identity"):
        assert theory.layernorm_gradient_factor(activation) == pytest.approx(1.0, rel=1e-10)
    for activation in ("tanh", torch.sin, torch.erf):
        assert theory.layernorm_gradient_factor(activation) == pytest.approx(
            theory.batchnorm_gradient_factor(activation), rel=1e-9
        )
    square = quad(lambda z: math.log1p(math.exp(z)) ** 2 * norm.pdf(z), -12, 12)[0]
    slope = quad(lambda z: norm.pdf(z) / (1 + math.exp(-z)) ** 2, -12, 12)[0]
    assert theory.layernorm_gradient_factor("softplus") == pytest.approx(slope / square, rel=1e-8)


@pytest.mark.parametrize("kind", ["batchnorm", "layernorm"])
def test_normalization_refuses_a_constant_activation(kind):
    with pytest.raises(ValueError, match=f"{kind}_gradient_factor.*constant"):
        getattr(theory, f"{kind}_gradient_factor")(torch.zeros_like)


# --- residual blocks


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_residual_gradient_factor_of_he_relu_is_1_plus_scale_squared_for_every_variance(scale):
    for variance in (0.1, 1.0, 40.0):
        assert theory.residual_gradient_factor("relu", scale, variance=variance) == pytest.approx(1 + scale**2)
        assert theory.residual_variance_map("relu", scale)(variance) == pytest.approx(variance * (1 + scale**2))


def test_residual_gradient_factor_of_erf_equals_its_closed_form():
    expected = 1 + 0.3**2 * 1.5 * 4 / math.pi / math.sqrt(1 + 4 * 0.7)
    assert theory.residual_gradient_factor(torch.erf, 0.3, 1.5, 0.7) == pytest.approx(expected, rel=1e-10)
    expected = 0.7 + 0.3**2 * (1.5 * 2 / math.pi * math.asin(1.4 / 2.4) + 0.2)
    assert theory.residual_variance_map(torch.erf, 0.3, 1.5, 0.2)(0.7) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.residual_gradient_factor("relu", math.inf), "scale=inf"),
        (lambda: theory.residual_gradient_factor("relu", 1.0, -2.0), "weight_variance=-2.0"),
        (lambda: theory.residual_gradient_factor("relu", 1.0, variance=math.nan), "variance=nan"),
        (lambda: theory.residual_variance_map("relu", 1.0, 2.0, -1.0), "bias_variance=-1.0"),
    ],
    ids=["scale", "weight", "variance", "bias"],
)
def test_residual_block_refuses_numbers_out_of_range(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("phi", "scale", "weight", "bias"),
    [(torch.relu, 0.4, 2.0, 0.0), (F.softplus, 0.5, 1.0, 0.2), (clamp, 1.0, 2.0, 0.0)],
    ids=["relu", "softplus", "clamp"],
)
def test_residual_laws_equal_simulated_streams(phi, scale, weight, bias):
    """Variance of the stream behind 12 blocks and factor of the gradient over them, at width 300."""
    ratios = []
    for seed in range(6):
        g = torch.Generator().manual_seed(seed)
        first = x = randn(32, WIDTH, generator=g).requires_grad_()
        for _ in range(12):
            w = randn(WIDTH, WIDTH, generator=g) * math.sqrt(weight / WIDTH)
            x = x + scale * (phi(x) @ w.T + math.sqrt(bias) * randn(WIDTH, generator=g))
        v = randn(*x.shape, generator=g)
        (gradient,) = torch.autograd.grad((x * v).sum(), first)
        ratios.append([float((x.detach() ** 2).mean()), float((gradient**2).mean())])
    variance, gradient = 1.0, 1.0
    for _ in range(12):
        gradient *= theory.residual_gradient_factor(phi, scale, weight, variance)
        variance = theory.residual_variance_map(phi, scale, weight, bias)(variance)
    np.testing.assert_allclose(np.log(ratios).mean(axis=0), np.log([variance, gradient]), atol=0.12)


# --- finite width


@pytest.mark.parametrize(
    ("n", "layers", "exact", "leading"),
    [(100, 20, 1.039, 1.0), (50, 10, 1.082, 1.0), (50, 25, 2.704, 2.5), (20, 20, 6.235, 5.0)],
)
def test_width_fluctuation_of_relu_equals_the_table(n, layers, exact, leading):
    assert theory.width_fluctuation("relu", [n] * layers) == pytest.approx(exact, abs=6e-4)
    assert theory.width_fluctuation("relu", [n] * layers, asymptotic=True) == pytest.approx(leading)


def test_width_fluctuation_of_a_linear_net_is_a_sum_of_trigammas():
    trigamma_25 = sum(1 / (25 + k) ** 2 for k in range(200000)) + 1 / 200024.5
    assert theory.width_fluctuation("identity", [50] * 10) == pytest.approx(10 * trigamma_25, rel=1e-9)
    assert theory.width_fluctuation("identity", [50] * 10, asymptotic=True) == pytest.approx(0.4)
    parts = [theory.width_fluctuation("relu", n) for n in (7, 30, 7)]
    assert theory.width_fluctuation("relu", (7, 30, 7)) == pytest.approx(sum(parts))


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.3, -0.5, 1.0])
def test_width_fluctuation_for_large_widths_is_its_leading_term(slope):
    activation = torch.nn.LeakyReLU(slope)
    leading = (6 * (1 + slope**4) / (1 + slope**2) ** 2 - 1) / 2000
    assert theory.width_fluctuation(activation, 2000, asymptotic=True) == pytest.approx(leading, rel=1e-12)
    assert theory.width_fluctuation(activation, 2000) == pytest.approx(leading, rel=5e-3)


@pytest.mark.parametrize("n", [1, 2, 3, 12])
@pytest.mark.parametrize("slope", [0.0, 0.05, 0.3])
def test_width_fluctuation_equals_sampled_chi_squares(n, slope):
    generator = np.random.default_rng(n)
    factor = np.where(generator.random((200000, n)) < 0.5, 1.0, slope**2)
    sums = (factor * generator.standard_normal((200000, n)) ** 2).sum(axis=1)
    sampled = np.log(sums[sums > 0]).var()  # of ReLU networks: those whose gradient lives
    assert theory.width_fluctuation(torch.nn.LeakyReLU(slope), n) == pytest.approx(sampled, rel=0.02)


@pytest.mark.parametrize(
    ("phi", "n", "layers"),
    [(torch.relu, 30, 12), (torch.relu, 48, 8), (leaky, 30, 12), (lambda u: u, 24, 10)],
    ids=["relu", "relu wider", "leaky", "linear"],
)
def test_width_fluctuation_equals_that_of_simulated_networks(phi, n, layers):
    """Gradients of 2000 networks that share no weight, one input each, back-propagated together."""
    g = torch.Generator().manual_seed(0)
    hs = [randn(2000, n, 1, generator=g).requires_grad_()]
    for _ in range(layers):
        hs.append((randn(2000, n, n, generator=g) * math.sqrt(2 / n)) @ phi(hs[-1]))
    (gradient,) = torch.autograd.grad((hs[-1] * randn(2000, n, 1, generator=g)).sum(), hs[0])
    # The gradient at the first h has passed a weight matrix and a slope of width n for each layer, and began as n
    # normal numbers, whose sum of squares fluctuates by trigamma(n / 2)
    began = theory.width_fluctuation("identity", n)
    measured = float(torch.log((gradient**2).sum(dim=(1, 2))).var())
    assert measured - began == pytest.approx(theory.width_fluctuation(phi, [n] * layers), rel=0.1)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "softplus", kinked, torch.zeros_like])
def test_width_fluctuation_refuses_an_activation_without_a_law(activation):
    with pytest.raises(ValueError, match="two straight pieces through 0"):
        theory.width_fluctuation(activation, [10])


@pytest.mark.parametrize("widths", [[], [10, 0], [2.5]])
def test_width_fluctuation_refuses_what_is_no_width(widths):
    with pytest.raises(ValueError, match="whole numbers >= 1"):
        theory.width_fluctuation("relu", widths)


# --- quadratics

METHODS = {
    "gd": (theory.gd_rate, {}),
    "momentum": (theory.momentum_rate, {}),
    "nesterov": (theory.nesterov_rate, {"nesterov": True}),
}


@pytest.mark.parametrize(
    ("method", "rates"),
    [
        ("gd", (0.81818, 0.98020, 0.99800)),
        ("momentum", (0.5195, 0.81818, 0.93869)),
        ("nesterov", tuple(1 - 2 / math.sqrt(3 * k + 1) for k in (10, 100, 1000))),
    ],
)
def test_best_rates_equal_the_table(method, rates):
    for condition, rate in zip((10, 100, 1000), rates, strict=True):
        assert METHODS[method][0](1, condition).rate == pytest.approx(rate, abs=6e-6 if method == "gd" else 6e-5)
        assert METHODS[method][0](0.3, 0.3 * condition).rate == pytest.approx(rate, abs=6e-5)  # the scale is nothing


def test_textbook_nesterov_converges_like_1_minus_1_over_the_root_of_the_condition():
    for k in (10.0, 100.0, 1000.0):
        beta = (math.sqrt(k) - 1) / (math.sqrt(k) + 1)
        assert theory.nesterov_rate(1, k, 1 / k, beta).rate == pytest.approx(1 - 1 / math.sqrt(k), rel=1e-12)


def run_sgd(method, curvatures, learning_rate, momentum, steps):
    """ln |x| after each step of torch.optim.SGD on a rotated quadratic."""
    g = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(randn(len(curvatures), len(curvatures), generator=g))
    hessian = rotation @ torch.diag(torch.tensor(curvatures, dtype=torch.float64)) @ rotation.T
    x = randn(len(curvatures), generator=g).requires_grad_()
    optimizer = torch.optim.SGD([x], lr=learning_rate, momentum=momentum, **METHODS[method][1])
    logs = []
    for _ in range(steps):
        x.grad = hessian @ x.detach()
        optimizer.step()
        logs.append(math.log(float(x.detach().norm())))
    return np.array(logs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("condition", [5.0, 60.0])
def test_best_rate_equals_torchs_optimizer_on_a_quadratic(method, condition):
    rate, learning_rate, momentum = METHODS[method][0](2.0, 2.0 * condition)
    curvatures = [2.0, *np.linspace(2.5, 2 * condition - 1, 6), 2.0 * condition]
    steps = int(-80 / math.log(rate))
    logs = run_sgd(method, curvatures, learning_rate, momentum, steps)
    if method != "gd":  # the root is double: |x_k| ~ k rate**k
        logs -= np.log(np.arange(1, steps + 1))
    late = np.arange(steps // 2, steps)
    slope = np.polyfit(late, logs[late], 1)[0]
    assert slope == pytest.approx(math.log(rate), rel=5e-3)


@pytest.mark.parametrize(
    ("method", "learning_rate", "momentum"),
    [("gd", 0.02, 0.0), ("momentum", 0.02, 0.5), ("momentum", 0.15, 0.9), ("nesterov", 0.03, 0.7)],
)
def test_rate_of_any_parameters_equals_torchs_optimizer_on_a_quadratic(method, learning_rate, momentum):
    arguments = {"learning_rate": learning_rate} | ({} if method == "gd" else {"momentum": momentum})
    rate = METHODS[method][0](1.0, 20.0, **arguments).rate
    steps = int(-200 / math.log(rate))
    logs = run_sgd(method, [1.0, 4.0, 9.0, 20.0], learning_rate, momentum, steps)
    assert np.polyfit(np.arange(steps // 2), logs[-(steps // 2) :], 1)[0] == pytest.approx(math.log(rate), rel=2e-2)


def spectral_radius(method, h, learning_rate, momentum):
    """Of the matrix that torch.optim.SGD applies to (x, velocity) along an eigenvector of curvature h."""
    velocity = np.array([h, momentum])
    used = np.array([h, 0.0]) + momentum * velocity if method == "nesterov" else velocity
    return max(abs(np.linalg.eigvals(np.array([[1.0, 0.0] - learning_rate * used, velocity]))))


@pytest.mark.parametrize("method", ["momentum", "nesterov"])
def test_rate_is_the_largest_spectral_radius_over_all_curvatures(method):
    generator = np.random.default_rng(0)
    for _ in range(200):
        smallest, largest = sorted(generator.uniform(0.1, 10, 2))
        learning_rate, momentum = generator.uniform(0, 3 / largest), generator.uniform(0, 0.99)
        radii = [spectral_radius(method, h, learning_rate, momentum) for h in np.linspace(smallest, largest, 30)]
        rate = METHODS[method][0](smallest, largest, learning_rate, momentum).rate
        assert rate == pytest.approx(max(radii), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_no_parameters_beat_the_best_ones(method):
    generator = np.random.default_rng(1)
    for condition in (3.0, 30.0, 300.0):
        best = METHODS[method][0](1.0, condition)
        for _ in range(500):
            learning_rate = best.learning_rate * generator.uniform(0.7, 1.3)
            momentum = min(0.999, max(0.0, best.momentum + generator.normal(0, 0.1)))
            arguments = (learning_rate,) if method == "gd" else (learning_rate, momentum)
            assert METHODS[method][0](1.0, condition, *arguments).rate >= best.rate - 1e-12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.gd_rate(0.0, 1.0), "curvatures must be finite, > 0"),
        (lambda: theory.momentum_rate(2.0, 1.0), "the smallest first"),
        (lambda: theory.nesterov_rate(1.0, math.nan), "curvatures must be finite"),
        (lambda: theory.gd_rate(1.0, 2.0, 0.0), "learning_rate=0.0"),
        (lambda: theory.momentum_rate(1.0, 2.0, 0.1, 1.0), r"momentum=1.0: it must be in \[0, 1\)"),
        (lambda: theory.nesterov_rate(1.0, 2.0, momentum=0.9), "give both"),
    ],
    ids=["zero", "order", "nan", "learning rate", "momentum", "one of two"],
)
def test_rates_refuse_numbers_out_of_range(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_rate_says_when_a_method_diverges():
    assert theory.gd_rate(1.0, 10.0, 0.21).rate > 1
    assert theory.momentum_rate(1.0, 10.0, 0.35, 0.8).rate < 1 < theory.gd_rate(1.0, 10.0, 0.35).rate


# --- the profile of a Config

FIELDS = {
    "model": "mlp",
    "data": "synthetic",
    "scaling": "standard",
    "depth": 13,
    "width": WIDTH,
    "activation": "relu",
    "init": "he",
    "gain": 1.0,
    "bias_std": 0.0,
    "bias": 0.0,
    "norm": None,
    "residual": None,
    "residual_scale": None,
    "dropout": 0.0,
}


def config(**fields):
    assert fields.keys() <= FIELDS.keys()
    return SimpleNamespace(**(FIELDS | fields))


def drawn(c, shape, g):
    """Weights and biases of a linear layer (rows, inputs) or a convolution (rows, channels, 3, 3)."""
    rows, taps = shape[0], math.prod(shape[2:])
    fan_in, fan_out = math.prod(shape[1:]), rows * taps
    normal, bias = randn(rows, fan_in, generator=g), c.bias_std * randn(rows, generator=g)
    if c.init in ("orthogonal", "lsuv"):
        tall = normal if rows >= fan_in else normal.T
        q, r = torch.linalg.qr(tall)
        q = q * torch.sign(torch.diagonal(r))
        weight = q if rows >= fan_in else q.T
    elif c.init == "torch":
        bound = 1 / math.sqrt(fan_in)
        weight, bias = (
            bound * (2 * torch.rand(size, dtype=torch.float64, generator=g) - 1) for size in (normal.shape, rows)
        )
    else:
        variance = {"xavier": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in, "normal": 1.0}[c.init]
        weight = math.sqrt(variance) * normal
    return c.gain * weight.reshape(shape), bias


def normed(h, kind):
    if kind not in ("batch", "layer"):
        return h
    over = (0,) if kind == "batch" else tuple(range(1, h.dim()))
    return (h - h.mean(over, keepdim=True)) / h.std(over, correction=0, keepdim=True)


def simulated(c, seed, batch):
    """Mean square of dL/dh at each layer with weights, for L = sum of the outputs times independent normals."""
    g = torch.Generator().manual_seed(seed)
    phi = getattr(F, c.activation) if isinstance(c.activation, str) and hasattr(F, c.activation) else c.activation
    x = randn(batch, 64, generator=g).reshape((-1, 1, 8, 8) if c.model == "conv" else (-1, 64)).requires_grad_()
    hs = []

    def mapped(x, rows, *, hidden=True):
        w, b = drawn(c, (rows, x.shape[1], *x.shape[2:2], *((3, 3) if x.dim() == 4 else ())), g)
        apply = (lambda w: F.conv2d(x, w, b, padding=1)) if x.dim() == 4 else (lambda w: F.linear(x, w, b))
        w = c.gain * w / apply(w).std().detach() if c.init == "lsuv" else w
        hs.append(apply(w) + (c.bias if hidden else 0.0))
        return hs[-1]

    def activated(u):
        kept = torch.rand(u.shape, dtype=torch.float64, generator=g) >= c.dropout
        return phi(u) * kept / (1 - c.dropout)

    x = mapped(x, c.width)
    blocks = c.depth - 2
    scale = (
        {"scaled": blocks**-0.5, "rezero": 0.0}.get(c.residual, 1.0) if c.residual_scale is None else c.residual_scale
    )
    for _ in range(blocks):
        if c.residual is None:
            x = mapped(activated(normed(x, c.norm)), c.width)
        elif c.residual == "preactivation":
            x = x + scale * mapped(activated(normed(x, c.norm)), c.width)
        else:
            x = x + scale * normed(mapped(activated(x), c.width), c.norm)
    if c.residual is None:
        x = activated(normed(x, c.norm))
    elif c.model == "conv" and c.residual == "preactivation":
        x = phi(normed(x, c.norm))
    out = mapped(F.avg_pool2d(x, 2).flatten(1) if x.dim() == 4 else x, 10, hidden=False)
    gradients = torch.autograd.grad((out * randn(*out.shape, generator=g)).sum(), hs)
    return [float((gradient**2).mean()) for gradient in gradients]


def log_squares(c, *, seeds, batch):
    """Mean over networks of the logarithm of the mean square of delta, relative to the output layer."""
    squares = np.array([simulated(c, seed, batch) for seed in range(seeds)])
    return np.log(squares / squares[:, -1:]).mean(axis=0)


SPREAD = 0.05**0.5
PLAIN = {
    "tanh ordered": {"activation": "tanh", "init": "xavier", "bias_std": SPREAD},
    "tanh chaotic": {"activation": "tanh", "init": "lecun", "gain": 1.6, "bias_std": SPREAD},
    "softplus": {"activation": "softplus", "init": "lecun"},
    "erf": {"activation": torch.erf, "init": "lecun", "gain": 1.2, "bias_std": 0.3},
    "clamp": {"activation": clamp, "init": "lecun", "gain": 1.2, "bias_std": 0.3},
    "leaky": {"activation": leaky, "init": "xavier"},
    "relu orthogonal": {"init": "orthogonal", "gain": 1.3},
    "selu normal": {"activation": "selu", "init": "normal", "gain": 0.055},
    "tanh torch": {"activation": "tanh", "init": "torch"},
    "gelu constant bias": {"activation": "gelu", "bias": 0.5},
    "tanh lsuv": {"activation": "tanh", "init": "lsuv"},
    "softplus lsuv, gain": {"activation": "softplus", "init": "lsuv", "gain": 0.7},
    "relu dropout": {"dropout": 0.3},
    "tanh dropout": {"activation": "tanh", "init": "lecun", "bias_std": SPREAD, "dropout": 0.2},
    "weight norm": {"activation": "elu", "norm": "weight"},
    "relu layer norm": {"norm": "layer"},
    "softplus layer norm, biases": {"activation": "softplus", "norm": "layer", "bias_std": 0.7, "bias": 0.4},
}
NORMALIZED = {  # in batches of 240
    "relu batch norm": {"norm": "batch", "bias_std": 0.5},
    "leaky batch norm": {"activation": leaky, "init": "torch", "norm": "batch"},
    "softplus batch norm": {"activation": "softplus", "norm": "batch"},
    "clamp batch norm": {"activation": clamp, "init": "xavier", "norm": "batch"},
    "relu batch norm, dropout": {"norm": "batch", "dropout": 0.2},
}


@pytest.mark.parametrize("name", [*PLAIN, *NORMALIZED])
def test_gradient_profile_equals_simulated_networks(name):
    c = config(**(PLAIN | NORMALIZED)[name])
    measured = log_squares(c, seeds=5, batch=240 if c.norm == "batch" else 48)
    expected = 2 * np.log(theory.gradient_profile(c))
    slope, wanted = (np.polyfit(np.arange(c.depth - 1), logs[:-1], 1)[0] for logs in (measured, expected))
    assert slope == pytest.approx(wanted, abs=0.04)
    np.testing.assert_allclose(measured, expected, atol=0.04 * c.depth)  # no constant factor hides in a slope


@pytest.mark.parametrize(("activation", "tolerance"), [("relu", 0.03), (leaky, 0.03), ("tanh", 0.04), (clamp, 0.04)])
def test_batchnorm_gradient_factor_equals_simulated_networks(activation, tolerance):
    measured = log_squares(config(activation=activation, norm="batch", init="xavier"), seeds=5, batch=WIDTH)
    factor = math.exp(-np.polyfit(np.arange(9), measured[2:11], 1)[0])
    assert factor == pytest.approx(theory.batchnorm_gradient_factor(activation), rel=tolerance)


@pytest.mark.parametrize("activation", ["relu", "softplus", torch.erf])
def test_layernorm_gradient_factor_equals_simulated_networks(activation):
    measured = log_squares(config(activation=activation, norm="layer"), seeds=8, batch=64)
    factor = math.exp(-np.polyfit(np.arange(10), measured[1:11], 1)[0])
    assert factor == pytest.approx(theory.layernorm_gradient_factor(activation), rel=0.04)


RESIDUAL = {
    "add": {"residual": "add"},
    "scaled": {"residual": "scaled"},
    "softplus, scale": {"activation": "softplus", "init": "lecun", "residual": "add", "residual_scale": 0.4},
    "tanh, biases": {"activation": "tanh", "init": "lecun", "residual": "add", "bias": 0.3, "bias_std": 0.3},
    "dropout": {"activation": "elu", "init": "lecun", "residual": "scaled", "dropout": 0.3},
    "lsuv": {"init": "lsuv", "residual": "scaled"},
    "batch norm in the branch": {"activation": "gelu", "residual": "add", "norm": "batch", "bias_std": 0.5},
    "layer norm in the branch": {"activation": "gelu", "residual": "add", "norm": "layer", "bias_std": 0.5},
    "preactivation, batch norm": {"residual": "preactivation", "norm": "batch", "bias_std": 0.5},
    "preactivation, layer norm": {"activation": "gelu", "residual": "preactivation", "norm": "layer", "bias": 0.5},
    "preactivation, no norm": {"activation": clamp, "residual": "preactivation"},
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_gradient_profile_of_residual_networks_equals_simulated_ones_in_every_layer(name):
    c = config(**RESIDUAL[name])
    measured = log_squares(c, seeds=5, batch=240 if c.norm == "batch" else 48)
    np.testing.assert_allclose(measured, 2 * np.log(theory.gradient_profile(c)), atol=0.2)


def test_gradient_profile_of_rezero_is_level_in_the_stream_and_0_in_the_branches():
    profile = theory.gradient_profile(config(residual="rezero", depth=6))
    np.testing.assert_allclose(profile, [math.sqrt(10 * 2 / WIDTH), 0, 0, 0, 0, 1])
    measured = simulated(config(residual="rezero", depth=6), 0, 8)
    assert measured[1:5] == [0.0] * 4


CONV = {
    "relu": {"activation": "relu"},
    "tanh torch": {"activation": "tanh", "init": "torch"},
    "softplus xavier, biases": {"activation": "softplus", "init": "xavier", "bias_std": 0.3},
    "gelu orthogonal": {"activation": "gelu", "init": "orthogonal", "gain": 1.4},
    "relu layer norm": {"norm": "layer"},
    "relu dropout": {"dropout": 0.2},
    "scaled": {"residual": "scaled"},
    "preactivation, layer norm": {"activation": "gelu", "residual": "preactivation", "norm": "layer", "dropout": 0.2},
    "preactivation, no norm": {"activation": "softplus", "residual": "preactivation"},
}


@pytest.mark.parametrize("name", CONV)
def test_gradient_profile_of_convolutional_networks_equals_simulated_ones(name):
    c = config(**(CONV[name] | {"model": "conv", "width": 96, "depth": 9}))
    measured = log_squares(c, seeds=5, batch=8)
    expected = 2 * np.log(theory.gradient_profile(c))
    np.testing.assert_allclose(measured, expected, atol=0.04 * c.depth if c.residual is None else 0.15)


def test_gradient_profile_of_a_convolutional_network_feels_the_border():
    """He's convolutions would keep the gradient; zeros beyond the border take the share that linear algebra says."""
    profile = theory.gradient_profile(config(model="conv", depth=30, width=64))
    factor = (profile[3] / profile[4]) ** 2
    band = sum(np.eye(8, k=k) for k in (-1, 0, 1)) / 3
    assert factor == pytest.approx(np.linalg.eigvalsh(np.kron(band, band)).max(), rel=1e-4)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("residual", [None, "scaled", "preactivation"])
def test_gradient_profile_has_an_entry_per_layer_and_weight_norm_changes_nothing(norm, residual):
    profile = theory.gradient_profile(config(norm=norm, residual=residual, depth=7))
    assert profile.shape == (7,)
    assert profile[-1] == 1
    if norm is None:
        np.testing.assert_array_equal(
            profile, theory.gradient_profile(config(norm="weight", residual=residual, depth=7))
        )


def test_gradient_profile_of_zero_weights_is_0_below_the_output():
    np.testing.assert_array_equal(theory.gradient_profile(config(init="zero", depth=4)), [0, 0, 0, 1])


def test_gradient_profile_does_not_underflow_before_the_gradient_does():
    profile = theory.gradient_profile(config(activation="sigmoid", init="xavier", depth=400))
    factor = theory.gradient_factor("sigmoid", 1.0)
    assert math.log(profile[20] / profile[21]) == pytest.approx(0.5 * math.log(factor), abs=1e-6)
    assert 0 < profile[0] < 1e-200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"init": "constant"}, 'init="constant".*not random'),
        ({"norm": "group"}, 'norm="group".*too narrow'),
        ({"model": "conv", "norm": "batch"}, 'model="conv", norm="batch".*neighbouring pixels'),
        ({"model": "conv", "init": "lsuv"}, 'model="conv", init="lsuv".*neighbouring pixels'),
        ({"norm": "batch", "activation": torch.zeros_like}, "puts out a constant"),
    ],
    ids=["constant", "group", "conv batch", "conv lsuv", "nothing to normalize"],
)
def test_gradient_profile_says_where_there_is_no_law(fields, words):
    with pytest.raises(ValueError, match=words) as caught:
        theory.gradient_profile(config(**fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scaling", ["unit", "raw"])
def test_gradient_profile_knows_the_size_of_the_digits(scaling):
    """Through an activation whose slope shows the variance, by the profile that is given the size in the data."""
    x = gc.digits(scaling=scaling).x_train
    c = config(activation="tanh", init="lecun", depth=3, data="digits", scaling=scaling)
    by_data = theory.gradient_profile(c, input_mean_square=float((x**2).mean()))
    np.testing.assert_allclose(theory.gradient_profile(c), by_data, rtol=1e-3)
    c.norm = "batch"
    by_data = theory.gradient_profile(c, input_mean_square=float(x.var(dim=0, correction=0).mean()))
    np.testing.assert_allclose(theory.gradient_profile(c), by_data, rtol=5e-3)


def test_gradient_profile_takes_scaling_255_as_255_times_unit():
    unit, stretched = (
        theory.gradient_profile(config(activation="tanh", depth=3, data="digits", scaling=scaling, gain=gain))
        for scaling, gain in (("unit", 255.0), ("255", 1.0))
    )
    assert stretched[0] / stretched[1] == pytest.approx(unit[0] / unit[1] / 255.0, rel=1e-9)


def test_gradient_profile_of_standardized_digits_is_that_of_standard_normal_inputs():
    of_digits, of_normal = (config(activation=clamp, depth=4, data=data) for data in ("digits", "synthetic"))
    np.testing.assert_array_equal(theory.gradient_profile(of_digits), theory.gradient_profile(of_normal))
