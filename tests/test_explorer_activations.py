"""Tests of the explorer of activation functions, and of the quick theory beneath it."""

import re

import numpy as np
import pytest
import torch
from explorer_reading import check_everywhere, curves

import gradcourse as gc
from gradcourse.explorer.wide_layers import WIDTH, WideLayers, _random
from gradcourse.plots import COLOURS

NAMES = ("sigmoid", "tanh", "relu", "elu", "selu", "gelu", "silu")


@pytest.fixture(scope="module")
def explorer():
    return gc.explorer.activation_functions()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("variance", [0.02, 1.0, 7.0])
def test_quick_theory_agrees_with_theory(name, variance):
    layers = WideLayers(name, 1.7, 0.2)
    by_theory = gc.theory.variance_map(name, 1.7, 0.2)(variance)
    assert layers.next_variance(variance)[0] == pytest.approx(by_theory, rel=3e-4)
    slopes = 1.7 * gc.theory.mean_square_slope(name, variance)
    assert layers.gradient_factor(variance)[0] == pytest.approx(slopes, rel=3e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [0.4, 1.2, 3.1])
@pytest.mark.parametrize("biases", [0.0, 0.3])
def test_quick_rest_agrees_with_theory(name, weights, biases):
    rest = WideLayers(name, weights, biases).rest(1.0)
    assert rest == pytest.approx(gc.theory.variance_fixed_point(name, weights, biases), rel=1e-3)


@pytest.mark.parametrize("name", ["tanh", "relu", "gelu"])
def test_quick_difference_agrees_with_theory(name):
    layers = WideLayers(name, 1.5, 0.1)
    signal = layers.signal(6)
    d = layers.difference(signal)
    for q, q_next, before, after in zip(signal, signal[1:], d, d[1:], strict=False):
        c_next = gc.theory.correlation_map(name, 1.5, 0.1, variance=q)(1 - before / q)
        assert after == pytest.approx(q_next * (1 - c_next), rel=5e-3)


@pytest.mark.parametrize("name", ["tanh", "relu", "selu"])
def test_network_is_what_autograd_says(name):
    layers, depth = WideLayers(name, 1.4, 0.2), 5
    weights, biases, inputs, gradient = map(torch.from_numpy, _random())
    phi, passed, z = layers.phi, [], []
    h = inputs.clone()
    for weight, bias in zip(weights[:depth], biases[:depth], strict=True):
        z.append((1.4 / WIDTH) ** 0.5 * weight @ h + 0.2**0.5 * bias)
        h = phi(z[-1]).requires_grad_()
        h.retain_grad()
        passed.append(h)
    h.backward(gradient)
    signal, gap, found = layers.measure(depth)
    np.testing.assert_allclose(signal, [each.detach().square().mean() for each in z], rtol=1e-10)
    halves = [0.5 * (each[:, ::2] - each[:, 1::2]).detach().square().mean() for each in z]
    np.testing.assert_allclose(gap, halves, rtol=1e-10)
    np.testing.assert_allclose(found, [each.grad.square().mean() for each in passed], rtol=1e-10)


@pytest.mark.parametrize("position", [{}, {"activation": "selu"}, {"activation": "tanh", "gain": 1.6}])
def test_picture_draws_function_slope_and_map(explorer, position):
    explorer.move(activation="gelu", gain=1.0, leak=0.01)
    explorer.move(**position)
    name, gain = explorer.values["activation"], explorer.values["gain"]
    function, moved = map(curves, explorer.picture.panels)
    phi, slope = (next(c for c in function if c.colour == COLOURS[number]) for number in (2, 1))
    u = torch.linspace(-4, 4, 162, dtype=torch.float64)
    inside = (gc.models.make_activation(name)(u) < 3).numpy()
    np.testing.assert_allclose(phi.y[inside], gc.models.make_activation(name)(u)[inside], atol=3e-3)
    np.testing.assert_allclose(slope.y, gc.theory.slope(name)(u), atol=3e-3)
    theory = max(moved, key=lambda curve: len(curve.x) if curve.colour == "#1a1a1a" else 0)
    expected = [gc.theory.variance_map(name, gain**2)(max(q, 0.0)) for q in theory.x[::8]]
    np.testing.assert_allclose(theory.y[::8], expected, atol=6e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gain", [0.8, 1.0])  # with 1.5 the width decides whether GELU's and SiLU's signals die or grow
def test_words_agree_with_theory_and_a_run(explorer, name, gain):
    explorer.move(activation=name, gain=gain)
    told = re.search(r"a gain of (\S+) .* slope is (\S+)\. .* theory (\S+), measured (\S+) over", repr(explorer))
    fitted, largest, theory, measured = map(float, told.groups())
    assert fitted == pytest.approx(gc.theory.mean_square(name, 1.0) ** -0.5, rel=6e-3)
    grid = torch.linspace(-6, 6, 120_001, dtype=torch.float64)
    assert largest == pytest.approx(gc.theory.slope(name)(grid).max().item(), rel=6e-3)
    config = gc.Config(depth=20, width=256, activation=name, init="lecun", gain=gain, steps=0)
    profile = gc.theory.gradient_profile(config)
    assert theory == pytest.approx((profile[0] / profile[18]) ** (1 / 18), abs=0.02)
    assert measured == pytest.approx(theory, rel=0.08)
    assert measured == pytest.approx(gc.run(config).factor_per_layer("delta"), rel=0.08)


@pytest.mark.parametrize(
    ("name", "gain", "said"),
    [
        ("gelu", 1.0, "dies out"),
        ("relu", 1.8, "grows without bound"),
        ("relu", 1.41, "hardly changes"),
        ("selu", 1.0, "settles at 1."),
    ],
)
def test_words_tell_where_the_variance_goes(explorer, name, gain, said):
    explorer.move(activation=name, gain=gain)
    assert said in explorer.picture.words


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"gain": 1.1}, {"leak": 0.5}], ids=lambda c: next(iter(c)))
def test_every_control_changes_the_picture(change):
    explorer = gc.explorer.activation_functions()
    explorer.move(activation="leaky_relu")
    before = explorer.picture.svg()
    explorer.move(**change)
    assert explorer.picture.svg() != before


def test_no_position_breaks_it(explorer):
    check_everywhere(explorer)
