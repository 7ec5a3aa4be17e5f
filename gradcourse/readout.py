"""From what the steps of a Recorder left behind, still on the model's device, to the arrays of a Trace."""

import math
from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch

from gradcourse.trace import Event, Trace

_CLIPPED = 1.0 - 1e-6  # used norm over raw norm; rounding alone stays above it
_FRACTIONS = ("saturation", "dead")  # put together as means, the others as mean squares
_OF_GRADIENTS = ("raw", "used")


@dataclass
class Part:
    """What one reduction gave: a number for each of some layers (a statistic) or parameters (their norms).

    Attributes:
        name: a statistic of the outputs, "raw" or "used" (norms of the gradients after the backward pass, and as the
            optimizer saw them), "before" or "moved" (norms of the parameters, and of their steps).
        keys: the layers or parameters.
        values: one number for each, shape (n,), on the model's device.
        entries: of each layer's tensor, of which a size is the norm; None: 1.
    """

    name: str
    keys: list
    values: torch.Tensor
    entries: np.ndarray | None = None


class Layout:
    """What a step measured, in which order; steps that measured the same share one, and are read together."""

    def __init__(self, parts):
        ends = np.cumsum([len(part.keys) for part in parts])
        self.parts = [
            (part.name, slice(end - len(part.keys), end), part.keys, 1.0 if part.entries is None else part.entries)
            for part, end in zip(parts, ends, strict=True)
        ]


@dataclass
class Row:
    """One recorded step: for each device a Layout and its values, one flat tensor there."""

    step: int
    pieces: list
    scale: object

    @classmethod
    def of(cls, step, parts, scale, layouts):
        """Make a Row of a step's Parts; `layouts` keeps the Layouts that the rows share."""
        pieces = []
        for device in {part.values.device for part in parts}:
            own = [part for part in parts if part.values.device == device and part.keys]
            key = tuple([(part.name, id(part.keys)) for part in own])  # a Layout keeps its keys, so ids stay theirs
            if key not in layouts:
                layouts[key] = Layout(own)
            pieces.append((layouts[key], torch.cat([part.values for part in own]) if own else torch.zeros(0)))
        return cls(step, pieces, scale)


def read(model, layers, rows, losses, statistics):
    """Make a Trace.

    Args:
        model: the model that was recorded.
        layers: its layers in call order, with `name` and `module`.
        rows: a Row for each recorded step.
        losses: step -> loss, recorded step or not.
        statistics: what was to be recorded.
    """
    columns = {layer: column for column, layer in enumerate(layers)}
    owners = _owners(model, columns)
    found = _Found(len(rows), columns, owners)
    scales = _scales(rows)
    for layout, numbers, values in _together(rows):
        found.add(layout, numbers, values)
    gradient_norms = np.where(np.isnan(found.norm("raw")), found.norm("used"), found.norm("raw"))
    with np.errstate(divide="ignore", invalid="ignore"):
        arrays = {
            "delta": found.mean("delta") / scales[:, None],
            "weight_gradient": gradient_norms / scales[:, None],
            "update_ratio": found.norm("moved") / found.norm("before"),
            **{name: found.mean(name) for name in ("activation_rms", "saturation", "dead")},
        }
    steps = np.array([row.step for row in rows], dtype=int)
    lost = {step: float(loss) for step, loss in losses.items()}
    trace = Trace(
        layers=tuple(layer.name for layer in layers),
        has_weight=np.isin(np.arange(len(layers)), [c for p, own in owners.items() if p.ndim > 1 for c in own]),
        steps=steps,
        loss=np.array([lost.get(int(step), np.nan) for step in steps]),
        **{name: values if name in statistics else np.full_like(values, np.nan) for name, values in arrays.items()},
    )
    backward = found.broken("delta") | found.broken("raw") | found.broken("used")
    events = [
        *_clippings(steps, found.norms["raw"] / scales, found.norms["used"]),
        *_first_non_finite(trace, lost, found.broken("activation_rms"), backward),
        *_first_zero_updates(trace),
    ]
    return replace(trace, events=tuple(sorted(events, key=lambda event: event.step)))


def _scales(rows):
    """Return the loss scale of each step, shape (S,); those that are tensors come in one transfer."""
    tensors = [row.scale.reshape(()) for row in rows if isinstance(row.scale, torch.Tensor)]
    fetched = iter(torch.stack(tensors).tolist() if tensors else ())
    return np.array([next(fetched) if isinstance(row.scale, torch.Tensor) else row.scale for row in rows], dtype=float)


def _together(rows):
    """Yield (layout, numbers of the rows that have it, their values of shape (rows, n)), in one transfer each."""
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        for layout, values in row.pieces:
            groups[layout, values.dtype].append((number, values))
    for (layout, _), members in groups.items():
        numbers, values = zip(*members, strict=True)
        yield layout, np.array(numbers), torch.stack(values).cpu().double().numpy()


class _Found:
    """What was measured, by row and column. The calls of a layer are put together, and so are its weights."""

    def __init__(self, count, columns, owners):
        self._columns, self._owners = columns, owners
        self._total, self._entries = (defaultdict(lambda: np.zeros((count, len(columns)))) for _ in range(2))
        self._seen = defaultdict(lambda: np.zeros((count, len(columns)), dtype=bool))
        self.norms = defaultdict(lambda: np.full(count, np.nan))  # over all keys of a name, by row

    def add(self, layout, rows, values):
        """Add the values of the rows that have this layout, shape (rows, n)."""
        for name, part, keys, entries in layout.parts:
            which, where = self._cells(keys)
            cells = np.ix_(rows, where)
            own = values[:, part]
            combine = np.add if name in _FRACTIONS else np.hypot
            combine.at(self._total[name], cells, own[:, which])
            np.add.at(self._entries[name], cells, np.broadcast_to(entries, len(keys))[which])
            self._seen[name][cells] = True
            if name in _OF_GRADIENTS:
                self.norms[name][rows] = np.linalg.norm(own, axis=1)

    def _cells(self, keys):
        """Return which keys go to which columns: a layer to its own, a parameter to those of the layers it is in."""
        pairs = [
            (index, column)
            for index, key in enumerate(keys)
            for column in ([self._columns[key]] if key in self._columns else self._owners.get(key, ()))
        ]
        return np.array(pairs, dtype=int).reshape(-1, 2).T

    def mean(self, name):
        """Return root mean squares of a size, means of a fraction, shape (S, L); NaN where there is none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            entries = self._entries[name] if name in _FRACTIONS else np.sqrt(self._entries[name])
            return np.where(self._seen[name], self._total[name] / entries, np.nan)

    def norm(self, name):
        """Return the norm over the weights of each layer, shape (S, L); NaN where there is none."""
        return np.where(self._seen[name], self._total[name], np.nan)

    def broken(self, name):
        """Return where a value is not finite, shape (S, L)."""
        return self._seen[name] & ~np.isfinite(self._total[name])


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


def _clippings(steps, raw, used):
    for step, before, after in zip(steps, raw, used, strict=True):
        if after < _CLIPPED * before:
            yield Event("clipped", int(step), raw=float(before), used=float(after))


def _first_non_finite(trace, losses, forward, backward):
    """Find the first value that is not finite, in the order in which a step computes: forward, loss, backward."""
    lost = min((step for step, loss in losses.items() if not math.isfinite(loss)), default=math.inf)
    for step, ahead, back in zip(trace.steps, forward, backward, strict=True):
        if lost < step:
            break  # at a step that was not recorded
        if ahead.any():
            return [Event("non-finite", int(step), trace.layers[int(np.argmax(ahead))], "forward")]
        if lost == step:
            break
        if back.any():
            return [Event("non-finite", int(step), trace.layers[int(np.flatnonzero(back)[-1])], "backward")]
    return [Event("non-finite", lost, "loss", "forward")] if lost < math.inf else []


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
