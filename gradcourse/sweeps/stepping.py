"""Clipping and optimizers for K runs at once, each run with its own learning rate, momentum, decay and limits.

The formulas are those of torch.optim, which takes one number where here a run has its own.
"""

import numpy as np
import torch

from gradcourse.optimizers import make_optimizer, schedule_factor
from gradcourse.reductions import row_norms

_BLOCK = 1 << 17  # entries that are stepped together: few enough to stay in the processor's cache
_TINY = 1e-6  # what torch.nn.utils.clip_grad_norm_ adds to the norm


def _sgd(p, g, state, own, step):
    if own.decays:
        g.addcmul_(p, own.decay(p))
    if state:
        momentum = own.momentum(p)
        velocity = state[0].mul_(momentum).add_(g)
        g = g.addcmul_(velocity, momentum) if own.options["nesterov"] else velocity
    return g


def _adam(p, g, state, own, step):
    if own.decays:
        g.addcmul_(p, own.decay(p))
    return _adam_direction(g, state, own.options, step)


def _adamw(p, g, state, own, step):
    p.mul_(own.shrink(p))
    return _adam_direction(g, state, own.options, step)


def _adam_direction(g, state, options, step):
    (one, two), (mean, square) = options["betas"], state
    mean.lerp_(g, 1 - one)
    square.mul_(two).addcmul_(g, g, value=1 - two)
    size = torch.sqrt(square, out=g).div_((1 - two**step) ** 0.5).add_(options["eps"])
    return torch.div(mean, size, out=g).div_(1 - one**step)


def _rmsprop(p, g, state, own, step):
    if own.decays:
        g.addcmul_(p, own.decay(p))
    state[0].mul_(own.options["alpha"]).addcmul_(g, g, value=1 - own.options["alpha"])
    return g.div_(state[0].sqrt().add_(own.options["eps"]))


def _adagrad(p, g, state, own, step):
    if own.decays:
        g.addcmul_(p, own.decay(p))
    state[0].addcmul_(g, g)
    return g.div_(state[0].sqrt().add_(own.options["eps"]))


def _lion(p, g, state, own, step):
    one, two = own.options["betas"]
    p.mul_(own.shrink(p))
    direction = torch.lerp(g, state[0], one).sign_()
    state[0].lerp_(g, 1 - two)
    return direction


_RULES = {  # name -> what returns the direction of the step, and how many tensors it keeps for each parameter
    "sgd": (_sgd, 0),
    "adam": (_adam, 2),
    "adamw": (_adamw, 2),
    "rmsprop": (_rmsprop, 1),
    "adagrad": (_adagrad, 1),
    "lion": (_lion, 1),
}
STACKED = tuple(_RULES)
"""Names of the optimizers that have a batched form."""


def states_of(config):
    """Return how many tensors the optimizer of a Config keeps for each parameter."""
    return _RULES[config.optimizer][1] + bool(config.momentum)


class Stepper:
    """Clips and steps the parameters of K runs.

    Args:
        configs: their Configs; they agree in the optimizer's kind, nesterov, betas and eps, and in whether there is
            momentum.
        parameters: their Parameters.
    """

    def __init__(self, configs, parameters):
        self.configs = configs
        self._states = [[torch.zeros_like(g.values) for _ in range(states_of(configs[0]))] for g in parameters.groups]
        self._steps, self._kept = 0, torch.empty(0)
        self._set_up()

    def _set_up(self):
        self._rule = _RULES[self.configs[0].optimizer][0]
        groups = [_options_of(config) for config in self.configs]
        self.options = groups[0]
        self._rate, self._momentum, self._decay = (
            np.array([group.get(name) or 0.0 for group in groups]) for name in ("lr", "momentum", "weight_decay")
        )
        self.decays = bool(self._decay.any())
        self._limits = {
            name: np.array([np.inf if getattr(c, name) is None else getattr(c, name) for c in self.configs])
            for name in ("clip_norm", "clip_value", "clip_weights")
        }

    def take(self, runs):
        """Keep only some of the runs, given by position."""
        self.configs = [self.configs[run] for run in runs.tolist()]
        self._states = [[state[:, runs].contiguous() for state in states] for states in self._states]
        self._set_up()

    @property
    def clips(self):
        """Whether the gradient of a run may be clipped."""
        return any(np.isfinite(self._limits[name]).any() for name in ("clip_norm", "clip_value"))

    # ---- what is each run's own, shaped to multiply parameters (n, K, *shape)

    def momentum(self, p):
        """Return the momentum of each run."""
        return _each(self._momentum, p)

    def decay(self, p):
        """Return the weight decay of each run."""
        return _each(self._decay, p)

    def shrink(self, p):
        """Return what a decoupled weight decay leaves of the weights in this step."""
        return _each(1.0 - self._now * self._decay, p)

    # ---- one step

    def clip(self, groups, norms):
        """Clip the gradients.

        Args:
            groups: of the Parameters.
            norms: of every parameter's gradient, shape (parameters, K), in the parameters' dtype: what
                clip_grad_norm_ would see, also where that overflows.
        """
        if np.isfinite(self._limits["clip_norm"]).any():
            limit = torch.from_numpy(self._limits["clip_norm"]).to(norms.dtype)
            factor = (limit / (torch.linalg.vector_norm(norms, dim=0) + _TINY)).clamp_(max=1.0)
            factor[limit.isinf()] = 1.0
            for group in groups:
                group.gradients.mul_(_each(factor, group.gradients))
        self._clamp("clip_value", [group.gradients for group in groups])

    def clip_weights(self, groups):
        """Clip what _clip_weights in training clips: weight matrices."""
        self._clamp("clip_weights", [group.values for group in groups if group.values.ndim > 3])

    def _clamp(self, name, tensors):
        if np.isfinite(self._limits[name]).any():
            for tensor in tensors:
                limit = _each(self._limits[name], tensor)
                tensor.copy_(torch.minimum(torch.maximum(tensor, -limit), limit))  # which keep NaN

    def step(self, groups, measure):
        """Step all parameters; spends the gradients.

        Args:
            groups: of the Parameters.
            measure: whether to return how far each weight went.

        Returns:
            Norms of the steps of all weights and of the weights before, each of shape (weights, K), or None.
        """
        step, self._steps = self._steps, self._steps + 1
        factors = {c.schedule: schedule_factor(c.schedule, step, max(c.steps, 1)) for c in self.configs}
        self._now = self._rate * np.array([factors[config.schedule] for config in self.configs])
        went = []
        for group, states in zip(groups, self._states, strict=True):
            moved = [self._step_block(*block, measure and group.is_weight) for block in _blocks(group, states)]
            went += moved if measure and group.is_weight else []
        return [torch.cat(norms) for norms in zip(*went, strict=True)] if went else None

    def _step_block(self, p, g, states, measure):
        before, sizes = (self._copy(p), _norms(p)) if measure else (None, None)
        direction = self._rule(p, g, states, self, self._steps)
        p.sub_(torch.mul(direction, _each(self._now, p), out=g))
        return (_norms(before.sub_(p)), sizes) if measure else None

    def _copy(self, p):
        """Copy to memory that is kept: fresh memory would cost as much as the copying."""
        if self._kept.numel() < p.numel():
            self._kept = torch.empty_like(p)
        return self._kept.flatten()[: p.numel()].view(p.shape).copy_(p)


def _options_of(config):
    """Return the options of a run's optimizer, torch's defaults among them."""
    return make_optimizer([torch.zeros(1, requires_grad=True)], config).param_groups[0]


def _each(values, like):
    """Return a number for each run as a tensor that multiplies (n, K, *shape)."""
    return torch.as_tensor(values).to(like.dtype).view(-1, *[1] * (like.ndim - 2))


def _blocks(group, states):
    """Yield some values, gradients and states of a group at a time, small enough for the cache."""
    many = max(1, _BLOCK // group.values[0].numel())
    for first in range(0, len(group.values), many):
        part = slice(first, first + many)
        yield group.values[part], group.gradients[part], [state[part] for state in states]


def _norms(block):
    """Return the norm of every parameter of every run, float64, shape (n, K)."""
    return row_norms(block.flatten(0, 1).flatten(1)).double().view(block.shape[:2])


def gradient_norms(groups):
    """Return the norm of every parameter's gradient of every run, float64, shape (parameters, K)."""
    return torch.cat([_norms(block) for group in groups for _, block, _ in _blocks(group, [])])


def plain_norms(groups):
    """As `gradient_norms`, in the parameters' dtype: an overflow shows."""
    return torch.cat([torch.linalg.vector_norm(group.gradients.flatten(2), dim=2) for group in groups])
