"""Recorder: takes a Trace from any torch model and training loop, cheaply and without waiting for the device.

A layer is a module with a weight of its own or an activation module, in call order; h is its output. Outputs and
gradients are collected, a few at a time, and reduced together; the results stay on the model's device until the trace
is read.
"""

import math
import weakref
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.autograd import Variable
from torch.nn.utils.parametrize import is_parametrized

from gradcourse.models import Activation
from gradcourse.readout import Part, Row, is_bias, read
from gradcourse.reductions import SMALL, Plan, fraction_beyond, norms_of, peaks
from gradcourse.trace import STATISTICS, Event, Trace, factor_per_layer

__all__ = ["STATISTICS", "Event", "Recorder", "Trace", "factor_per_layer", "measure"]

_SLOPE_LEFT = 0.02  # of the steepest slope: less counts as saturated
_LEVELS_OFF = {  # activation -> (centre c, reach r): saturated where |h - c| > r
    nn.Sigmoid: (0.5, 0.5 * math.sqrt(1.0 - _SLOPE_LEFT)),  # its slope is h (1 - h)
    nn.Tanh: (0.0, math.sqrt(1.0 - _SLOPE_LEFT)),  # 1 - h**2
    nn.Softsign: (0.0, 1.0 - math.sqrt(_SLOPE_LEFT)),  # (1 - |h|)**2
    nn.Hardsigmoid: (0.5, 0.5 - 1e-6),  # constant inside, 0 at the ends
}
_CAN_DIE = (nn.ReLU, nn.ReLU6)
_NOT_ELEMENTWISE = {"MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin"}
_ACTIVATION_MODULES = (
    Activation,
    *(getattr(nn, name) for name in nn.modules.activation.__all__ if name not in _NOT_ELEMENTWISE),
)
_OF_OUTPUTS = ("delta", "activation_rms", "saturation", "dead")

_TOGETHER = 24  # outputs or gradients that are reduced together: more would leave the cache, fewer are more calls

_under_a_recorder = weakref.WeakSet()  # models


@dataclass(eq=False)
class _Layer:
    """A layer under observation."""

    name: str
    module: nn.Module
    mark: object  # what to look for in its output
    settled: bool = False  # its output is not changed in place by what follows, so it may be measured a little later


@dataclass(eq=False)
class _Step:
    """What the pending step has shown so far."""

    outputs: list = field(default_factory=list)  # (layer, output, its version when seen), collected
    gradients: dict = field(default_factory=dict)  # (layer, number) -> dL/dh, collected
    unsettled: list = field(
        default_factory=list
    )  # (layer, output, its version when seen), of which copies are collected
    observed: int = 0  # outputs whose gradient is awaited
    reductions: int = 0
    parts: list = field(default_factory=list)  # what was measured
    peaks: list = field(default_factory=list)  # (layers, largest output of each unit)
    calls: Counter = field(default_factory=Counter)  # module -> calls in this pass
    last: _Layer = None  # the layer called last
    backwards: int = 0
    gradient_norms: dict = field(default_factory=dict)  # "raw" after the last backward pass, "used" by the optimizer
    before: list = None  # copies of the parameters

    def number(self):
        """Count the reductions of this step; from step to step the n-th one reduces the same layers."""
        self.reductions += 1
        return self.reductions


class Recorder:
    """Records every step of an unchanged training loop: ``with Recorder(model, optimizer) as recorder: ...``.

    A step ends when `optimizer.step()` does or, when that was left out (as a loss scaler does after an overflow), when
    the next forward pass finds the gradients gone. Several backward passes before a step count together. Passes under
    `torch.no_grad()` are not recorded. The hooks are removed when the block ends, also by an exception.

    Args:
        model: any torch module.
        optimizer: the optimizer whose steps are counted; None when `end_step` is called by hand.
        every: record every n-th step.
        statistics: names in STATISTICS to record; None: all. Without delta, activation_rms, saturation and dead
            nothing is done per layer in the forward pass.
        per_call: make each call of a module within a pass a layer of its own, ``name[0]``, ``name[1]``, ...: for
            recurrent cells, whose calls are the time steps.
        loss_scale: what the loss is multiplied by before the backward pass and the gradients are divided by before
            the step: a number, or the GradScaler.

    Raises:
        ValueError: for every < 1 or an unknown statistic; on entering, for a model without layers or under a Recorder
            already, and for an optimizer of another model.
        RuntimeError: on entering a second time.
    """

    def __init__(self, model, optimizer=None, every=1, *, statistics=None, per_call=False, loss_scale=1.0):
        if every < 1:
            raise ValueError(f"Recorder(every={every}): every must be >= 1")
        self._statistics = set(STATISTICS if statistics is None else statistics)
        self._looks_at_outputs = bool(self._statistics & set(_OF_OUTPUTS))
        unknown = sorted(self._statistics - set(STATISTICS))
        if unknown:
            raise ValueError(f"Recorder(statistics=[{unknown[0]!r}]): a statistic is one of {', '.join(STATISTICS)}")
        self.model, self._optimizer, self._every = model, optimizer, every
        self._per_call, self._loss_scale = per_call, loss_scale
        self._state = "new"
        self._layers = {}  # (module, call) -> _Layer
        self._order = []  # the layers in call order
        self._rows = []
        self._losses = {}  # step -> loss, recorded step or not: a loss that overflows must show
        self._number = 0
        self._plans, self._scratch = {}, {}  # what is reduced together -> how, and where
        self._layouts = {}  # what a step measured -> the Layout that such steps share
        self._handles, self._listening = [], []
        self._hooked = (False, 0)  # whether the forward hooks are attached, and to how many layers

    # ---- opening and closing

    def __enter__(self):
        self._refuse_misuse()
        self._modules = [(name, module) for name, module in self.model.named_modules() if is_layer(module)]
        if not self._modules:
            raise ValueError("Recorder: this model has no layer: no module with a weight and no activation module")
        self._parameters = _Parameters(self.model)
        _under_a_recorder.add(self.model)
        self._state = "open"
        if self._optimizer is not None:
            self._handles.append(self._optimizer.register_step_pre_hook(self._before_step))
            self._handles.append(self._optimizer.register_step_post_hook(self._after_step))
        self._begin_step()
        return self

    def __exit__(self, *exception):
        self._listen(False)
        for handle in self._handles:
            handle.remove()
        self._handles, self._now = [], None
        _under_a_recorder.discard(self.model)
        self._state = "closed"
        return False

    def _refuse_misuse(self):
        if self._state != "new":
            raise RuntimeError("this Recorder has been used already: make a new one for another recording")
        if self.model in _under_a_recorder:
            raise ValueError("this model is under a Recorder already: close that one first")
        if self._optimizer is not None:
            own = {id(parameter) for parameter in self.model.parameters()}
            groups = self._optimizer.param_groups
            if not any(id(parameter) in own for group in groups for parameter in group["params"]):
                raise ValueError(
                    "Recorder: the optimizer holds no parameter of this model: pass the one that trains it"
                )

    def _need_open(self, what):
        if self._state != "open":
            raise RuntimeError(f"{what}: this Recorder is closed; call it inside its with block")

    # ---- one step: forward passes, backward passes, the optimizer

    def _begin_step(self):
        self._now = _Step()
        self._listen(self._number % self._every == 0)

    def _listen(self, wanted):
        """Attach or remove the forward hooks: between recorded steps there are none."""
        modules = self._modules if self._looks_at_outputs or not self._order else []
        hooked = (wanted, len(modules))
        if hooked == self._hooked:
            return
        self._hooked = hooked
        for handle in self._listening:
            handle.remove()
        self._listening = [module.register_forward_hook(self._observer(name)) for name, module in modules if wanted]
        if wanted:
            self._listening.append(self.model.register_forward_hook(self._await_backward))

    def _observer(self, name):
        def after_forward(module, inputs, output):
            output = _first_tensor(output)
            if output is not None and torch.is_grad_enabled() and self._still_in_step():
                layer = self._layer(name, module)
                if self._looks_at_outputs:
                    self._observe(layer, output)

        return after_forward

    def _still_in_step(self):
        """End a step that the optimizer never took; return whether the step that is now pending is recorded."""
        if self._now.backwards and self._parameters.have_lost_gradients():
            self.end_step()
        return bool(self._listening)

    def _layer(self, name, module):
        now, call = self._now, 0
        if self._per_call:
            call = now.calls[module]
            now.calls[module] += 1
        layer = self._layers.get((module, call))
        if layer is None:
            label = f"{name}[{call}]" if self._per_call else name
            layer = self._layers[module, call] = _Layer(label, module, mark_of(module))
            self._order.insert(self._order.index(now.last) + 1 if now.last else 0, layer)
        now.last = layer
        return layer

    def _observe(self, layer, output):
        """Measure a large output now; collect a small one, or its copy where it may be changed in place."""
        now = self._now
        if output.requires_grad and "delta" in self._statistics:
            self._await_gradient(layer, output)
        if output.numel() > SMALL:
            self._measure_outputs(layer, [layer], [output.detach()])
            return
        if not layer.settled:
            now.unsettled.append((layer, output.detach(), output._version))
            output = output.detach().clone()
        now.outputs.append((layer, output, output._version))
        if len(now.outputs) == _TOGETHER:
            self._reduce_outputs()

    def _await_gradient(self, layer, output):
        """Collect dL/dh when the backward pass comes by; a large one, or enough of them, is measured then."""
        now = self._now
        now.observed += 1
        key = (layer, now.observed)  # a layer called twice has two outputs

        def collect_and_reduce(gradient):
            now.gradients[key] = gradient
            if self._now is now:
                self._reduce_gradients()

        together = now.observed % _TOGETHER and output.numel() <= SMALL
        _hook(output, partial(now.gradients.__setitem__, key) if together else collect_and_reduce)

    def _await_backward(self, module, inputs, output):
        """Ask for a call when the backward pass is over: then the gradients are there and not yet clipped."""
        output = _first_tensor(output)
        if output is not None and output.requires_grad and self._listening:
            output.register_hook(lambda gradient: Variable._execution_engine.queue_callback(self._after_backward))

    @torch.no_grad()
    def _after_backward(self):
        if self._listening:
            now = self._now
            now.backwards += 1
            now.calls.clear()
            now.last = None
            self._reduce_gradients()
            now.gradient_norms["raw"] = self._parameters.gradient_norms()

    @torch.no_grad()
    def _before_step(self, optimizer, args, kwargs):
        if self._listening:
            if self._now.backwards:  # else the step calls a closure that makes the gradients
                self._now.gradient_norms["used"] = self._parameters.gradient_norms()
            if "update_ratio" in self._statistics:
                self._now.before = self._parameters.copies()

    @torch.no_grad()
    def _after_step(self, optimizer, args, kwargs):
        if self._listening and self._now.before is not None:
            self._now.parts += self._parameters.moved_since(self._now.before)
        self.end_step()

    def log_loss(self, loss):
        """Note the loss of the pending step, a number or a tensor with one entry.

        Raises:
            RuntimeError: when the Recorder is closed.
        """
        self._need_open("log_loss")
        self._losses[self._number] = torch.as_tensor(loss).detach().clone()

    @torch.no_grad()
    def end_step(self):
        """Close the pending step. The optimizer does this; call it yourself only when there is none.

        Raises:
            RuntimeError: when the Recorder is closed.
        """
        self._need_open("end_step")
        if self._listening:
            self._rows.append(self._measure_step())
        self._number += 1
        self._begin_step()

    # ---- measuring

    @torch.no_grad()
    def _reduce_outputs(self):
        """Measure the outputs collected so far; one that was changed in place is lost, and copied from now on."""
        now = self._now
        collected, now.outputs = now.outputs, []
        for layer, output, version in collected:
            if output._version != version:
                layer.settled = False
        kept = [(layer, output) for layer, output, version in collected if output._version == version]
        self._measure_outputs(("outputs", now.number()), [layer for layer, _ in kept], [output for _, output in kept])

    @torch.no_grad()
    def _reduce_gradients(self):
        """Measure the gradients collected so far."""
        now = self._now
        collected = [(layer, gradient) for (layer, _), gradient in now.gradients.items() if gradient is not None]
        now.gradients.clear()
        if collected:
            layers, gradients = zip(*collected, strict=True)
            plan = self._plan(("delta", now.number()), layers, gradients, marks=None)
            now.parts.append(Part("delta", plan.order, plan.norms(gradients), plan.entries))

    def _measure_step(self):
        now = self._now
        self._reduce_outputs()
        self._reduce_gradients()
        for layer, output, version in now.unsettled:
            layer.settled = output._version == version
        gradients = [Part(name, *measured) for name, measured in now.gradient_norms.items()]
        return Row.of(self._number, [*now.parts, *self._dead(), *gradients], self._scale(), self._layouts)

    def _plan(self, name, layers, tensors, marks):
        """Return the plan to reduce these tensors; from step to step it is mostly the same."""
        plan = self._plans.get(name)
        if plan is None or not plan.fits(layers, tensors):
            plan = self._plans[name] = Plan(layers, tensors, marks, self._scratch)
        return plan

    def _measure_outputs(self, name, layers, outputs):
        """Reduce the outputs of some layers: their size, their saturation, their dead units."""
        if not layers or self._statistics.isdisjoint(_OF_OUTPUTS[1:]):
            return

        def look_closer(keys, mark, stack, may_change):
            if mark == "can die":
                if "dead" in self._statistics:
                    self._now.peaks.append((keys, peaks(stack)))
            elif "saturation" in self._statistics:
                fractions = fraction_beyond(stack, *mark, may_change)
                self._now.parts.append(Part("saturation", keys, fractions))

        plan = self._plan(name, layers, outputs, [layer.mark for layer in layers])
        sizes = plan.norms(outputs, look_closer)
        if "activation_rms" in self._statistics:
            self._now.parts.append(Part("activation_rms", plan.order, sizes, plan.entries))

    def _dead(self):
        """Yield the fraction of dead units of each layer, over all of the step's batches."""
        layers = [layer for keys, _ in self._now.peaks for layer in keys]
        if len(set(layers)) == len(layers):
            groups = self._now.peaks
        else:
            tops = {}
            for keys, rows in self._now.peaks:
                for layer, row in zip(keys, rows, strict=True):
                    tops[layer] = torch.maximum(row, tops[layer]) if layer in tops else row
            groups = [([layer], row.unsqueeze(0)) for layer, row in tops.items()]
        for keys, rows in groups:
            yield Part("dead", keys, (rows <= 0).double().mean(dim=1))

    def _scale(self):
        """Return the loss scale of the pending step, without waiting for the device."""
        scale = getattr(self._loss_scale, "_scale", self._loss_scale)  # of a GradScaler, a tensor that it updates
        return scale.detach().clone() if isinstance(scale, torch.Tensor) else float(scale or 1.0)

    # ---- reading

    @property
    def trace(self):
        """The Trace of the steps that have ended so far."""
        return read(self.model, self._order, self._rows, self._losses, self._statistics)


class _Parameters:
    """The trainable parameters of a model."""

    def __init__(self, model):
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._all = [parameter for _, parameter in named]
        self._weights = [parameter for name, parameter in named if not is_bias(name)]
        self._gradients, self._scratch = {}, {}  # which parameters have a gradient -> how to reduce them, and where
        self._values = Plan(self._weights, self._weights, scratch=self._scratch)
        self._copies = Plan(self._weights, self._weights)

    def have_lost_gradients(self):
        """Whether the gradients were set to None."""
        return bool(self._all) and self._all[0].grad is None

    def gradient_norms(self):
        """Return the parameters that have a gradient and its norm for each."""
        gradients = [parameter.grad for parameter in self._all]
        having = tuple([gradient is not None for gradient in gradients])
        if not all(having):
            gradients = [gradient for gradient in gradients if gradient is not None]
        if any(gradient.layout is not torch.strided for gradient in gradients):
            gradients, having = [_dense(gradient) for gradient in gradients], None
        plan = self._gradients.get(having)
        if plan is None or having is None:
            plan = Plan([p for p in self._all if p.grad is not None], gradients, scratch=self._scratch)
            self._gradients[having] = plan
        return plan.order, plan.norms(gradients)

    def copies(self):
        """Copy the weights, to be handed to `moved_since`."""
        return [stack if own else stack.clone() for stack, _, own in self._copies.stacks(self._weights)]

    def moved_since(self, before):
        """Return the Parts "before", each weight's norm, and "moved", that of its step; spends `before`."""
        sizes = norms_of(before)
        now = (stack for stack, _, _ in self._values.stacks(self._weights))
        steps = norms_of([old.sub_(new) for old, new in zip(before, now, strict=True)])
        return [Part("before", self._copies.order, sizes), Part("moved", self._copies.order, steps)]


def _dense(gradient):
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def is_layer(module):
    own = [name for name, parameter in module._parameters.items() if parameter is not None and not is_bias(name)]
    return isinstance(module, _ACTIVATION_MODULES) or bool(own and "weight" in "".join(own)) or is_parametrized(module)


def _first_tensor(output):
    """Return the first floating-point tensor in what a module returned, or None."""
    if isinstance(output, torch.Tensor):
        return output if output.is_floating_point() else None
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, (tuple, list)) else ()
    return next((found for found in map(_first_tensor, parts) if found is not None), None)


def _hook(output, on_gradient):
    """Do what `output.register_hook` does, for a fresh output without its handle, which costs more than the hook."""
    node = output.grad_fn
    if type(output) is torch.Tensor and output._backward_hooks is None and hasattr(node, "_register_hook_dict"):
        output._backward_hooks = OrderedDict(recorder=on_gradient)
        node._register_hook_dict(output)
    else:
        output.register_hook(on_gradient)


def mark_of(module):
    """Tell what to look for in a module's output: (centre, reach) where it levels off, "can die", or None."""
    if isinstance(module, _CAN_DIE):
        return "can die"
    return next((mark for kind, mark in _LEVELS_OFF.items() if isinstance(module, kind)), None)


def measure(model, batch, loss_fn):
    """Measure one forward and backward pass and leave the model as it was: gradients, buffers and random numbers.

    Args:
        model: any torch module.
        batch: inputs and targets, ``(x, y)``.
        loss_fn: called as ``loss_fn(model(x), y)``; must return a scalar.

    Returns:
        A Trace with one step. Measuring the same model again gives the same numbers.
    """
    x, y = batch
    with _left_alone(model), Recorder(model) as recorder:
        loss = loss_fn(model(x), y)
        loss.backward()
        recorder.log_loss(loss)
        recorder.end_step()
    return recorder.trace


@contextmanager
def _left_alone(model):
    """Put gradients, buffers (a BatchNorm's running statistics) and the random state (dropout) back afterwards."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.device.type == "cuda"}
    with torch.random.fork_rng(devices):
        try:
            for parameter, _ in gradients:
                parameter.grad = None
            yield
        finally:
            for parameter, gradient in gradients:
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, kept in buffers:
                    buffer.copy_(kept)
