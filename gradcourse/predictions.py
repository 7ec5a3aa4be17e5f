"""Commit to a guess before the run; see how good it was after."""

import math
from dataclasses import dataclass

_guesses = {}


@dataclass(frozen=True)
class Prediction:
    """A committed guess.

    Attributes:
        id: such as "03-p1".
        guess: a number or one of the options' letters.
    """

    id: str
    guess: object

    def __float__(self):
        return float(self.guess)

    def __repr__(self):
        return f"Prediction {self.id}: {_shown(self.guess)}"


def predict(id, guess):
    """Commit a guess; committing again replaces it.

    Args:
        id: of the prediction, such as "03-p1".
        guess: a finite number, or the letter of an option.

    Returns:
        The Prediction; ``float()`` gives a number's value, so it can be drawn with a plot's ``guess=``.

    Raises:
        TypeError: for a guess that is neither a number nor a letter.
        ValueError: for a number that is not finite.
    """
    if isinstance(guess, str):
        guess = guess.strip().lower()
    elif isinstance(guess, bool) or not isinstance(guess, (int, float)):
        raise TypeError(f"predict({id!r}, {guess!r}): a guess is a number or the letter of an option, in quotes")
    elif not math.isfinite(guess):
        raise ValueError(f"predict({id!r}, {guess!r}): a guess must be finite")
    _guesses[id] = Prediction(id, guess)
    return _guesses[id]


def reveal(id, measured):
    """Print a committed guess beside what the run measured.

    Numbers are compared by their ratio: within a factor of 1.25 is close, within 10 is the right order of magnitude.

    Args:
        id: of the prediction.
        measured: the number that the run gave, or the letter of the option that it showed.
    """
    prediction = _guesses.get(id)
    if prediction is None:
        print(f"{id}: no guess yet. Commit one with gc.predict({id!r}, ...) and run this cell again.")
        return
    guess = prediction.guess
    if isinstance(guess, str) != isinstance(measured, str):
        wanted = "the letter of an option, in quotes" if isinstance(measured, str) else "a number"
        print(f"{id}: you said {_shown(guess)}, but the question asks for {wanted}. Commit again and run this cell.")
        return
    verdict = _compare_options(guess, measured) if isinstance(guess, str) else _compare_numbers(guess, float(measured))
    print(f"{id}: you said {_shown(guess)}, the run says {_shown(measured)}: {verdict}.")


def _shown(value):
    return value if isinstance(value, str) else f"{float(value):.3g}"


def _compare_options(guess, measured):
    return "right" if guess == measured.strip().lower() else "not so"


def _compare_numbers(guess, measured):
    if guess == measured:
        return "exactly right"
    if guess * measured <= 0:
        return "another sign" if guess * measured < 0 else "one of the two is 0"
    ratio = max(guess / measured, measured / guess)
    if ratio <= 1.25:
        return "close"
    if ratio <= 10:
        return f"the right order of magnitude, off by a factor of {ratio:.1f}"
    return f"off by a factor of {ratio:.0e}" if ratio >= 1000 else f"off by a factor of {ratio:.0f}"
