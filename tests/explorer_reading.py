"""Reads an explorer's picture back into numbers: what was drawn, in the units of its axes."""

import itertools
import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from gradcourse.explorer.controls import Menu, Toggle

SVG = "{http://www.w3.org/2000/svg}"
RESOLUTION = 0.4  # of a coordinate in the SVG, in its units: it is written with one digit


@dataclass(frozen=True)
class Curve:
    """A line of a panel."""

    colour: str
    dash: str
    x: np.ndarray
    y: np.ndarray


def curves(panel):
    """Return the lines of a panel, in the order in which they were drawn."""
    root = ElementTree.fromstring(f"<svg xmlns='{SVG[1:-1]}'>{panel.svg(0)}</svg>")
    inner = root.find(f".//{SVG}svg")
    return [_curve(panel, inner, path) for path in inner.findall(f"{SVG}path") if path.get("fill") == "none"]


def _curve(panel, inner, path):
    x, y = _points(path.get("d")).T
    left, top, width, height = (float(inner.get(name)) for name in ("x", "y", "width", "height"))
    across = _value(panel.x, (x - left) / width)
    return Curve(path.get("stroke"), path.get("stroke-dasharray", ""), across, _value(panel.y, 1 - (y - top) / height))


def _points(path):
    return np.array([[float(part) for part in pair] for pair in re.findall(r"[ML](\S+) ([^ML]+)", path)]).reshape(-1, 2)


def _value(axis, share):
    if axis.log:
        return axis.low * (axis.high / axis.low) ** share
    return axis.low + (axis.high - axis.low) * share


def positions(explorer, count, seed=0):
    """Yield every corner of an explorer's controls, then `count` random positions: {name: value}."""
    ends = {name: _ends(control) for name, control in explorer.controls.items()}
    for corner in itertools.product(*ends.values()):
        yield dict(zip(ends, corner, strict=True))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {name: _somewhere(control, rng) for name, control in explorer.controls.items()}


def _ends(control):
    if isinstance(control, Menu):
        return control.options
    return (False, True) if isinstance(control, Toggle) else (control.low, control.high)


def _somewhere(control, rng):
    if isinstance(control, Menu | Toggle):
        ends = _ends(control)
        return ends[rng.integers(len(ends))]
    share = rng.random()
    if control.log:
        return control.low * (control.high / control.low) ** share
    return type(control.value)(control.low + share * (control.high - control.low))


def check_everywhere(explorer, count=200):
    """Move everywhere: each picture is a readable SVG without NaN, each says something."""
    for position in positions(explorer, count):
        explorer.move(**position)
        picture = explorer.picture
        ElementTree.fromstring(picture.svg())
        assert not re.search(r"\bnan\b", picture.svg()), position
        assert 40 < len(picture.words) < 500, position
