"""Tests of the explorer of the phase diagram."""

import math
import re

import numpy as np
import pytest
from explorer_reading import check_everywhere, curves, positions

import gradcourse as gc
from gradcourse.explorer import phases
from gradcourse.plots import COLOURS

TOLD = re.compile(r": (ordered|critical|chaotic).* layer (\S+) in the long run, measured (\S+) over")


@pytest.fixture(scope="module")
def explorer():
    return gc.explorer.phase_diagram()


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "selu"])
@pytest.mark.parametrize("biases", [0.05, 0.3, 0.9])
def test_critical_line_is_that_of_theory(name, biases):
    x, y = phases._line(name, 1.0)
    assert np.interp(biases, y, x) == pytest.approx(gc.theory.critical_weight_variance(name, biases), abs=0.01)


@pytest.mark.parametrize("name", ["relu", "tanh", "elu", "selu"])
@pytest.mark.parametrize("factor", phases._FACTORS)
def test_lines_of_other_factors_hold(name, factor):
    x, y = phases._line(name, factor)
    for weights, biases in list(zip(x, y, strict=True))[:: max(1, len(x) // 4)]:
        assert gc.theory.gradient_factor(name, weights, biases) ** 0.5 == pytest.approx(factor, rel=2e-3)


def test_words_agree_with_theory_at_random_positions(explorer):
    for position in list(positions(explorer, 25, seed=1))[-25:]:
        explorer.move(**position)
        name, weights, biases = position.values()
        said, factor, measured = TOLD.search(explorer.picture.words).groups()
        chi = gc.theory.gradient_factor(name, weights, biases)
        assert said == gc.theory.phase(name, weights, biases, tolerance=phases._NEARLY), position
        assert float(factor) == pytest.approx(chi**0.5, abs=0.006), position
        assert float(measured) == pytest.approx(chi**0.5, rel=0.1, abs=0.01), position


@pytest.mark.parametrize(("name", "weights", "biases"), [("relu", 0.33, 0.005), ("tanh", 2.0, 0.1), ("selu", 1.0, 0.0)])
def test_measured_gradient_is_that_of_a_run(explorer, name, weights, biases):
    explorer.move(activation=name, weights=weights, biases=biases)
    measured = float(TOLD.search(explorer.picture.words).group(3))
    config = gc.Config(depth=30, width=200, activation=name, init="lecun", gain=weights**0.5, steps=0)
    if biases == 0.0 or name == "relu":  # whose slopes know nothing of the biases
        assert measured == pytest.approx(gc.run(config).factor_per_layer("delta"), rel=0.03)
    assert measured == pytest.approx(gc.theory.gradient_factor(name, weights, biases) ** 0.5, rel=0.03)


@pytest.mark.parametrize("position", [{"weights": 1.5}, {"activation": "tanh", "weights": 3.0, "biases": 0.2}])
def test_profiles_are_drawn_beside_theory(explorer, position):
    explorer.move(activation="relu", weights=0.33, biases=0.005)
    explorer.move(**position)
    name, weights, biases = explorer.values.values()
    profile = curves(explorer.picture.panels[1])
    signal, gradient = (next(c for c in profile if c.colour == COLOURS[number]) for number in (0, 1))
    signal_theory, _, gradient_theory = (c for c in profile if c.colour == "#1a1a1a")
    q, chis = weights + biases, []
    for layer in range(50):
        assert math.log10(signal_theory.y[layer] / q**0.5) == pytest.approx(0, abs=0.02)
        q, before = gc.theory.variance_map(name, weights, biases)(q), q
        chis.append(weights * gc.theory.mean_square_slope(name, before))
    expected = 0.5 * np.log10(np.append(np.cumprod(chis[:0:-1])[::-1], 1.0))
    np.testing.assert_allclose(np.log10(gradient_theory.y), expected, atol=0.04)
    assert np.abs(np.log10(signal.y / signal_theory.y)).max() < 0.5
    assert np.abs(np.log10(gradient.y / gradient_theory.y)).max() < 0.7


def test_point_stands_where_the_sliders_are(explorer):
    explorer.move(activation="tanh", weights=2.5, biases=0.5)
    svg = explorer.picture.svg()
    x, y = map(float, re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="10"', svg).groups())
    inner = re.search(r'<svg x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', svg)
    left, top, width, height = map(float, inner.groups())
    assert (x - left) / width == pytest.approx(0.5, abs=1e-3)
    assert (y - top) / height == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("change", [{"activation": "tanh"}, {"weights": 0.5}, {"biases": 0.1}])
def test_every_control_changes_the_picture(change):
    explorer = gc.explorer.phase_diagram()
    before = explorer.picture.svg()
    explorer.move(**change)
    assert explorer.picture.svg() != before


def test_no_position_breaks_it(explorer):
    check_everywhere(explorer)
