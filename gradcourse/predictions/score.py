"""Hold committed guesses against what a run measured."""

import math
from decimal import Context, Decimal
from difflib import get_close_matches
from numbers import Real

from gradcourse import journal
from gradcourse.predictions.commit import events, plain_kind, predictions
from gradcourse.predictions.kinds import Number, Refused

_reminded = set()  # ids for which a guess was asked
_known_before = set()  # ids whose measurement was shown before there was a guess


def reveal(id, measured, *, over=None, unit="layers"):
    """Print a committed guess beside what the run measured, and note the score.

    Numbers are compared by their ratio: within a factor of 1.25 is close, within 10 is the right order of magnitude.
    Orderings are compared by the pairs that stand in the right order, curves by size and shape. Without a guess the
    first call asks for one; the next shows what was measured, and then a guess no longer counts. Never raises,
    whatever was guessed and measured.

    Args:
        id: of the prediction.
        measured: what the run gave, of the kind that the question asks for.
        over: for a factor per layer: the number of layers over which its power is shown.
        unit: what `over` counts.
    """
    prediction = predictions.get(id) if isinstance(id, str) else None
    if prediction is None or prediction.guess is None:
        _ask_for_a_guess(id, measured, prediction)
        return
    guess = prediction.guess
    kind = prediction.kind or plain_kind(guess)
    try:
        measured = kind.read(measured)
    except Refused:
        _wrong_kind(id, kind.said(guess), measured)
        return
    verdict, score = _compare(kind, guess, measured)
    print(f"{id}: you said {kind.said(guess)}, the run says {kind.said(measured)}: {verdict}.")
    if score is None:
        return
    if over is not None and isinstance(kind, Number):
        print(f"Over {over} {unit} your factor makes {_power(guess, over)}, the measured one {_power(measured, over)}.")
    _note(id, guess, measured, score, verdict)


def _ask_for_a_guess(id, measured, prediction):
    if str(id) in _reminded:
        _known_before.add(str(id))
        print(f"{id}: the run says {_said(measured)}; you made no guess.")
        return
    _reminded.add(str(id))
    how = "Press Commit where it is asked" if prediction else f"{_known(id)} Commit one with gc.predict({id!r}, ...)"
    print(f"{id}: no guess yet. {how} and run this cell again; without one it shows the measurement next time.")


def _known(id):
    if not predictions:
        return "Nothing was predicted in this kernel."
    near = get_close_matches(str(id), predictions, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"This kernel knows {', '.join(sorted(predictions))}{hint}"


def _wrong_kind(id, said, measured):
    wanted = plain_kind(measured).asks if isinstance(measured, str | Real) else "another kind of guess"
    print(f"{id}: you said {said}, but the question asks for {wanted}. Commit again and run this cell.")


def _compare(kind, guess, measured):
    values = measured if isinstance(measured, list) else [measured]
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        return "there is nothing finite to compare with", None
    return kind.compare(guess, measured)


def _said(measured):
    """Write a measurement of unknown kind."""
    try:
        return plain_kind(measured).said(plain_kind(measured).read(measured))
    except Refused:
        return str(measured)


def _power(factor, count):
    """Write a factor to a power, beyond the range of floats too."""
    power = Context(prec=28, traps=[]).power(Decimal(factor), Decimal(count))
    return f"{float(power):.2g}" if abs(power.adjusted()) < 300 else f"{power:.1e}"


def _note(id, guess, measured, score, verdict):
    last = events(id, "prediction", "reveal")[-1:]
    again = last and last[0]["kind"] == "reveal"  # the cell was run again
    if not again and id not in _known_before:
        journal.note("reveal", id, guess=guess, measured=measured, score=round(score, 3), verdict=verdict)
