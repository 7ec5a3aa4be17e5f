"""From what the steps of a Recorder left behind, still on the model's device, to the arrays of a Trace."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from gradcourse.trace import STATISTICS, Event, Trace

_CLIPPED = 1.0 - 1e-6  # used norm over raw norm; rounding alone stays above it
_SIZES = ("delta", "activation_rms")  # put together as mean squares, the others as means


@dataclass
class Row:
    """One recorded step; values are tensors until they are fetched, then arrays."""

    step: int
    found: dict  # statistic -> [(layers, values, entries each)]
    raw: tuple
    used: tuple
    moved: tuple
    scale: object


def _fetch(rows):
    """Bring all values that are still tensors to NumPy, in one transfer per device."""
    tensors = [value for row in rows for value in _values(row) if isinstance(value, torch.Tensor)]
    arrays = {}
    for device in {tensor.device for tensor in tensors}:
        own = [tensor for tensor in tensors if tensor.device == device]
        flat = torch.cat([tensor.reshape(-1).double() for tensor in own]).cpu().numpy()
        ends = np.cumsum([tensor.numel() for tensor in own])[:-1]
        arrays |= {id(tensor): part for tensor, part in zip(own, np.split(flat, ends), strict=True)}

    def fetched(value):
        return arrays[id(value)] if isinstance(value, torch.Tensor) else value

    for row in rows:
        row.found = {
            name: [(layers, fetched(values), entries) for layers, values, entries in parts]
            for name, parts in row.found.items()
        }
        row.raw, row.used, row.moved = (
            tuple(map(fetched, part)) if part else part for part in (row.raw, row.used, row.moved)
        )
        row.scale = float(np.asarray(fetched(row.scale)).reshape(()))


def _values(row):
    yield from (values for parts in row.found.values() for _, values, _ in parts)
    yield from (value for part in (row.raw, row.used, row.moved) for value in part or ())
    yield row.scale


def read(model, layers, rows, losses, statistics):
    """Make a Trace of the steps of a Recorder.

    Args:
        model: the model that was recorded.
        layers: its layers in call order, with `name` and `module`.
        rows: a Row for each recorded step.
        losses: step -> loss, recorded step or not.
        statistics: what was to be recorded.
    """
    _fetch(rows)
    columns = {layer: column for column, layer in enumerate(layers)}
    owners = owners_of(model, columns)
    arrays = {name: np.full((len(rows), len(layers)), np.nan) for name in STATISTICS}
    forward, backward = np.zeros((2, len(rows), len(layers)), dtype=bool)
    for number, row in enumerate(rows):
        for name, parts in row.found.items():
            arrays[name][number] = _combined(name, parts, columns) / (row.scale if name == "delta" else 1.0)
        if row.raw and "weight_gradient" in statistics:
            arrays["weight_gradient"][number] = over_weights(*row.raw, owners, len(layers)) / row.scale
        if row.moved:
            order, moved, sizes = row.moved
            moved, sizes = (over_weights(order, norms, owners, len(layers)) for norms in (moved, sizes))
            arrays["update_ratio"][number] = update_ratio(moved, sizes)
        forward[number, _broken(row, "activation_rms", columns)] = True
        backward[number, [*_broken(row, "delta", columns), *_broken_weights(row, owners)]] = True
    return Readings(
        layers=tuple(layer.name for layer in layers),
        has_weight=has_matrix(owners, len(layers)),
        steps=np.array([row.step for row in rows], dtype=int),
        losses={step: float(loss) for step, loss in losses.items()},
        arrays=arrays,
        raw=np.array([_whole(row.raw) / row.scale if row.raw and row.used else np.nan for row in rows]),
        used=np.array([_whole(row.used) if row.used else np.nan for row in rows]),
        forward=forward,
        backward=backward,
    ).trace()


def _whole(gradient):
    """Return the norm of the whole gradient, from those of the parameters."""
    return np.linalg.norm(gradient[1])


@dataclass
class Readings:
    """What a run has shown at S recorded steps in L layers, before it is judged."""

    layers: tuple  # names, length L
    has_weight: np.ndarray  # bool, shape (L,)
    steps: np.ndarray  # int, shape (S,)
    losses: dict  # step -> loss, recorded step or not
    arrays: dict  # statistic -> array of shape (S, L)
    raw: np.ndarray  # norm of the whole gradient after the backward pass, shape (S,); NaN unless known
    used: np.ndarray  # the same as the optimizer saw it
    forward: np.ndarray  # whether an output was not finite, shape (S, L)
    backward: np.ndarray  # whether a gradient was not finite, shape (S, L)

    def trace(self):
        """Return the Trace, with its events in order of steps."""
        events = [*self._clippings(), *self._first_non_finite(), *self._first_zero_updates()]
        return Trace(
            layers=self.layers,
            has_weight=self.has_weight,
            steps=self.steps,
            loss=np.array([self.losses.get(int(step), np.nan) for step in self.steps]),
            events=tuple(sorted(events, key=lambda event: event.step)),
            **self.arrays,
        )

    def _clippings(self):
        for row in np.flatnonzero(self.used < _CLIPPED * self.raw):
            yield Event("clipped", int(self.steps[row]), raw=float(self.raw[row]), used=float(self.used[row]))

    def _first_non_finite(self):
        """Find the first value that is not finite, in the order in which a step computes: forward, loss, backward."""
        lost = next((step for step, loss in self.losses.items() if not math.isfinite(loss)), math.inf)
        for row in np.flatnonzero((self.forward | self.backward).any(axis=1)):
            step, forward, backward = int(self.steps[row]), self.forward[row], self.backward[row]
            if step <= lost and forward.any():
                return [Event("non-finite", step, self.layers[np.flatnonzero(forward)[0]], "forward")]
            if step < lost:
                return [Event("non-finite", step, self.layers[np.flatnonzero(backward)[-1]], "backward")]
            break  # the loss was lost before, perhaps at a step that was not recorded
        return [Event("non-finite", lost, "loss", "forward")] if lost < math.inf else []

    def _first_zero_updates(self):
        """Find each layer's first step that moved nothing although its gradient was not 0."""
        lost = (self.arrays["update_ratio"] == 0) & (self.arrays["weight_gradient"] > 0)
        return [
            Event("zero update", int(self.steps[np.argmax(lost[:, column])]), self.layers[column])
            for column in np.flatnonzero(lost.any(axis=0))
        ]


def owners_of(model, columns):
    """Map each weight to the columns of the layers it belongs to: of its module, or the nearest one around it."""
    recorded = defaultdict(list)
    for layer, column in columns.items():
        recorded[layer.module].append(column)
    modules = dict(model.named_modules(remove_duplicate=False))
    owners = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path = name.rpartition(".")[0]
        while path and modules[path] not in recorded:
            path = path.rpartition(".")[0]
        if not is_bias(name):
            owners[parameter] += [c for c in recorded.get(modules[path], ()) if c not in owners[parameter]]
    return owners


def _combined(name, parts, columns):
    """Put together what the calls of each layer gave: mean squares for sizes, means for fractions."""
    total, entries = np.zeros(len(columns)), np.zeros(len(columns))
    for layers, values, counts in parts:
        where = [columns[layer] for layer in layers]
        (np.hypot if name in _SIZES else np.add).at(total, where, values)
        np.add.at(entries, where, counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return total / (np.sqrt(entries) if name in _SIZES else entries)


def has_matrix(owners, count):
    """Return which of `count` layers hold a weight matrix, bool, shape (count,)."""
    return np.isin(np.arange(count), [column for p, own in owners.items() if p.ndim > 1 for column in own])


def over_weights(order, norms, owners, count):
    """Return the norm over all weights of each layer, NaN for a layer without.

    Args:
        order: the parameters.
        norms: their norms, shape (parameters, ...).
        owners: from `owners_of`.
        count: number of layers.

    Returns:
        Array of shape (count, ...).
    """
    norms = np.asarray(norms)
    total = np.full((count, *norms.shape[1:]), np.nan)
    seen = set()
    for parameter, norm in zip(order, norms, strict=True):
        for column in owners.get(parameter, ()):
            total[column] = np.hypot(total[column], norm) if column in seen else norm
            seen.add(column)
    return total


def update_ratio(moved, sizes):
    """Return the norms of the steps over those of the weights; a weight of 0 gives inf, or NaN if it did not move."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved / sizes


def _broken(row, name, columns):
    """List the columns of the layers where a value is not finite."""
    return [
        columns[layer]
        for layers, values, _ in row.found.get(name, ())
        if not np.isfinite(values).all()
        for layer, value in zip(layers, values, strict=True)
        if not math.isfinite(value)
    ]


def _broken_weights(row, owners):
    """List the columns of the layers whose weight gradient is not finite."""
    order, values = row.raw or ((), ())
    lost = [parameter for parameter, value in zip(order, values, strict=True) if not math.isfinite(value)]
    return [column for parameter in lost for column in owners.get(parameter, ())]


def is_bias(name):
    """Whether a parameter's dotted name is that of a bias: not part of a layer's weight."""
    return "bias" in name.rpartition(".")[2]
