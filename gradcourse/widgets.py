"""What all widgets of the course share: sliders that can be read and typed, and what stands in a saved notebook.

A saved notebook keeps no widget. JupyterLab then writes an error in its place and looks at no other form of the same
output. So the still is an output of its own: hidden while the widget lives, and it hides the widget that is gone.
Other front ends take from one output what they know.
"""

import asyncio
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


def set_silently(widget, value, observer):
    """Set a value that an observer of this widget need not hear of: its echo would undo what a quick hand does next."""
    widget.unobserve(observer, "value")
    widget.value = value
    widget.observe(observer, "value")


def with_field(field, slider):
    """Return a row of a field for a number and the slider that moves with it.

    A screen reader reads the field's label: the label of a slider is not tied to its handle. And a number can be typed.
    """

    def follow(change):  # three digits are what a hand can mean
        rounded = change.new if isinstance(change.new, int) else float(f"{change.new:.3g}")
        set_silently(field, min(max(rounded, field.min), field.max), lead)

    def lead(change):
        set_silently(slider, change.new, follow)

    slider.observe(follow, "value")
    field.observe(lead, "value")
    return ipywidgets.HBox([field, slider])


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
