"""What a stack of runs shows, step by step, and each run's Trace from it."""

from collections import defaultdict

import numpy as np
import torch

from gradcourse.readout import Readings, has_matrix, over_weights, owners_of, update_ratio
from gradcourse.recording import STATISTICS
from gradcourse.reductions import fraction_beyond, peaks, row_norms

_BY_LAYER = ("delta", "activation_rms", "saturation", "dead")


class Watch:
    """Measures the outputs and gradients of one step of all runs; values have the shape (K,)."""

    def __init__(self, layers):
        self._layers = layers
        self._scratch = torch.empty(0)
        self.begin()

    def begin(self):
        """Forget the step before."""
        self._found = {name: defaultdict(list) for name in _BY_LAYER}  # statistic -> column -> one value per batch
        self._entries = defaultdict(int)  # column -> entries of its outputs

    def output(self, column, h):
        """Measure an output of shape (K, B, width)."""
        self._entries[column] += h[0].numel()
        self._found["activation_rms"][column].append(row_norms(h.flatten(1)))
        mark = self._layers[column].mark
        if mark == "can die":
            self._found["dead"][column].append(peaks(h))
        elif mark is not None:
            if self._scratch.shape != h.shape or self._scratch.dtype != h.dtype:
                self._scratch = torch.empty_like(h)
            copy = self._scratch.copy_(h)
            self._found["saturation"][column].append(fraction_beyond(copy.flatten(1), *mark, may_change=True))

    def gradient(self, column, gradient):
        """Measure dL/dh."""
        self._found["delta"][column].append(row_norms(gradient.flatten(1)))

    def values(self):
        """Yield (statistic, columns, values of shape (columns, K)) over all batches of the step."""
        for name, found in self._found.items():
            if found:
                columns = sorted(found)
                yield name, columns, torch.stack([self._together(name, column) for column in columns]).numpy()

    def _together(self, name, column):
        parts = self._found[name][column]
        if name == "dead":
            return (torch.stack(parts).amax(0) <= 0).double().mean(1)
        if name == "saturation":
            return torch.stack(parts).double().mean(0)
        total = parts[0].double()
        for part in parts[1:]:
            total = torch.hypot(total, part.double())
        return total / self._entries[column] ** 0.5


class Records:
    """The measurements of all recorded steps of K runs.

    Args:
        template: one of the models.
        layers: its layers.
        weights: names of its parameters but the biases, in the order in which their norms come.
        steps: the steps to be recorded.
        every: how many steps there are in all.
        runs: K.
    """

    def __init__(self, template, layers, weights, steps, every, runs):
        self._layers, self._steps = layers, np.asarray(steps)
        self._row = {int(step): row for row, step in enumerate(steps)}
        self._owners = owners_of(template, {layer: column for column, layer in enumerate(layers)})
        named = dict(template.named_parameters())
        self._order = [named[name] for name in weights]
        rows, counts = len(self._steps), {name: len(layers) for name in _BY_LAYER}
        counts |= {"weight_gradient": len(weights), "moved": len(weights), "sizes": len(weights), "raw": 1, "used": 1}
        self._found = {name: np.full((runs, rows, count), np.nan) for name, count in counts.items()}
        self._losses = np.full((runs, every), np.nan)

    def put(self, step, runs, name, values, columns=slice(None)):
        """Keep what some runs showed at one step: values of shape (columns, runs)."""
        block = self._found[name]
        row = block[:, self._row[step]]  # (K, columns)
        if isinstance(columns, slice):
            row[runs] = np.asarray(values).T
        else:
            row[np.ix_(runs, columns)] = np.asarray(values).T

    def put_losses(self, step, runs, losses):
        """Keep the loss of some runs at one step, recorded or not."""
        self._losses[runs, step] = losses

    def trace(self, run, steps):
        """Return the Trace of a run that did so many steps."""
        rows = int(np.searchsorted(self._steps, steps))
        found = {name: block[run, :rows].copy() for name, block in self._found.items()}  # (rows, columns)
        weight_gradient, moved, sizes = (
            over_weights(self._order, found.pop(name).T, self._owners, len(self._layers)).T
            for name in ("weight_gradient", "moved", "sizes")
        )
        raw, used = found.pop("raw")[:, 0], found.pop("used")[:, 0]
        has_weight = np.isin(np.arange(len(self._layers)), [c for own in self._owners.values() for c in own])
        arrays = found | {"weight_gradient": weight_gradient, "update_ratio": update_ratio(moved, sizes)}
        return Readings(
            layers=tuple(layer.name for layer in self._layers),
            has_weight=has_matrix(self._owners, len(self._layers)),
            steps=self._steps[:rows].astype(int),
            losses=dict(enumerate(self._losses[run, :steps].tolist())),
            arrays={name: np.ascontiguousarray(arrays[name]) for name in STATISTICS},
            raw=raw,
            used=used,
            forward=~np.isfinite(found["activation_rms"]),
            backward=~np.isfinite(found["delta"]) | (has_weight & ~np.isfinite(weight_gradient)),
        ).trace()
