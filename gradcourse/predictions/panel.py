"""The controls that ask for a guess: core ipywidgets, a button that commits."""

import math
from functools import singledispatch
from html import escape

import ipywidgets as widgets

from gradcourse.predictions.kinds import Choice, Curve, Number, Ordering, Refused
from gradcourse.widgets import number_controls

_WIDE = {"description_width": "initial"}
_PLACES = 300  # of a log slider


def panel(prediction, start):
    """Return the widget that asks for a guess and commits it.

    Args:
        prediction: the Prediction; its kind says which controls there are.
        start: the guess at which they start.
    """
    children, read = controls(prediction.kind, start)
    button = widgets.Button(description="Commit", tooltip=f"Commit this guess of {prediction.id}")
    button.layout.flex = "0 0 auto"
    said = widgets.HTML()

    def say(words):
        said.value = f'<span role="status">{escape(words)}</span>'

    def commit(_):
        try:
            prediction.commit(read())
        except Refused as refusal:
            say(f"Not committed: {refusal}.")
        else:
            say(f"Committed: {_said(prediction)}. Now run the cells below.")

    button.on_click(commit)
    last = f"Committed last time: {_said(prediction)}. You may commit another." if prediction.guess is not None else ""
    say(last or "Nothing is committed yet.")
    return widgets.VBox([widgets.HTML(f"<b>Your guess {prediction.id}</b>"), *children, widgets.HBox([button, said])])


def _said(prediction):
    return prediction.kind.said(prediction.guess)


@singledispatch
def controls(kind, start):
    """Return a list of widgets, and a function that reads the guess from them."""
    raise NotImplementedError(type(kind).__name__)


@controls.register
def _(kind: Number, start):
    number, row = _number(kind, start, "Guess", "22em")
    return [row], lambda: number.value


@controls.register
def _(kind: Choice, start):
    """Nothing is chosen at the start: a choice that is already there is taken too easily."""
    options = [(f"{letter}: {text}", letter) for letter, text in kind.options.items()]
    layout = widgets.Layout(width="auto")
    chosen = widgets.RadioButtons(options=options, value=None, description="Option", style=_WIDE, layout=layout)

    def read():
        if chosen.value is None:
            raise Refused("choose an option first")
        return chosen.value

    return [chosen], read


@controls.register
def _(kind: Ordering, start):
    """Each item but the first has a button: JupyterLab takes the arrow keys away from a list to select from."""
    order = list(start)
    names = [widgets.HTML(layout=widgets.Layout(min_width="12em")) for _ in order]
    buttons = [widgets.Button(description="Move up") for _ in order[1:]]

    def show():
        for place, (name, item) in enumerate(zip(names, order, strict=True), 1):
            name.value = f"{place}. {escape(item)}"
        for button, item in zip(buttons, order[1:], strict=True):
            button.tooltip = f"Move {item} up"

    def move(place):
        order[place - 1 : place + 1] = order[place], order[place - 1]
        show()

    for place, button in enumerate(buttons, 1):
        button.on_click(lambda _, place=place: move(place))
    show()
    rows = [widgets.HBox([name, *button]) for name, button in zip(names, [(), *zip(buttons)], strict=True)]
    return rows, lambda: list(order)


@controls.register
def _(kind: Curve, start):
    points = zip(kind.positions, start, strict=True)
    numbers, rows = zip(*(_number(kind.point, one, f"at {where:g}", "14em") for where, one in points), strict=True)
    preview = widgets.HTML()

    def read():
        return [number.value for number in numbers]

    def draw(_=None):
        preview.value = _drawing(kind, read())

    for number in numbers:
        number.observe(draw, "value")
    draw()
    return [widgets.HBox([widgets.VBox(rows), preview], layout=widgets.Layout(flex_flow="row wrap"))], read


def _number(kind, start, label, slider_width):
    """Return a field for a number, and a row of it and a slider that moves with it."""
    (low, high), whole = kind.ends, isinstance(kind.slider, range)
    step = 1 if whole else math.log10(high / low) / _PLACES
    widths = {"label_width": "4em", "field_width": "11em", "slider_width": slider_width}
    value = int(start) if whole else float(start)
    return number_controls(label, value, low, high, step=step, log=not whole, **widths)


def _drawing(kind, values):
    """Draw the curve as SVG in the colour of the text around it, so that it is seen on dark paper too."""
    width, height, edge = 300, 150, 22
    low, high = map(math.log10, kind.point.ends)
    first, last = kind.positions[0], kind.positions[-1]
    x = [edge + (width - 2 * edge) * (where - first) / (last - first) for where in kind.positions]
    y = [edge + (height - 2 * edge) * (high - math.log10(value)) / (high - low) for value in values]
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in zip(x, y, strict=True))
    names = "".join(
        f'<text x="{a:.1f}" y="{height - 4}" text-anchor="middle">{where:g}</text>'
        for a, where in zip(x, kind.positions, strict=True)
    )
    ends = f'<text x="2" y="12">{kind.slider[1]:g}</text><text x="2" y="{height - edge}">{kind.slider[0]:g}</text>'
    words = escape(f"Your curve at {', '.join(f'{one:g}' for one in kind.positions)}: {kind.said(values)}")
    return (
        f'<svg role="img" aria-label="{words}" width="{width}" height="{height}" fill="currentColor" font-size="11">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2" stroke-dasharray="6 4"/>'
        f"{dots}{names}{ends}</svg>"
    )
