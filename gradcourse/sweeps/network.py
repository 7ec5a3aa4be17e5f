"""K networks of one architecture as one: every tensor has the run as its first dimension.

Each layer has a forward and a backward of its own and writes into memory that it keeps. Autograd would do too, but it
allocates anew in every step, and for tensors of this size the page faults cost as much as the products.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradcourse.layers import Activation, Block, WeightNormLinear
from gradcourse.recording import is_layer, mark_of

_aten = torch.ops.aten


@dataclass(frozen=True)
class Layer:
    """A layer as the Recorder sees it."""

    name: str
    module: nn.Module
    mark: object  # what to look for in its output


def layers_of(model):
    """Return the layers of a model in call order, which for these networks is the order of their modules."""
    return [Layer(name, module, mark_of(module)) for name, module in model.named_modules() if is_layer(module)]


@dataclass
class _Pass:
    """What all stages of a network share."""

    training: bool
    watch: object = None  # told of every layer's output and gradient
    adds: bool = False  # whether gradients are added to those that are there


class _Memory:
    """Tensors that are kept from step to step."""

    def __init__(self, like):
        self._like, self._kept = like, {}

    def tensor(self, shape, role="output"):
        """Return a tensor of this shape for a role, always the same one."""
        key = (role, *shape)
        if key not in self._kept:
            self._kept[key] = self._like.new_empty(shape)
        return self._kept[key]

    def beside(self, tensor, shape):
        """Return one of two tensors of this shape, the one that `tensor` is not."""
        one = self.tensor(shape, "one")
        return self.tensor(shape, "other") if tensor is one else one


class Network:
    """The networks of K runs.

    Args:
        template: one of the models, for its architecture.
        parameters: Parameters of all runs.
        training: whether BatchNorm uses the batch's statistics; else the running ones.
    """

    def __init__(self, template, parameters, training=True):
        self._pass = _Pass(training)
        columns = {layer.module: column for column, layer in enumerate(layers_of(template))}
        like = parameters.groups[0].values
        maker = _Maker(self._pass, parameters, columns, like)
        self._body = maker.chain(template, "", _Memory(like))
        self._body.stages[0][0].is_first = True

    def forward(self, x, watch=None):
        """Return the scores for inputs of shape (K, B, inputs), shape (K, B, outputs)."""
        self._pass.watch = watch
        return self._body.forward(x)

    def backward(self, gradient, adds=False):
        """Fill the gradients of the parameters, given that of the scores, which is overwritten."""
        self._pass.adds = adds
        self._body.backward(gradient)


class _Maker:
    """Makes the stages of a network."""

    def __init__(self, common, parameters, columns, like):
        self._pass, self._parameters, self._columns, self._like = common, parameters, columns, like
        self._branch_memory = _Memory(like)  # every branch may use the same: one at a time runs backward

    def chain(self, container, prefix, memory):
        stages = []
        for name, module in container.named_children():
            if not isinstance(module, nn.Identity):
                stage = self._stage(module, f"{prefix}{name}", memory, alone=bool(stages))
                stages.append((stage, self._columns.get(module)))
        return _Chain(self._pass, stages)

    def _stage(self, module, name, memory, alone):
        """Return the stage of a module; `alone`: nothing else reads the module's input."""
        of = partial(_Of, self._parameters, name)
        if isinstance(module, Block):
            return _Residual(self.chain(module, f"{name}.", self._branch_memory), of(), self._own(), self._pass)
        if isinstance(module, WeightNormLinear):
            return _WeightNorm(of(), self._own(), memory, self._pass)
        if isinstance(module, nn.Linear):
            return _Linear(of(), self._own(), memory, self._pass)
        if isinstance(module, tuple(_SPREADS)):
            return _Normalize(module, of(), self._own(), memory, self._pass)
        if type(module) in _QUICK:
            return _QuickActivation(module, alone, self._own())
        return _AnyActivation(module)

    def _own(self):
        return _Memory(self._like)


class _Of:
    """The parameters of one module."""

    def __init__(self, parameters, module):
        self._parameters, self.module = parameters, module

    def value(self, name):
        return self._parameters.value(f"{self.module}.{name}")

    def scale(self):
        return self._parameters.scales.get(self.module)

    def buffer(self, name):
        return self._parameters.buffers[f"{self.module}.{name}"]

    def hand_in(self, name, gradient, adds):
        """Put a gradient in its place."""
        place = self._parameters.gradient(f"{self.module}.{name}")
        place.add_(gradient) if adds else place.copy_(gradient)

    def total(self, name, gradient, adds):
        """Put the sum over the batch in the place of a gradient."""
        place = self._parameters.gradient(f"{self.module}.{name}")
        place.add_(gradient.sum(1)) if adds else torch.sum(gradient, 1, out=place)

    def product(self, name, left, right, adds):
        """Put the batched product of two matrices in the place of a gradient."""
        place = self._parameters.gradient(f"{self.module}.{name}")
        torch.baddbmm(place, left, right, out=place) if adds else torch.bmm(left, right, out=place)


class _Chain:
    """Stages one behind the other; the watch is told what the layers among them put out and get back."""

    def __init__(self, common, stages):
        self._pass, self.stages = common, stages

    def forward(self, x):
        watch = self._pass.watch
        for stage, column in self.stages:
            x = stage.forward(x)
            if watch is not None and column is not None:
                watch.output(column, x)
        return x

    def backward(self, gradient):
        watch = self._pass.watch
        for stage, column in reversed(self.stages):
            if watch is not None and column is not None:
                watch.gradient(column, gradient)
            gradient = stage.backward(gradient)
        return gradient


class _Linear:
    """x W^T + b."""

    is_first = False  # of the network: no one asks for the gradient of its input

    def __init__(self, of, own, memory, common):
        self._of, self._own, self._memory, self._pass = of, own, memory, common

    def forward(self, x):
        self._x, weight = x, self._weight()
        out = self._own.tensor((*x.shape[:2], weight.shape[1]))  # (K, B, outputs)
        return torch.baddbmm(self._of.value("bias").unsqueeze(1), x, weight.transpose(1, 2), out=out)

    def _weight(self):
        return self._of.value("weight")  # (K, outputs, inputs)

    def backward(self, gradient):
        self._of.total("bias", gradient, self._pass.adds)
        self._weight_backward(gradient.transpose(1, 2))
        if self.is_first:
            return None
        return torch.bmm(gradient, self._weight(), out=self._memory.beside(gradient, self._x.shape))

    def _weight_backward(self, gradient):
        self._of.product("weight", gradient, self._x, self._pass.adds)


class _WeightNorm(_Linear):
    """x V^T + b with V = scale W / |W| for each output."""

    def forward(self, x):
        weight = self._of.value("weight")
        size = torch.linalg.vector_norm(weight, dim=2, keepdim=True)
        self._unit, self._factor = weight / size, self._of.value("scale").unsqueeze(2) / size
        self._used = self._factor * weight
        return super().forward(x)

    def _weight(self):
        return self._used

    def _weight_backward(self, gradient):
        used = torch.bmm(gradient, self._x)
        along = (used * self._unit).sum(2, keepdim=True)
        self._of.hand_in("scale", along.squeeze(2), self._pass.adds)
        self._of.hand_in("weight", self._factor * (used - self._unit * along), self._pass.adds)


_SPREADS = {  # module -> how many parts the units have, and the dimension of (K, B, parts, units) to go over
    nn.BatchNorm1d: lambda module: (1, 1),
    nn.LayerNorm: lambda module: (1, 3),
    nn.GroupNorm: lambda module: (module.num_groups, 3),
}


class _Normalize:
    """gamma (x - mean) / sqrt(variance + eps) + beta, with those of the batch or of (groups of) the units."""

    def __init__(self, module, of, own, memory, common):
        self._parts, self._dim = _SPREADS[type(module)](module)
        self._eps, self._momentum = module.eps, getattr(module, "momentum", None)
        self._of, self._own, self._memory, self._pass = of, own, memory, common

    def forward(self, x):
        normal = self._split(self._own.tensor(x.shape, "normal"))
        variance = self._centre(self._split(x), normal)
        self._inverse = (variance + self._eps).rsqrt_()
        self._normal = normal.mul_(self._inverse).view_as(x)
        gamma, beta = (self._of.value(name).unsqueeze(1) for name in ("weight", "bias"))
        return torch.addcmul(beta, gamma, self._normal, out=self._own.tensor(x.shape))

    def _split(self, x):
        return x.view(*x.shape[:2], self._parts, -1)  # (K, B, parts, units)

    def _centre(self, x, out):
        """Write x less its mean to `out`; return the variance."""
        if self._dim == 1 and not self._pass.training:
            mean, variance = (self._of.buffer(f"running_{name}")[:, None, None] for name in ("mean", "var"))
            torch.sub(x, mean, out=out)
            return variance
        mean = x.mean(self._dim, keepdim=True)
        torch.sub(x, mean, out=out)
        variance = torch.linalg.vector_norm(out, dim=self._dim, keepdim=True).square_().div_(x.shape[self._dim])
        if self._dim == 1:
            self._remember(mean, variance * (x.shape[1] / (x.shape[1] - 1)))
        return variance

    def _remember(self, mean, variance):
        for name, value in (("mean", mean), ("var", variance)):
            self._of.buffer(f"running_{name}").mul_(1 - self._momentum).add_(value.flatten(1), alpha=self._momentum)

    def backward(self, gradient):
        product = self._memory.beside(gradient, gradient.shape)
        torch.mul(gradient, self._normal, out=product)
        self._of.total("weight", product, self._pass.adds)
        self._of.total("bias", gradient, self._pass.adds)
        gamma = self._of.value("weight").unsqueeze(1)
        gradient.mul_(gamma)
        along = self._split(product.mul_(gamma)).mean(self._dim, keepdim=True)
        inner, normal = self._split(gradient), self._split(self._normal)
        inner.sub_(inner.mean(self._dim, keepdim=True)).addcmul_(normal, along, value=-1).mul_(self._inverse)
        return gradient


class _Residual:
    """x + scale * branch(x)."""

    def __init__(self, branch, of, own, common):
        self._branch, self._of, self._own, self._pass = branch, of, own, common
        self._fixed = of.scale()  # None: it is learned

    def _scale(self):
        return self._of.value("scale").unsqueeze(2) if self._fixed is None else self._fixed[:, None, None]

    def forward(self, x):
        self._out = self._branch.forward(x)
        if self._fixed is not None:
            return self._out.mul_(self._scale()).add_(x)  # no one else needs the branch's output
        return torch.addcmul(x, self._scale(), self._out, out=self._own.tensor(x.shape))

    def backward(self, gradient):
        inner = self._own.tensor(gradient.shape, "gradient")
        if self._fixed is None:
            along = torch.mul(gradient, self._out, out=inner).sum((1, 2)).unsqueeze(1)
            self._of.hand_in("scale", along, self._pass.adds)
        torch.mul(gradient, self._scale(), out=inner)
        return gradient.add_(self._branch.backward(inner))


_QUICK = {  # activation -> forward(x, out), backward(gradient, output), which overwrites the gradient
    nn.Tanh: (torch.tanh, lambda g, h: _aten.tanh_backward.grad_input(g, h, grad_input=g)),
    nn.Sigmoid: (torch.sigmoid, lambda g, h: _aten.sigmoid_backward.grad_input(g, h, grad_input=g)),
    nn.ReLU: (
        lambda x, out: torch.clamp_min(x, 0.0, out=out),
        lambda g, h: _aten.threshold_backward.grad_input(g, h, 0, grad_input=g),
    ),
}


class _QuickActivation:
    """An activation whose slope follows from its output, which may then take its input's place."""

    def __init__(self, module, in_place, own):
        self._forward, self._backward = _QUICK[type(module)]
        self._in_place, self._own = in_place, own

    def forward(self, x):
        self._out = self._forward(x, out=x if self._in_place else self._own.tensor(x.shape))
        return self._out

    def backward(self, gradient):
        return self._backward(gradient, self._out)


class _AnyActivation:
    """Any elementwise function, with autograd for its slope."""

    def __init__(self, module):
        self._function = module.function if isinstance(module, Activation) else module

    def forward(self, x):
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._out = self._function(self._x)
        return self._out.detach()

    def backward(self, gradient):
        (inner,) = torch.autograd.grad(self._out, self._x, gradient)
        self._x = self._out = None
        return inner


def losses_of(kind, scores, aim):
    """Return the loss of each run, shape (K,), and the gradients of the scores, shape (K, B, outputs)."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        if kind == "mse":
            losses = (scores - aim).square().mean((1, 2))
        else:
            each = cross_entropy(scores.flatten(0, 1), aim.flatten(), reduction="none")
            losses = each.view(aim.shape).mean(1)
        (gradient,) = torch.autograd.grad(losses.sum(), scores)
    return losses.detach(), gradient
