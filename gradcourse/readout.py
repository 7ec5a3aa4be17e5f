"""From what the steps of a Recorder left behind, still on the model's device, to the arrays of a Trace."""

import math
from collections import defaultdict
from dataclasses import dataclass

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
    """Make a Trace of the steps of a Recorder.

    Args:
        model: the model that was recorded.
        layers: its layers in call order, with `name` and `module`.
        rows: a Row for each recorded step.
        losses: step -> loss, recorded step or not.
        statistics: what was to be recorded.
    """
    columns = {layer: column for column, layer in enumerate(layers)}
    owners = owners_of(model, columns)
    found = _Found(len(rows), columns, owners)
    scales = _scales(rows)
    for layout, numbers, values in _together(rows):
        found.add(layout, numbers, values)
    gradient_norms = np.where(np.isnan(found.norm("raw")), found.norm("used"), found.norm("raw"))
    arrays = {
        "delta": found.mean("delta") / scales[:, None],
        "weight_gradient": gradient_norms / scales[:, None],
        "update_ratio": update_ratio(found.norm("moved"), found.norm("before")),
        **{name: found.mean(name) for name in ("activation_rms", "saturation", "dead")},
    }
    return Readings(
        layers=tuple(layer.name for layer in layers),
        has_weight=has_matrix(owners, len(layers)),
        steps=np.array([row.step for row in rows], dtype=int),
        losses={step: float(loss) for step, loss in losses.items()},
        arrays={
            name: values if name in statistics else np.full_like(values, np.nan) for name, values in arrays.items()
        },
        raw=found.norms["raw"] / scales,
        used=found.norms["used"],
        forward=found.broken("activation_rms"),
        backward=found.broken("delta") | found.broken("raw") | found.broken("used"),
    ).trace()


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


def is_bias(name):
    """Whether a parameter's dotted name is that of a bias: not part of a layer's weight."""
    return "bias" in name.rpartition(".")[2]
