"""Tests of the explorer of racing optimizers."""

import math
import re

import numpy as np
import pytest
import torch
from explorer_reading import check_everywhere, curves

import gradcourse as gc
from gradcourse.explorer import race
from gradcourse.plots import COLOURS

MAKE = {  # as in the lesson
    "gradient descent": lambda w, rate: torch.optim.SGD(w, lr=0.09 * rate),
    "momentum": lambda w, rate: torch.optim.SGD(w, lr=0.01 * rate, momentum=0.9),
    "Adam": lambda w, rate: torch.optim.Adam(w, lr=0.05 * rate),
    "RMSprop": lambda w, rate: torch.optim.RMSprop(w, lr=0.02 * rate),
}
ORIGIN = {"surface": "saddle", "angle": 45, "tilt": 0.0, "rate": 1.0, "steps": 100}


@pytest.fixture(scope="module")
def explorer():
    return gc.explorer.optimizer_race()


def loss(u, v, surface, tilt):
    along = (u**2 - 1) ** 2 / 4 if surface == "saddle" else u**2 / 2
    return along + tilt * u + 10 * v**2


def by_torch(name, surface, angle, tilt, rate, steps):
    """Return the weights after 0, 1, ... steps of torch's optimizer, the gradient by autograd."""
    turn = torch.tensor([[math.cos(math.radians(angle)), -math.sin(math.radians(angle))]], dtype=torch.float64)
    turn = torch.cat([turn, torch.stack([-turn[0, 1], turn[0, 0]])[None]])
    w = (turn @ torch.tensor(race._SURFACES[surface], dtype=torch.float64)).requires_grad_()
    optimizer, points = MAKE[name]([w], rate), [w.detach().clone()]
    for _ in range(steps):
        (w.grad,) = torch.autograd.grad(loss(*(turn.T @ w), surface, tilt), w)
        optimizer.step()
        points.append(w.detach().clone())
    return torch.stack(points).numpy()


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize(
    "ground", [("saddle", 0, 0.0, 1.0), ("saddle", 45, 0.0, 1.0), ("saddle", 70, -0.2, 0.5), ("bowl", 30, 0.1, 1.0)]
)
def test_paths_are_those_of_torch(name, ground):
    np.testing.assert_allclose(race._race(name, *ground)[:101], by_torch(name, *ground, 100), rtol=0, atol=1e-7)


@pytest.mark.parametrize("position", [{}, {"angle": 20, "tilt": 0.15, "steps": 60}, {"surface": "bowl", "rate": 0.6}])
def test_picture_draws_paths_and_heights(explorer, position):
    explorer.move(**ORIGIN)
    explorer.move(**position)
    surface, angle, tilt, rate, steps = explorer.values.values()
    ground, heights = map(curves, explorer.picture.panels)
    for number, name in enumerate(race._RULES):
        points = by_torch(name, surface, angle, tilt, rate, steps)
        path, fall = (next(c for c in drawn if c.colour == COLOURS[number]) for drawn in (ground, heights))
        inside = (np.abs(points) < (2.2, 1.3)).all(axis=1)
        np.testing.assert_allclose(np.stack([path.x, path.y], axis=1)[inside], points[inside], atol=2e-3)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        u, v = points @ [cos, sin], points @ [-sin, cos]
        grid = np.linspace(-2, 2, 400_001)
        above = loss(u, v, surface, tilt) - loss(grid, 0.0, surface, tilt).min()
        np.testing.assert_allclose(np.log10(fall.y), np.log10(np.maximum(above, 1e-9)), atol=0.3)
        seen = above > 1e-6
        np.testing.assert_allclose(np.log10(fall.y[seen]), np.log10(above[seen]), atol=0.03)


def test_contours_lie_at_their_heights():
    lines = race._contours("saddle", 0.1)
    grid = np.linspace(-2, 2, 400_001)
    lowest = loss(grid, 0.0, "saddle", 0.1).min()
    assert len(lines) >= len(race._GAPS)
    for line in lines:
        above = loss(*line.T, "saddle", 0.1) - lowest
        nearest = min(race._GAPS, key=lambda gap: abs(gap - np.median(above)))
        np.testing.assert_allclose(above, nearest, atol=0.02 + 0.03 * nearest)


def test_gradient_descent_turns_with_the_ground_and_adam_does_not(explorer):
    ends = {}
    for angle in (0, 45):
        explorer.move(**ORIGIN | {"angle": angle})
        ends[angle] = dict(re.findall(r"(gradient descent|Adam) at u = (\S+),", explorer.picture.words))
    assert ends[0] == {"gradient descent": "1.00", "Adam": "1.00"}
    assert ends[45]["gradient descent"] == "1.00"
    assert float(ends[45]["Adam"]) < 0.1


def test_words_say_who_has_diverged(explorer):
    explorer.move(**ORIGIN | {"rate": 2.0})  # 0.18 times the curvature of 20 is above 2
    assert "gradient descent has diverged" in explorer.picture.words
    assert "Adam at u" in explorer.picture.words


@pytest.mark.parametrize("change", [{"surface": "bowl"}, {"angle": 44}, {"tilt": 0.02}, {"rate": 1.1}, {"steps": 99}])
def test_every_control_changes_the_picture(change):
    explorer = gc.explorer.optimizer_race()
    before = explorer.picture.svg()
    explorer.move(**change)
    assert explorer.picture.svg() != before


def test_no_position_breaks_it(explorer):
    check_everywhere(explorer)
