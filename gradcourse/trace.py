"""Trace, the one record of an experiment: NumPy arrays over recorded steps and layers, and what happened."""

import importlib
import json
import zipfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

STATISTICS = ("delta", "weight_gradient", "update_ratio", "activation_rms", "saturation", "dead")
"""The arrays of a Trace, each of shape (S, L)."""

_FORMAT = 1  # of the files that save writes


@dataclass(frozen=True)
class Event:
    """Something that happened at one step.

    Attributes:
        kind: "clipped", "non-finite" or "zero update".
        step: the optimizer step, counted from 0.
        layer: name of the layer, "" where the event is about the whole model.
        direction: for a non-finite value, "forward" or "backward".
        raw: for clipping, the norm of the whole gradient after the backward pass.
        used: for clipping, the norm that the optimizer saw.
    """

    kind: str
    step: int
    layer: str = ""
    direction: str = ""
    raw: float = float("nan")
    used: float = float("nan")


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """What was recorded at S steps in L layers, input side first.

    NaN means "not defined here"; inf and NaN that a run produced stay visible.

    Attributes:
        layers: names of the layers, length L.
        has_weight: which layers hold a weight matrix, bool, shape (L,).
        steps: the optimizer steps that were recorded, int, shape (S,).
        loss: the loss before each of these steps, shape (S,); NaN unless known.
        delta: root mean square of dL/dh over the batch and the units, shape (S, L).
        weight_gradient: norm of dL/dW before any clipping, shape (S, L).
        update_ratio: norm of the step of W over the norm of W, shape (S, L).
        activation_rms: root mean square of h, shape (S, L).
        saturation: fraction of outputs where less than 2 % of the steepest slope is left, shape (S, L); for
            activations that level off on both sides.
        dead: fraction of units that are 0 for the whole batch, shape (S, L); ReLU.
        events: what happened, in order of steps.
        config: the Config behind the run, or None.
        train_accuracy: on the training part after the last step; NaN unless known.
        test_accuracy: on the test part after the last step; NaN unless known.
    """

    layers: tuple[str, ...]
    has_weight: np.ndarray
    steps: np.ndarray
    loss: np.ndarray
    delta: np.ndarray
    weight_gradient: np.ndarray
    update_ratio: np.ndarray
    activation_rms: np.ndarray
    saturation: np.ndarray
    dead: np.ndarray
    events: tuple[Event, ...] = ()
    config: object = None
    train_accuracy: float = float("nan")
    test_accuracy: float = float("nan")

    def __repr__(self):
        of = "" if self.config is None else f" of {self.config.summary}"
        weights = int(self.has_weight.sum())
        return f"<Trace{of}: {len(self.steps)} steps x {len(self.layers)} layers, {weights} with weights>"

    def at_weights(self, statistic, step=0):
        """Return one statistic at the layers with weights, input side first.

        Args:
            statistic: a name in STATISTICS.
            step: index into the recorded steps; -1 is the last one.

        Returns:
            float64 array, one entry per layer with weights.

        Raises:
            ValueError: for an unknown statistic.
            IndexError: for a step that was not recorded.
        """
        if statistic not in STATISTICS:
            raise ValueError(f"at_weights({statistic!r}): a trace holds {', '.join(STATISTICS)}")
        if not -len(self.steps) <= step < len(self.steps):
            raise IndexError(f"step={step}: this trace holds {len(self.steps)} recorded steps, counted from 0")
        return getattr(self, statistic)[step, self.has_weight]

    def factor_per_layer(self, statistic="delta", step=0):
        """Return the factor by which a statistic changes per layer, going towards the input.

        Taken over the layers with weights but the output layer, whose gradient is set by the loss: see
        factor_per_layer.
        """
        return factor_per_layer(self.at_weights(statistic, step)[:-1])

    def select(self, steps=None, layers=None):
        """Return the part of this trace at some steps and layers.

        Args:
            steps: optimizer steps, as a slice of step numbers or a list of them; None: all that were recorded.
            layers: a slice of positions, or a list of names or positions; None: all.

        Returns:
            A Trace; its events are those of the steps and layers that are left.

        Raises:
            KeyError: for a step or layer that this trace does not hold.
        """
        rows, columns = self._rows(steps), self._columns(layers)
        kept = tuple(self.layers[column] for column in columns)
        known = set(self.layers)
        span = {int(step) for step in self.steps[rows]}
        events = [e for e in self.events if e.step in span and (e.layer not in known or e.layer in kept)]
        arrays = {name: getattr(self, name)[np.ix_(rows, columns)] for name in STATISTICS}
        return replace(
            self,
            layers=kept,
            has_weight=self.has_weight[columns],
            steps=self.steps[rows],
            loss=self.loss[rows],
            events=tuple(events),
            **arrays,
        )

    def _rows(self, steps):
        if steps is None:
            return np.arange(len(self.steps))
        if isinstance(steps, slice):
            last = int(self.steps.max(initial=-1)) + 1
            wanted = range(*steps.indices(last))
            return np.flatnonzero(np.isin(self.steps, wanted))
        return _positions(
            np.atleast_1d(steps).tolist(), {int(step): row for row, step in enumerate(self.steps)}, "step"
        )

    def _columns(self, layers):
        if layers is None or isinstance(layers, slice):
            return np.arange(len(self.layers))[layers if layers is not None else slice(None)]
        wanted = [layers] if isinstance(layers, (str, int)) else list(layers)
        known = {name: column for column, name in enumerate(self.layers)}
        return _positions(wanted, known | {column: column for column in known.values()}, "layer")

    def to_pandas(self):
        """Return a pandas DataFrame with one row per recorded step and layer; needs pandas."""
        import pandas as pd

        shape = self.delta.shape
        columns = {"step": np.repeat(self.steps, shape[1]), "layer": np.tile(np.array(self.layers, object), shape[0])}
        columns["has_weight"] = np.tile(self.has_weight, shape[0])
        columns["loss"] = np.repeat(self.loss, shape[1])
        return pd.DataFrame(columns | {name: getattr(self, name).ravel() for name in STATISTICS})

    def to_xarray(self):
        """Return an xarray Dataset over step and layer; needs xarray."""
        import xarray as xr

        variables = {name: (("step", "layer"), getattr(self, name)) for name in STATISTICS}
        variables |= {"loss": ("step", self.loss), "has_weight": ("layer", self.has_weight)}
        return xr.Dataset(variables, coords={"step": self.steps, "layer": list(self.layers)})

    def save(self, path):
        """Write the trace to an .npz file.

        Raises:
            ValueError: for a Config that a file can't hold: one with a callable activation.
        """
        about = {"format": _FORMAT, "layers": self.layers, "events": [asdict(event) for event in self.events]}
        about |= {"train_accuracy": self.train_accuracy, "test_accuracy": self.test_accuracy}
        about |= {"config": _config_as_dict(self.config), "config_class": _name_of_class(self.config)}
        arrays = {name: getattr(self, name) for name in ("has_weight", "steps", "loss", *STATISTICS)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)

    @classmethod
    def load(cls, path):
        """Read a trace that save has written.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: for a file that is cut short, not a trace, or of another version.
        """
        try:
            with Path(path).open("rb") as file, np.load(file) as archive:
                about = json.loads(str(archive["about"]))
                arrays = {name: archive[name] for name in archive.files if name != "about"}
        except (zipfile.BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"Trace.load({str(path)!r}): not a whole trace file: save the trace again") from None
        if about.get("format") != _FORMAT:
            raise ValueError(
                f"Trace.load({str(path)!r}): its format is {about.get('format')}, this gradcourse reads {_FORMAT}: "
                "read it with the version that wrote it"
            )
        return cls._from_file(about, arrays)

    @classmethod
    def _from_file(cls, about, arrays):
        return cls(
            layers=tuple(about["layers"]),
            events=tuple(Event(**event) for event in about["events"]),
            config=_config_from_dict(about["config"], about["config_class"]),
            train_accuracy=about["train_accuracy"],
            test_accuracy=about["test_accuracy"],
            **arrays,
        )


def _positions(wanted, known, what):
    missing = [key for key in wanted if key not in known]
    if missing:
        some = ", ".join(map(str, list(known)[:8]))
        raise KeyError(f"no {what} {missing[0]!r} in this trace; it holds {some}{' ...' if len(known) > 8 else ''}")
    return np.array([known[key] for key in wanted], dtype=int)


def _name_of_class(config):
    return None if config is None else f"{type(config).__module__}:{type(config).__name__}"


def _config_as_dict(config):
    if config is None:
        return None
    values = {part.name: getattr(config, part.name) for part in fields(config)}
    held = [name for name, value in values.items() if callable(value)]
    if held:
        raise ValueError(
            f"save: the Config's {held[0]} is a function, which a file can't hold; "
            "save dataclasses.replace(trace, config=None)"
        )
    return values


def _config_from_dict(values, name):
    """Make the Config anew; only classes of this package are looked up."""
    if values is None:
        return None
    module, _, kind = name.partition(":")
    if not module.startswith("gradcourse."):
        raise ValueError(f"the trace's config is a {name}, which is not of this package: load it yourself")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return getattr(importlib.import_module(module), kind)(**values)


def factor_per_layer(values):
    """Return the factor by which values change per layer, going towards the input (index 0).

    From the least-squares slope of their logarithm. NaN where fewer than two are finite and positive.
    """
    values = np.asarray(values, dtype=np.float64)
    usable = np.isfinite(values) & (values > 0)
    if usable.sum() < 2:
        return float("nan")
    number = np.arange(len(values))[usable]
    return float(np.exp(-np.polyfit(number, np.log(values[usable]), 1)[0]))
