"""A training script with what it may do wrong around the network, and training by it."""

from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradcourse.models import one_thread
from gradcourse.optimizers import make_optimizer, make_schedule
from gradcourse.recording import Recorder, Trace
from gradcourse.training import (
    Config,
    Trained,
    accuracy_of,
    batches_of,
    build_model,
    clip_gradient,
    clip_weights,
    load_data,
)

_LABELS = ("true", "shuffled")
_KEPT = 128  # trainings that are not done again


@dataclass(frozen=True)
class Script:
    """An experiment, and four things that a script can get wrong around it.

    Attributes:
        config: the network, its data and how it is trained.
        labels: "true", or "shuffled": each training image has the class of some other image.
        zero_grad: whether each step begins with gradients of 0.
        softmax: whether the scores go through a softmax before the cross entropy, which does one itself.
        running_momentum: share that each batch has in the statistics that BatchNorm will use in evaluation mode.
    """

    config: Config
    labels: str = "true"
    zero_grad: bool = True
    softmax: bool = False
    running_momentum: float = 0.1

    def changed(self, **changes):
        """Return the script with other values, of its own fields or of its Config's.

        Raises:
            ValueError, TypeError: for a name that is neither, and a value that is not allowed.
        """
        own = {name: changes.pop(name) for name in tuple(changes) if name in FAULTS}
        unknown = [name for name in changes if name not in _OF_CONFIG]
        if unknown:
            raise ValueError(f"{unknown[0]!r} can't be changed: there is {', '.join(FAULTS)}, and the fields of Config")
        for name, value in own.items():
            _check(name, value)
        return replace(self, config=replace(self.config, **changes), **own)


def _check(name, value):
    if name == "labels" and value not in _LABELS:
        raise ValueError(f"labels={value!r}: labels must be 'true' or 'shuffled'")
    if name in ("zero_grad", "softmax") and not isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: {name} must be True or False")
    if name == "running_momentum":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"running_momentum={value!r}: running_momentum must be a number")
        if not 0 < value <= 1:
            raise ValueError(f"running_momentum={value!r}: running_momentum must be in (0, 1]")


FAULTS = tuple(field.name for field in fields(Script) if field.name != "config")
"""Names of what a Script has beside its Config."""

_OF_CONFIG = {field.name for field in fields(Config)}


@dataclass(frozen=True, repr=False)
class Treated:
    """What came of a training.

    Attributes:
        trace: the Trace of its steps, without the Config.
        trained: the Trained network.
    """

    trace: Trace
    trained: Trained

    def __repr__(self):
        return f"<Treated: test accuracy {self.trace.test_accuracy:.2f}>"


@lru_cache(maxsize=_KEPT)
def train(script):
    """Train by a Script and return what came of it, a Treated.

    As `run`, with the script's own mistakes. Accuracies are those of evaluation mode, against the true classes.
    """
    with one_thread():
        config, split, model = script.config, load_data(script.config), build_model(script.config)
        set_running_momentum(model, script.running_momentum)
        optimizer = make_optimizer(model.parameters(), config)
        schedule = make_schedule(optimizer, config)
        labels, batches = _labels(script, split), batches_of(config)
        with Recorder(model, optimizer, config.record_every) as recorder:
            for _ in range(config.steps):
                batch = next(batches)
                if script.zero_grad:
                    optimizer.zero_grad()
                scores = model(split.x_train[batch])
                loss = cross_entropy(scores.softmax(dim=1) if script.softmax else scores, labels[batch])
                loss.backward()
                recorder.log_loss(loss)
                clip_gradient(model, config)
                optimizer.step()
                schedule.step()
                clip_weights(model, config)
                if not torch.isfinite(loss):
                    break
        trained = Trained.of(model, config)
        trace = replace(
            recorder.trace,
            train_accuracy=accuracy_of(model, split.x_train, split.y_train),
            test_accuracy=accuracy_of(model, split.x_test, split.y_test),
        )
        return Treated(trace, trained)


def set_running_momentum(model, share):
    """Set the share that each batch has in the running statistics of all BatchNorms."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = share


def _labels(script, split):
    if script.labels == "true":
        return split.y_train
    return split.y_train[torch.randperm(len(split.y_train), generator=script.config.generator("labels"))]
