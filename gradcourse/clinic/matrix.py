"""Diseases and cures as changes of a Config, for a sweep over all pairs of them."""

from gradcourse.sweeps import sweep
from gradcourse.training import Config

_BASE = Config(learning_rate=0.05, batch_size=64, steps=300, record_every=100)
_FITTING = {"relu": "he", "leaky_relu": "he"}  # else xavier


def _drawn_anew(config):
    return {"init": _FITTING.get(config.activation, "xavier"), "gain": 1.0, "bias": 0.0}


def _other_activation(config):
    return {"activation": "leaky_relu" if config.activation == "relu" else "relu"}


def _by_data(config):
    return {} if config.norm else {"init": "lsuv", "gain": 1.0, "bias": 0.0}  # a norm takes the scale away again


DISEASES = {
    "sigmoid, depth 10": {"activation": "sigmoid", "depth": 10},
    "tanh, std .01": {"activation": "tanh", "depth": 6, "init": "normal", "gain": 0.01},
    "ReLU, torch's own init": {"activation": "relu", "depth": 10, "init": "torch"},
    "ReLU, He weights x 2": {"activation": "relu", "depth": 10, "init": "he", "gain": 2.0},
    "skips without scale": {"activation": "relu", "depth": 30, "init": "he", "residual": "add", "steps": 150},
    "dead ReLU": {"activation": "relu", "depth": 4, "init": "he", "bias": -5.0},
    "BatchNorm, depth 30": {"activation": "relu", "depth": 30, "init": "he", "norm": "batch", "steps": 150},
    "He ReLU, depth 48": {"activation": "relu", "depth": 48, "init": "he", "steps": 200},
}
"""Networks that do not learn, as changes of one healthy experiment."""

CURES = {
    "none": {},
    "fitting init": _drawn_anew,
    "other activation": _other_activation,
    "other activation, He": lambda config: _drawn_anew(config) | _other_activation(config) | {"init": "he"},
    "LSUV": _by_data,
    "BatchNorm": {"norm": "batch"},
    "LayerNorm": {"norm": "layer"},
    "scaled skips": {"residual": "scaled"},
    "clip norm 1": {"clip_norm": 1.0},
    "clip weights .1": {"clip_weights": 0.1},
    "Adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "rate / 10": lambda config: {"learning_rate": config.learning_rate / 10},
    "rate x 10": lambda config: {"learning_rate": config.learning_rate * 10},
    "rate decay": {"schedule": "cosine"},
}
"""What is recommended against them."""


def matrix(seed=range(3), *, diseases=DISEASES, cures=CURES, **axes):
    """Treat each disease with each cure.

    Args:
        seed: of the runs of one pair.
        diseases: name -> changes of the Config, see DISEASES.
        cures: name -> changes of the Config or a function from the Config to them, see CURES.
        **axes: further axes of the sweep.

    Returns:
        A Sweep over disease, cure and seed, for gc.plot_cures.
    """
    return sweep(_BASE, disease=diseases, cure=cures, seed=seed, **axes)
