"""What a hand moves: sliders, menus and toggles, each with the label that a screen reader reads."""

import math
from dataclasses import dataclass

_WIDTH = {"width": "auto"}
_STYLE = {"description_width": "11em"}


@dataclass(frozen=True)
class Slider:
    """A number.

    Attributes:
        label: what it is, with its unit.
        value: where it stands at first; a whole number makes a slider of whole numbers.
        low: the least.
        high: the most.
        step: of one press of an arrow key; on a log scale, in decades.
        log: whether its scale is logarithmic.
    """

    label: str
    value: float
    low: float
    high: float
    step: float = 1
    log: bool = False

    def accepted(self, value):
        """Return a value as it is used.

        Raises:
            ValueError: where it is not a number of this slider.
        """
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            raise ValueError(f"{value!r} is not a number from {self.low:g} to {self.high:g}")
        return int(round(value)) if isinstance(self.value, int) else float(value)

    def widget(self):
        """Return a widget with a `value`."""
        import ipywidgets

        told = {"value": self.value, "description": self.label, "style": _STYLE, "layout": _WIDTH}
        if self.log:
            ends = {"min": math.log10(self.low), "max": math.log10(self.high), "base": 10}
            return ipywidgets.FloatLogSlider(**told, **ends, step=self.step, readout_format=".3g")
        kind = ipywidgets.IntSlider if isinstance(self.value, int) else ipywidgets.FloatSlider
        form = {} if isinstance(self.value, int) else {"readout_format": ".3g"}
        return kind(**told, min=self.low, max=self.high, step=self.step, **form)


@dataclass(frozen=True)
class Menu:
    """One of several.

    Attributes:
        label: what is chosen.
        value: the first choice.
        options: all of them, str.
    """

    label: str
    value: str
    options: tuple

    def accepted(self, value):
        """Return a value that can be chosen.

        Raises:
            ValueError: for any other.
        """
        if value not in self.options:
            raise ValueError(f"{value!r} is not one of {', '.join(self.options)}")
        return value

    def widget(self):
        """Return a widget with a `value`."""
        import ipywidgets

        told = {"description": self.label, "style": _STYLE, "layout": _WIDTH}
        return ipywidgets.Dropdown(options=list(self.options), value=self.value, **told)


@dataclass(frozen=True)
class Toggle:
    """On or off.

    Attributes:
        label: what is on or off.
        value: whether it is on at first.
    """

    label: str
    value: bool = False

    def accepted(self, value):
        """Return True or False.

        Raises:
            ValueError: for anything else.
        """
        if value not in (True, False):
            raise ValueError(f"{value!r} is not True or False")
        return bool(value)

    def widget(self):
        """Return a widget with a `value`."""
        import ipywidgets

        return ipywidgets.Checkbox(value=self.value, description=self.label, style=_STYLE, layout=_WIDTH)
