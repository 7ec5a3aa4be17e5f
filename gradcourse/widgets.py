"""What all widgets of the course share: sliders that can be read and typed, and what stands in a saved notebook.

A saved notebook keeps no widget. JupyterLab then writes an error in its place and looks at no other form of the same
output. So the still is an output of its own: hidden while the widget lives, and it hides the widget that is gone.
Other front ends take from one output what they know.
"""

import asyncio
import math
import os
from html import escape

import ipywidgets
from IPython.display import display, update_display

_UNTIL_RENEWED = 1.0  # seconds after the last change
_OUTPUT = ".jp-OutputArea-child"
_HIDE_STILL = f"<style>{_OUTPUT}:has(.gradcourse-live) + {_OUTPUT}:has(.gradcourse-still) {{display: none}}</style>"
_HIDE_GONE = (
    f"<style>{_OUTPUT}:has(> .jp-OutputArea-output.jupyter-widgets):has(+ {_OUTPUT} .gradcourse-still)"
    " {display: none}</style>"
)


def number_controls(label, value, low, high, *, step, log=False, label_width, field_width, slider_width):
    """Return a field for a number, and a row of it and a slider that moves with it.

    The field's value is what counts. A screen reader reads its label, while the label of a slider is not tied to the
    slider's handle; and a number can be typed that lies between two places of the slider.

    Args:
        label: of the field.
        value: where both stand; an int makes a field for whole numbers.
        low: the least.
        high: the most.
        step: from one place of the slider to the next; on a log scale, in decades.
        log: whether the slider's scale is logarithmic.
        label_width: CSS width of the label.
        field_width: CSS width of label and field.
        slider_width: CSS width of the slider.
    """
    whole, scaled = isinstance(value, int), math.log10 if log else float
    first, last = scaled(low), scaled(high)
    places = [first + step * number for number in range(math.ceil((last - first) / step - 1e-9))] + [last]

    def number_at(place):
        if place in (first, last):
            return low if place == first else high
        number = float(f"{10**place:.3g}") if log else round(place, 10)  # as a hand would write it
        return round(number) if whole else number

    def nearest(number):
        return min(range(len(places)), key=lambda place: abs(places[place] - scaled(number)))

    kind = ipywidgets.BoundedIntText if whole else ipywidgets.BoundedFloatText
    look = {"style": {"description_width": label_width}, "layout": {"width": field_width}}
    field = kind(value, min=low, max=high, step=None if log else step, description=label, **look)
    # Places, not numbers: JupyterLab rounds what a slider is set to to a step, and sends that back.
    slider = ipywidgets.IntSlider(nearest(value), 0, len(places) - 1, readout=False, layout={"width": slider_width})

    def follow(change):
        _set_silently(field, number_at(places[change.new]), lead)

    def lead(change):
        _set_silently(slider, nearest(change.new), follow)

    slider.observe(follow, "value")
    field.observe(lead, "value")
    return field, ipywidgets.HBox([field, slider])


def _set_silently(widget, value, observer):
    """Set a value that an observer of this widget need not hear of: its echo would undo what a quick hand does next."""
    widget.unobserve(observer, "value")
    widget.value = value
    widget.observe(observer, "value")


class Still:
    """A widget's place in a notebook."""

    def __init__(self, box, bundle):
        """Show a widget.

        Args:
            box: the widget.
            bundle: function without arguments that returns what stands in its place: MIME type -> "text/plain" and, if
                there is a picture, "image/png" in base64.
        """
        self._bundle, self._handle, self._renewal = bundle, None, None
        whole = ipywidgets.VBox([ipywidgets.HTML(_HIDE_STILL), box])
        whole.add_class("gradcourse-live")
        live, data = whole._repr_mimebundle_(), bundle()
        if "JPY_SESSION_NAME" in os.environ:  # JupyterLab, whose pages the styles are made for
            display(live | {"text/plain": data["text/plain"]}, raw=True)
            self._handle = display(_kept(data), raw=True, metadata=_alt(data), display_id=True)
        else:
            display(live | data, raw=True, metadata=_alt(data))

    def renew(self):
        """Have the still show the present state, once nothing has changed for a moment."""
        if self._handle is None:
            return
        if self._renewal is not None:
            self._renewal.cancel()
        self._renewal = asyncio.ensure_future(self._keep())

    async def _keep(self):
        """Draw in a thread: it takes longer than a slider can wait."""
        await asyncio.sleep(_UNTIL_RENEWED)
        data = await asyncio.get_running_loop().run_in_executor(None, self._bundle)
        update_display(_kept(data), raw=True, metadata=_alt(data), display_id=self._handle.display_id)


def _kept(data):
    """Return what stands in place of a widget, with a page that hides what JupyterLab says of the widget."""
    words, png = escape(data["text/plain"]), data.get("image/png")
    image = f'<img src="data:image/png;base64,{png}" alt="{words}">' if png else ""
    told = f"<p>{words} <i>Run this cell to move it again.</i></p>"
    return data | {"text/html": f'{_HIDE_GONE}<div class="gradcourse-still">{image}{told}</div>'}


def _alt(data):
    """Return the metadata in which nbconvert finds the alt text."""
    return {"image/png": {"alt": data["text/plain"]}} if "image/png" in data else {}
