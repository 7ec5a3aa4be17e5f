"""What a hand moves: sliders, menus and toggles, each with the label that a screen reader reads."""

from dataclasses import dataclass

_LABEL = "14em"  # the width of labels
_BESIDE_LABELS = {"margin": "2px 0 2px 14.5em"}


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
        return round(value) if isinstance(self.value, int) else float(value)

    def widget(self):
        """Return a widget with a `value`, and what is shown of it."""
        from gradcourse.widgets import number_controls

        widths = {"label_width": _LABEL, "field_width": "21em", "slider_width": "16em"}
        ends = self.low, self.high
        return number_controls(self.label, self.value, *ends, step=self.step, log=self.log, **widths)


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
        """Return a widget with a `value`, and what is shown of it."""
        import ipywidgets

        # Not a drop-down list: in JupyterLab the arrow keys that would move it leave the cell.
        options = [(option.replace(" ", "\N{NO-BREAK SPACE}"), option) for option in self.options]
        told = {"options": options, "value": self.value, "description": self.label}
        told |= {"style": {"description_width": _LABEL}}
        hand = ipywidgets.RadioButtons(**told, orientation="horizontal", layout={"width": "auto"})
        return hand, hand


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
        """Return a widget with a `value`, and what is shown of it."""
        import ipywidgets

        hand = ipywidgets.Checkbox(value=self.value, description=self.label, indent=False, layout=_BESIDE_LABELS)
        return hand, hand
