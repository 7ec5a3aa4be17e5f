"""The learner's own record of predictions, checks and hints, in memory."""

import os

_events = []


def unattended():
    """Say whether no learner is there: a build, nbval or the grader runs the notebook."""
    return os.environ.get("GRADCOURSE_UNATTENDED", "") not in ("", "0")


def note(kind, id, **facts):
    """Append one event; never raises, and does nothing where no learner is there."""
    if not unattended():
        _events.append({"kind": kind, "id": id, "at": "", **facts})


def read():
    """Return the events, oldest first."""
    return list(_events)
