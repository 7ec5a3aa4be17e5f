"""run does the experiment that a Config describes and returns a Trace."""

from dataclasses import replace
from itertools import islice

import torch
from torch.nn.functional import cross_entropy, mse_loss
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from gradcourse.config import Config
from gradcourse.data import TRAIN_SIZE, digits, synthetic
from gradcourse.models import convnet, lsuv, mlp, one_thread
from gradcourse.optimizers import make_optimizer, make_schedule
from gradcourse.recording import Recorder

__all__ = ["Config", "build_model", "load_data", "run"]

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
            _clip_gradient(model, config)
            optimizer.step()
            schedule.step()
            _clip_weights(model, config)
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


def _clip_gradient(model, config):
    if config.clip_norm is not None:
        clip_grad_norm_(model.parameters(), config.clip_norm)
    if config.clip_value is not None:
        clip_grad_value_(model.parameters(), config.clip_value)


def _clip_weights(model, config):
    """Clip what draw_weight drew, the weights of linear layers and convolutions."""
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
