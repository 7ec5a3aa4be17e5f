"""run does the experiment that a Config describes and returns a Trace; Trained is a network as data."""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from gradcourse.config import Config
from gradcourse.data import TRAIN_SIZE, digits, synthetic
from gradcourse.models import convnet, lsuv, mlp, one_thread
from gradcourse.optimizers import make_optimizer, make_schedule
from gradcourse.recording import Recorder

__all__ = ["Config", "Trained", "build_model", "load_data", "run"]

_MODELS = {"mlp": mlp, "conv": convnet}
LOSSES = {"cross_entropy": (cross_entropy, "y_train"), "mse": (mse_loss, "scores_train")}  # and what it aims at
_LSUV_IMAGES = 256


def load_data(config):
    """Return the Split that a Config describes, its numbers in the Config's dtype."""
    seed = config.stream("data")
    split = synthetic(seed) if config.data == "synthetic" else digits(seed, scaling=config.scaling)
    dtype = getattr(torch, config.dtype)
    return replace(split, **{name: getattr(split, name).to(dtype) for name in ("x_train", "x_test", "scores_train")})


def build_model(config):
    """Build the network that a Config describes, with its initial weights."""
    model = _MODELS[config.model](
        config.depth,
        config.width,
        config.activation,
        generator=config.generator("weights"),
        init=config.init,
        gain=config.gain,
        bias_std=config.bias_std,
        bias=config.bias,
        norm=config.norm,
        residual=config.residual,
        residual_scale=config.residual_scale,
        dropout=config.dropout,
        mask_generator=config.generator("dropout"),
        dtype=getattr(torch, config.dtype),
    )
    if config.init == "lsuv":
        lsuv(model, load_data(config).x_train[:_LSUV_IMAGES], config.gain)
    return model


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
    split = load_data(config)
    model = build_model(config)
    optimizer = make_optimizer(model.parameters(), config)
    schedule = make_schedule(optimizer, config)
    loss_fn, aim = LOSSES[config.loss]
    x, y = split.x_train, getattr(split, aim)
    batches = batches_of(config)
    with Recorder(model, optimizer, config.record_every) as recorder:
        for _ in range(max(config.steps, 1)):
            optimizer.zero_grad()
            loss = 0.0
            for batch in islice(batches, config.accumulate):
                part = loss_fn(model(x[batch]), y[batch]) / config.accumulate
                part.backward()
                loss += part.detach()
            recorder.log_loss(loss)
            if config.steps == 0:
                recorder.end_step()
                break
            clip_gradient(model, config)
            optimizer.step()
            schedule.step()
            clip_weights(model, config)
            if not torch.isfinite(loss):
                break
    return replace(
        recorder.trace,
        config=config,
        train_accuracy=accuracy_of(model, split.x_train, split.y_train),
        test_accuracy=accuracy_of(model, split.x_test, split.y_test),
    )


def batches_of(config):
    """Yield the indices of each batch's images, without end: a new order every epoch, an incomplete batch left out."""
    generator = config.generator("batches")
    whole = TRAIN_SIZE - TRAIN_SIZE % config.batch_size
    while True:
        yield from torch.randperm(TRAIN_SIZE, generator=generator)[:whole].split(config.batch_size)


def clip_gradient(model, config):
    """Clip the gradient as a Config says."""
    if config.clip_norm is not None:
        clip_grad_norm_(model.parameters(), config.clip_norm)
    if config.clip_value is not None:
        clip_grad_value_(model.parameters(), config.clip_value)


def clip_weights(model, config):
    """Clip the weights as a Config says: what draw_weight drew, the weights of linear layers and convolutions."""
    if config.clip_weights is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.clamp_(-config.clip_weights, config.clip_weights)


@torch.no_grad()
def accuracy_of(model, x, y):
    """Return the share of right answers, NaN where scores are not finite; leaves the model in evaluation mode."""
    scores = model.eval()(x)
    if not torch.isfinite(scores).all():
        return float("nan")  # argmax of NaN is class 0, which would read as chance
    return float((scores.argmax(dim=1) == y).double().mean())


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained network as data: what builds it, and its numbers.

    Attributes:
        config: the Config that `build_model` builds it from.
        state: name -> NumPy array, as in the network's state_dict.
    """

    config: Config
    state: dict

    @classmethod
    def of(cls, model, config):
        """Take the numbers of a model that `build_model(config)` has built, as they are now.

        Raises:
            TypeError: for anything but a model and a Config.
        """
        if not isinstance(model, torch.nn.Module) or not isinstance(config, Config):
            found = f"{type(model).__name__}, {type(config).__name__}"
            raise TypeError(f"Trained.of({found}): it takes a model and the Config that it was built from")
        return cls(config, {name: value.detach().cpu().numpy().copy() for name, value in model.state_dict().items()})

    def __repr__(self):
        return f"<Trained {self.config.summary}>"

    def model(self):
        """Build the network anew and give it these numbers.

        Raises:
            ValueError: when they are not those of a network of this Config.
        """
        model = build_model(self.config)
        wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        found = {str(name): np.shape(value) for name, value in self.state.items()}
        if found != wanted:
            name = next(name for name in [*wanted, *found] if wanted.get(name) != found.get(name))
            said = f"{name} has shape {found.get(name, 'none')} and must have {wanted.get(name, 'none')}"
            raise ValueError(f"these weights are not those of {self.config.summary}: {said}")
        model.load_state_dict({name: torch.as_tensor(value) for name, value in self.state.items()})
        return model

    def accuracy(self, part="test"):
        """Evaluate the network anew, in evaluation mode, and return its share of right answers; NaN if not finite.

        Args:
            part: "test" or "train", of the data of its Config.
        """
        split = load_data(self.config)
        with one_thread():
            return accuracy_of(self.model(), getattr(split, f"x_{part}"), getattr(split, f"y_{part}"))
