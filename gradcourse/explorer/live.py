"""An explorer: controls beside a picture that follows them."""

import base64
import inspect
from collections import deque
from types import SimpleNamespace

from gradcourse.journal import unattended


class Explorer:
    """Controls beside a picture that follows them.

    In a notebook it is a widget. Where there is no kernel (GitHub, an HTML export), or no widgets, its picture and
    words stand in its place.

    Attributes:
        name: its heading.
        id: of it, such as "03-x1"; may be empty.
        controls: name -> Slider, Menu or Toggle.
        values: name of a control -> where it stands.
        runs: whether it stands behind a button.
        picture: the Picture that is shown.
    """

    def __init__(self, name, draw, *, id="", **controls):
        """Make an explorer.

        Args:
            name: its heading.
            draw: a function ``draw(**values)`` that returns a Picture in at most 40 ms; or, for what takes longer, a
                generator function ``draw(values)`` that yields Pictures while it works: it stands behind a button, and
                each attribute of ``values`` is where that control stands now.
            id: under which the learner's journal notes that it was moved, such as "03-x1"; empty: not at all.
            controls: name of an argument or attribute -> Slider, Menu or Toggle.
        """
        self.name, self.id, self._draw, self.controls = name, id, draw, controls
        self.values = {key: control.value for key, control in controls.items()}
        self.runs = inspect.isgeneratorfunction(draw)
        self._front = None
        self.picture = self._last_picture() if self.runs else draw(**self.values)

    def move(self, **values):
        """Move controls, as a hand would, and draw again.

        Args:
            values: name of a control -> where to.

        Raises:
            ValueError: for a control that is not there, or a place where it can't stand.
        """
        accepted = {key: self._accepted(key, value) for key, value in values.items()}
        if self._front is not None:
            self._front.follow(accepted)
            return
        self.values |= accepted
        if self.runs:
            self.picture = self._last_picture()
        else:
            self.draw()

    def draw(self):
        """Draw what the controls say."""
        self.show(self._draw(**self.values))

    def show(self, picture):
        """Show a picture."""
        self.picture = picture
        if self._front is not None:
            self._front.show(picture)

    def work(self):
        """Return the generator of a run's pictures, and the namespace through which it sees the controls."""
        seen = SimpleNamespace(**self.values)
        return self._draw(seen), seen

    def _accepted(self, key, value):
        if key not in self.controls:
            raise ValueError(f"move({key}={value!r}): {self.name} has {', '.join(self.controls)}")
        try:
            return self.controls[key].accepted(value)
        except ValueError as error:
            raise ValueError(f"move({key}={value!r}): {error}") from None

    def _last_picture(self):
        """Return the last picture of a whole run: what stands where nobody presses the button."""
        pictures, _ = self.work()
        return deque(pictures, maxlen=1)[0]

    def __repr__(self):
        return f"{self.name}: {self.picture.words}"

    def _ipython_display_(self):
        """Show the widget and its picture; each front end takes what it knows."""
        try:
            from gradcourse.explorer.front import Front
        except ImportError:  # no ipywidgets
            Front = None
        if Front is None or unattended():
            self._display_still()
        else:
            self._front = self._front or Front(self)
            self._front.display()

    def _display_still(self):
        """Show the picture, and its words below it: nbconvert leaves an image's alt text out."""
        from IPython.display import display

        display(self.still(), raw=True, metadata={"image/png": {"alt": repr(self)}})
        print(self.picture.words)

    def still(self):
        """Return what stands where nothing can move: MIME type -> picture or words."""
        from gradcourse.explorer.still import png  # loads matplotlib

        return {"text/plain": repr(self), "image/png": base64.b64encode(png(self.picture)).decode()}
