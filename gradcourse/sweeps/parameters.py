"""The parameters of K networks of one architecture, stacked."""

from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn

from gradcourse.layers import Block
from gradcourse.readout import is_bias


@dataclass(eq=False)
class Group:
    """All parameters of one shape: one tensor, so that a few operations step them all."""

    names: tuple
    is_weight: bool  # else biases
    values: torch.Tensor  # (n, K, *shape)
    gradients: torch.Tensor  # (n, K, *shape)

    def take(self, runs):
        """Return the group of some of the runs."""
        values = self.values[:, runs].contiguous()
        return Group(self.names, self.is_weight, values, torch.zeros_like(values))


class Parameters:
    """What K networks learn and keep: parameters, running statistics, fixed residual scales.

    Args:
        groups: list of Group.
        buffers: running statistics by name, each of shape (K, ...).
        scales: the fixed factor of each residual block by its name, shape (K,).
    """

    def __init__(self, groups, buffers, scales):
        self.groups, self.buffers, self.scales = groups, buffers, scales
        self._place = {name: (group, n) for group in groups for n, name in enumerate(group.names)}

    @classmethod
    def of(cls, models):
        """Stack the parameters of models of one architecture."""
        named = [dict(model.named_parameters()) for model in models]
        shapes = defaultdict(list)
        for name, parameter in named[0].items():
            shapes[parameter.shape, is_bias(name)].append(name)
        groups = [_group(named, names, not bias) for (_, bias), names in shapes.items()]
        return cls(groups, _buffers(models), _scales(models))

    @property
    def weights(self):
        """The names of all parameters but the biases, in the order of the groups."""
        return [name for group in self.groups if group.is_weight for name in group.names]

    def value(self, name):
        """Return a parameter of all runs, shape (K, *shape)."""
        group, n = self._place[name]
        return group.values[n]

    def gradient(self, name):
        """Return the place of a parameter's gradient, shape (K, *shape)."""
        group, n = self._place[name]
        return group.gradients[n]

    def take(self, runs):
        """Return a copy of the parameters of some of the runs, given by position."""
        groups = [group.take(runs) for group in self.groups]
        buffers, scales = ({name: value[runs] for name, value in part.items()} for part in (self.buffers, self.scales))
        return Parameters(groups, buffers, scales)


def _group(named, names, is_weight):
    values = torch.stack([torch.stack([run[name].detach() for run in named]) for name in names])
    return Group(tuple(names), is_weight, values, torch.zeros_like(values))


def _buffers(models):
    named = [dict(model.named_buffers()) for model in models]
    wanted = [name for name, value in named[0].items() if value.is_floating_point()]  # not the count of batches
    return {name: torch.stack([run[name] for run in named]) for name in wanted}


def _scales(models):
    """Return the factors of the residual blocks that don't learn theirs."""
    blocks = [{name: part for name, part in model.named_modules() if isinstance(part, Block)} for model in models]
    fixed = [name for name, block in blocks[0].items() if not isinstance(block.scale, nn.Parameter)]
    dtype = next(models[0].parameters()).dtype
    return {name: torch.tensor([run[name].scale for run in blocks], dtype=dtype) for name in fixed}
