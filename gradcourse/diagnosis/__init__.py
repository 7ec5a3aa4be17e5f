"""From a Trace to a named disease, with the numbers that say so and cures in order, the first of which it can try."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from gradcourse import theory
from gradcourse.diagnosis.cures import Cure, cures_for
from gradcourse.diagnosis.evidence import finding
from gradcourse.diagnosis.rules import decide
from gradcourse.diagnosis.signals import signals
from gradcourse.recording import Trace, factor_per_layer, measure
from gradcourse.training import Config, run

__all__ = ["Cure", "Diagnosis", "Trial", "diagnose"]

_OF_DEPTH = ("healthy", "unsure", "vanishing", "exploding", "diverged")  # whose evidence is a factor per layer


@dataclass(frozen=True)
class Diagnosis:
    """What a Trace shows.

    Attributes:
        disease: "healthy", "vanishing", "exploding", "saturated", "dead units", "update below precision",
            "over-clipped", "diverged" or "unsure". It names the signal, not the outcome: a gradient that vanishes may
            still train, slowly.
        layer: name of the layer where it shows most, "" if none.
        step: the optimizer step at which it shows.
        evidence: the numbers behind it, as a sentence.
        prediction: theory's factor per layer for the same network, None where there is no Config or no law.
        confidence: for a gradient that shrinks or grows, the share of neighbouring layers that do so; for a healthy
            one, 1 where the profile is flat, falling to 0 at the limit; else the share of units, steps or layers that
            show it.
        cures: what to try, in order.
        trace: the Trace that it was read from.
    """

    disease: str
    layer: str
    step: int
    evidence: str
    prediction: float | None
    confidence: float
    cures: tuple[Cure, ...]
    trace: Trace = field(repr=False, compare=False)
    dtype: torch.dtype = field(default=torch.float32, repr=False, compare=False)

    def __str__(self):
        parts = [f"Diagnosis: {self.headline} (confidence {self.confidence:.2f}).", self.evidence]
        if self.prediction is not None:
            parts.append(f"Theory predicts {self.prediction:.3f} for these layers.")
        if self.cures:
            parts.append(f"Try first: {self.cures[0]}.")
        return " ".join(parts)

    @property
    def headline(self):
        """Disease, layer and step in a few words."""
        return f"{self.disease}{f' at {self.layer}' if self.layer else ''}, step {self.step}"

    def try_cure(self, run: Callable[[Cure], Trace] | None = None):
        """Do the experiment again with the first cure, and diagnose that.

        Args:
            run: for a Trace without a Config: takes the first Cure (its `name` says what to change), trains again with
                it and returns the Trace.

        Returns:
            A Trial, with what was before and after; it prints as two lines.

        Raises:
            ValueError: when there is nothing to try, and without a Config and without `run`.
            TypeError: when `run` returns something else than a Trace.
        """
        if not self.cures:
            raise ValueError(f"try_cure(): there is no cure to try for a diagnosis of {self.disease!r}")
        cure = self.cures[0]
        trace = _again(cure) if run is None else run(cure)
        if not isinstance(trace, Trace):
            raise TypeError(f"try_cure(run=...): run must return a Trace, not {type(trace).__name__}")
        return Trial(cure, self, diagnose(trace, dtype=None if trace.config else self.dtype))


def _again(cure):
    if cure.config is None:
        raise ValueError(
            "try_cure(): this diagnosis is of a trace without a Config, which can't be run again from here: "
            "call try_cure(run=...) with a function that takes the cure, trains with it and returns the new Trace"
        )
    return run(cure.config)


@dataclass(frozen=True)
class Trial:
    """A cure that was tried.

    Attributes:
        cure: the Cure.
        before: the Diagnosis that asked for it.
        after: the Diagnosis with it. Both hold their trace, for the plots.
    """

    cure: Cure
    before: Diagnosis
    after: Diagnosis

    @property
    def helped(self):
        """Whether what is left is healthy."""
        return self.after.disease == "healthy"

    def __str__(self):
        verdict = "It helped" if self.helped else "It did not help"
        return (
            f"Before: {self.before.headline}. {self.before.evidence}\n"
            f"After {self.cure}: {self.after.headline}. {self.after.evidence} {verdict}."
        )


def diagnose(what, batch=None, loss_fn=None, *, dtype=None):
    """Name what a training run, or a network before it, shows.

    Args:
        what: a Trace; a Config, which is run first; or a torch module, measured on `batch` with `loss_fn`.
        batch: inputs and targets, ``(x, y)``, for a module.
        loss_fn: called as ``loss_fn(model(x), y)``, for a module.
        dtype: of the weights, a torch.dtype, to know which steps rounding takes. None: the Config's or the module's,
            float32 for a Trace without a Config.

    Returns:
        A Diagnosis.

    Raises:
        TypeError: for anything else, and for a module without batch and loss.
        ValueError: when the trace holds too few layers or no step.
    """
    if isinstance(what, nn.Module):
        if batch is None or loss_fn is None:
            raise TypeError("diagnose(model): a module is measured first: call diagnose(model, (x, y), loss_fn)")
        dtype = dtype or next((p.dtype for p in what.parameters()), None)
        what = measure(what, batch, loss_fn)
    trace = run(what) if isinstance(what, Config) else what
    if not isinstance(trace, Trace):
        raise TypeError(
            f"diagnose() takes a Trace, a Config or a module with batch and loss, not {type(what).__name__}"
        )
    return _diagnosis(trace, dtype or (getattr(torch, trace.config.dtype) if trace.config else torch.float32))


def _diagnosis(trace, dtype):
    if len(trace.steps) == 0 or trace.has_weight.sum() < 3:
        raise ValueError(
            f"diagnose({trace!r}): it compares layers with each other and needs one recorded step and "
            "three layers with weights"
        )
    found = signals(trace, torch.finfo(dtype).eps)
    disease = decide(found)
    shown = finding(disease, trace, found)
    return Diagnosis(
        disease=disease,
        layer=shown.layer,
        step=shown.step,
        evidence=shown.evidence,
        prediction=_prediction(trace, found.profile) if disease in _OF_DEPTH else None,
        confidence=shown.confidence,
        cures=cures_for(disease, trace, found),
        trace=trace,
        dtype=dtype,
    )


def _prediction(trace, profile):
    """Return theory's factor per layer, None where there is no Config, no law or nothing to compare with."""
    if trace.config is None or profile.row or len(profile.columns) < 2:
        return None
    weighted = trace.has_weight.nonzero()[0].tolist()
    try:
        predicted = theory.gradient_profile(trace.config)[[weighted.index(column) for column in profile.columns]]
    except ValueError:
        return None
    factor = factor_per_layer(predicted)
    return factor if factor == factor else None  # NaN: of branches that begin at 0
