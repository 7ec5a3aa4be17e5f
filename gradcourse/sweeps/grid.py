"""From axes to Configs, and back from axis values to Traces: Sweep."""

import difflib
from collections.abc import Iterable, Mapping, Set
from dataclasses import fields, replace
from itertools import product

import numpy as np

from gradcourse.config import Config


def grid(config, axes):
    """Return the axes with plain values, and the Config of each of their combinations by its key.

    Keys are in product order: the last axis changes first.

    Args:
        config: the Config that all start from.
        axes: field -> its values; any name -> the changes of a Config that its values stand for.

    Raises:
        TypeError, ValueError: see sweep.
    """
    if not isinstance(config, Config):
        raise TypeError(f"sweep() takes a Config, not {type(config).__name__}: write sweep(Config(), gain=[1, 2])")
    if not axes:
        raise ValueError("sweep() needs an axis, a field of Config and its values: sweep(config, gain=[0.8, 1.2])")
    _refuse_unknown(axes)
    changes = {name: _changes(name, values) for name, values in axes.items()}
    axes = {name: tuple(values) for name, values in changes.items()}
    keys = product(*axes.values())
    return axes, {key: _combined(config, dict(zip(axes, key, strict=True)), changes) for key in keys}


def _refuse_unknown(axes):
    known = [field.name for field in fields(Config)]
    for name, values in axes.items():
        if name not in known and not isinstance(values, Mapping):
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"its fields are {', '.join(known)}"
            raise ValueError(f"sweep({name}=...): Config has no field {name!r}; {hint}")


def _changes(name, values):
    """Return the changes of a Config that each value of an axis stands for, as a dict or a function of the Config."""
    if not isinstance(values, Mapping):
        return {value: {name: value} for value in _values(name, values)}
    if not values:
        raise ValueError(f"sweep({name}={{}}): an axis needs at least one value")
    for value, change in values.items():
        if not isinstance(change, Mapping) and not callable(change):
            raise TypeError(
                f"sweep({name}={{{value!r}: {change!r}}}): write the fields that it changes, "
                f"{{{value!r}: {{'depth': 3}}}} for example, or a function from the Config to them"
            )
    return dict(values)


def _values(name, values):
    """Return the values of an axis as a tuple of plain Python values."""
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise TypeError(f"sweep({name}={values!r}): an axis is a list of values: write {name}=[{values!r}]")
    values = tuple(values.tolist() if isinstance(values, np.ndarray) else values)
    values = tuple(map(_plain, values))
    if not values:
        raise ValueError(f"sweep({name}=[]): an axis needs at least one value")
    for place, value in enumerate(values):
        if value in values[:place]:
            raise ValueError(f"sweep({name}=...): {value!r} is there twice: give each value once")
    return values


def _plain(value):
    """Return a value that can be part of a key."""
    if isinstance(value, np.generic):
        return value.item()
    return tuple(value) if isinstance(value, list) else value


def _combined(config, key, changes):
    """Return the Config with the changes of each axis; a function is given the Config as earlier axes changed it."""
    together = {}
    try:
        for name, value in key.items():
            change = changes[name][value]
            together |= change(replace(config, **together)) if callable(change) else change
        return replace(config, **together)
    except (TypeError, ValueError) as error:
        raise type(error)(f"sweep: {_said(key)} can't be run: {error}") from None


def _said(changes):
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())


class Sweep(Mapping):
    """The Traces of all combinations, by the tuple of their axis values in the order of the axes.

    With a single axis the bare value is a key too. After an interrupt only those that were done are there.

    Attributes:
        axes: field -> its values, in the order in which they were given.
        configs: key -> Config, of all combinations.
        plan: in words, how many were trained together, and how many one by one and why.
        interrupted: whether the sweep was interrupted before all were done.
    """

    def __init__(self, axes, configs, traces, plan="", interrupted=False):
        self.axes, self.configs, self.plan, self.interrupted = axes, configs, plan, interrupted
        self._traces = {key: traces[key] for key in configs if key in traces}

    def __getitem__(self, key):
        known = self._key(key)
        if known in self._traces:
            return self._traces[known]
        if known in self.configs:
            raise KeyError(f"{key!r} was not done: the sweep was interrupted after {self._done()} runs")
        for name, value in zip(self.axes, key if isinstance(key, tuple) else (), strict=False):
            self._need(name, value)
        example = next(iter(self.configs))
        raise KeyError(f"{key!r} is no key of this sweep; a key is a tuple ({', '.join(self.axes)}), as {example!r}")

    def __iter__(self):
        return iter(self._traces)

    def __len__(self):
        return len(self._traces)

    def __repr__(self):
        axes = " x ".join(f"{name} ({len(values)})" for name, values in self.axes.items())
        return f"<Sweep over {axes}: {self._done()} traces{', interrupted' if self.interrupted else ''}>"

    def _done(self):
        return f"{len(self)} of {len(self.configs)}" if self.interrupted else f"{len(self)}"

    def _key(self, key):
        """Return a key as it is stored; with a single axis the bare value will do."""
        try:
            return key if key in self.configs or len(self.axes) > 1 else (key,)
        except TypeError:
            raise KeyError(f"{key!r} is no key of a sweep: it can't be hashed; write a tuple of axis values") from None

    def _need(self, name, value):
        if name not in self.axes:
            raise KeyError(f"no axis {name!r} in this sweep; it has {', '.join(self.axes)}")
        if value not in self.axes[name]:
            raise KeyError(f"{name}={value!r} is not in this sweep; it has {', '.join(map(repr, self.axes[name]))}")

    def select(self, **values):
        """Return the part of this sweep at some axis values, over the axes that are left.

        Args:
            **values: axis -> one of its values.

        Returns:
            A Sweep, or the Trace when a value is given for each axis.

        Raises:
            KeyError: for an axis or a value that this sweep does not have, or a run that was not done.
        """
        for name, value in values.items():
            self._need(name, _plain(value))
        values = {name: _plain(value) for name, value in values.items()}
        names = list(self.axes)
        if len(values) == len(names):
            return self[tuple(values[name] for name in names)]
        rest = [place for place, name in enumerate(names) if name not in values]
        part = {
            tuple(key[place] for place in rest): key
            for key in self.configs
            if all(key[names.index(name)] == value for name, value in values.items())
        }
        return Sweep(
            {names[place]: self.axes[names[place]] for place in rest},
            {short: self.configs[key] for short, key in part.items()},
            {short: self._traces[key] for short, key in part.items() if key in self._traces},
            self.plan,
            self.interrupted,
        )

    def array(self, of):
        """Return a number (or an array) of each Trace as an array with one dimension for each axis.

        Args:
            of: called with each Trace; returns a number, or an array of one shape for all.

        Returns:
            float64 array of shape (values of the first axis, ..., *shape); NaN for runs that were not done.
        """
        done = {key: np.asarray(of(trace), dtype=np.float64) for key, trace in self.items()}
        missing = np.full(next(iter(done.values())).shape if done else (), np.nan)
        values = np.stack([done.get(key, missing) for key in self.configs])
        return values.reshape(*map(len, self.axes.values()), *missing.shape)
