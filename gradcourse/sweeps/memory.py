"""How much memory runs and their records take, and what would fit."""

import math
from dataclasses import replace

from gradcourse.machine import cgroup_free_memory
from gradcourse.sweeps.stepping import STACKED, states_of

_SHARE = 0.5  # of the free memory
_INPUTS, _OUTPUTS, _POINTS = 64, 10, 1797
_OWN_TENSORS = 8  # at most, that a layer keeps for each image and unit


def free_memory():
    """Return the bytes that this process can still have."""
    import psutil  # here: it comes with ipykernel

    return min(psutil.virtual_memory().available, cgroup_free_memory())


def budget_of(memory):
    """Return the bytes that a sweep may take: `memory`, or by default a share of what is free.

    Raises:
        TypeError, ValueError: when it is not a positive number.
    """
    if memory is None:
        return _SHARE * free_memory()
    if isinstance(memory, bool) or not isinstance(memory, (int, float)):
        raise TypeError(f"sweep(memory={memory!r}): memory is a number of bytes, not {type(memory).__name__}")
    if not memory > 0:
        raise ValueError(f"sweep(memory={memory!r}): memory is a number of bytes > 0")
    return memory


def bytes_of_records(config):
    """Return what the records of one run take until its Trace is made, and the Trace, in bytes."""
    rows = -(-max(config.steps, 1) // config.record_every)
    layers = config.depth * (2 + bool(config.norm))
    return 8 * (rows * (15 * layers + 4) + 2 * max(config.steps, 1))


def bytes_of_run(config):
    """Return about what one run takes beside its records, in bytes: parameters, gradients, outputs, data."""
    conv = config.model == "conv"
    maps = max(config.depth - 2, 0) * config.width**2 * (9 if conv else 1)
    ends = config.width * (9 + 16 * _OUTPUTS if conv else _INPUTS + _OUTPUTS)
    parameters = maps + ends + 4 * config.depth * config.width + _OUTPUTS
    copies = 5 + (states_of(config) if config.optimizer in STACKED else 2)
    units = config.width * (64 if conv else 1)
    kept = config.batch_size * config.depth * units * (_tensors_of(config) if not conv else _OWN_TENSORS)
    data = (_POINTS + 2 * config.batch_size) * (_INPUTS + _OUTPUTS) + 4 * config.batch_size * units
    return (parameters * copies + kept + data) * (4 if config.dtype == "float32" else 8)


def _tensors_of(config):
    """Return how many tensors of the size of its output a hidden layer keeps."""
    quick = config.activation in ("tanh", "sigmoid", "relu", "identity")
    return 1 + (0 if quick else 2) + 2 * (config.norm not in (None, "weight")) + 2 * bool(config.residual)


def refuse_too_much(configs, budget):
    """Raise MemoryError when the records of all runs and one run do not fit, and say what would."""
    records, largest = sum(map(bytes_of_records, configs)), max(configs, key=bytes_of_run)
    if records + bytes_of_run(largest) <= budget:
        return
    have = f"{_size(budget)} may be used"
    if bytes_of_run(largest) > 0.5 * budget:
        raise MemoryError(
            f"sweep: one run of depth {largest.depth}, width {largest.width} and batch_size {largest.batch_size} takes "
            f"about {_size(bytes_of_run(largest))}, and {have}: {_smaller(largest, 0.5 * budget)}"
        )
    raise MemoryError(
        f"sweep: the records of {len(configs)} runs take about {_size(records)}, and {have}: "
        f"{_sparser(configs, budget - bytes_of_run(largest))}"
    )


def _smaller(config, room):
    """Say which smaller run would fit."""
    for name in ("batch_size", "width"):
        value = getattr(config, name) // 2
        while value >= 8:
            if bytes_of_run(replace(config, **{name: value})) <= room:
                return f"{name}={value} would fit"
            value //= 2
    return "take a smaller width and batch_size"


def _sparser(configs, room):
    """Say which larger record_every would fit."""
    most = max(max(config.steps, 1) for config in configs)
    factor = 2 ** math.ceil(math.log2(max(sum(map(bytes_of_records, configs)) / room, 1.0)))
    while factor < 2 * most:
        sparse = [replace(config, record_every=config.record_every * factor) for config in configs]
        if sum(map(bytes_of_records, sparse)) <= room:
            return f"record_every={max(config.record_every for config in sparse)} would fit"
        factor *= 2
    fit = int(len(configs) * room / sum(map(bytes_of_records, configs)))
    return f"{max(fit, 1)} runs would fit"


def _size(number):
    unit, name = next((pair for pair in ((1e9, "GB"), (1e6, "MB")) if number >= pair[0]), (1e3, "kB"))
    return f"{number / unit:.3g} {name}"
