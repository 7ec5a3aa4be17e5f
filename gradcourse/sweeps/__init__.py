"""sweep trains many runs at once and returns their Traces by axis value."""

from contextlib import closing
from dataclasses import fields
from threading import Lock

import torch

from gradcourse.machine import available_cpus
from gradcourse.sweeps.grid import Sweep, grid
from gradcourse.sweeps.memory import budget_of
from gradcourse.sweeps.plan import Plan
from gradcourse.sweeps.progress import Progress
from gradcourse.sweeps.stack import Stack
from gradcourse.sweeps.workers import Workers
from gradcourse.training import build_model, load_data, run

__all__ = ["Sweep", "sweep"]

_OF_TRAINING = {  # fields that change neither the initial weights nor the data
    *("loss", "optimizer", "learning_rate", "momentum", "nesterov", "betas", "eps", "weight_decay", "schedule"),
    *("clip_norm", "clip_value", "clip_weights", "accumulate", "steps", "batch_size", "record_every"),
}
_OF_DATA = ("data", "scaling", "seed", "dtype")


def sweep(config, *, memory=None, **axes):
    """Run the experiments of all combinations of some values of a Config's fields.

    Runs that differ in numbers only are trained together, which gives what `run` gives up to rounding: the same
    weights, data and batches, the same statistics and events. The others (convolutions, dropout, Muon, activations
    that are not plain elementwise functions) are done by `run`, one by one; the result's `plan` says which and why.
    Progress is shown where someone can see it.

    Args:
        config: the Config that all runs start from.
        memory: bytes that the runs and their records may take together; None: half of what is free.
        **axes: a field of Config and the values that it takes, ``gain=[0.8, 1.2], seed=range(8)``; or a name of your
            own and what its values stand for, each the fields that it changes or a function from the Config to them,
            ``cure={"none": {}, "ReLU": {"activation": "relu", "init": "he"}}``. Later axes change what earlier ones
            set.

    Returns:
        A Sweep: the Trace of every combination by its values, in product order. After an interrupt from the keyboard,
        those of the runs that were done.

    Raises:
        TypeError: for anything but a Config, and for an axis that is not a list of values.
        ValueError: without axes, for an axis that is unknown, empty or holds a value twice, and for a combination of
            values that Config refuses.
        MemoryError: before the start, when the memory does not suffice; the message says what would fit.
    """
    axes, configs = grid(config, axes)
    workers = min(torch.get_num_threads(), available_cpus())  # torch does not know a container's share
    plan = Plan(list(configs.values()), budget_of(memory), workers)
    keys, traces, interrupted = list(configs), {}, False
    try:
        with Progress(plan) as progress:
            for number, trace in _traces(plan, progress):
                traces[keys[number]] = trace
    except KeyboardInterrupt:
        interrupted = len(traces) < len(keys)
    return Sweep(axes, configs, traces, plan.text, interrupted)


def _traces(plan, progress):
    """Yield (number of the run, its Trace) as the runs end."""
    starts = _Starts()
    jobs = [_job(numbers, [plan.configs[number] for number in numbers], starts) for numbers in plan.stacks]
    with closing(Workers(jobs, plan.workers).results()) as results:
        for steps, traces in results:
            yield from traces.items()
            progress.steps(steps)
    for number in plan.one_by_one:
        config = plan.configs[number]
        yield number, run(config)
        progress.steps(max(config.steps, 1))


def _job(numbers, configs, starts):
    """Return what trains one stack and tells what came of it after every step."""

    def job(tell):
        for steps, traces in Stack(configs, *starts.of(configs)).train():
            tell((steps, {numbers[position]: trace for position, trace in traces.items()}))

    return job


class _Starts:
    """Models at initialization and data, made once for all runs that start from the same."""

    def __init__(self):
        self._splits, self._lock = {}, Lock()

    def of(self, configs):
        """Return the models and the data of the runs of one stack."""
        models = {_key_of_weights(config): config for config in configs}
        models = {key: build_model(config) for key, config in models.items()}
        return [models[_key_of_weights(config)] for config in configs], [self._split(config) for config in configs]

    def _split(self, config):
        key = tuple(getattr(config, name) for name in _OF_DATA)
        with self._lock:
            if key not in self._splits:
                self._splits[key] = load_data(config)
            return self._splits[key]


def _key_of_weights(config):
    """Return the values of all fields that the weights may depend on."""
    names = [field.name for field in fields(config) if field.name not in (*_OF_TRAINING, "activation")]
    return (id(config.activation), *(getattr(config, name) for name in names))
