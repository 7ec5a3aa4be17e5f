"""The numbers behind a diagnosis: where and when it shows, a sentence that says so, and how sure that is."""

import math
from dataclasses import dataclass

import numpy as np

from gradcourse.diagnosis.rules import LIMITS, by_depth, onset, rise_onset
from gradcourse.diagnosis.signals import kept_shares, moves
from gradcourse.recording import factor_per_layer


@dataclass(frozen=True)
class Finding:
    """Layer, step, sentence and confidence of a diagnosis; see Diagnosis."""

    layer: str
    step: int
    evidence: str
    confidence: float


def finding(disease, trace, signals):
    """Return the Finding for a disease that the rules have named."""
    return _FINDINGS[disease](trace, signals)


def _by_depth(trace, signals):
    profile = signals.profile
    disease = by_depth(profile)
    layer = trace.layers[profile.columns[0]] if disease in ("vanishing", "exploding") else ""
    step = int(trace.steps[profile.row])
    return Finding(layer, step, profile_sentence(trace, profile), _confidence(disease, profile))


def profile_sentence(trace, profile):
    """Say in numbers what the gradient does from the last hidden layer to the first."""
    delta, names = profile.delta, [trace.layers[column] for column in profile.columns]
    if not delta.any():
        return (
            "The RMS of dL/dh is exactly 0 at every hidden layer: weights behind them are 0. Record a few steps more."
        )
    if len(delta) == 1:
        around = "".join(f" It goes around {trace.layers[c]}, where it is 0, and others." for c in profile.bypassed[:1])
        return f"The RMS of dL/dh is {delta[0]:.1e} at {names[0]}.{around}"
    verb = {"vanishing": "falls", "exploding": "grows"}.get(by_depth(profile), "goes")
    return (
        f"The RMS of dL/dh {verb} from {delta[-1]:.1e} at {names[-1]} to {delta[0]:.1e} at {names[0]}: "
        f"a factor of {factor_per_layer(delta):.3f} per layer over {len(delta)} layers.{_irregular(profile)}"
    )


def _irregular(profile):
    if by_depth(profile) != "unsure" or not math.isfinite(profile.total):
        return ""
    return f" Not evenly: the slower half of the layers alone would make it {profile.steady:+.1f} decades in all."


def _confidence(disease, profile):
    """For a gradient that shrinks or grows the share of neighbouring layers that do so; else 1 where it is flat."""
    if disease == "unsure":
        return 0.0
    if disease in ("vanishing", "exploding"):
        before, after = profile.delta[:-1], profile.delta[1:]
        agreeing = before < after if disease == "vanishing" else before > after
        return float(np.mean(agreeing)) if math.isfinite(profile.total) else 1.0
    return max(0.0, 1.0 - abs(profile.steady) / LIMITS.decades)


def _diverged(trace, signals):
    before = profile_sentence(trace, signals.profile)
    at_start = f"At step {trace.steps[signals.profile.row]} {before[0].lower()}{before[1:]}"
    event = signals.broken
    if event is not None:
        text = f"The first value that is not finite appears at step {event.step} in the {event.direction} pass."
        return Finding(event.layer, event.step, f"{text} {at_start}", 1.0)
    row = rise_onset(trace.loss, LIMITS.rise)
    text = f"The loss rises from {trace.loss[0]:.2g} to {trace.loss[-1]:.2g} and stays up from step {trace.steps[row]}."
    return Finding("", int(trace.steps[row]), f"{text} {at_start}", 1.0)


def _dead(trace, signals):
    return _share(trace, trace.dead, LIMITS.dead, "of the units of {} are 0 for the whole batch")


def _saturated(trace, signals):
    said = "of the outputs of {} have less than 2 % of the steepest slope"
    return _share(trace, trace.saturation, LIMITS.saturated, said)


def _share(trace, values, limit, said):
    row, column = _where(values, limit)
    share, layer = float(values[row, column]), trace.layers[column]
    text = f"{share:.0%} {said.format(layer)}{_beside(values, row, column)}"
    return Finding(layer, int(trace.steps[row]), text, share)


def _where(values, limit):
    row = onset(values, limit)
    return row, int(np.nanargmax(values[row]))


def _beside(values, row, column):
    """Compare with the other layers, and with the start."""
    others = np.delete(values[row], column)
    known = others[~np.isnan(others)]
    text = f", {np.median(known):.0%} in the median of the other layers" if len(known) else ""
    return text + (f"; at the first step it was {values[0, column]:.0%}." if row else ".")


def _over_clipped(trace, signals):
    shares = kept_shares(trace)
    clipped = [event for event in trace.events if event.kind == "clipped"]
    raw, used = (np.median([getattr(event, name) for event in clipped]) for name in ("raw", "used"))
    text = (
        f"Clipping cuts the gradient's norm in {len(clipped)} of {len(shares)} steps, from {raw:.1e} to {used:.1e} in "
        f"the median: {signals.kept:.2g} of it is left, which for SGD is a learning rate as much smaller."
    )
    return Finding("", clipped[0].step, text, float(np.mean(shares <= LIMITS.kept)))


def _below_precision(trace, signals):
    ratios = moves(trace)
    column = int(np.nanargmin(ratios))
    known = ratios[np.isfinite(ratios)]
    text = (
        f"A step moves {trace.layers[column]} by {ratios[column]:.1e} of its weights in the median; in their format "
        f"neighbouring numbers are {signals.precision:.1e} apart: rounding takes most of it. "
        f"The median layer moves by {np.median(known):.1e}."
    )
    return Finding(
        trace.layers[column], int(trace.steps[0]), text, float(np.mean(known <= LIMITS.moved * signals.precision))
    )


_FINDINGS = {
    "healthy": _by_depth,
    "unsure": _by_depth,
    "vanishing": _by_depth,
    "exploding": _by_depth,
    "diverged": _diverged,
    "dead units": _dead,
    "saturated": _saturated,
    "over-clipped": _over_clipped,
    "update below precision": _below_precision,
}
