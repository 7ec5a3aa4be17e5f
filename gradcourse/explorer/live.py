"""An explorer: controls beside a picture that follows them."""

import asyncio
import inspect
import time
from html import escape
from types import SimpleNamespace

_SLICE = 0.02  # seconds that a run computes before sliders are listened to again
_BETWEEN_PICTURES = 0.1  # seconds, of a run
_WORDS = '<p role="status" aria-live="polite" style="margin:0;max-width:56em;line-height:1.4">{}</p>'


class Explorer:
    """Controls beside a picture that follows them.

    In a notebook it is a widget. Where there is no kernel (GitHub, an HTML export), or no widgets, its picture and
    words stand in its place.

    Attributes:
        name: its heading.
        values: name of a control -> where it stands.
        picture: the Picture that is shown.
    """

    def __init__(self, name, draw, **controls):
        """Make an explorer.

        Args:
            name: its heading.
            draw: a function ``draw(**values)`` that returns a Picture in at most 40 ms; or, for what takes longer, a
                generator function ``draw(values)`` that yields Pictures while it works: it stands behind a button, and
                each attribute of ``values`` is where that control stands now.
            controls: name of an argument or attribute -> Slider, Menu or Toggle.
        """
        self.name, self._draw, self._controls = name, draw, controls
        self.values = {key: control.value for key, control in controls.items()}
        self._runs = inspect.isgeneratorfunction(draw)
        self._front = None
        self.picture = self._last_picture() if self._runs else draw(**self.values)

    def move(self, **values):
        """Move controls, as a hand would, and draw again.

        Args:
            values: name of a control -> where to.

        Raises:
            ValueError: for a control that is not there, or a place where it can't stand.
        """
        accepted = {key: self._accepted(key, value) for key, value in values.items()}
        self.values |= accepted
        if self._front is not None:
            self._front.follow(accepted)
        elif self._runs:
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

    @property
    def runs(self):
        """Whether there is something to run."""
        return self._runs

    @property
    def controls(self):
        """Name -> control."""
        return self._controls

    def _accepted(self, key, value):
        if key not in self._controls:
            raise ValueError(f"move({key}={value!r}): {self.name} has {', '.join(self._controls)}")
        try:
            return self._controls[key].accepted(value)
        except ValueError as error:
            raise ValueError(f"move({key}={value!r}): {error}") from None

    def _last_picture(self):
        """Return the last picture of a whole run: what stands where nobody presses the button."""
        pictures, _ = self.work()
        return max(enumerate(pictures))[1]

    def __repr__(self):
        return f"{self.name}: {self.picture.words}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        """Return the widget, the still picture and the words; the front end takes the first that it knows."""
        still = {"text/plain": repr(self), "image/svg+xml": self.picture.svg()}
        try:
            if self._front is None:
                self._front = Front(self)
        except ImportError:
            return still
        return still | self._front.box._repr_mimebundle_()


class Front:
    """The widgets of an explorer.

    Attributes:
        box: all of them.
    """

    def __init__(self, explorer):
        import ipywidgets

        self._explorer, self._task, self._follows = explorer, None, False
        self._hands = {name: control.widget() for name, control in explorer.controls.items()}
        for name, hand in self._hands.items():
            hand.value = explorer.values[name]
            hand.observe(lambda change, name=name: self._moved(name, change["new"]), "value")
        self._image, self._words = ipywidgets.HTML(), ipywidgets.HTML()
        self.button = ipywidgets.Button(description="Train", tooltip="Train with the controls as they stand")
        self._bar = ipywidgets.FloatProgress(max=1.0, description="done", bar_style="info")
        self.button.on_click(lambda _: self._pressed())
        run = [ipywidgets.HBox([self.button, self._bar])] if explorer.runs else []
        heading = ipywidgets.HTML(f"<b>{escape(explorer.name)}</b>")
        hands = ipywidgets.VBox([heading, *self._hands.values(), *run], layout={"max_width": "34em"})
        self.box = ipywidgets.VBox([hands, self._image, self._words])
        self.show(explorer.picture)

    def show(self, picture):
        """Show a picture and its words."""
        self._image.value = picture.svg()
        self._words.value = _WORDS.format(escape(picture.words))
        self._bar.value = picture.progress

    def follow(self, values):
        """Stand where the controls were moved to, and draw once."""
        self._follows = True
        try:
            for name, value in values.items():
                self._hands[name].value = value
        finally:
            self._follows = False
        self._redraw()

    def _moved(self, name, value):
        self._explorer.values[name] = value
        if self._task is not None:
            setattr(self._seen, name, value)
        if not self._follows:
            self._redraw()

    def _redraw(self):
        if not self._explorer.runs:
            self._explorer.draw()

    def _pressed(self):
        if self._task is not None:
            self._task.cancel()
            return
        pictures, self._seen = self._explorer.work()
        self._task = asyncio.ensure_future(self._run(pictures))
        self.button.description, self.button.tooltip = "Stop", "Stop training"

    async def _run(self, pictures):
        """Train a slice at a time: in between, sliders are listened to."""
        try:
            shown = 0.0
            picture, went = next(pictures), time.perf_counter()
            for picture in pictures:
                now = time.perf_counter()
                if now - shown > _BETWEEN_PICTURES:
                    self._explorer.show(picture)
                    shown = now
                if now - went > _SLICE:
                    await asyncio.sleep(0)
                    went = time.perf_counter()
            self._explorer.show(picture)
        finally:
            self._task = None
            self.button.description, self.button.tooltip = "Train", "Train with the controls as they stand"
