"""What a plot asks of the traces that it is given."""

import numpy as np

from gradcourse.trace import Trace

_REMEDY = {
    "delta": "name it in Recorder(statistics=...)",
    "weight_gradient": "name it in Recorder(statistics=...)",
    "activation_rms": "name it in Recorder(statistics=...)",
    "update_ratio": "record at least one step of an optimizer",
    "saturation": "record a net with sigmoid, tanh, softsign or hardsigmoid",
    "dead": "record a net with ReLU",
}


def labelled(traces):
    """Return a mapping from labels to Traces; the label of a single Trace is "".

    A sweep's keys are tuples of axis values: they become "gain=0.8, seed=1".

    Raises:
        ValueError: for anything but a Trace or a mapping with at least one.
    """
    if isinstance(traces, Trace):
        return {"": traces}
    wanted = "a plot needs a Trace or a mapping from labels to Traces"
    if not hasattr(traces, "items") or not len(traces):
        raise ValueError(f"{wanted}, not {type(traces).__name__ if not hasattr(traces, 'items') else 'an empty one'}")
    names = list(getattr(traces, "axes", {}))
    found = {_label(key, names): trace for key, trace in traces.items()}
    wrong = [trace for trace in found.values() if not isinstance(trace, Trace)]
    if wrong:
        raise ValueError(f"{wanted}; one of these is a {type(wrong[0]).__name__}")
    return found


def _label(key, names):
    if not isinstance(key, tuple):
        return str(key)
    pairs = [f"{name}={value}" for name, value in zip(names, key, strict=True)] if len(names) == len(key) else key
    return ", ".join(map(str, pairs))


def prefix(label):
    """Return what stands in front of the words about one of several runs."""
    return f"{label}: " if label else ""


def holds(trace, statistic):
    """Whether a trace holds a statistic; one that diverged before it could be measured does, as NaN."""
    diverged = any(event.kind == "non-finite" for event in trace.events)
    return bool(len(trace.steps)) and (not np.isnan(getattr(trace, statistic)).all() or diverged)


def need(plot, trace, *statistics):
    """Raise a ValueError unless a trace holds at least one of the statistics."""
    if not len(trace.steps):
        raise ValueError(f"{plot}: {trace!r} holds no recorded step: record at least one")
    if not any(holds(trace, name) for name in statistics):
        asked = " and no ".join(statistics)
        remedies = dict.fromkeys(_REMEDY[name] for name in statistics)
        raise ValueError(f"{plot}: {trace!r} holds no {asked}: {', or '.join(remedies)}")


def at_step(traces, step):
    """Return what a title adds for a later step than the first: ", step 30"."""
    numbers = {int(trace.steps[step]) for trace in traces.values()}
    if step == 0:
        return ""
    return f", step {numbers.pop()}" if len(numbers) == 1 else ", last step of each" if step == -1 else ""
