"""Lesson 06: a threshold that is moved while a network trains."""

import math
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, parameters_to_vector

from gradcourse import models
from gradcourse.data import digits
from gradcourse.explorer.controls import Slider, Toggle
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import INK, Axis, Panel, Picture
from gradcourse.training import accuracy_of

_STEPS, _BATCHES, _BATCH = 600, 22, 64
_WIDTH, _GAIN = 64, 1.5
_LAYERS_AT_ONCE = 80  # times steps, between two times that sliders are listened to: 10 ms or less
_REDRAWN_EVERY = 20  # steps
_SLOWLY = 0.012  # seconds for a step: time for a hand
_ALONG = Axis("step", 0, _STEPS)
_CHANCE = math.log(10)  # the loss of a constant answer


def clipping():
    """Return the Explorer of a clip threshold and a learning rate, which act on the step that comes next."""
    return Explorer(
        "A threshold under a running training",
        _train,
        id="06-x1",
        clip=Toggle("clip the gradient", True),
        threshold=Slider("clip threshold", 1.0, 0.001, 1000.0, step=0.1, log=True),
        rate=Slider("learning rate", 0.05, 0.0005, 5.0, step=0.1, log=True),
        depth=Slider("depth at the next start", 10, 10, 30, step=10),
        slow=Toggle("slow motion", False),
    )


class _Run:
    """A training and what is known of its steps.

    Attributes:
        depth: of the network.
        far: how far its weights are from He's.
        step: how many were made.
        rows: loss, gradient norm, threshold (inf without clipping) and length of each step, (S, 4), NaN in the future.
    """

    def __init__(self, depth):
        generator = torch.Generator().manual_seed(0)
        self.depth, self.step, self.rows = depth, 0, np.full((_STEPS, 4), np.nan)
        self._model = models.mlp(depth, _WIDTH, "relu", init="he", gain=_GAIN, generator=generator)
        self._optimizer = torch.optim.SGD(self._model.parameters())
        self._split = digits()
        size = parameters_to_vector(self._model.parameters()).detach().norm()
        self.far = float(size) * (1 - 1 / _GAIN)

    @models.one_thread()
    def advance(self, threshold, rate):
        """Make one step of plain SGD."""
        start = self.step % _BATCHES * _BATCH
        x, y = (part[start : start + _BATCH] for part in (self._split.x_train, self._split.y_train))
        self._optimizer.param_groups[0]["lr"] = rate
        self._optimizer.zero_grad()
        loss = cross_entropy(self._model(x.float()), y)
        loss.backward()
        norm = float(clip_grad_norm_(self._model.parameters(), threshold))
        self._optimizer.step()
        self.rows[self.step] = float(loss.detach()), norm, threshold, rate * min(norm, threshold)
        self.step += 1

    @property
    def ended(self):
        """Whether all steps were made, or the loss is no longer finite."""
        return self.step == _STEPS or not math.isfinite(self.rows[self.step - 1, 0])

    @models.one_thread()
    def accuracy(self):
        """Return the share of training images that are right, NaN where scores are not finite."""
        return accuracy_of(self._model, self._split.x_train.float(), self._split.y_train)


def _train(values):
    """Yield Pictures of a training; the controls are asked anew before each step."""
    run, picture = _Run(values.depth), None
    while not (run.step and run.ended):
        run.advance(values.threshold if values.clip else math.inf, values.rate)
        if values.slow:
            time.sleep(_SLOWLY)
        if picture is None or run.step % _REDRAWN_EVERY == 0 or values.slow:
            picture = Picture(_panels(run), _now(run), min(run.step / _STEPS, 0.99))
        if values.slow or run.step % (_LAYERS_AT_ONCE // run.depth) == 0:
            yield picture
    yield Picture(_panels(run), _verdict(run))


def _panels(run):
    return _loss(run), _norm(run)


def _loss(run):
    losses = run.rows[: run.step, 0]
    panel = Panel("Loss", _ALONG, Axis("training loss", 1e-3, 1e5, log=True))
    panel.line(np.arange(run.step), losses, f"batch, now {_told(losses[-1])}", colour=0, width=1.6)
    panel.line([0, _STEPS], [_CHANCE, _CHANCE], "a constant answer", dash="--", width=1.5)
    if not math.isfinite(losses[-1]):
        place, anchor = (run.step + 10, "start") if run.step < _STEPS / 2 else (run.step - 20, "end")
        panel.text(place, 1e4, f"{_told(losses[-1])} at step {run.step - 1}", anchor=anchor)
    return panel


def _norm(run):
    steps, (_, norm, threshold, _) = np.arange(run.step), run.rows[: run.step].T
    size = Axis("norm of the whole gradient", 1e-4, 1e8, log=True)
    panel = Panel("Gradient norm (shaded: what is cut off)", _ALONG, size)
    known = np.isfinite(norm)  # the others would tear the shaded polygon
    shaded, top, bottom = steps[known], norm[known], np.minimum(norm, threshold)[known]
    panel.area(np.append(shaded, shaded[::-1]), np.append(top, bottom[::-1]), colour=1, opacity=0.35)
    panel.line(steps, norm, f"before clipping, now {_told(norm[-1])}", colour=0, width=1.6)
    panel.line(steps, threshold, "threshold", dash="--", colour=INK)
    return panel


def _told(value):
    return "NaN" if math.isnan(value) else f"{value:.2g}"


def _clipped(run):
    return int((run.rows[: run.step, 1] > run.rows[: run.step, 2]).sum())


def _now(run):
    loss, norm, *_ = run.rows[run.step - 1]
    return (
        f"Step {run.step} of {_STEPS}: loss {_told(loss)}, gradient norm {_told(norm)} before clipping; "
        f"clipped in {_clipped(run)} steps."
    )


def _verdict(run):
    """Say how it ended, in words that another processor would say too: the digits of a training differ between them."""
    loss, share = run.rows[run.step - 1, 0], _clipped(run) / run.step
    often = "no step" if share == 0 else "more than half of the steps" if share > 0.5 else "less than half of the steps"
    begin = f"{run.depth} layers, the gradient clipped in {often}: "
    if not math.isfinite(loss):
        return f"{begin}the loss is {_told(loss)} at step {run.step - 1}, and no step leads back."
    levels = ((0.9, "above 0.9"), (0.5, "between 0.5 and 0.9"), (0.2, "between 0.2 and 0.5"), (0.0, "below 0.2"))
    accuracy = run.accuracy()
    level = next((name for least, name in levels if accuracy >= least), "NaN")
    return (
        f"{begin}after {_STEPS} steps the accuracy is {level}. The steps together are {run.rows[:, 3].sum():.2g} long; "
        f"He's weights were {run.far:.2g} away at the start."
    )
