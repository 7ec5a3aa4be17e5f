"""From signals to the name of a disease: a table of limits and the order in which they are asked."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """Where a signal becomes a disease.

    Attributes:
        decades: steady change of the gradient over the whole depth, in decades.
        regularity: of a profile that changes so much: below it chance may have done it.
        dead: share of a layer's units that are 0 for the whole batch.
        saturated: share of outputs with less than 2 % of the steepest slope.
        kept: share of the gradient's norm that clipping leaves.
        moved: update ratio over the precision of the weights.
        rise: loss at the end over the first loss.
    """

    decades: float
    regularity: float
    dead: float
    saturated: float
    kept: float
    moved: float
    rise: float


# Fitted by `python benchmarks/diagnosis.py --fit` on one half of its labelled networks; a slow test fits them again.
LIMITS = Limits(decades=0.79, regularity=4.6, dead=0.71, saturated=0.41, kept=0.082, moved=0.42, rise=2.1)

_STAYS = 0.75  # of the rows that follow
_FAR = 2.0  # times the limit of decades: more than that, and not steadily, is no known shape


def decide(signals, limits=LIMITS):
    """Name the disease. What broke the run comes first, then causes before what follows from them.

    A layer whose units are dead, or layers that are saturated all over, explain a gradient that shrinks or grows; a
    gradient that explodes explains clipping, and one that vanishes explains steps that are lost; what goes wrong later
    in a run comes last.
    """
    if signals.broken is not None or signals.rise >= limits.rise:
        return "diverged"
    if signals.dead >= limits.dead:
        return "dead units"
    if signals.saturated >= limits.saturated:
        return "saturated"
    depth = by_depth(signals.profile, limits)
    if depth in ("vanishing", "exploding"):
        return depth
    if signals.kept <= limits.kept:
        return "over-clipped"
    if signals.moved <= limits.moved:
        return "update below precision"
    if signals.dead_later >= limits.dead:
        return "dead units"
    if signals.saturated_somewhere >= limits.saturated:
        return "saturated"
    return depth


def by_depth(profile, limits=LIMITS):
    """Name what the gradient does over the depth: "healthy", "vanishing", "exploding" or "unsure"."""
    if not profile.delta.any():
        return "vanishing" if profile.rows > 1 else "unsure"
    steady = profile.steady
    if np.isnan(steady):
        return "unsure"
    if abs(steady) >= limits.decades:
        return "unsure" if profile.regularity < limits.regularity else "vanishing" if steady < 0 else "exploding"
    return "healthy" if abs(profile.total) < _FAR * limits.decades else "unsure"


def onset(values, limit):
    """Return the first row from which the largest value of a row stays at the limit or above, but for a few rows."""
    largest = np.nan_to_num(values, nan=-np.inf).max(axis=1)
    lasts = [np.mean(largest[row:] >= limit) >= _STAYS for row in range(len(largest))]
    return int(np.argmax(lasts & (largest >= limit)))


def rise_onset(loss, limit):
    """Return the first row from which the loss is the limit times the first one and stays above, but for a few rows."""
    return onset(np.nan_to_num(loss / loss[0], nan=np.inf)[:, None], limit)
