"""The widgets of an explorer."""

import asyncio
import time
from html import escape

import ipywidgets

from gradcourse import journal
from gradcourse.explorer.picture import css_class
from gradcourse.widgets import Still

_SLICE = 0.02  # seconds that a run computes before sliders are listened to again
_BETWEEN_PICTURES = 0.1  # seconds, of a run
_WORDS = '<p role="status" aria-live="polite" style="margin:0;max-width:56em;line-height:1.4">{}</p>'


class Front:
    """The widgets of an explorer.

    Attributes:
        box: all of them.
        hands: name of a control -> its widget.
        button: starts and stops a run, where there is one.
    """

    def __init__(self, explorer):
        self._explorer, self._task, self._follows, self._still, self._noted = explorer, None, False, None, False
        widgets = {name: control.widget() for name, control in explorer.controls.items()}
        self.hands = {name: hand for name, (hand, _) in widgets.items()}
        for name, hand in self.hands.items():
            hand.value = explorer.values[name]
            hand.add_class(css_class(name))
            hand.observe(lambda change, name=name: self._moved(name, change["new"]), "value")
        self._image, self._words = ipywidgets.HTML(), ipywidgets.HTML()
        self.button, self._bar = ipywidgets.Button(), ipywidgets.FloatProgress(max=1.0, description="done")
        self.button.on_click(lambda _: self._pressed())
        self._offer("Train", "Train with the controls as they stand")
        run = [ipywidgets.HBox([self.button, self._bar])] if explorer.runs else []
        heading = ipywidgets.HTML(f"<b>{escape(explorer.name)}</b>")
        hands = ipywidgets.VBox([heading, *(shown for _, shown in widgets.values()), *run])
        self.box = ipywidgets.VBox([hands, self._image, self._words])
        self.show(explorer.picture)

    def display(self):
        """Show the widgets, and keep the picture for when they are gone."""
        self._still = Still(self.box, self._explorer.still)

    def show(self, picture):
        """Show a picture and its words."""
        self._image.value = picture.svg()
        self._words.value = _WORDS.format(escape(picture.words))
        self._bar.value = picture.progress
        if self._still is not None:
            self._still.renew()

    def follow(self, values):
        """Stand where the controls were moved to, and draw once."""
        self._follows = True
        try:
            for name, value in values.items():
                self.hands[name].value = value
        finally:
            self._follows = False
        self._redraw()

    def _moved(self, name, value):
        if not self._noted and self._explorer.id:
            self._noted = True
            journal.note("explore", self._explorer.id)
        self._explorer.values[name] = value
        if self._task is not None:
            setattr(self._seen, name, value)
        if not self._follows:
            self._redraw()

    def _redraw(self):
        if not self._explorer.runs:
            self._explorer.draw()
        elif self._task is None:
            self._words.value = _WORDS.format("Press Train to see what this does.")

    # -- a run

    def _pressed(self):
        if self._task is not None:
            self._task.cancel()
            return
        pictures, self._seen = self._explorer.work()
        self._task = asyncio.ensure_future(self._run(pictures))
        self._offer("Stop", "Stop training")

    async def _run(self, pictures):
        """Train a slice at a time: in between, sliders are listened to."""
        try:
            shown, went = 0.0, time.perf_counter()
            for picture in pictures:
                now = time.perf_counter()
                if now - shown > _BETWEEN_PICTURES or picture.progress == 1.0:
                    self._explorer.show(picture)
                    shown = now
                if now - went > _SLICE:
                    await asyncio.sleep(0)
                    went = time.perf_counter()
        finally:
            self._task = None
            self._offer("Train", "Train with the controls as they stand")

    def _offer(self, description, tooltip):
        self.button.description, self.button.tooltip = description, tooltip
