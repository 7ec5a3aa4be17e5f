"""From what the steps of a Recorder left behind, still on the model's device, to the arrays of a Trace."""

import math
from collections import defaultdict
from dataclasses import dataclass, replace

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
    """Make a Trace.

    Args:
        model: the model that was recorded.
        layers: its layers in call order, with `name` and `module`.
        rows: a Row for each recorded step.
        losses: step -> loss, recorded step or not.
        statistics: what was to be recorded.
    """
    _fetch(rows)
    columns = {layer: column for column, layer in enumerate(layers)}
    owners = _owners(model, columns)
    arrays = {name: np.full((len(rows), len(layers)), np.nan) for name in STATISTICS}
    for number, row in enumerate(rows):
        for name, parts in row.found.items():
            arrays[name][number] = _combined(name, parts, columns) / (row.scale if name == "delta" else 1.0)
        if row.raw and "weight_gradient" in statistics:
            arrays["weight_gradient"][number] = _over_weights(*row.raw, owners, len(layers)) / row.scale
        if row.moved:
            order, moved, sizes = row.moved
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = _over_weights(order, moved, owners, len(layers)) / _over_weights(
                    order, sizes, owners, len(layers)
                )
            arrays["update_ratio"][number] = ratio
    lost = {step: float(loss) for step, loss in losses.items()}
    trace = Trace(
        layers=tuple(layer.name for layer in layers),
        has_weight=np.isin(np.arange(len(layers)), [c for p, own in owners.items() if p.ndim > 1 for c in own]),
        steps=np.array([row.step for row in rows], dtype=int),
        loss=np.array([lost.get(row.step, np.nan) for row in rows]),
        **arrays,
    )
    events = [*_clippings(rows), *_first_non_finite(rows, lost, columns, owners), *_first_zero_updates(trace)]
    return replace(trace, events=tuple(sorted(events, key=lambda event: event.step)))


def _owners(model, columns):
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


def _over_weights(order, norms_of, owners, count):
    """Return the norm over all weights of each layer, NaN for a layer without."""
    total = np.full(count, np.nan)
    for parameter, norm in zip(order, norms_of, strict=True):
        for column in owners.get(parameter, ()):
            total[column] = norm if np.isnan(total[column]) else np.hypot(total[column], norm)
    return total


def _clippings(rows):
    for row in rows:
        if row.raw and row.used:
            raw, used = np.linalg.norm(row.raw[1]) / row.scale, np.linalg.norm(row.used[1])
            if used < _CLIPPED * raw:
                yield Event("clipped", row.step, raw=float(raw), used=float(used))


def _first_non_finite(rows, losses, columns, owners):
    """Find the first value that is not finite, in the order in which a step computes: forward, loss, backward."""
    lost = [step for step, loss in losses.items() if not math.isfinite(loss)]
    for row in rows:
        if lost and lost[0] < row.step:
            break  # at a step that was not recorded
        forward, backward = (_broken(row, name, columns) for name in ("activation_rms", "delta"))
        backward = backward or _broken_weights(row, columns, owners)
        if forward:
            return [Event("non-finite", row.step, min(forward)[1], "forward")]
        if lost and lost[0] == row.step:
            break
        if backward:
            return [Event("non-finite", row.step, max(backward)[1], "backward")]
    return [Event("non-finite", lost[0], "loss", "forward")] if lost else []


def _broken(row, name, columns):
    """List the layers where a value is not finite, as (column, name of the layer)."""
    return [
        (columns[layer], layer.name)
        for layers, values, _ in row.found.get(name, ())
        if not np.isfinite(values).all()
        for layer, value in zip(layers, values, strict=True)
        if not math.isfinite(value)
    ]


def _broken_weights(row, columns, owners):
    """List the layers whose weight gradient is not finite, as `_broken` does."""
    names = {column: layer.name for layer, column in columns.items()}
    order, values = row.raw or ((), ())
    lost = [parameter for parameter, value in zip(order, values, strict=True) if not math.isfinite(value)]
    return [(column, names[column]) for parameter in lost for column in owners.get(parameter, ())]


def _first_zero_updates(trace):
    """Find each layer's first step that moved nothing although its gradient was not 0."""
    lost = (trace.update_ratio == 0) & (trace.weight_gradient > 0)
    return [
        Event("zero update", int(trace.steps[np.argmax(lost[:, column])]), trace.layers[column])
        for column in np.flatnonzero(lost.any(axis=0))
    ]


def is_bias(name):
    """Whether a parameter's dotted name is that of a bias: not part of a layer's weight."""
    return "bias" in name.rpartition(".")[2]
