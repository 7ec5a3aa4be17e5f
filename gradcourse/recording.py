"""Trace, the one record of an experiment, and Recorder, which takes it from any torch model and training loop.

A layer is a module with a weight of its own or an activation module, in call order; h is its output.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from gradcourse.models import Activation

STATISTICS = ("delta", "weight_gradient", "update_ratio", "activation_rms", "saturation", "dead")
"""The arrays of a Trace, each of shape (S, L)."""

_SLOPE_LEFT = {  # what is left of the steepest slope, from the activation's output
    nn.Sigmoid: lambda h: 4.0 * h * (1.0 - h),
    nn.Tanh: lambda h: 1.0 - h * h,
}
_SATURATED = 0.02  # of the steepest slope: |pre-activation| above 5.3 for sigmoid, 2.65 for tanh
_CAN_DIE = (nn.ReLU, nn.ReLU6)
_NOT_ELEMENTWISE = {"MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin"}
_ACTIVATION_MODULES = (
    Activation,
    *(getattr(nn, name) for name in nn.modules.activation.__all__ if name not in _NOT_ELEMENTWISE),
)
_CLIPPED = 1.0 - 1e-6  # used norm over raw norm; rounding alone stays above it


@dataclass(frozen=True)
class Event:
    """Something that happened at one step.

    Attributes:
        kind: "clipped", "non-finite" or "zero update".
        step: the optimizer step, counted from 0.
        layer: name of the layer, "" where the event is about the whole model.
        direction: for a non-finite value, "forward" or "backward".
        raw: for clipping, the norm of the whole gradient after the backward pass.
        used: for clipping, the norm that the optimizer saw.
    """

    kind: str
    step: int
    layer: str = ""
    direction: str = ""
    raw: float = float("nan")
    used: float = float("nan")


@dataclass(frozen=True, repr=False, eq=False)  # == between arrays has no single answer
class Trace:
    """What was recorded at S steps in L layers, input side first.

    NaN means "not defined here"; inf and NaN that a run produced stay visible.

    Attributes:
        layers: names of the layers, length L.
        has_weight: which layers hold a weight matrix, bool, shape (L,).
        steps: the optimizer steps that were recorded, int, shape (S,).
        loss: the loss before each of these steps, shape (S,); NaN unless known.
        delta: root mean square of dL/dh over the batch and the units, shape (S, L).
        weight_gradient: norm of dL/dW before any clipping, shape (S, L).
        update_ratio: norm of the step of W over the norm of W, shape (S, L).
        activation_rms: root mean square of h, shape (S, L).
        saturation: fraction of outputs where less than 2 % of the steepest slope is left, shape (S, L); for sigmoid
            and tanh.
        dead: fraction of units that are 0 for the whole batch, shape (S, L); ReLU.
        events: what happened, in order of steps.
        config: the Config behind the run, or None.
        train_accuracy: on the training part after the last step; NaN unless known.
        test_accuracy: on the test part after the last step; NaN unless known.
    """

    layers: tuple[str, ...]
    has_weight: np.ndarray
    steps: np.ndarray
    loss: np.ndarray
    delta: np.ndarray
    weight_gradient: np.ndarray
    update_ratio: np.ndarray
    activation_rms: np.ndarray
    saturation: np.ndarray
    dead: np.ndarray
    events: tuple[Event, ...] = ()
    config: object = None
    train_accuracy: float = float("nan")
    test_accuracy: float = float("nan")

    def __repr__(self):
        of = "" if self.config is None else f" of {self.config.summary}"
        weights = int(self.has_weight.sum())
        return f"<Trace{of}: {len(self.steps)} steps x {len(self.layers)} layers, {weights} with weights>"

    def at_weights(self, statistic, step=0):
        """Return one statistic at the layers with weights, input side first.

        Args:
            statistic: a name in STATISTICS.
            step: index into the recorded steps; -1 is the last one.

        Returns:
            float64 array, one entry per layer with weights.

        Raises:
            ValueError: for an unknown statistic.
            IndexError: for a step that was not recorded.
        """
        if statistic not in STATISTICS:
            raise ValueError(f"at_weights({statistic!r}): a trace holds {', '.join(STATISTICS)}")
        if not -len(self.steps) <= step < len(self.steps):
            raise IndexError(f"step={step}: this trace holds {len(self.steps)} recorded steps, counted from 0")
        return getattr(self, statistic)[step, self.has_weight]

    def factor_per_layer(self, statistic="delta", step=0):
        """Return the factor by which a statistic changes per layer, going towards the input.

        Taken over the layers with weights but the output layer, whose gradient is set by the loss: see
        factor_per_layer.
        """
        return factor_per_layer(self.at_weights(statistic, step)[:-1])


def factor_per_layer(values):
    """Return the factor by which values change per layer, going towards the input (index 0).

    From the least-squares slope of their logarithm. NaN where fewer than two are finite and positive.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values) & (values > 0)
    if usable.sum() < 2:
        return float("nan")
    number = np.arange(len(values))[usable]
    return float(np.exp(-np.polyfit(number, np.log(values[usable]), 1)[0]))


@dataclass(eq=False)
class _Layer:
    """A layer under observation and what the pending step has shown of it so far."""

    name: str
    module: nn.Module
    seen: dict = field(default_factory=dict)
    mean_squares: dict = field(default_factory=dict)

    @property
    def weight(self):
        return self.module._parameters.get("weight")

    def add_mean_square(self, key, tensor):
        """Add a tensor's entries to a running mean square, in float64: float32 squares underflow below 1e-19."""
        square = torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64).square()
        total, count = self.mean_squares.get(key, (0.0, 0))
        self.mean_squares[key] = (total + square, count + tensor.numel())

    def row(self):
        """Return the step's statistics and forget them."""
        row = self.seen | {key: (total / count).sqrt() for key, (total, count) in self.mean_squares.items()}
        self.seen, self.mean_squares = {}, {}
        return row


class Recorder:
    """Records every step of an unchanged training loop: ``with Recorder(model, optimizer) as recorder: ...``.

    A step ends when `optimizer.step()` does. Passes under `torch.no_grad()` are not recorded. The hooks are removed
    when the block ends, also by an exception.

    Args:
        model: any torch module.
        optimizer: the optimizer whose steps are counted; None when `end_step` is called by hand.
        every: record every n-th step.

    Raises:
        ValueError: for every < 1.
    """

    def __init__(self, model, optimizer=None, every=1):
        if every < 1:
            raise ValueError(f"Recorder(every={every}): every must be >= 1")
        self.model = model
        self.optimizer = optimizer
        self.every = every
        self._layers = {}  # module -> _Layer, in call order
        self._rows = []
        self._losses = {}  # step -> loss, recorded step or not: a loss that overflows must show
        self._handles = []
        self._step = 0
        self._forget_step()

    def __enter__(self):
        for name, module in self.model.named_modules():
            if _is_layer(module):
                self._handles.append(module.register_forward_hook(self._forward_hook(name)))
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_post_accumulate_grad_hook(self._after_gradient))
        if self.optimizer is not None:
            self._handles.append(self.optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(self.optimizer.register_step_post_hook(self._after_step))
        return self

    def __exit__(self, *exception):
        for handle in self._handles:
            handle.remove()
        self._handles = []
        return False

    @property
    def _recording(self):
        return self._step % self.every == 0

    def _forward_hook(self, name):
        def hook(module, inputs, output):
            if not (self._recording and torch.is_grad_enabled() and isinstance(output, torch.Tensor)):
                return
            layer = self._layers.setdefault(module, _Layer(name, module))
            layer.add_mean_square("activation_rms", output)
            _observe_activation(layer, output.detach())
            if output.requires_grad:
                output.register_hook(lambda gradient: layer.add_mean_square("delta", gradient))

        return hook

    def _after_gradient(self, parameter):
        if self._recording:
            self._raw[parameter] = _norm(parameter.grad)

    def _before_step(self, optimizer, args, kwargs):
        if self._recording:
            if self._raw:  # not yet where the backward pass is in a closure that the step calls
                self._used = torch.stack([_norm(p.grad) for p in self._raw if p.grad is not None] or [torch.zeros(())])
            self._before = {layer: layer.weight.detach().clone() for layer in self._weighted()}

    def _after_step(self, optimizer, args, kwargs):
        if self._recording:
            for layer, before in self._before.items():
                layer.seen["update_ratio"] = _norm(layer.weight.detach() - before) / _norm(before)
        self.end_step()

    def _weighted(self):
        return [layer for layer in self._layers.values() if layer.weight is not None]

    def log_loss(self, loss):
        """Note the loss of the pending step, a number or a tensor with one entry."""
        self._losses[self._step] = torch.as_tensor(loss).detach().to(torch.float64)

    def end_step(self):
        """Close the pending step. The optimizer does this; call it yourself only when there is none."""
        if self._recording:
            for layer in self._weighted():
                if layer.weight in self._raw:
                    layer.seen["weight_gradient"] = self._raw[layer.weight]
            rows = {layer.name: layer.row() for layer in self._layers.values()}
            self._rows.append((self._step, self._norms(), rows))
        self._forget_step()
        self._step += 1

    def _forget_step(self):
        self._raw = {}  # parameter -> norm of its gradient after the backward pass
        self._used = None  # norms of the gradients that the optimizer saw
        self._before = {}  # layer -> weight before the step

    def _norms(self):
        """Return the norm of the whole gradient as it left the backward pass and as the optimizer saw it."""
        if not self._raw or self._used is None:
            return None
        raw = torch.linalg.vector_norm(torch.stack(list(self._raw.values())))
        return raw, torch.linalg.vector_norm(self._used)

    @property
    def trace(self):
        """The Trace of the steps that have ended so far."""
        layers = list(self._layers.values())
        steps = [step for step, *_ in self._rows]
        trace = Trace(
            layers=tuple(layer.name for layer in layers),
            has_weight=np.array([layer.weight is not None for layer in layers], dtype=bool),
            steps=np.array(steps, dtype=int),
            loss=np.array([float(self._losses.get(step, np.nan)) for step in steps]),
            **{name: self._array(name, layers) for name in STATISTICS},
        )
        events = [*_clippings(self._rows), *_first_non_finite(self._rows, self._losses), *_first_zero_updates(trace)]
        return replace(trace, events=tuple(sorted(events, key=lambda event: event.step)))

    def _array(self, statistic, layers):
        values = [
            [float(rows.get(layer.name, {}).get(statistic, np.nan)) for layer in layers] for *_, rows in self._rows
        ]
        return np.array(values, dtype=np.float64).reshape(len(self._rows), len(layers))


def _is_layer(module):
    return isinstance(module, _ACTIVATION_MODULES) or module._parameters.get("weight") is not None


def _norm(tensor):
    return torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)


def _observe_activation(layer, output):
    kind = type(layer.module)
    if kind in _SLOPE_LEFT:
        layer.seen["saturation"] = (_SLOPE_LEFT[kind](output) < _SATURATED).double().mean()
    if kind in _CAN_DIE:
        units = output.flatten(1) if output.ndim > 1 else output.unsqueeze(0)
        layer.seen["dead"] = (units <= 0).all(dim=0).double().mean()


def _clippings(rows):
    """Derive the clipping events when a trace is read, so that no step waits for them."""
    for step, norms, _ in rows:
        if norms is not None:
            raw, used = (float(norm) for norm in norms)
            if used < _CLIPPED * raw:
                yield Event("clipped", step, raw=raw, used=used)


def _first_non_finite(rows, losses):
    """Find the first value that is not finite, in the order in which a step computes: forward, loss, backward."""
    lost = [Event("non-finite", step, "loss", "forward") for step, loss in losses.items() if not _finite(loss)]
    for step, _, layers in rows:
        if lost and lost[0].step < step:
            break  # at a step that was not recorded
        forward = [(name, "forward") for name, seen in layers.items() if not _finite(seen.get("activation_rms"))]
        backward = [
            (name, "backward")
            for name, seen in layers.items()
            if not (_finite(seen.get("delta")) and _finite(seen.get("weight_gradient")))
        ]
        at_loss = [(event.layer, event.direction) for event in lost if event.step == step]
        broken = [*forward, *at_loss, *reversed(backward)]
        if broken:
            return [Event("non-finite", step, *broken[0])]
    return lost[:1]


def _finite(value):
    """Whether a value is finite; what was never seen is not a broken value."""
    return value is None or math.isfinite(value)


def _first_zero_updates(trace):
    """Find each layer's first step that moved nothing although its gradient was not 0."""
    lost = (trace.update_ratio == 0) & (trace.weight_gradient > 0)
    return [
        Event("zero update", int(trace.steps[np.argmax(lost[:, column])]), trace.layers[column])
        for column in np.flatnonzero(lost.any(axis=0))
    ]


def measure(model, batch, loss_fn):
    """Measure one forward and backward pass.

    The model's gradients and buffers (BatchNorm's running statistics) and torch's generator are left as they were.

    Args:
        model: any torch module.
        batch: inputs and targets, ``(x, y)``.
        loss_fn: called as ``loss_fn(model(x), y)``; must return a scalar.

    Returns:
        A Trace with one step.
    """
    x, y = batch
    kept = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=[]), Recorder(model) as recorder:
            for parameter, _ in kept:
                parameter.grad = None
            loss = loss_fn(model(x), y)
            loss.backward()
            recorder.log_loss(loss)
            recorder.end_step()
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient
        for buffer, value in buffers:
            buffer.copy_(value)
    return recorder.trace
