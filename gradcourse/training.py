"""Config, a frozen description of an experiment, and run, which does it and returns a Trace."""

import math
import zlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gradcourse.data import TRAIN_SIZE, digits
from gradcourse.models import INITS, activation_name, make_activation, mlp, one_thread
from gradcourse.recording import Recorder

_OPTIMIZERS = {
    "sgd": lambda parameters, c: torch.optim.SGD(parameters, lr=c.learning_rate, momentum=c.momentum),
    "adam": lambda parameters, c: torch.optim.Adam(parameters, lr=c.learning_rate),
}
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Config:
    """One experiment on the digits: a plain network and how it is trained.

    Attributes:
        depth: number of linear layers, the output layer included.
        width: units of each hidden layer.
        activation: a name in gradcourse.models.ACTIVATIONS or an elementwise callable on tensors.
        init: how weights are drawn, a name in gradcourse.models.INITS.
        gain: factor on every initial weight; with init="normal" it is their standard deviation.
        bias_std: standard deviation of the initial biases.
        optimizer: "sgd" or "adam".
        learning_rate: of the optimizer.
        momentum: of SGD.
        clip_norm: the whole gradient's norm is clipped to this; None: not at all.
        steps: optimizer steps; 0 measures the gradient at initialization on the first batch and changes nothing.
        batch_size: images per step.
        record_every: record the steps 0, n, 2n, ...
        seed: feeds independent streams for the split of the data, the weights and the order of the batches, so that
            another depth does not change the data.
        dtype: "float32" or "float64".

    Raises:
        ValueError: for a value out of range; the message says what is allowed.
        TypeError: for a value of the wrong kind.
    """

    depth: int = 20
    width: int = 64
    activation: object = "sigmoid"
    init: str = "xavier"
    gain: float = 1.0
    bias_std: float = 0.0
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.0
    clip_norm: float | None = None
    steps: int = 60
    batch_size: int = 128
    record_every: int = 1
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self):
        for name, least in (
            ("depth", 1),
            ("width", 1),
            ("steps", 0),
            ("batch_size", 1),
            ("record_every", 1),
            ("seed", 0),
        ):
            self._check_whole(name, least)
        for name in ("gain", "learning_rate"):
            self._check_number(name, lambda value: value > 0, "> 0")
        self._check_number("bias_std", lambda value: value >= 0, ">= 0")
        self._check_number("momentum", lambda value: 0 <= value < 1, "in [0, 1)")
        if self.clip_norm is not None:
            self._check_number("clip_norm", lambda value: value > 0, "> 0, or None for no clipping")
        for name, allowed in (("init", INITS), ("optimizer", _OPTIMIZERS), ("dtype", _DTYPES)):
            if getattr(self, name) not in tuple(allowed):
                self._refuse(name, f"must be one of {', '.join(map(repr, allowed))}")
        if self.batch_size > TRAIN_SIZE:
            self._refuse("batch_size", f"must be <= {TRAIN_SIZE}, the number of training images")
        if self.momentum and self.optimizer != "sgd":
            self._refuse("momentum", f'goes with optimizer="sgd", not {self.optimizer!r}: set one of the two')
        make_activation(self.activation)

    def _refuse(self, name, rule, kind=ValueError):
        raise kind(f"Config({name}={getattr(self, name)!r}): {name} {rule}")

    def _check_whole(self, name, least):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            self._refuse(name, f"must be a whole number, not {type(value).__name__}", TypeError)
        if value < least:
            self._refuse(name, f"must be >= {least}")

    def _check_number(self, name, allowed, rule):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            self._refuse(name, f"must be a number, not {type(value).__name__}", TypeError)
        if not (math.isfinite(value) and allowed(value)):
            self._refuse(name, f"must be {rule}")

    @property
    def summary(self):
        """The network in a few words."""
        name = activation_name(self.activation)
        return f"{name} depth {self.depth} width {self.width} {self.init} gain {self.gain:g}"

    def stream(self, name):
        """Return the seed of a named stream of random numbers, independent of all other names and seeds."""
        return int(np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]).generate_state(1)[0])

    def generator(self, name):
        """Return a torch.Generator for a named stream."""
        return torch.Generator().manual_seed(self.stream(name))


def build_model(config):
    """Build the network that a Config describes, with its initial weights."""
    return mlp(
        config.depth,
        config.width,
        config.activation,
        generator=config.generator("weights"),
        init=config.init,
        gain=config.gain,
        bias_std=config.bias_std,
        dtype=_DTYPES[config.dtype],
    )


def run(config):
    """Do the experiment that a Config describes.

    The run ends early, after the step that was recorded, when the loss is no longer finite.

    Args:
        config: a Config.

    Returns:
        A Trace of every step, with the accuracies after the last one. With config.steps = 0: of one pass at
        initialization, without a step.

    Raises:
        TypeError: for anything but a Config.
    """
    if not isinstance(config, Config):
        raise TypeError(f"run() takes a Config, not {type(config).__name__}: write run(Config(depth=20))")
    with one_thread():
        return _run(config)


def _run(config):
    split = digits(config.stream("data"))
    model = build_model(config)
    optimizer = _OPTIMIZERS[config.optimizer](model.parameters(), config)
    x_train = split.x_train.to(_DTYPES[config.dtype])
    with Recorder(model, optimizer, config.record_every) as recorder:
        for batch in _batches(config):
            optimizer.zero_grad()
            loss = cross_entropy(model(x_train[batch]), split.y_train[batch])
            loss.backward()
            recorder.log_loss(loss)
            if config.steps == 0:
                recorder.end_step()
                break
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            if not torch.isfinite(loss):
                break
    return replace(
        recorder.trace,
        config=config,
        train_accuracy=_accuracy(model, x_train, split.y_train),
        test_accuracy=_accuracy(model, split.x_test.to(x_train.dtype), split.y_test),
    )


def _batches(config):
    """Yield the indices of each step's images: a new order every epoch, an incomplete last batch left out."""
    generator = config.generator("batches")
    wanted = max(config.steps, 1)
    while wanted > 0:
        order = torch.randperm(TRAIN_SIZE, generator=generator)
        batches = order[: TRAIN_SIZE - TRAIN_SIZE % config.batch_size].split(config.batch_size)[:wanted]
        yield from batches
        wanted -= len(batches)


def _accuracy(model, x, y):
    with torch.no_grad():
        scores = model(x)
    if not torch.isfinite(scores).all():
        return float("nan")  # argmax of NaN is class 0, which would read as chance
    return float((scores.argmax(dim=1) == y).double().mean())
