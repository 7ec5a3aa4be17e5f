"""What a network of the clinic may suffer from: how it is drawn, and what acts on it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gradcourse.clinic.script import Script
from gradcourse.training import Config

_NETWORK = ("activation", "init", "gain", "bias", "bias_std", "norm", "residual", "residual_scale")
_RATE = ("learning_rate", "optimizer")


@dataclass(frozen=True)
class Cause:
    """A cause of failure.

    Attributes:
        name: in the words of the clinic.
        meaning: what is wrong, in one sentence.
        of_gradient: whether the gradient is sick, so that its profile over the layers shows it.
        draw: called with a NumPy Generator and a seed; returns a Script that fails by this cause.
        acted_on_by: names of what can be changed against the cause itself; anything else at best hides it.
    """

    name: str
    meaning: str
    of_gradient: bool
    draw: Callable = field(repr=False)
    acted_on_by: tuple[str, ...]


def _script(seed, *, faults=None, **fields):
    usual = {"activation": "relu", "init": "he", "depth": 4, "learning_rate": 0.1, "steps": 300, "batch_size": 64}
    return Script(Config(**usual | fields, seed=seed), **faults or {})


def _sigmoid(rng, seed):
    return _script(seed, activation="sigmoid", init="xavier", depth=int(rng.integers(7, 11)))


def _small_weights(rng, seed):
    std = round(rng.uniform(0.007, 0.013), 4)
    return _script(seed, activation="tanh", init="normal", gain=std, depth=int(rng.integers(5, 8)))


def _large_weights(rng, seed):
    gain = round(rng.uniform(1.9, 2.3), 2)
    return _script(seed, gain=gain, depth=int(rng.integers(9, 13)), learning_rate=0.05)


def _dead_units(rng, seed):
    return _script(seed, bias=-round(rng.uniform(8.0, 10.0), 1), depth=int(rng.integers(4, 6)))


def _equal_weights(rng, seed):
    weight = round(rng.uniform(0.04, 0.08), 3)
    return _script(seed, activation="tanh", init="constant", gain=weight, depth=3)


def _batch_norm_without_skips(rng, seed):
    return _script(seed, norm="batch", depth=int(rng.integers(29, 33)), learning_rate=0.05, steps=150)


def _shuffled_labels(rng, seed):
    return _script(seed, depth=int(rng.integers(3, 6)), faults={"labels": "shuffled"})


def _no_zero_grad(rng, seed):
    return _script(seed, depth=int(rng.integers(3, 6)), learning_rate=0.05, faults={"zero_grad": False})


def _inputs_not_scaled(rng, seed):
    return _script(seed, depth=int(rng.integers(4, 6)), scaling="255")


def _evaluation_mode(rng, seed):
    share = round(rng.uniform(0.0005, 0.001), 5)
    fields = {"norm": "batch", "depth": 8, "scaling": "raw", "learning_rate": 0.05, "momentum": 0.9, "steps": 66}
    return _script(seed, **fields, faults={"running_momentum": share})


def _softmax_twice(rng, seed):
    return _script(seed, depth=int(rng.integers(3, 6)), faults={"softmax": True})


def _tiny_rate(rng, seed):
    return _script(seed, depth=int(rng.integers(3, 6)), learning_rate=round(rng.uniform(0.5e-5, 2e-5), 7))


def _huge_rate(rng, seed):
    return _script(seed, depth=int(rng.integers(4, 6)), learning_rate=round(rng.uniform(4.0, 8.0), 1))


_OF_THE_GRADIENT = (
    ("small slopes", "The activation's slope is at most 1/4, at every weight.", _sigmoid, _NETWORK),
    (
        "small weights",
        "The initial weights are so small that the signal shrinks in each layer.",
        _small_weights,
        _NETWORK,
    ),
    (
        "large weights",
        "The initial weights are so large that the signal grows in each layer.",
        _large_weights,
        _NETWORK,
    ),
    ("dead units", "A whole layer of ReLUs is never active.", _dead_units, _NETWORK),
    (
        "equal weights",
        "All weights of a layer are equal, so that its units stay copies of each other.",
        _equal_weights,
        ("init", "gain", "bias_std"),
    ),
    (
        "BatchNorm without skips",
        "Each BatchNorm makes the gradient grow, and nothing leads around it.",
        _batch_norm_without_skips,
        ("residual", "residual_scale", "norm"),
    ),
)
_OF_ANYTHING_ELSE = (
    ("shuffled labels", "The labels belong to other images.", _shuffled_labels, ("labels",)),
    ("no zero_grad", "Each step adds its gradient to those of all steps before.", _no_zero_grad, ("zero_grad",)),
    ("inputs not scaled", "The pixels come as 0 to 255.", _inputs_not_scaled, ("scaling", "norm")),
    (
        "stale statistics",
        "BatchNorm's running statistics are not those of the data, so that evaluation mode differs from training mode.",
        _evaluation_mode,
        ("running_momentum", "norm"),
    ),
    ("softmax twice", "The scores pass a softmax before a loss that does one itself.", _softmax_twice, ("softmax",)),
    ("tiny rate", "The learning rate is thousands of times too small.", _tiny_rate, _RATE),
    ("huge rate", "The learning rate is so large that the first steps overshoot.", _huge_rate, _RATE),
)

CAUSES = {
    name: Cause(name, meaning, of_gradient, draw, acted_on_by)
    for of_gradient, group in ((True, _OF_THE_GRADIENT), (False, _OF_ANYTHING_ELSE))
    for name, meaning, draw, acted_on_by in group
}
"""All Causes by name: first those of the gradient, then those that only look like them."""
