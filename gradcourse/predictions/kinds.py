"""The kinds of guesses: a number, a choice, an ordering, a curve.

Each kind reads a value (refusing what is none of it), says whether a guess is among those that the question allows,
writes it down in words, and compares it with what a run measured: a verdict in words and a score from 0 to 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise
from numbers import Real

CLOSE = 1.25  # a ratio up to this is close
HOPELESS = 2  # orders of magnitude: from here on a guess scores 0


class Refused(Exception):
    """One line: what was found in place of a guess, and what to do."""


@dataclass(frozen=True)
class Number:
    """A number: any, one between two positive ends (by a log slider), or an integer of a range.

    Attributes:
        slider: None, (low, high) with 0 < low < high, or a range with step 1.
    """

    slider: tuple | range | None = None
    asks = "a number"

    def __post_init__(self):
        if self.slider is None or (isinstance(self.slider, range) and len(self.slider) > 1 and self.slider.step == 1):
            return
        ends = _numbers(self.slider, "slider= is (low, high), or a range of integers")
        if len(ends) != 2 or not 0 < ends[0] < ends[1] < math.inf:
            raise Refused(f"slider={self.slider!r}: a log slider needs 0 < low < high; range(0, 7) gives integers")

    @property
    def ends(self):
        """The least and the largest guess."""
        return (self.slider[0], self.slider[-1]) if self.slider else (-math.inf, math.inf)

    def read(self, value):
        """Return the number, refuse anything else."""
        return _number(value, "a guess is a number or the letter of an option, in quotes")

    def guess(self, value):
        """Return the number if the slider has a place for it."""
        value = self.read(value)
        low, high = self.ends
        if not math.isfinite(value):
            raise Refused("a guess must be finite")
        whole = isinstance(self.slider, range)
        if not low <= value <= high or (whole and value != int(value)):
            raise Refused(f"a guess is {'a whole number ' if whole else ''}between {low:g} and {high:g} here")
        return value

    def said(self, value):
        """Write a number with three digits."""
        return f"{value:.3g}"

    def compare(self, guess, measured):
        """Compare by the ratio."""
        return compare_numbers(guess, measured), score_numbers(guess, measured)


@dataclass(frozen=True)
class Choice:
    """One of some options.

    Attributes:
        options: what each letter stands for; None: any letter.
    """

    options: Mapping | None = None
    asks = "the letter of an option, in quotes"

    def __post_init__(self):
        if self.options is None:
            return
        if not isinstance(self.options, Mapping) or len(self.options) < 2:
            raise Refused('options= maps two letters or more to words, such as {"a": "it grows", "b": "it shrinks"}')
        object.__setattr__(self, "options", {str(key).strip().lower(): str(text) for key, text in self.options.items()})

    def read(self, value):
        """Return the letter, refuse anything else."""
        if not isinstance(value, str):
            raise Refused(f"a guess is {self.asks}")
        return value.strip().lower()

    def guess(self, value):
        """Return the letter if there is such an option."""
        letter = self.read(value)
        if self.options is not None and letter not in self.options:
            raise Refused(f"the options are {', '.join(self.options)}")
        return letter

    def said(self, value):
        """Write the letter."""
        return value

    def compare(self, guess, measured):
        """Right or not."""
        return ("right", 1.0) if guess == measured else ("not so", 0.0)


@dataclass(frozen=True)
class Ordering:
    """Some things in an order.

    Attributes:
        items: their names.
    """

    items: tuple
    asks = "a list of all items in their order"

    def __post_init__(self):
        texts = not isinstance(self.items, str) and all(isinstance(item, str) for item in _listed(self.items))
        if not texts or len(set(self.items)) != len(self.items) or len(self.items) < 2:
            raise Refused(f"order={self.items!r}: it is a list of two different names or more")
        object.__setattr__(self, "items", tuple(self.items))

    def read(self, value):
        """Return the list if it has each item once."""
        value = _listed(value)
        missing = [item for item in self.items if item not in value]
        unknown = [item for item in value if item not in self.items]
        if missing or unknown or len(value) != len(self.items):
            what = f"{missing[0]!r} is missing" if missing else f"{unknown[0]!r} is none of them" if unknown else ""
            raise Refused(f"a guess has each of {', '.join(self.items)} once: {what or 'one comes twice'}")
        return value

    guess = read

    def said(self, value):
        """Write the items in their order."""
        return ", ".join(value)

    def compare(self, guess, measured):
        """Count the pairs that stand in the measured order."""
        pairs = list(combinations(measured, 2))
        right = sum(guess.index(first) < guess.index(second) for first, second in pairs)
        words = "right" if right == len(pairs) else f"{right} of {len(pairs)} pairs stand in the right order"
        return words, right / len(pairs)


@dataclass(frozen=True)
class Curve:
    """A positive number at each of some positions.

    Attributes:
        positions: where, for instance layers.
        slider: (low, high) of each number, as of a Number.
    """

    positions: tuple
    slider: tuple
    asks = "a list with one number per position"

    def __post_init__(self):
        positions = _numbers(self.positions, "curve= is a list of positions")
        if len(positions) < 2 or any(left >= right for left, right in pairwise(positions)):
            raise Refused(f"curve={self.positions!r}: it is a list of two positions or more, in growing order")
        if not isinstance(self.slider, tuple | list):
            raise Refused("curve=[...] needs slider=(low, high) for its numbers")
        object.__setattr__(self, "positions", tuple(positions))

    @property
    def point(self):
        """The kind of each number."""
        return Number(self.slider)

    def read(self, value):
        """Return the list if it has one number per position."""
        value = [_number(one, f"a guess is {self.asks}") for one in _listed(value)]
        if len(value) != len(self.positions):
            raise Refused(f"a guess has {len(self.positions)} numbers here, one per position; this has {len(value)}")
        return value

    def guess(self, value):
        """Return the list if the sliders have places for its numbers."""
        return [self.point.guess(one) for one in self.read(value)]

    def said(self, value):
        """Write the numbers in their order."""
        return ", ".join(f"{one:.2g}" for one in value)

    def compare(self, guess, measured):
        """Compare the sizes point by point, and the shapes after moving one curve onto the other."""
        score = sum(map(score_numbers, guess, measured)) / len(guess)
        away = [_decades(one, other) for one, other in zip(guess, measured, strict=True)]
        if not all(map(math.isfinite, away)):
            return "the run has a 0 or another sign where you drew none", score
        middle = sum(away) / len(away)
        size, shape = (sum(map(abs, each)) / len(away) for each in (away, [one - middle for one in away]))
        return (
            f"off by a factor of {_factor(_ratio(size))} on average, the shape alone by {_factor(_ratio(shape))}",
            score,
        )


def kind_of(slider=None, options=None, order=None, curve=None):
    """Return the kind that the keywords of `predict` ask for, None if they ask for none.

    Raises:
        Refused: for keywords that do not go together, or whose values make no kind.
    """
    if curve is not None and order is None and options is None:
        return Curve(curve, slider)
    makers = {"slider": Number, "options": Choice, "order": Ordering, "curve": Curve}
    values = {"slider": slider, "options": options, "order": order, "curve": curve}
    given = [name for name, value in values.items() if value is not None]
    if len(given) > 1:
        raise Refused(f"{' and '.join(f'{name}=' for name in given)} do not go together: one question, one kind")
    return makers[given[0]](values[given[0]]) if given else None


def compare_numbers(guess, measured):
    """Say how far a number is from the measured one."""
    if guess == measured:
        return "exactly right"
    if guess * measured <= 0:
        return "another sign" if guess * measured < 0 else "one of the two is 0"
    ratio = max(guess / measured, measured / guess)
    if ratio <= CLOSE:
        return "close"
    return f"{'the right order of magnitude, ' if ratio <= 10 else ''}off by a factor of {_factor(ratio)}"


def score_numbers(guess, measured):
    """Score a number by its order of magnitude: 1 if exactly right, 0 from a factor of 100 on."""
    return max(0.0, 1 - abs(_decades(guess, measured)) / HOPELESS)


def _decades(guess, measured):
    """Return log10 of the ratio; inf where there is none."""
    if guess == measured:
        return 0.0
    same_sign = (guess > 0 < measured) or (guess < 0 > measured)
    return math.log10(abs(guess)) - math.log10(abs(measured)) if same_sign else math.inf


def _ratio(decades):
    return 10**decades if decades < 300 else math.inf


def _factor(ratio):
    if ratio == math.inf:
        return "more than 1e+300"
    return f"{ratio:.1f}" if ratio <= 10 else f"{ratio:.0e}" if ratio >= 1000 else f"{ratio:.0f}"


def _number(value, otherwise):
    """Return a real number as Python's; refuse others, booleans and text among them, in the words given."""
    try:
        if isinstance(value, str | bool):
            raise TypeError
        return value if isinstance(value, int) and abs(value) < 1e300 else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise Refused(otherwise) from None


def _numbers(values, otherwise):
    try:
        return [_number(value, otherwise) for value in values]
    except TypeError:
        raise Refused(otherwise) from None


def _listed(value):
    if isinstance(value, str | Mapping | Real):
        raise Refused("a guess is a list here")
    try:
        return list(value)
    except TypeError:
        raise Refused("a guess is a list here") from None
