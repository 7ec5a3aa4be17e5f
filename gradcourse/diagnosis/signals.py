"""What a Trace says about each disease, in numbers that compare layers with each other or a run with its own start."""

import math
import re
from dataclasses import dataclass
from itertools import groupby

import numpy as np

_ODD = 6.0  # median absolute deviations from the median: about four standard deviations of a normal distribution
_CALL = re.compile(r"\[\d+\]$")  # of a layer that a Recorder with per_call=True saw more than once


@dataclass(frozen=True)
class Profile:
    """The gradient over layers that play the same role, input side first.

    Attributes:
        columns: the layers' columns in the trace.
        delta: root mean square of dL/dh at each.
        row: of the trace, from which delta is.
        rows: number of rows of the trace.
        bypassed: columns left out because their branches are multiplied by 0.
    """

    columns: np.ndarray
    delta: np.ndarray
    row: int
    rows: int
    bypassed: np.ndarray

    @property
    def total(self):
        """Decades from the last layer to the first: below 0 the gradient shrinks towards the input."""
        if len(self.delta) < 2:
            return 0.0
        if not np.isfinite(self.delta).all():
            return math.nan
        return float(self._logs[0] - self._logs[-1]) if self.delta[0] > 0.0 else -math.inf

    @property
    def steady(self):
        """Decades from the last layer to the first if every layer changed the gradient as in the slower half of them.

        An exponential keeps its slope over the whole depth. The power of the depth that a critical network shows is
        steep at one end only, and a walk through random widths changes its direction: both come out near 0.
        """
        steps = len(self.delta) - 1
        if steps < 1 or not math.isfinite(self.total):
            return self.total
        half = math.ceil(steps / 2)
        slopes = [_slope(part) for part in (self._logs[: half + 1], self._logs[-half - 1 :])]
        return -steps * min(slopes, key=abs) if slopes[0] * slopes[1] > 0 else 0.0

    @property
    def regularity(self):
        """The whole change over the change that layers with the same spread but random signs would make."""
        if not math.isfinite(self.total):
            return math.inf
        changes = np.diff(self._logs)
        spread = np.std(_without_outliers(changes)) * math.sqrt(len(changes)) if len(changes) else 0.0
        return abs(self.total) / spread if spread > 0 else math.inf

    @property
    def _logs(self):
        """Decades, input side first."""
        return np.log10(self.delta)


@dataclass(frozen=True)
class Signals:
    """What the rules look at.

    Attributes:
        profile: of the gradient at the first recorded step at which there is one.
        broken: the event of the first value that is not finite, or None.
        rise: median loss of the last tenth of the recorded steps over the first loss, NaN unless known.
        dead: largest share of dead units in a layer, at the first recorded step.
        dead_later: the same over the last quarter of the steps.
        saturated: median over the layers of the share of saturated outputs, at the first recorded step.
        saturated_at_start: the largest share then.
        saturated_somewhere: largest share in a layer, then or over the last quarter of the steps.
        kept: median over the steps of the norm of the gradient that the optimizer saw over the raw one.
        moved: smallest update ratio of a layer, in the median over the steps, over the precision of the weights.
        precision: relative distance of neighbouring numbers of the weights' dtype.
    """

    profile: Profile
    broken: object
    rise: float
    dead: float
    dead_later: float
    saturated: float
    saturated_at_start: float
    saturated_somewhere: float
    kept: float
    moved: float
    precision: float


def signals(trace, precision):
    """Read a Trace.

    Args:
        trace: with at least three layers with weights and one recorded step.
        precision: relative distance of neighbouring numbers of the weights' dtype.
    """
    first, late = slice(0, 1), slice(-math.ceil(len(trace.steps) / 4), None)
    return Signals(
        profile=profile(trace),
        broken=next((event for event in trace.events if event.kind == "non-finite"), None),
        rise=_rise(trace.loss),
        dead=_largest(_over_steps(trace.dead[first])),
        dead_later=_largest(_over_steps(trace.dead[late])),
        saturated=_typical(_over_steps(trace.saturation[first])),
        saturated_at_start=_largest(_over_steps(trace.saturation[first])),
        saturated_somewhere=max(_largest(_over_steps(trace.saturation[part])) for part in (first, late)),
        kept=float(np.median(kept_shares(trace))),
        moved=_smallest(moves(trace)) / precision,
        precision=precision,
    )


def profile(trace):
    """Compare the gradient of the hidden layers with weights, of those that play the same role."""
    row = _first_row_with_a_gradient(trace)
    hidden = np.flatnonzero(trace.has_weight)[:-1]  # the output layer's gradient is set by the loss
    delta = trace.delta[row]
    reached = np.cumsum(delta[hidden] != 0) > 0
    bypassed = reached & (delta[hidden] == 0)  # a branch times 0: the gradient goes around it, to the layers before
    columns = hidden[~bypassed]
    groups = _roles(trace.layers, columns)
    profiles = [Profile(group, delta[group], row, len(trace.steps), hidden[bypassed]) for group in groups]
    profiles.sort(key=lambda found: abs(found.steady) if np.isfinite(found.steady) else math.inf)
    return profiles[(len(profiles) - 1) // 2]


def _first_row_with_a_gradient(trace):
    """Return the first row where any hidden layer has a gradient: a last layer of zeros hides it at first."""
    hidden = np.flatnonzero(trace.has_weight)[:-1]
    having = (trace.delta[:, hidden] != 0).any(axis=1)
    return int(np.argmax(having))


def _roles(names, columns):
    """Split columns into groups of three layers or more that differ in their number alone, else leave them together.

    Repeated calls of one module are a group: the time steps of a recurrent cell.
    """
    bases = [_CALL.sub("", names[column]) for column in columns]
    keys = [base if bases.count(base) > 1 else re.sub(r"\d+", "*", base) for base in bases]
    ordered = sorted(zip(keys, columns, strict=True), key=lambda pair: pair[0])  # stable: call order stays
    groups = [np.array([c for _, c in group]) for _, group in groupby(ordered, key=lambda pair: pair[0])]
    return [group for group in groups if len(group) >= 3] or [columns]


def _slope(logs):
    """Return the median slope between any two points (Theil and Sen): one odd layer does not move it."""
    low, high = np.triu_indices(len(logs), 1)
    return float(np.median((logs[high] - logs[low]) / (high - low)))


def _without_outliers(changes):
    """Bring the changes at one odd layer back to what is usual."""
    middle = np.median(changes)
    reach = _ODD * np.median(np.abs(changes - middle))
    return np.clip(changes, middle - reach, middle + reach)


def kept_shares(trace):
    """Return the share of the gradient's norm that clipping left, for each recorded step."""
    share = {event.step: event.used / event.raw for event in trace.events if event.kind == "clipped"}
    return np.array([share.get(int(step), 1.0) for step in trace.steps])


def moves(trace):
    """Return the median update ratio of each layer with weights over the steps where it had a gradient, else NaN."""
    had_gradient = (trace.weight_gradient > 0) & trace.has_weight
    return _over_steps(np.where(had_gradient, trace.update_ratio, np.nan))


def _rise(loss):
    known = loss[np.isfinite(loss)]
    if len(known) < 2 or known[0] <= 0:
        return math.nan
    return float(np.median(known[-math.ceil(len(known) / 10) :]) / known[0])


def _over_steps(values):
    """Return the median over the steps that hold a value, for each layer."""
    known = ~np.isnan(values).all(axis=0)
    result = np.full(values.shape[1], np.nan)
    result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def _largest(values):
    return float(np.nanmax(values)) if np.isfinite(values).any() else 0.0


def _typical(values):
    return float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0


def _smallest(values):
    return float(np.nanmin(values)) if np.isfinite(values).any() else math.inf
