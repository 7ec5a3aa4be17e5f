"""Config, a frozen description of an experiment, and the rules that it keeps."""

import math
import zlib
from dataclasses import dataclass, fields

import numpy as np
import torch

from gradcourse.data import SCALINGS, TRAIN_SIZE
from gradcourse.models import GROUPS, INITS, NORMS, OTHER_INITS, RESIDUALS, activation_name, make_activation
from gradcourse.optimizers import OPTIMIZERS, SCHEDULES, optimizers_with

_CHOICES = {
    "init": (*INITS, *OTHER_INITS),
    "norm": (None, *NORMS),
    "residual": (None, *RESIDUALS),
    "model": ("mlp", "conv"),
    "data": ("digits", "synthetic"),
    "scaling": SCALINGS,
    "loss": ("cross_entropy", "mse"),
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "dtype": ("float32", "float64"),
    "nesterov": (False, True),
}
_LEAST = {  # of the whole numbers
    "depth": 1,
    "width": 1,
    "accumulate": 1,
    "steps": 0,
    "batch_size": 1,
    "record_every": 1,
    "seed": 0,
}
_POSITIVE = (lambda value: value > 0, "> 0")
_NOT_NEGATIVE = (lambda value: value >= 0, ">= 0")
_SHARE = (lambda value: 0 <= value < 1, "in [0, 1)")
_RANGES = {  # of the other numbers; a field whose default is None takes None too
    "gain": _POSITIVE,
    "bias_std": _NOT_NEGATIVE,
    "bias": (lambda value: True, "finite"),
    "residual_scale": (lambda value: value >= 0, ">= 0, or None for the form's own"),
    "dropout": _SHARE,
    "learning_rate": _POSITIVE,
    "momentum": _SHARE,
    "eps": (lambda value: value >= 0, ">= 0, or None for the optimizer's own"),
    "weight_decay": (lambda value: value >= 0, ">= 0, or None for the optimizer's own"),
    "clip_norm": (lambda value: value > 0, "> 0, or None for no clipping"),
    "clip_value": (lambda value: value > 0, "> 0, or None for no clipping"),
    "clip_weights": (lambda value: value > 0, "> 0, or None for no clipping"),
}
_COMBINATIONS = (  # a field, what it can't go with, and why
    ("batch_size", lambda c: c.batch_size > TRAIN_SIZE, f"must be <= {TRAIN_SIZE}, the number of training images"),
    (
        "batch_size",
        lambda c: c.batch_size == 1 and c.norm == "batch" and c.model == "mlp",
        'must be >= 2 with norm="batch": a batch of one is its own mean',
    ),
    ("norm", lambda c: c.norm and c.depth == 1, "needs a hidden layer: set depth >= 2"),
    ("dropout", lambda c: c.dropout and c.depth == 1, "needs a hidden layer: set depth >= 2"),
    ("residual", lambda c: c.residual and c.depth < 3, "needs a layer between the first and the last: set depth >= 3"),
    (
        "residual_scale",
        lambda c: c.residual_scale is not None and c.residual is None,
        f"scales the branches of a residual network: set residual to one of {', '.join(map(repr, RESIDUALS))}",
    ),
    (
        "residual_scale",
        lambda c: c.residual_scale == 0 and c.residual != "rezero",
        'must be > 0 but for residual="rezero", which learns it: a branch times 0 learns nothing',
    ),
    (
        "width",
        lambda c: c.norm == "group" and c.width % GROUPS,
        f'must be a multiple of {GROUPS} with norm="group", which normalizes {GROUPS} groups',
    ),
    (
        "width",
        lambda c: c.model == "mlp" and c.width == {"group": GROUPS, "layer": 1}.get(c.norm),
        "leaves one unit to each group that norm normalizes, so that every output is 0: set it larger",
    ),
    (
        "init",
        lambda c: c.init == "lsuv" and c.norm,
        "scales the weights, and norm takes that scale away again: set norm=None or another init",
    ),
    ("init", lambda c: c.init == "zero" and c.norm == "weight", 'has no direction for norm="weight" to keep'),
    ("gain", lambda c: c.gain != 1 and c.init == "zero", 'does nothing to init="zero": set one of the two'),
    (
        "bias_std",
        lambda c: c.bias_std and c.init == "torch",
        'does nothing with init="torch", which draws biases of its own: set one of the two',
    ),
    (
        "scaling",
        lambda c: c.scaling != "standard" and c.data == "synthetic",
        'is for the pixels of data="digits": set one of the two',
    ),
    ("model", lambda c: c.model == "conv" and c.data == "synthetic", 'needs pictures: set data="digits"'),
    (
        "nesterov",
        lambda c: c.nesterov and not c.momentum,
        "looks ahead along the momentum, which is 0: set momentum, 0.9 for example",
    ),
    (
        "optimizer",
        lambda c: c.optimizer == "muon" and c.model == "conv",
        'is for weight matrices, and convolutions have none: set model="mlp" or another optimizer',
    ),
    (
        "optimizer",
        lambda c: c.optimizer == "muon" and not hasattr(torch.optim, "Muon"),
        f"needs a torch that has torch.optim.Muon, and this is {torch.__version__}: update torch",
    ),
    (
        "clip_value",
        lambda c: c.clip_value is not None and c.clip_norm is not None,
        "and clip_norm both cut the gradient: set one of the two",
    ),
    (
        "clip_weights",
        lambda c: c.clip_weights is not None and c.norm == "weight",
        'does not bound the weights with norm="weight", which scales them afterwards: set one of the two',
    ),
)


@dataclass(frozen=True)
class Config:
    """One experiment: a network, its data, and how it is trained.

    Attributes:
        depth: number of layers with weights, the output layer included.
        width: units of each hidden layer, channels of a convolution.
        activation: a name in gradcourse.models.ACTIVATIONS or an elementwise callable on tensors.
        init: how weights are drawn, a name in gradcourse.models.INITS; "constant": every weight is the gain; "zero";
            "lsuv": orthogonal, then scaled until every pre-activation has the standard deviation `gain` on 256 training
            images (gradcourse.models.lsuv).
        gain: factor on every initial weight; with init="normal" it is their standard deviation.
        bias_std: standard deviation of the initial biases.
        bias: added to every hidden layer's initial biases.
        norm: None, "batch", "layer", "group" (8 groups) or "weight"; between the linear map and the activation.
        residual: None, "add" x + W phi(x), "scaled" (the branch times one over the square root of the number of
            blocks), "rezero" (times a learned factor that starts at 0) or "preactivation" x + W phi(norm(x)). Every
            layer but the first and the last is a block.
        residual_scale: factor on the branches; None: the one of the form.
        dropout: probability with which a hidden unit is dropped in training.
        model: "mlp" or "conv": 3x3 convolutions, a 2x2 average pool and a linear output layer.
        data: "digits", or "synthetic": Gaussian inputs, labelled by a random linear map.
        scaling: of the pixels: "standard", "unit" 0..1, "raw" 0..16 or "255" 0..255.
        loss: "cross_entropy", or "mse" against one-hot rows (the synthetic teacher's scores).
        optimizer: "sgd", "adagrad", "rmsprop", "adam", "adamw", "lion" or "muon" (with Adam for the biases).
        learning_rate: of the optimizer.
        momentum: of SGD.
        nesterov: whether SGD looks ahead along its momentum.
        betas: of Adam, AdamW and Lion; None: the optimizer's own.
        eps: of Adagrad, RMSprop, Adam, AdamW and Muon; None: the optimizer's own.
        weight_decay: None: the optimizer's own, which is 0 but for AdamW (0.01) and Muon (0.1).
        schedule: of the learning rate: "constant", "step" (a tenth after 1/2 and after 3/4 of the steps), "cosine" (to
            0) or "warmup" (linear over the first tenth).
        clip_norm: the whole gradient's norm is clipped to this; None: not at all.
        clip_value: each entry of the gradient is clipped to [-clip_value, clip_value].
        clip_weights: after each step every weight, not the biases, is clipped to [-clip_weights, clip_weights].
        accumulate: batches whose mean gradient makes one step.
        steps: optimizer steps; 0 measures the gradient at initialization on the first batch and changes nothing.
        batch_size: images per batch.
        record_every: record the steps 0, n, 2n, ...
        seed: feeds independent streams for the data, the weights, the order of the batches and the dropout masks, so
            that another depth does not change the data.
        dtype: "float32" or "float64".

    Raises:
        ValueError: for a value out of range or fields that don't go together; the message says what is allowed.
        TypeError: for a value of the wrong kind.
    """

    depth: int = 20
    width: int = 64
    activation: object = "sigmoid"
    init: str = "xavier"
    gain: float = 1.0
    bias_std: float = 0.0
    bias: float = 0.0
    norm: str | None = None
    residual: str | None = None
    residual_scale: float | None = None
    dropout: float = 0.0
    model: str = "mlp"
    data: str = "digits"
    scaling: str = "standard"
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] | None = None
    eps: float | None = None
    weight_decay: float | None = None
    schedule: str = "constant"
    clip_norm: float | None = None
    clip_value: float | None = None
    clip_weights: float | None = None
    accumulate: int = 1
    steps: int = 60
    batch_size: int = 128
    record_every: int = 1
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        for name, least in _LEAST.items():
            self._check_whole(name, least)
        for name, (allowed, rule) in _RANGES.items():
            if not (getattr(self, name) is None and _DEFAULTS[name] is None):
                self._check_number(name, getattr(self, name), allowed, rule)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                self._refuse(name, f"must be one of {', '.join(map(repr, allowed))}")
        if self.betas is not None:
            self._check_betas()
        make_activation(self.activation)
        for name in ("momentum", "nesterov", "betas", "eps"):
            self._check_option(name)
        for name, wrong, reason in _COMBINATIONS:
            if wrong(self):
                self._refuse(name, reason)

    def _refuse(self, name, rule, kind=ValueError):
        raise kind(f"Config({name}={getattr(self, name)!r}): {name} {rule}")

    def _check_whole(self, name, least):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            self._refuse(name, f"must be a whole number, not {type(value).__name__}", TypeError)
        if value < least:
            self._refuse(name, f"must be >= {least}")

    def _check_number(self, name, value, allowed, rule):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            self._refuse(name, f"must be a number, not {type(value).__name__}", TypeError)
        if not (math.isfinite(value) and allowed(value)):
            self._refuse(name, f"must be {rule}")

    def _check_betas(self):
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            self._refuse("betas", "must be two numbers in [0, 1), (0.9, 0.999) for example", TypeError)
        for value in self.betas:
            self._check_number("betas", value, _SHARE[0], "two numbers in [0, 1)")
        object.__setattr__(self, "betas", tuple(self.betas))  # a list would not hash

    def _check_option(self, name):
        """Refuse an option of an optimizer that the chosen one does not take."""
        takers = optimizers_with(name)
        if getattr(self, name) != _DEFAULTS[name] and self.optimizer not in takers:
            names = " or ".join(f'"{taker}"' for taker in takers)
            self._refuse(name, f"goes with optimizer={names}, not {self.optimizer!r}: set one of the two")

    @property
    def summary(self):
        """The network in a few words."""
        name = activation_name(self.activation)
        words = [name, "depth", self.depth, "width", self.width, self.init, "gain", f"{self.gain:g}"]
        words += [word for key in ("norm", "residual") if getattr(self, key) for word in (key, getattr(self, key))]
        return " ".join(map(str, words if self.model == "mlp" else ["conv", *words]))

    def stream(self, name):
        """Return the seed of a named stream of random numbers, independent of all other names and seeds."""
        return int(np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(1)[0])

    def generator(self, name):
        """Return a torch.Generator for a named stream."""
        return torch.Generator().manual_seed(self.stream(name))


_DEFAULTS = {field.name: field.default for field in fields(Config)}
