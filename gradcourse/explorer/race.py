"""Lesson 09: optimizers that race on a surface which can be turned and tilted."""

import functools
import math

import numpy as np
from contourpy import contour_generator

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import SOFT, Axis, Panel, Picture

_STEEP = 20.0  # curvature across the ravine, along v
_SURFACES = {  # where the race starts, (u, v)
    "saddle": (0.01, 1.0),
    "bowl": (-1.0, 0.6),
}
_STEPS = 200  # at most
_LOWEST = 1e-8  # height above the minimum that is drawn
_FAR = 1e6  # from the origin: diverged
_WIDE, _HIGH = 2.23, 1.3  # half the map, as its panel is shaped: turning changes no shape
_GAPS = (0.02, 0.1, 0.3, 1.0, 3.0, 8.0, 18.0)  # heights of the contours above the minimum


def optimizer_race():
    """Return the Explorer of angle, tilt and learning rates against the paths of four optimizers."""
    return Explorer(
        "Race on turned ground",
        _draw,
        id="09-x1",
        surface=Menu("surface", "saddle", tuple(_SURFACES)),
        angle=Slider("turned by (degrees)", 45, 0, 90),
        tilt=Slider("tilt along the ravine", 0.0, -0.3, 0.3, step=0.01),
        rate=Slider("learning rates times", 1.0, 0.1, 3.0, step=0.02, log=True),
        steps=Slider("steps", 100, 0, _STEPS),
    )


def _draw(surface, angle, tilt, rate, steps):
    paths = {name: _race(name, surface, angle, tilt, rate)[: steps + 1] for name in _RULES}
    lowest = _height(surface, tilt, _minimum(surface, tilt), 0.0)
    heights = {name: _height(surface, tilt, *_unturned(path, angle).T) - lowest for name, path in paths.items()}
    told = "; ".join(f"{name} {_stands(paths[name], heights[name], angle)}" for name in _RULES)
    words = (
        f"The {surface} turned by {angle} degrees{f', tilted by {tilt:.2g}' if tilt else ''}, rates times {rate:.3g}, "
        f"after {steps} step{'s' * (steps != 1)}: {told}."
    )
    return Picture((_map(surface, angle, tilt, paths), _heights(heights)), words)


def _stands(path, heights, angle):
    if not np.isfinite(heights[-1]):
        return "has diverged"
    u, v = _unturned(path[-1:], angle)[0]
    height = f"{heights[-1]:.2g}" if heights[-1] >= 1e-4 else "below 1e-4"
    return f"at u = {_rounded(u)}, v = {_rounded(v)}, height {height}"


def _rounded(number):
    return f"{number + 0.0:.2f}".replace("-0.00", "0.00")


def _height(surface, tilt, u, v):
    """Return the loss."""
    with np.errstate(over="ignore", invalid="ignore"):
        along = (u**2 - 1) ** 2 / 4 if surface == "saddle" else u**2 / 2
        return along + tilt * u + _STEEP / 2 * v**2


def _minimum(surface, tilt):
    """Return u of the lowest point."""
    if surface == "bowl":
        return -tilt
    return -math.copysign(max(root.real for root in np.roots([1.0, 0.0, -1.0, -abs(tilt)])), tilt or -1.0)


def _turned(points, angle):
    """Turn points (N, 2) from the surface's own axes u and v to those of the map."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return points @ np.array([[cos, sin], [-sin, cos]])


def _unturned(points, angle):
    with np.errstate(invalid="ignore", over="ignore"):
        return _turned(points, -angle)


@functools.lru_cache(64)
def _race(name, surface, angle, tilt, rate):
    """Return the weights after 0, 1, ... steps, (STEPS + 1, 2), on the map; NaN from where they have diverged."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rule, x, y = _RULES[name](rate), *_turned(np.array(_SURFACES[surface]), angle).tolist()
    path = np.full((_STEPS + 1, 2), np.nan)
    for step in range(_STEPS + 1):
        if abs(x) + abs(y) > _FAR:
            break
        path[step] = x, y
        u, v = cos * x + sin * y, cos * y - sin * x
        along, across = (u**3 - u if surface == "saddle" else u) + tilt, _STEEP * v
        step_x, step_y = rule(cos * along - sin * across, sin * along + cos * across)
        x, y = x - step_x, y - step_y
    return path


def _gradient_descent(rate):
    return lambda a, b: (0.09 * rate * a, 0.09 * rate * b)


def _momentum(rate, beta=0.9):
    p = q = 0.0

    def step(a, b):
        nonlocal p, q
        p, q = beta * p + a, beta * q + b
        return 0.01 * rate * p, 0.01 * rate * q

    return step


def _adam(rate, mean=0.9, square=0.999, eps=1e-8):
    p = q = s = t = 0.0
    number = 0

    def step(a, b):
        nonlocal p, q, s, t, number
        number += 1
        p, q = mean * p + (1 - mean) * a, mean * q + (1 - mean) * b
        s, t = square * s + (1 - square) * a * a, square * t + (1 - square) * b * b
        size, root = 0.05 * rate / (1 - mean**number), (1 - square**number) ** 0.5
        return size * p / (s**0.5 / root + eps), size * q / (t**0.5 / root + eps)

    return step


def _rmsprop(rate, square=0.99, eps=1e-8):
    s = t = 0.0

    def step(a, b):
        nonlocal s, t
        s, t = square * s + (1 - square) * a * a, square * t + (1 - square) * b * b
        return 0.02 * rate * a / (s**0.5 + eps), 0.02 * rate * b / (t**0.5 + eps)

    return step


_RULES = {  # with the lesson's learning rates
    "gradient descent": _gradient_descent,
    "Adam": _adam,
    "momentum": _momentum,
    "RMSprop": _rmsprop,
}
_DASHES = ("-", "--", "-.", ":")


@functools.lru_cache(32)
def _contours(surface, tilt):
    """Return the contours in the surface's own axes, a list of (N, 2)."""
    u, v = np.linspace(-2.4, 2.4, 97), np.linspace(-2.4, 2.4, 97)
    height = _height(surface, tilt, u[None, :], v[:, None]) - _height(surface, tilt, _minimum(surface, tilt), 0.0)
    generator = contour_generator(u, v, height)
    return [line for gap in _GAPS for line in generator.lines(gap)]


def _map(surface, angle, tilt, paths):
    panel = Panel(
        "The map: contours and paths", Axis("first weight", -_WIDE, _WIDE), Axis("second weight", -_HIGH, _HIGH)
    )
    for line in _contours(surface, tilt):
        x, y = _turned(line, angle).T
        panel.line(x, y, colour="#8c8c8c", width=1)
    start, goal = _turned(np.array([_SURFACES[surface], (_minimum(surface, tilt), 0.0)]), angle)
    for number, (name, path) in enumerate(paths.items()):
        panel.line(*path.T, name, colour=number, dash=_DASHES[number], width=2.6)
    panel.point(*start, size=5)
    panel.text(start[0] + 0.1, start[1], "start", anchor="start", lift=-4)
    panel.text(*goal, "lowest", colour=SOFT, lift=-26)
    _flags(panel, {name: path[-1] for name, path in paths.items()})
    return panel


def _flags(panel, places, beside=0.0):
    """Mark where each optimizer stands: rings that fit into each other, and one text for those at the same place.

    Args:
        panel: a Panel.
        places: name -> (x, y).
        beside: how far to the right the text stands; 0: above.
    """
    groups = []
    for number, (name, place) in enumerate(places.items()):
        panel.point(*place, colour=number, size=12.5 - 2.5 * number)
        here = np.array([panel.x.share(place[0]), 0.6 * panel.y.share(place[1])])
        near = next((group for group in groups if np.abs(group[0] - here).max() < 0.045), None)
        if near is None:
            groups.append([here, place, name[0].upper()])
        else:
            near[2] += " " + name[0].upper()
    for _, place, letters in groups:
        side = {"anchor": "start", "lift": -5} if beside else {"lift": 16}
        panel.text(place[0] + beside, place[1], letters, **side)


def _heights(heights):
    scale = Axis("loss - lowest loss", _LOWEST, 100, log=True)
    steps = Axis("step", 0, 1.3 * _STEPS, ticks={step: str(step) for step in range(0, _STEPS + 1, 50)})
    panel = Panel("Height above the lowest point", steps, scale)
    places = {}
    for number, (name, values) in enumerate(heights.items()):
        shown = np.maximum(values, _LOWEST / 10)  # and not a gap where the minimum is met
        panel.line(np.arange(len(values)), shown, name, colour=number, dash=_DASHES[number], width=2.6)
        last = np.flatnonzero(np.isfinite(values))[-1]
        places[name] = last, np.clip(values[last], 3 * _LOWEST, 5)
    _flags(panel, places, beside=0.05 * _STEPS)
    return panel
