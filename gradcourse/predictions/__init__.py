"""Commit to a guess before the run; see how good it was after.

What the learner commits goes to the journal, and what came of it too. Where nobody is there to press a button
(`gradcourse build`, nbval), the guess that the cell names is taken.
"""

from gradcourse.predictions.commit import Prediction, predict
from gradcourse.predictions.kinds import Choice, Curve, Number, Ordering, Refused
from gradcourse.predictions.score import reveal

__all__ = ["Choice", "Curve", "Number", "Ordering", "Prediction", "Refused", "predict", "reveal"]
