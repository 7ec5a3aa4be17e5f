"""What to try against each disease, in order, and the change of a Config that does it."""

from dataclasses import dataclass, replace

import numpy as np

from gradcourse.diagnosis.rules import LIMITS, by_depth

_SMALLER = "weights drawn smaller (init='he' for ReLU, 'xavier' for tanh, gain=1)"
_FITTING = {"relu": "he", "leaky_relu": "he", "gelu": "he", "silu": "he", "elu": "he", "selu": "lecun"}  # else xavier
_USUAL_RATE = {"sgd": 0.05, "adagrad": 0.01, "lion": 3e-4, "muon": 0.01}  # else 1e-3
_DRAWN_ANEW = {"gain": 1.0, "bias": 0.0, "bias_std": 0.0}
_RELU = {"activation": "relu", "init": "he", **_DRAWN_ANEW}
_BATCHNORM = ("normalization of the pre-activations over the batch", {"norm": "batch"})


@dataclass(frozen=True)
class Cure:
    """Something to try.

    Attributes:
        name: in words.
        config: the Config with it, None where there was none.
    """

    name: str
    config: object = None

    def __str__(self):
        return self.name


def cures_for(disease, trace, signals):
    """Return the Cures of a disease in order; for a trace with a Config those that change it and that it allows."""
    found = _ALL[disease](trace, signals) if disease in _ALL else ()
    if trace.config is None:
        return tuple(Cure(name) for name, _ in found)
    changed = [(name, _changed(trace.config, fields)) for name, fields in found]
    return tuple(Cure(name, config) for name, config in changed if config is not None)


def _changed(config, fields):
    """Return the Config with other fields, None where that is the same one or Config refuses it."""
    try:
        other = replace(config, **fields)
    except ValueError:
        return None
    return None if other == config else other


def _vanishing(trace, signals):
    return (
        ("an activation whose slope is near 1, with the initialization that fits it (ReLU with init='he')", _RELU),
        _BATCHNORM,
        ("residual connections", {"residual": "scaled", "residual_scale": None}),
    )


def _exploding(trace, signals):
    config = trace.config
    scaled = {"residual": "scaled", "residual_scale": None}
    rest = (
        ("residual branches scaled by 1/sqrt(depth)", scaled),
        ("clipping by norm, which stops the overflow and not the growth", _clipped_to(1.0)),
    )
    if config is not None and (config.residual or config.norm in ("batch", "layer", "group")):
        return rest  # smaller weights change nothing: a norm undoes them, and the stream grows all the same
    return ((_SMALLER, _drawn_anew(config)), *rest)


def _diverged(trace, signals):
    rate, clip = _lower_rate(trace), ("clipping by norm", _clipped_to(1.0))
    if trace.config is not None and by_depth(signals.profile) != "exploding":
        return (rate, clip)
    name, fields = _exploding(trace, signals)[0]
    if name == _SMALLER:
        name = "weights drawn smaller, if the gradient already grows from layer to layer at the first step"
    return ((name, fields), rate, clip)


def _saturated(trace, signals):
    inputs = {} if trace.config is None or trace.config.data == "synthetic" else {"scaling": "standard"}
    smaller = (
        "weights drawn smaller and inputs of variance 1 (init='xavier', gain=1)",
        {"init": "xavier", **_DRAWN_ANEW, **inputs},
    )
    other = ("an activation that does not level off, with the initialization that fits it (ReLU with init='he')", _RELU)
    if trace.config is not None and trace.config.activation == "sigmoid":
        return (other, _BATCHNORM)  # smaller weights alone would make its gradient vanish
    later = signals.saturated_at_start < LIMITS.saturated
    return (*((_lower_rate(trace),) if later else ()), smaller, _BATCHNORM, other)


def _dead(trace, signals):
    leaky = ("leaky ReLU, whose slope is nowhere 0", {"activation": "leaky_relu"})
    if signals.dead >= LIMITS.dead:
        return (
            ("biases that begin at 0, with weights that fit (init='he')", {"init": "he", **_DRAWN_ANEW}),
            _BATCHNORM,
            leaky,
        )
    return (_lower_rate(trace), leaky, _BATCHNORM)


def _over_clipped(trace, signals):
    raw = float(np.median([event.raw for event in trace.events if event.kind == "clipped"]))
    return (
        (
            f"a threshold near the median of the gradient's norms (clip_norm={raw:.2g})",
            _clipped_to(float(f"{raw:.2g}")),
        ),
        ("no clipping", {"clip_norm": None, "clip_value": None}),
    )


def _below_precision(trace, signals):
    precise = ("weights held in a wider format", {"dtype": "float64"})
    smaller = ("weights drawn smaller, so that the same step is a larger part of them", _drawn_anew(trace.config))
    larger = ("a larger learning rate, so that a step is about 1e-3 of the weights", _usual_rate(trace.config))
    if trace.config is not None and trace.config.learning_rate > 0.01 * larger[1]["learning_rate"]:
        return (smaller, precise)
    return (larger, precise, smaller)


def _drawn_anew(config):
    activation = config.activation if config is not None and isinstance(config.activation, str) else ""
    return {"init": _FITTING.get(activation, "xavier"), **_DRAWN_ANEW}


def _clipped_to(norm):
    return {"clip_norm": norm, "clip_value": None}


def _usual_rate(config):
    return {} if config is None else {"learning_rate": _USUAL_RATE.get(config.optimizer, 1e-3)}


def _lower_rate(trace):
    """A tenth of the learning rate, or a usual one where that is smaller still."""
    fields = _usual_rate(trace.config)
    if fields:
        fields = {"learning_rate": min(0.1 * trace.config.learning_rate, fields["learning_rate"])}
    return ("a smaller learning rate", fields)


_ALL = {
    "vanishing": _vanishing,
    "exploding": _exploding,
    "diverged": _diverged,
    "saturated": _saturated,
    "dead units": _dead,
    "over-clipped": _over_clipped,
    "update below precision": _below_precision,
}
