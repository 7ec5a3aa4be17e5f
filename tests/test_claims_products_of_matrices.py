"""What lesson 02 says, over more seeds than it has time for; ``pytest -s`` prints the numbers behind the bounds."""

from functools import reduce

import numpy as np
import pytest
import torch

import gradcourse as gc
from gradcourse.models import one_thread

pytestmark = pytest.mark.slow

FIVE = range(5)
EULER = 0.5772156649015329


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def digamma_half(n):
    """psi(n / 2) from its value at 1/2 or 1 and psi(x + 1) = psi(x) + 1/x: not the function that the lesson calls."""
    value, x = (-EULER, 1.0) if n % 2 == 0 else (-EULER - 2 * np.log(2), 0.5)
    while x < n / 2:
        value, x = value + 1 / x, x + 1
    return value


def exponent(n):
    return 0.5 * (np.log(2) + digamma_half(n))


def jacobian(gain, seed, activation="relu", init="he"):
    generator = torch.Generator().manual_seed(seed)
    net = gc.mlp(50, 128, activation, gain=gain, init=init, generator=generator, dtype=torch.float64)
    return net, torch.func.jacrev(net)


@pytest.mark.parametrize("seed", FIVE)
def test_jacobian_of_a_network_is_the_product_of_its_factors(seed):
    x = gc.digits(seed=0).x_train[seed].double()
    net, by_autograd = jacobian(1.0, seed, "tanh", "xavier")
    product, h = torch.eye(64, dtype=torch.float64), x
    for layer in net:
        if isinstance(layer, torch.nn.Linear):
            h = layer(h)
            product = layer.weight @ product
        else:
            h = layer(h)
            product = (1 - h**2)[:, None] * product
    torch.testing.assert_close(product, by_autograd(x), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("gain", "expected"), [(0.5, 0.5**50), (2.0, 2.0**50)])
def test_relu_jacobian_changes_by_gain_to_the_power_of_depth(gain, expected):
    x = gc.digits(seed=0).x_train[0].double()
    ratios = []
    for seed in FIVE:
        norms = [torch.linalg.norm(jacobian(g, seed)[1](x), 2).item() for g in (gain, 1.0)]
        ratios.append(norms[0] / norms[1])
    print("gain", gain, ratios, "theory", expected)
    assert ratios == pytest.approx([expected] * 5, rel=1e-9)


def test_tanh_jacobian_grows_less_than_its_weights():
    x = gc.digits(seed=0).x_train[0].double()
    for gain in (0.5, 1.0, 2.0):
        maps = [jacobian(gain, seed, "tanh", "xavier")[1] for seed in FIVE]
        factors = [torch.linalg.norm(each(x), 2).item() ** (1 / 50) for each in maps]
        theory = gc.theory.gradient_factor("tanh", gain**2) ** 0.5
        print("tanh gain", gain, np.round(factors, 4), "theory", round(theory, 4))
        assert factors == pytest.approx([theory] * 5, rel=0.08)
        assert max(factors) < max(1.1 * gain, 1.3)


def test_gradient_keeps_its_length_while_the_determinant_falls_by_22_decades_per_layer():
    lengths, decades = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        layers, u = rng.normal(scale=0.1, size=(50, 100, 100)), rng.normal(size=100)
        lengths.append(np.linalg.norm(reduce(np.matmul, layers) @ u) / np.linalg.norm(u))
        decades.append(np.linalg.slogdet(layers)[1].mean() / np.log(10))
    theory = sum(exponent(i) - 0.5 * np.log(100) for i in range(1, 101)) / np.log(10)
    print("lengths", np.round(lengths, 2), "log10 det", np.round(decades, 2), "theory", round(theory, 3))
    assert 0.1 < min(lengths) < max(lengths) < 10
    assert decades == pytest.approx([theory] * 10, abs=0.5)
    assert np.mean(decades) == pytest.approx(theory, abs=0.15)


def test_powers_of_diag_and_shear_are_what_the_lesson_says():
    values = np.linalg.svd(np.linalg.matrix_power(np.diag([2.0, 0.5]), 50), compute_uv=False)
    assert values == pytest.approx([2.0**50, 0.5**50])
    shear = np.array([[1.0, 1.0], [0.0, 1.0]])
    assert np.linalg.norm(np.linalg.matrix_power(shear, 50), 2) == pytest.approx((50 + np.sqrt(2504)) / 2)
    mixed = reduce(np.matmul, [shear, shear.T] * 25)
    assert np.linalg.norm(mixed, 2) == pytest.approx(((1 + np.sqrt(5)) / 2) ** 50)


def log_lengths(n, tries, count, seed):
    rng, u = np.random.default_rng(seed), np.eye(n)[:1].repeat(tries, axis=0)
    total = np.zeros(tries)
    for _ in range(count):
        u = np.einsum("tij,tj->ti", rng.normal(size=(tries, n, n)), u)
        total += np.log(np.linalg.norm(u, axis=1))
        u /= np.linalg.norm(u, axis=1, keepdims=True)
    return total


@pytest.mark.parametrize(("n", "tries"), [(4, 1000), (100, 20)])
def test_gaussian_products_have_the_exponent_of_theory(n, tries):
    means = []
    for seed in FIVE:
        measured = log_lengths(n, tries, 100, seed) / 100
        means.append(measured.mean())
        # Var ln|Wu| = psi'(n/2)/4, and psi'(x) is about 1/x + 1/(2x^2): a mean may miss by four standard errors
        error = np.sqrt((2 / n + 2 / n**2) / 4 / (100 * tries))
        assert means[-1] == pytest.approx(exponent(n), abs=4 * error)
    print("n", n, np.round(means, 4), "theory", round(exponent(n), 5), "log of the mean", round(np.log(n) / 2, 4))
    assert max(means) < np.log(n) / 2


def test_median_length_is_far_below_the_guess_of_two_per_matrix():
    for seed in FIVE:
        median = np.median(log_lengths(4, 1000, 100, seed))
        print("median length", f"{np.exp(median):.2g}", "guess", f"{2.0**100:.2g}")
        assert 5e23 < np.exp(median) < 5e24


def test_all_exponents_are_the_terms_of_the_determinants_sum():
    n, count = 5, 4000
    theory = np.array([exponent(i) for i in range(n, 0, -1)])
    for seed in FIVE:
        rng, frame, total = np.random.default_rng(seed), np.eye(n), np.zeros(n)
        for _ in range(count):
            frame, triangle = np.linalg.qr(rng.normal(size=(n, n)) @ frame)
            total += np.log(np.abs(np.diag(triangle)))
        print("exponents", np.round(total / count, 3), "theory", np.round(theory, 3))
        assert total / count == pytest.approx(theory, abs=0.08)  # the last one scatters by 1.11 / sqrt(4000) = 0.018


def test_scatter_of_the_logarithm_is_that_of_width_fluctuation():
    theory = gc.theory.width_fluctuation("identity", [4] * 100) ** 0.5 / 2
    scatter = [log_lengths(4, 1000, 100, seed).std() for seed in FIVE]
    print("scatter", np.round(scatter, 2), "theory", round(theory, 2))
    assert scatter == pytest.approx([theory] * 5, rel=0.1)


def test_float32_gradient_of_100_sigmoid_layers_is_zero_in_a_third_of_them():
    zeros = []
    for seed in FIVE:
        config = gc.Config(depth=100, width=256, activation="sigmoid", steps=0, seed=seed)
        zeros.append(int((gc.run(config).at_weights("delta") == 0).sum()))
    print("layers without gradient", zeros)
    assert max(zeros) <= 33  # what theory says of an entry of typical size; the largest reach further
    assert min(zeros) >= 31
