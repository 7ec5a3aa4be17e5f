"""Commit to a guess, typed or by a button."""

import re

from gradcourse import journal
from gradcourse.predictions.kinds import Choice, Curve, Number, Refused, kind_of

predictions = {}  # of this kernel, by id


class Prediction:
    """What is asked, and the committed guess.

    Attributes:
        id: such as "03-p1".
        kind: the kind of guess that is asked for; None as long as any will do.
        guess: a number, an option's letter, a list; None while nothing is committed.
        panel: the widget that asks for a guess, None where a guess is typed.
    """

    def __init__(self, id):
        self.id = id
        self.kind = None
        self.guess = None
        self.panel = None
        self._still = None

    def commit(self, guess):
        """Commit a guess; committing again replaces it.

        Raises:
            Refused: for what is no guess of this kind.
        """
        self.guess = (self.kind or plain_kind(guess)).guess(guess)
        if last_guess(self.id) != self.guess:  # running a cell again is no new guess
            journal.note("prediction", self.id, guess=self.guess)
        if self._still is not None:
            self._still.renew()

    @property
    def drawn(self):
        """What a plot draws: a number, a dict from positions to numbers, None while nothing is committed."""
        if self.guess is not None and isinstance(self.kind, Curve):
            return dict(zip(self.kind.positions, self.guess, strict=True))
        return self.guess

    def __float__(self):
        if self.guess is None:
            raise TypeError(f"{self!r}")
        return float(self.guess)

    def __repr__(self):
        if self.guess is None:
            return f"Prediction {self.id}: nothing committed yet"
        return f"Prediction {self.id}: {(self.kind or plain_kind(self.guess)).said(self.guess)}"

    def _ipython_display_(self):
        """Show the controls, and the words where there are none."""
        if self.panel is None:
            from IPython.display import display

            display(self._words(), raw=True)
        else:
            from gradcourse.widgets import Still

            self._still = Still(self.panel, self._words)

    def _words(self):
        text = repr(self)
        if self.guess is None and self.kind:  # seen where there are no widgets
            text += f". No button here? Type it: gc.predict({self.id!r}, your guess)."
        return {"text/plain": text}

    def ask(self, start):
        """Show the controls from now on; without ipywidgets the text has to do."""
        try:
            from gradcourse.predictions.panel import panel
        except ImportError:
            return
        self.panel = panel(self, start)


def predict(id, guess, *, slider=None, options=None, order=None, curve=None):
    """Commit to a guess before the run; committing again replaces it.

    With a keyword the guess is made by controls and committed by a button; the guess given here is then only where the
    controls start, and what is taken where nobody is there to press a button. A guess committed earlier is kept.

    Args:
        id: of the prediction, such as "03-p1".
        guess: a finite number or the letter of an option; a list for an ordering or a curve.
        slider: (low, high) asks for a number by a slider on a log scale, range(0, 7) for an integer.
        options: what the letters stand for, such as {"a": "it grows", "b": "it shrinks"}; asks for a choice.
        order: names to be put in order.
        curve: positions; asks for a number at each of them, by a slider each.

    Returns:
        The Prediction, to be drawn with a plot's ``guess=``. What is no guess is refused in one line, and what was
        committed before stays.
    """
    prediction = predictions.get(id) if isinstance(id, str) else None
    try:
        _check_id(id)
        kind = kind_of(slider, options, order, curve)
        asked = kind or (prediction and prediction.kind)
        (asked or plain_kind(guess)).guess(guess)  # refused before anything changes
    except Refused as refusal:
        print(f"predict({id!r}, {guess!r}): {refusal}")
        return prediction or Prediction(id)
    prediction = predictions.setdefault(id, Prediction(id))
    prediction.kind = asked
    if kind is None or journal.unattended():
        prediction.panel = None
        prediction.commit(guess)
    else:
        _ask(prediction, guess)
    return prediction


def _ask(prediction, start):
    """Ask by controls; the last guess counts as committed, after a restart of the kernel too."""
    earlier = prediction.guess if prediction.guess is not None else last_guess(prediction.id)
    try:
        prediction.guess = None if earlier is None else prediction.kind.guess(earlier)
    except Refused:  # the question has changed since
        prediction.guess = None
    prediction.ask(start if prediction.guess is None else prediction.guess)


def last_guess(id):
    """Return the guess that the journal saw last for an id, None if there was none."""
    return next((event.get("guess") for event in reversed(events(id, "prediction"))), None)


def events(id, *kinds):
    """List the journal's events of one id, oldest first; none where no learner is there."""
    if journal.unattended():
        return []
    return [event for event in journal.read() if event.get("id") == id and event.get("kind") in kinds]


def plain_kind(guess):
    """Return the kind of a guess that was typed where no kind is asked for."""
    return Choice() if isinstance(guess, str) else Number()


def _check_id(id):
    if not isinstance(id, str) or not re.fullmatch(r"\d\d-p\d+", id):
        raise Refused("the first argument is the prediction's id, two digits, -p and a number, such as '03-p1'")
