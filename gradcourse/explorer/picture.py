"""Pictures as SVG, written by hand: the fastest way from a slider to the eye.

Matplotlib takes 38 ms at best to draw and send a figure, these take 5. They are white cards with dark ink, as the
course's figures are, so that they look alike on GitHub, in an HTML export and in JupyterLab's dark theme.
"""

import math
from dataclasses import dataclass, field
from html import escape

import numpy as np

from gradcourse.plots import COLOURS

INK, SOFT, FAINT = "#1a1a1a", "#595959", "#dddddd"  # on white: text, ticks (7:1), grid
DASHES = {"-": "", "--": "8 5", ":": "2 4", "-.": "9 4 2 4"}
MARKERS = {  # as paths from their centre
    "o": "m-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0-6.8 0",
    "s": "m-3.2-3.2h6.4v6.4h-6.4z",
    "^": "m0-4.4l4.2 7.4h-8.4z",
    "D": "m0-4.4l4.4 4.4l-4.4 4.4l-4.4-4.4z",
}
_WIDTH, _HEIGHT = 460, 334  # of a panel, in the units of the SVG
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 66, 50
_CHARACTER = 7.8  # width of one, on average, at the size of the legend
# An HTML widget sends no events. So the picture types into the fields of its explorer, as a hand would.
_TYPE_IN = """
if (event.buttons !== 1) return;
event.preventDefault();
const box = this.getBoundingClientRect(), within = share => Math.min(1, Math.max(0, share));
const x = within((event.clientX - box.left) / box.width), y = within((box.bottom - event.clientY) / box.height);
for (const [name, value] of [["%s", %s], ["%s", %s]]) {
  const field = this.closest(".gradcourse-live").querySelector(`.${name} input`);
  field.value = Number(value.toPrecision(3));
  field.dispatchEvent(new Event("change", {bubbles: true}));
}
"""


@dataclass
class Axis:
    """An axis.

    Attributes:
        label: with its unit.
        low: the left or lower end.
        high: the other end.
        log: whether the scale is logarithmic.
        ticks: {position: label}; None chooses them.
    """

    label: str
    low: float
    high: float
    log: bool = False
    ticks: dict | None = None

    def share(self, values):
        """Return where values lie between the ends, 0 to 1; NaN where the scale has no place for them.

        Args:
            values: array-like of any shape.
        """
        values = np.asarray(values, dtype=float)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.log10(values) if self.log else values
        return np.where(np.isfinite(place), (place - low) / (high - low), np.nan)

    def script(self, share):
        """Return JavaScript for the value at a share of the way, the inverse of `share`."""
        if self.log:
            return f"{self.low} * ({self.high} / {self.low}) ** {share}"
        return f"{self.low} + ({self.high} - {self.low}) * {share}"

    def labelled_ticks(self):
        """Return {position: label} of the ticks."""
        if self.ticks is not None:
            return self.ticks
        return self._decades() if self.log else {value: f"{value:g}" for value in self._round_numbers()}

    def _decades(self):
        low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        every = max(1, math.ceil((high - low) / 6))
        return {
            10.0**power: f"1e{power}" if abs(power) > 2 else f"{10.0**power:g}" for power in range(low, high + 1, every)
        }

    def _round_numbers(self):
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass
class Panel:
    """One pair of axes and what is drawn on it.

    Attributes:
        title: above it, one line.
        x: the horizontal Axis.
        y: the vertical Axis.
        drag: names of the explorer's Sliders that a pointer on the panel moves: along x, along y; empty for none.
        marks: what was drawn, as (method, its arguments by name), for who draws it otherwise.
    """

    title: str
    x: Axis
    y: Axis
    drag: tuple = ()
    marks: list = field(default_factory=list, repr=False, compare=False)
    _drawn: list = field(default_factory=list, repr=False)
    _legend: list = field(default_factory=list, repr=False)

    def line(self, x, y, label="", *, colour=INK, dash="-", marker=False, width=2.4):
        """Draw a line.

        Args:
            x: its points, (N,).
            y: likewise; it breaks where they are not finite, or not on the scale.
            label: in the legend, "" for none.
            colour: a number of the course's colours, or a colour.
            dash: one of DASHES.
            marker: what marks each point, one of MARKERS, True for a circle; nothing where it is false.
            width: of the stroke.
        """
        colour, marker = colour_of(colour), "o" if marker is True else marker
        look = {"colour": colour, "dash": dash, "marker": marker, "width": width}
        self.marks.append(("line", {"x": x, "y": y, "label": label, **look}))
        places = self._places(x, y)
        path = _path(places)
        style = f'stroke="{colour}" stroke-width="{width}" fill="none" stroke-linejoin="round"'
        style += f' stroke-dasharray="{DASHES[dash]}"' if DASHES[dash] else ""
        self._drawn.append(f'<path d="{path}" {style}/>')
        if marker:
            dots = "".join(f"M{a:.1f} {b:.1f}{MARKERS[marker]}" for a, b in places.tolist() if math.isfinite(a + b))
            self._drawn.append(f'<path d="{dots}" fill="{colour}"/>')
        if label:
            self._legend.append((label, style, colour, marker))

    def point(self, x, y, label="", *, colour=INK, text="", size=8):
        """Draw one large point, with a text beside it and an entry in the legend where they are given."""
        (a, b), colour = self._places([x], [y])[0], colour_of(colour)
        if not math.isfinite(a + b):
            return
        self.marks.append(("point", {"x": x, "y": y, "label": label, "colour": colour, "size": size}))
        self._drawn.append(
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{size}" fill="{colour}" stroke="#fff" stroke-width="2"/>'
        )
        if text:
            self.text(x, y, text, lift=size + 6)
        if label:
            self._legend.append((label, "", colour, "o"))

    def text(self, x, y, text, *, colour=INK, lift=0, anchor="middle"):
        """Write a text at a point, so many units above it."""
        (a, b), colour = self._places([x], [y])[0], colour_of(colour)
        if math.isfinite(a + b):
            self.marks.append(
                ("text", {"x": x, "y": y, "text": text, "colour": colour, "lift": lift, "anchor": anchor})
            )
            style = f'font-size="14" text-anchor="{anchor}" fill="{colour}"'
            self._drawn.append(f'<text x="{a:.1f}" y="{b - lift:.1f}" {style}>{escape(text)}</text>')

    def area(self, x, y, *, colour, opacity=0.18):
        """Fill a polygon."""
        path, colour = _path(self._places(x, y)), colour_of(colour)
        self.marks.append(("area", {"x": x, "y": y, "colour": colour, "opacity": opacity}))
        self._drawn.append(f'<path d="{path}Z" fill="{colour}" fill-opacity="{opacity}" stroke="none"/>')

    def _places(self, x, y):
        """Return the points in the units of the panel, (N, 2), those far outside at its border."""
        across = np.clip(self.x.share(x), -0.5, 1.5) * (_WIDTH - _LEFT - _RIGHT) + _LEFT
        up = np.clip(self.y.share(y), -0.5, 1.5) * (_HEIGHT - _TOP - _BOTTOM)
        return np.stack([across, _HEIGHT - _BOTTOM - up], axis=-1)

    def svg(self, number):
        """Return its part of a picture's SVG, the so many-th from the left."""
        width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        inner = f'x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}"'
        data = f'<svg {inner} viewBox="{_LEFT} {_TOP} {width} {height}">{"".join(self._drawn)}</svg>'  # which clips
        frame = f'<rect {inner} fill="none" stroke="{SOFT}"/>'
        shifted = f'<g transform="translate({number * _WIDTH} 0)">'
        drag = self._drag(inner) if self.drag else ""
        return "".join([shifted, *self._labels(), *self._ticks(), data, frame, *self._entries(), drag, "</g>"])

    def _drag(self, inner):
        (along, up), (x, y) = self.drag, (self.x.script("x"), self.y.script("y"))
        script = escape(_TYPE_IN % (css_class(along), x, css_class(up), y))
        look = 'fill="transparent" style="cursor:crosshair;touch-action:none"'
        return f'<rect {inner} {look} onpointerdown="{script}" onpointermove="{script}"/>'

    def _labels(self):
        middle, centre = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
        yield f'<text x="{_LEFT}" y="20" font-size="16" font-weight="600" fill="{INK}">{escape(self.title)}</text>'
        style = f'font-size="14" text-anchor="middle" fill="{INK}"'
        yield f'<text x="{middle}" y="{_HEIGHT - 10}" {style}>{escape(self.x.label)}</text>'
        yield f'<text transform="translate(16 {centre}) rotate(-90)" {style}>{escape(self.y.label)}</text>'

    def _ticks(self):
        style = f'font-size="13" fill="{SOFT}"'
        for value, label in self.x.labelled_ticks().items():
            (a, b), (_, top) = self._places([value, value], [self.y.low, self.y.high])
            yield f'<path d="M{a:.1f} {b:.1f}V{top:.1f}" stroke="{FAINT}"/>'
            yield f'<text x="{a:.1f}" y="{b + 18:.1f}" text-anchor="middle" {style}>{escape(label)}</text>'
        for value, label in self.y.labelled_ticks().items():
            (a, b), (right, _) = self._places([self.x.low, self.x.high], [value, value])
            yield f'<path d="M{a:.1f} {b:.1f}H{right:.1f}" stroke="{FAINT}"/>'
            yield f'<text x="{a - 6:.1f}" y="{b + 4.5:.1f}" text-anchor="end" {style}>{escape(label)}</text>'

    def _entries(self):
        """Write the legend between title and data, in up to two rows."""
        x, y = _LEFT, 38
        for label, style, colour, marker in self._legend:
            needs = 38 + _CHARACTER * len(label)
            if x > _LEFT and x + needs > _WIDTH:
                x, y = _LEFT, y + 17
            if style:
                yield f'<path d="M{x:.0f} {y}h24" {style}/>'
            if marker:
                yield f'<path d="M{x + 12:.0f} {y}{MARKERS[marker]}" fill="{colour}"/>'
            yield f'<text x="{x + 30:.0f}" y="{y + 4.5}" font-size="13" fill="{INK}">{escape(label)}</text>'
            x += needs + 8


@dataclass(frozen=True)
class Picture:
    """Panels side by side and what they say.

    Attributes:
        panels: Panels, left to right.
        words: one to three sentences with the numbers that matter; they stand below the picture and are its alt text.
        progress: the share of the work that is done, 0 to 1, where a picture is one of a run's.
    """

    panels: tuple
    words: str
    progress: float = 1.0

    def svg(self):
        """Return the SVG."""
        width = _WIDTH * len(self.panels)
        size = f'viewBox="0 0 {width} {_HEIGHT}" width="{width}" height="{_HEIGHT}"'
        style = "max-width:100%;height:auto;background:#fff;font-family:system-ui,sans-serif"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size} style="{style}">'
        card = f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/>'
        panels = "".join(panel.svg(number) for number, panel in enumerate(self.panels))
        return f"{head}<title>{escape(self.words)}</title>{card}{panels}</svg>"


def css_class(name):
    """Return the CSS class of the control with this name."""
    return f"gradcourse-control-{name}"


def colour_of(colour):
    """Return a colour: one of the course's for a number."""
    return COLOURS[colour % len(COLOURS)] if isinstance(colour, int) else colour


def _path(places):
    """Return an SVG path through points (N, 2), broken where they are not finite."""
    words, pen = [], "M"
    for a, b in places.tolist():
        if math.isfinite(a) and math.isfinite(b):
            words.append(f"{pen}{a:.1f} {b:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(words)
