"""From a Trace to a named disease, with the numbers that say so and the cures in order."""

import math
from dataclasses import dataclass

import numpy as np

from gradcourse import theory
from gradcourse.recording import factor_per_layer

_CURES = {
    "vanishing": (
        "an activation whose slope is near 1, with the initialization that fits it (ReLU with init='he')",
        "normalization of the pre-activations over the batch",
        "residual connections",
    ),
    "exploding": (
        "weights drawn smaller (init='he' for ReLU, 'xavier' for tanh, gain=1)",
        "normalization, or residual branches scaled by 1/sqrt(depth)",
        "clipping by norm, which stops the overflow and not the growth",
    ),
    "diverged": (
        "weights drawn smaller, if the gradient already grows from layer to layer at the first step",
        "a smaller learning rate",
        "clipping by norm",
    ),
}
_HEALTHY_BELOW = 0.75  # decades between the gradient at the first and at the last hidden layer
_SICK_ABOVE = 1.0


@dataclass(frozen=True)
class Diagnosis:
    """What a Trace shows.

    Attributes:
        disease: "healthy", "vanishing", "exploding", "diverged" or "unsure". It names the signal, not the outcome:
            a gradient that vanishes may still train, slowly.
        layer: name of the layer where it shows most, "" if none.
        step: the optimizer step at which it shows.
        evidence: the numbers behind it, as a sentence.
        prediction: theory's factor per layer for the same network, None where there is no Config.
        confidence: for a gradient that shrinks or grows, the share of neighbouring layers that do so; for a healthy
            one, 1 where the profile is flat, falling to 0 at the limit.
        cures: what to try, in order.
    """

    disease: str
    layer: str
    step: int
    evidence: str
    prediction: float | None
    confidence: float
    cures: tuple[str, ...]

    def __str__(self):
        where = f" at {self.layer}" if self.layer else ""
        parts = [
            f"Diagnosis: {self.disease}{where}, step {self.step} (confidence {self.confidence:.2f}).",
            self.evidence,
        ]
        if self.prediction is not None:
            parts.append(f"Theory predicts {self.prediction:.3f} for these layers.")
        if self.cures:
            parts.append(f"Try first: {self.cures[0]}.")
        return " ".join(parts)


def diagnose(trace):
    """Name what a Trace shows, from its first recorded step and its events.

    Args:
        trace: a Trace with at least three layers with weights.

    Returns:
        A Diagnosis.

    Raises:
        ValueError: when the trace holds too few layers or no step.
    """
    if len(trace.steps) == 0 or trace.has_weight.sum() < 3:
        raise ValueError(
            f"diagnose({trace!r}): it compares layers with each other and needs one recorded step and "
            "three layers with weights"
        )
    broken = [event for event in trace.events if event.kind == "non-finite"]
    return _diverged(trace, broken[0]) if broken else _profile(trace)


def _diverged(trace, event):
    evidence = (
        f"The first value that is not finite appears at step {event.step} in the {event.direction} pass. "
        f"At step {trace.steps[0]} {_profile(trace).evidence[0].lower()}{_profile(trace).evidence[1:]}"
    )
    return Diagnosis("diverged", event.layer, event.step, evidence, _prediction(trace), 1.0, _CURES["diverged"])


def _profile(trace):
    """Compare the gradient of the hidden layers with each other at the first recorded step."""
    delta = trace.at_weights("delta")[:-1]
    names = [name for name, weighted in zip(trace.layers, trace.has_weight, strict=True) if weighted]
    first, last = float(delta[0]), float(delta[-1])
    decades = math.log10(first / last) if first > 0 and last > 0 else -math.inf
    disease = _disease(decades)
    factor = trace.factor_per_layer("delta")
    verb = {"vanishing": "falls", "exploding": "grows"}.get(disease, "goes")
    evidence = (
        f"The RMS of dL/dh {verb} from {last:.1e} at {names[-2]} to {first:.1e} at {names[0]}: "
        f"a factor of {factor:.3f} per layer over {len(delta)} layers."
    )
    layer = names[0] if disease in ("vanishing", "exploding") else ""
    confidence = _confidence(disease, decades, delta)
    step = int(trace.steps[0])
    return Diagnosis(disease, layer, step, evidence, _prediction(trace), confidence, _CURES.get(disease, ()))


def _disease(decades):
    if abs(decades) <= _HEALTHY_BELOW:
        return "healthy"
    if abs(decades) <= _SICK_ABOVE:
        return "unsure"
    return "vanishing" if decades < 0 else "exploding"


def _confidence(disease, decades, delta):
    if disease in ("vanishing", "exploding"):
        towards_input = delta[:-1] < delta[1:] if disease == "vanishing" else delta[:-1] > delta[1:]
        return float(np.mean(towards_input))
    return max(0.0, 1.0 - abs(decades) / _SICK_ABOVE)


def _prediction(trace):
    """Return theory's factor per layer, None where there is no Config or theory has no law for it."""
    if trace.config is None:
        return None
    try:
        return factor_per_layer(theory.gradient_profile(trace.config)[:-1])
    except ValueError:
        return None
