"""Plan: which runs are trained together, in stacks that fit the memory, and which one by one."""

from collections import Counter, defaultdict

import torch
from torch import nn

from gradcourse.models import ACTIVATIONS, make_activation
from gradcourse.sweeps.memory import bytes_of_records, bytes_of_run, refuse_too_much
from gradcourse.sweeps.stepping import STACKED

_ALIKE = (  # fields whose values must agree in a stack; all others may differ from run to run
    *("depth", "width", "norm", "residual", "loss", "optimizer", "nesterov", "betas", "eps"),
    *("accumulate", "steps", "batch_size", "record_every", "dtype"),
)
_IN_CACHE = 1 << 24  # bytes of one stack: what a step writes should still be in the processor's cache when it is read


class Plan:
    """How the runs of a sweep are done.

    Args:
        configs: the Configs of all runs.
        budget: bytes that the records of all runs and the stacks that are trained at a time may take.
        workers: how many stacks are trained at a time.

    Attributes:
        stacks: lists of numbers of runs that are trained together.
        one_by_one: numbers of the runs that `run` does.
        text: the plan in one line.

    Raises:
        MemoryError: when the budget does not suffice.
    """

    def __init__(self, configs, budget, workers=1):
        self.configs, self.workers = configs, workers
        refuse_too_much(configs, budget)
        free = budget - sum(map(bytes_of_records, configs))
        alike, reasons, self.one_by_one = defaultdict(list), {}, []
        for number, config in enumerate(configs):
            reason = _reason_against(config, reasons)
            if reason:
                self.one_by_one.append(number)
            else:
                alike[_kind(config)].append(number)
        shares = 1 if len(alike) >= 2 * workers else workers  # few kinds: each keeps all workers busy
        self.stacks = [part for numbers in alike.values() for part in self._parts(numbers, free / workers, shares)]
        self.stacks.sort(key=self._work_of, reverse=True)  # the longest first, so that all workers end together
        self.text = self._said(Counter(filter(None, (_reason_against(config, reasons) for config in configs))))

    def _parts(self, numbers, free, shares):
        """Split runs into stacks of about equal size that fit the memory and the cache, one share or more each."""
        each = bytes_of_run(self.configs[numbers[0]])
        most = max(1, int(min(free, max(_IN_CACHE, _FEWEST * each)) // each))
        count = -(-len(numbers) // most)
        count = min(-(-count // shares) * shares, len(numbers))
        return [numbers[len(numbers) * n // count : len(numbers) * (n + 1) // count] for n in range(count)]

    def _work_of(self, numbers):
        config = self.configs[numbers[0]]
        return len(numbers) * config.depth * config.width**2 * config.batch_size * config.accumulate * config.steps

    def _said(self, reasons):
        together = len(self.configs) - len(self.one_by_one)
        text = f"{together} of {len(self.configs)} runs stacked" + (f" in {len(self.stacks)}" if together else "")
        if reasons:
            why = ", ".join(f"{reason} ({count})" for reason, count in reasons.items())
            text += f", {len(self.one_by_one)} one by one: {why}"
        return text


_FEWEST = 16  # runs in a stack, cache or not: with fewer the calls cost as much as the products


def _kind(config):
    activation = config.activation if isinstance(config.activation, str) else id(config.activation)
    return (activation, bool(config.momentum), *(getattr(config, name) for name in _ALIKE))


def _reason_against(config, known):
    """Return why a run can't be part of a stack, or None; `known` keeps what was found out about activations."""
    if config.model != "mlp":
        return "convolutions"
    if config.dropout:
        return "dropout"
    if config.optimizer not in STACKED:
        return config.optimizer
    if isinstance(config.activation, str) and config.activation in ACTIVATIONS:
        return None
    key = (id(config.activation), config.dtype)
    if key not in known:
        known[key] = None if _is_plain(make_activation(config.activation), getattr(torch, config.dtype)) else _SPECIAL
    return known[key]


_SPECIAL = "an activation that is more than an elementwise function"


def _is_plain(activation, dtype):
    """Whether an activation does to a stack what it does to each entry: no weights, no state, no chance, no batch."""
    if any(True for _ in activation.parameters()) or any(True for _ in activation.buffers()):
        return False
    if isinstance(activation, nn.Module) and any(True for _ in activation.children()):
        return False  # each would be a layer of its own
    x = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    x = x.requires_grad_() * 1.0
    kept = x.detach().clone()
    try:
        stacked, flat = activation(x), activation(kept.flatten().clone())
        same = stacked.shape == x.shape and torch.allclose(stacked.flatten(), flat, rtol=1e-4, equal_nan=True)
        return same and stacked.requires_grad and stacked.dtype == dtype and torch.equal(x, kept)
    except Exception:  # whatever a learner's function does to other shapes; `run` will show it
        return False
