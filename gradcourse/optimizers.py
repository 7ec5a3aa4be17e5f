"""Optimizers and learning-rate schedules by name."""

import math
from functools import partial

import torch


class Lion(torch.optim.Optimizer):
    """Sign momentum: each entry moves by the learning rate, in the direction of an interpolation (chen2023).

    With the momentum m, the gradient g and the weight w: w <- w - lr (sign(b1 m + (1-b1) g) + weight_decay w), then
    m <- b2 m + (1-b2) g.

    Args:
        params: parameters or parameter groups.
        lr: learning rate; 3 to 10 times smaller than Adam's is usual.
        betas: b1 for the step, b2 for the momentum.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        """Do one step."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, **group)
        return loss

    def _move(self, parameter, *, lr, betas, weight_decay, **_):
        momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        direction = torch.lerp(parameter.grad, momentum, betas[0]).sign_()
        parameter.mul_(1.0 - lr * weight_decay).sub_(direction, alpha=lr)
        momentum.lerp_(parameter.grad, 1.0 - betas[1])


class Together(torch.optim.Optimizer):
    """Several optimizers that step as one, each with parameters of its own.

    The parameter groups and the state are those of the optimizers, so that a learning-rate scheduler and step hooks on
    this object work as on any other.
    """

    def __init__(self, *optimizers):
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self.optimizers = optimizers
        for optimizer in optimizers:
            optimizer.state = self.state

    def step(self, closure=None):
        """Do one step of each."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss


_ADAM_BESIDE_MUON = 1e-3  # learning rate for what is not a matrix


def muon(parameters, **options):
    """Return torch's Muon for the weight matrices and Adam, with a learning rate of 1e-3, for all other parameters."""
    parameters = list(parameters)
    matrices = [parameter for parameter in parameters if parameter.ndim == 2]
    others = [parameter for parameter in parameters if parameter.ndim != 2]
    return Together(torch.optim.Muon(matrices, **options), torch.optim.Adam(others, lr=_ADAM_BESIDE_MUON))


_OPTIMIZERS = {  # what makes it, and the options of a Config that it takes beside learning_rate and weight_decay
    "sgd": (torch.optim.SGD, ("momentum", "nesterov")),
    "adam": (torch.optim.Adam, ("betas", "eps")),
    "adamw": (torch.optim.AdamW, ("betas", "eps")),
    "adagrad": (torch.optim.Adagrad, ("eps",)),
    "rmsprop": (torch.optim.RMSprop, ("eps",)),
    "lion": (Lion, ("betas",)),
    "muon": (muon, ("eps",)),
}
OPTIMIZERS = tuple(_OPTIMIZERS)
"""Names of the optimizers."""


def optimizers_with(option):
    """Return the names of the optimizers that take an option: "momentum", "nesterov", "betas" or "eps"."""
    return tuple(name for name, (_, options) in _OPTIMIZERS.items() if option in options)


def make_optimizer(parameters, config):
    """Return the optimizer of a Config; an option that is None there keeps torch's default."""
    make, names = _OPTIMIZERS[config.optimizer]
    options = {name: getattr(config, name) for name in (*names, "weight_decay")}
    return make(parameters, lr=config.learning_rate, **{n: value for n, value in options.items() if value is not None})


_FACTORS = {  # on the learning rate, at a step counted from 0 of so many steps
    "constant": lambda step, steps: 1.0,
    "step": lambda step, steps: 0.1 ** ((2 * step >= steps) + (4 * step >= 3 * steps)),
    "cosine": lambda step, steps: 0.5 * (1.0 + math.cos(math.pi * step / steps)),
    "warmup": lambda step, steps: min(1.0, (step + 1) / math.ceil(0.1 * steps)),
}
SCHEDULES = tuple(_FACTORS)
"""Names of the schedules: constant; a tenth after 1/2 and again after 3/4 of the steps; half a cosine to 0; a linear
rise over the first tenth of the steps."""


def schedule_factor(schedule, step, steps):
    """Return the factor on the learning rate at a step, counted from 0, of a run of so many steps."""
    return _FACTORS[schedule](step, steps)


def make_schedule(optimizer, config):
    """Return a torch scheduler; its step() follows each step of the optimizer."""
    factor = partial(schedule_factor, config.schedule, steps=max(config.steps, 1))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
