"""Mean-field theory against closed forms, another integrator, finite differences and simulated networks."""

import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

import gradcourse as gc
from gradcourse import theory
from gradcourse.models import ACTIVATIONS, one_thread


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def step(u):
    return (u > 0.3).double()


def clamp(u):
    return u.clamp(-0.7, 1.3)


def kinked(u):
    return torch.relu(u - 0.4)


CALLABLES = {
    "sigmoid": lambda u: 1 / (1 + torch.exp(-u)),
    "tanh": lambda u: 1 - 2 / (torch.exp(2 * u) + 1),
    "relu": lambda u: u.clamp(min=0),
    "leaky_relu": lambda u: torch.where(u > 0, u, 0.01 * u),
    "gelu": lambda u: u * torch.special.ndtr(u),
    "silu": lambda u: u / (1 + torch.exp(-u)),
}

VARIANCES = (1e-6, 0.3, 1.0, 7.0, 1e4)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda u: torch.ones_like(u), lambda q: 1.0),
        (lambda u: u**2, lambda q: q),
        (lambda u: u**4, lambda q: 3 * q**2),
        (torch.abs, lambda q: math.sqrt(2 * q / math.pi)),
        (lambda u: torch.relu(u) ** 2, lambda q: q / 2),
        (lambda u: (u > 0).double(), lambda q: 0.5),
        (step, lambda q: norm.sf(0.3 / math.sqrt(q))),
        (kinked, lambda q: math.sqrt(q) * norm.pdf(0.4 / math.sqrt(q)) - 0.4 * norm.sf(0.4 / math.sqrt(q))),
        (lambda u: torch.sin(u) ** 2, lambda q: -0.5 * math.expm1(-2 * q)),
        (lambda u: torch.erf(u) ** 2, lambda q: 2 / math.pi * math.asin(2 * q / (1 + 2 * q))),
        (lambda u: 4 / math.pi * torch.exp(-2 * u**2), lambda q: 4 / math.pi / math.sqrt(1 + 4 * q)),
    ],
    ids=["1", "square", "fourth", "abs", "relu^2", "relu'^2", "jump", "kink", "sin^2", "erf^2", "erf'^2"],
)
def test_gaussian_mean_equals_the_closed_form(function, expected, variance):
    assert theory.gaussian_mean(function, variance) == pytest.approx(expected(variance), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("variance", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(
    ("function", "same", "kinks"),
    [
        (torch.tanh, math.tanh, []),
        (clamp, lambda u: min(max(u, -0.7), 1.3), [-0.7, 1.3]),
        (torch.selu, lambda u: 1.0507009873554805 * (u if u > 0 else 1.6732632423543772 * math.expm1(u)), [0.0]),
    ],
    ids=["tanh", "clamp", "selu"],
)
def test_gaussian_mean_equals_scipys_integral(function, same, kinks, variance):
    scale = math.sqrt(variance)
    points = [-12.0, *(kink / scale for kink in kinks), 12.0]
    pieces = [
        quad(lambda z: same(scale * z) ** 2 * norm.pdf(z), low, high, epsabs=1e-13, epsrel=1e-12)[0]
        for low, high in pairwise(points)
    ]
    measured = theory.gaussian_mean(lambda u: function(u) ** 2, variance)
    assert measured == pytest.approx(sum(pieces), rel=1e-10)


@pytest.mark.parametrize("shape", ["kink", "jump"])
def test_gaussian_mean_finds_kinks_and_jumps_anywhere(shape):
    generator = np.random.default_rng(0)
    for place, log_scale in zip(generator.uniform(-3, 3, 100), generator.uniform(-1, 1, 100), strict=True):
        scale = 10**log_scale
        a = place / scale
        if shape == "kink":
            measured = theory.gaussian_mean(lambda u, place=place: torch.relu(u - place), scale**2)
            expected = scale * norm.pdf(a) - place * norm.sf(a)
        else:
            measured = theory.gaussian_mean(lambda u, place=place: (u > place).double(), scale**2)
            expected = norm.sf(a)
        assert measured == pytest.approx(expected, abs=1e-8), (place, scale)


def test_gaussian_mean_does_not_ask_for_0_over_0():
    expected = quad(lambda z: math.sin(z) / z * norm.pdf(z), 1e-300, 12)[0] * 2
    assert theory.gaussian_mean(lambda u: torch.sin(u) / u) == pytest.approx(expected, rel=1e-10)


def test_gaussian_mean_takes_one_thread_and_gives_the_others_back():
    torch.set_num_threads(2)  # the fixture restores the number of before
    during = []

    def function(u):
        during.append(torch.get_num_threads())
        return u**2

    theory.gaussian_mean(function)
    assert set(during) == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("variance", [1e6, 1e8, 1e12])
def test_gaussian_mean_finds_a_slope_that_is_narrow_beside_the_spread(variance):
    expected = (4 / 3) / math.sqrt(2 * math.pi * variance)  # the integral of sech^4 is 4/3
    assert theory.mean_square_slope("tanh", variance) == pytest.approx(expected, rel=1e-5)


def test_gaussian_mean_of_variance_0_is_the_value_at_0():
    assert theory.gaussian_mean(torch.cos, 0.0) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize(
    ("function", "check"), [(torch.log, math.isnan), (lambda u: torch.exp(u**4), math.isinf)], ids=["nan", "inf"]
)
def test_gaussian_mean_shows_what_is_not_finite(function, check):
    assert check(theory.gaussian_mean(function))


TABLE = [  # activation, sigma_w^2, sigma_b^2, q*, ln chi: integrated another way and confirmed by simulated networks
    ("tanh", 1.0, 0.05, 0.1936, -0.2757),
    ("tanh", 1.3, 0.05, 0.3153, -0.1276),
    ("tanh", 1.76095, 0.05, 0.5700, 0.0),
    ("tanh", 2.5, 0.05, 1.0640, 0.1253),
    ("tanh", 4.0, 0.05, 2.1955, 0.2945),
    ("tanh", 9.0, 0.0, 6.3054, 0.6205),
    ("sigmoid", 1.0, 0.0, 0.2647, -2.8874),
    ("sigmoid", 1.0 / 3.0, 0.0, 0.0850, -3.9116),
    ("sigmoid", 16.0, 0.0, 5.855, -0.9191),
]


@pytest.mark.parametrize(("activation", "weight", "bias", "q", "log_chi"), TABLE)
def test_fixed_point_and_factor_equal_the_measured_table(activation, weight, bias, q, log_chi):
    assert theory.variance_fixed_point(activation, weight, bias) == pytest.approx(q, rel=1e-3, abs=6e-5)
    assert math.log(theory.gradient_factor(activation, weight, bias)) == pytest.approx(log_chi, abs=6e-5)


@pytest.mark.parametrize(("activation", "weight", "bias"), [row[:3] for row in TABLE])
def test_variance_fixed_point_is_kept_by_the_map_and_attracts(activation, weight, bias):
    function = {"tanh": math.tanh, "sigmoid": lambda u: 1 / (1 + math.exp(-u))}[activation]

    def next_variance(q):
        return weight * quad(lambda z: function(math.sqrt(q) * z) ** 2 * norm.pdf(z), -12, 12, epsabs=1e-13)[0] + bias

    q = theory.variance_fixed_point(activation, weight, bias)
    assert next_variance(q) == pytest.approx(q, rel=1e-9)
    assert next_variance(1.1 * q) < 1.1 * q
    assert next_variance(0.9 * q) > 0.9 * q


@pytest.mark.parametrize("start", [1e-13, 1e-3, 1.0, 50.0, 1e13])
def test_variance_fixed_point_of_tanh_does_not_depend_on_the_start(start):
    assert theory.variance_fixed_point("tanh", 2.5, 0.05, start) == pytest.approx(1.0640, abs=6e-5)


@pytest.mark.parametrize(
    ("bias", "weight"), [(0.05, 1.76095), (0.1, 1.98607), (0.3, 2.50513)], ids=lambda value: f"{value:g}"
)
def test_gradient_factor_of_tanh_is_1_at_the_known_critical_points(bias, weight):
    found = brentq(lambda w: theory.gradient_factor("tanh", w, bias) - 1, 1.2, 4.0)
    assert found == pytest.approx(weight, abs=6e-6)


def test_tanh_without_bias_is_critical_at_1_where_the_signal_dies_out():
    assert theory.variance_fixed_point("tanh", 1.0) == 0.0
    assert theory.gradient_factor("tanh", 1.0) == pytest.approx(1.0, rel=1e-12)
    assert theory.gradient_factor("tanh", 0.5) == pytest.approx(0.5, rel=1e-12)
    assert theory.variance_fixed_point("tanh", 1.1) > 0.01


@pytest.mark.parametrize(
    ("weight", "bias", "start", "q"),
    [
        (2.0, 0.0, 1.0, 1.0),
        (2.0, 0.0, 3.7, 3.7),
        (1.0, 0.0, 1.0, 0.0),
        (1.0, 0.1, 1.0, 0.2),
        (3.0, 0.0, 1.0, math.inf),
        (2.0, 0.1, 1.0, math.inf),
    ],
)
def test_relu_fixed_point_follows_q_next_is_half_sw2_q_plus_sb2(weight, bias, start, q):
    assert theory.variance_fixed_point("relu", weight, bias, start) == pytest.approx(q, rel=1e-9)


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0, 3.0, 8.0])
def test_relu_gradient_factor_is_half_the_weight_variance_wherever_q_goes(weight):
    assert theory.gradient_factor("relu", weight) == pytest.approx(weight / 2, rel=1e-10)


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.5])
def test_leaky_relu_gradient_factor_is_the_mean_of_its_squared_slopes(slope):
    assert theory.gradient_factor(nn.LeakyReLU(slope), 1.3) == pytest.approx(1.3 * (1 + slope**2) / 2, rel=1e-10)


def test_erf_network_equals_its_closed_form():
    q = brentq(lambda q: 2.0 * 2 / math.pi * math.asin(2 * q / (1 + 2 * q)) + 0.1 - q, 0.01, 10)
    assert theory.variance_fixed_point(torch.erf, 2.0, 0.1) == pytest.approx(q, rel=1e-10)
    chi = 2.0 * 4 / math.pi / math.sqrt(1 + 4 * q)
    assert theory.gradient_factor(torch.erf, 2.0, 0.1) == pytest.approx(chi, rel=1e-10)


@pytest.mark.parametrize("name", CALLABLES)
def test_callables_give_the_same_theory_as_names(name):
    for quantity in (theory.variance_fixed_point, theory.gradient_factor):
        by_name, by_callable = quantity(name, 1.7, 0.2), quantity(CALLABLES[name], 1.7, 0.2)
        assert by_callable == pytest.approx(by_name, rel=1e-9)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_equals_finite_differences(name):
    u = torch.linspace(-3, 3, 41, dtype=torch.float64) + 0.017  # no point within eps of a kink at 0
    phi, eps = ACTIVATIONS[name](), 1e-6
    central = (phi(u + eps) - phi(u - eps)) / (2 * eps)
    torch.testing.assert_close(theory.slope(name)(u), central, rtol=0, atol=1e-8)


def test_slope_works_under_no_grad_and_leaves_its_argument_alone():
    u = torch.ones(3, dtype=torch.float64)
    with torch.no_grad():
        derivative = theory.slope("tanh")(u)
    torch.testing.assert_close(derivative, 1 - torch.tanh(u) ** 2)
    assert not u.requires_grad
    assert not derivative.requires_grad


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-1.0, 0.0), ["weight_variance=-1.0", "finite and >= 0"]),
        ((math.nan, 0.0), ["weight_variance=nan", "finite and >= 0"]),
        ((math.inf, 0.0), ["weight_variance=inf", "finite and >= 0"]),
        ((1.0, -0.1), ["bias_variance=-0.1", "finite and >= 0"]),
        ((1.0, math.nan), ["bias_variance=nan", "finite and >= 0"]),
    ],
)
@pytest.mark.parametrize("quantity", ["variance_map", "variance_fixed_point", "gradient_factor"])
def test_bad_variances_are_refused_with_one_line(quantity, arguments, words):
    with pytest.raises(ValueError, match="variance") as caught:
        getattr(theory, quantity)("tanh", *arguments)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start", [0.0, -1.0, math.inf, math.nan])
def test_variance_fixed_point_refuses_a_start_that_is_no_variance(start):
    with pytest.raises(ValueError, match=r"start=.* must be finite and > 0"):
        theory.variance_fixed_point("tanh", 1.0, 0.05, start)


def test_gradient_factor_refuses_an_activation_that_is_nan():
    with pytest.raises(ValueError, match="activation log is NaN"):
        theory.gradient_factor(torch.log, 1.0)


@pytest.mark.parametrize(("activation", "kind"), [("swish", ValueError), (2, TypeError)], ids=["name", "number"])
def test_gradient_factor_refuses_an_unknown_activation(activation, kind):
    with pytest.raises(kind, match="activation="):
        theory.gradient_factor(activation, 1.0)


def test_gradient_profile_of_he_relu_follows_the_widths_alone():
    profile = theory.gradient_profile(gc.Config(depth=5, width=32, activation="relu", init="he"))
    # E delta_l^2 = fan_out Var(W) / 2: hidden layers keep it, the output layer has 10 outputs and variance 2/32
    expected = [math.sqrt(10 * (2 / 32) / 2)] * 4 + [1.0]
    np.testing.assert_allclose(profile, expected, rtol=1e-10)


def test_gradient_profile_of_a_linear_net_is_exact_by_hand():
    config = gc.Config(depth=4, width=50, activation="identity", init="normal", gain=0.3)
    expected = [0.3**3 * 50 * math.sqrt(10), 0.3**2 * math.sqrt(50 * 10), 0.3 * math.sqrt(10), 1.0]
    np.testing.assert_allclose(theory.gradient_profile(config), expected, rtol=1e-12)


@pytest.mark.parametrize(("init", "bias_std"), [("torch", 0.0), ("normal", 0.7)])
def test_gradient_profile_of_an_erf_net_counts_its_biases(init, bias_std):
    config = gc.Config(depth=3, width=2, activation=torch.erf, init=init, bias_std=bias_std)
    of_weight = (lambda n: 1 / (3 * n)) if init == "torch" else (lambda n: 1.0)
    of_bias = (lambda n: 1 / (3 * n)) if init == "torch" else (lambda n: bias_std**2)  # nn.Linear's own bias
    first = 64 * of_weight(64) + of_bias(64)
    second = 2 * of_weight(2) * 2 / math.pi * math.asin(2 * first / (1 + 2 * first)) + of_bias(2)
    slopes = [4 / math.pi / math.sqrt(1 + 4 * q) for q in (first, second)]
    last = 10 * of_weight(2) * slopes[1]
    expected = np.sqrt([last * 2 * of_weight(2) * slopes[0], last, 1.0])
    np.testing.assert_allclose(theory.gradient_profile(config), expected, rtol=1e-10)


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_gradient_profile_has_one_entry_per_linear_layer_and_ends_in_1(depth):
    profile = theory.gradient_profile(gc.Config(depth=depth, width=16))
    assert profile.shape == (depth,)
    assert profile[-1] == 1


def test_gradient_profile_shows_death_and_explosion():
    dead = theory.gradient_profile(gc.Config(depth=4, activation=torch.sign))
    np.testing.assert_array_equal(dead, [0, 0, 0, 1])
    exploded = theory.gradient_profile(gc.Config(depth=60, activation="relu", init="normal", gain=1e6))
    assert np.isinf(exploded[0])
    assert not np.isnan(exploded).any()


SIMULATED = {  # activation, init, gain, bias_std
    "tanh ordered": ("tanh", "xavier", 1.0, math.sqrt(0.05)),
    "tanh chaotic": ("tanh", "xavier", math.sqrt(2.5), math.sqrt(0.05)),
    "sigmoid": ("sigmoid", "xavier", 1.0, 0.0),
    "sigmoid torch default": ("sigmoid", "torch", 1.0, 0.0),
    "relu he": ("relu", "he", 1.0, 0.0),
    "relu xavier": ("relu", "xavier", 1.0, 0.0),
    "erf": (torch.erf, "xavier", 1.2, 0.3),
}
LAYERS = 30


@cache
def simulated_log_squares(setting):
    """ln of the mean-square gradient at 30 hidden layers of width 256, mean over ten networks."""
    activation, init, gain, bias_std = SIMULATED[setting]
    split = gc.digits()
    batch = split.x_train[:32], split.y_train[:32]
    logs = []
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        kinds = {"init": init, "gain": gain, "bias_std": bias_std, "dtype": torch.float64}
        model = gc.mlp(LAYERS + 1, 256, activation, generator=generator, **kinds)
        delta = gc.measure(model, batch, torch.nn.functional.cross_entropy).at_weights("delta")
        logs.append(2 * np.log(delta[:LAYERS]))
    return np.mean(logs, axis=0)


def slope_over_layers(values):
    return np.polyfit(np.arange(LAYERS), values, 1)[0]


@pytest.mark.parametrize("setting", SIMULATED)
def test_gradient_profile_equals_the_mean_of_simulated_networks(setting):
    activation, init, gain, bias_std = SIMULATED[setting]
    config = gc.Config(depth=LAYERS + 1, width=256, activation=activation, init=init, gain=gain, bias_std=bias_std)
    predicted = 2 * np.log(theory.gradient_profile(config)[:LAYERS])
    measured = simulated_log_squares(setting)
    assert slope_over_layers(measured) == pytest.approx(slope_over_layers(predicted), abs=0.04)
    # from the first to the last hidden layer: no constant factor hides in a slope
    assert measured[0] - measured[-1] == pytest.approx(predicted[0] - predicted[-1], abs=0.04 * LAYERS)


@pytest.mark.parametrize("setting", ["tanh ordered", "sigmoid", "relu xavier", "erf"])
def test_gradient_factor_equals_the_slope_of_simulated_networks(setting):
    activation, _, gain, bias_std = SIMULATED[setting]
    chi = theory.gradient_factor(activation, gain**2, bias_std**2)
    assert -slope_over_layers(simulated_log_squares(setting)) == pytest.approx(math.log(chi), abs=0.04)
