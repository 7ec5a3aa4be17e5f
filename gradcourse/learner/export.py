"""The file that a learner may hand to a teacher: written by one, read by the other with nothing believed."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from gradcourse.learner.record import Record

VERSION = 1
_MARK = "gradcourse_progress"
_LARGEST = 20_000_000  # bytes; a whole course gives less than one million
FACTS = {
    "prediction": ("guess",),
    "reveal": ("guess", "measured", "score", "verdict"),
    "check": ("passed", "points", "max_points"),
    "hint": ("number",),
    "explore": (),
}
"""Kind of event -> the facts that are handed on."""


class NoProgress(Exception):
    """A file that can't be used; the text says in one line what it is."""


@dataclass(frozen=True)
class Handed:
    """What a learner handed in.

    Attributes:
        name: as she gave it; may be empty.
        record: her Record.
    """

    name: str
    record: Record

    @property
    def origin(self):
        """What two exports of the same record share: its first event, told by time to the microsecond."""
        first = self.record.events[0]
        return first["at"], first["kind"], first["id"]


def write(path, events, name=""):
    """Write a learner's events into a new file.

    Raises:
        OSError: it exists, or can't be written.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds")
    content = {_MARK: VERSION, "name": name, "made": made, "events": [_handed_on(event) for event in events]}
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    with open(path, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _handed_on(event):
    facts = FACTS.get(event["kind"], ())
    return {key: event[key] for key in ("kind", "id", "at", *facts) if key in event}


def read(path):
    """Return what a file holds, as Handed.

    Raises:
        NoProgress: it is damaged, foreign, of a newer version or empty.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise NoProgress(f"is larger than {_LARGEST // 1_000_000} MB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise NoProgress(f"can't be read ({_reason(error)})") from None
    version = content.get(_MARK) if isinstance(content, dict) else None
    if type(version) is not int:
        raise NoProgress("is no file of `gradcourse progress --export`")
    if version > VERSION:
        raise NoProgress("was written by a newer version of the course: update this one")
    return _handed(content)


def _handed(content):
    name, events = content.get("name"), content.get("events")
    if not isinstance(name, str) or not isinstance(events, list) or not all(map(_is_event, events)):
        raise NoProgress("is damaged: it holds what no record does")
    if not events:
        raise NoProgress("holds no event: nothing was done yet")
    return Handed(" ".join(name.split())[:100], Record(events))


def _is_event(event):
    texts = ("kind", "id", "at")
    return isinstance(event, dict) and all(isinstance(event.get(key), str) and len(event[key]) < 100 for key in texts)


def _reason(error):
    if isinstance(error, OSError):
        return error.strerror
    return "not text" if isinstance(error, UnicodeDecodeError) else "not JSON"
