"""A learner's own copy of the lessons and sheets, brought up to date without losing work."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gradcourse.workspace.places import LESSONS, RECORD, SHEETS, UserError, is_repository

Prints = dict[str, str]  # "cells": fingerprint of the work in a file; "bytes": of the whole file


@dataclass(frozen=True)
class Change:
    """What happened to one file of the work folder.

    Attributes:
        action: "copied", "updated", "kept" (edited here, the new version arrived beside it) or "left" (no
            longer part of the course, still here).
        name: The file, relative to the work folder.
        beside: Where the new version is, when the action is "kept".
    """

    action: str
    name: str
    beside: str = ""

    def __str__(self) -> str:
        """Return the line that `gradcourse start` prints."""
        if self.action == "kept":
            return f"kept     {self.name}: you edited it; the new version is {self.beside}"
        if self.action == "left":
            return f"left     {self.name}: no longer part of the course, yours to keep or delete"
        return f"{self.action:8} {self.name}"


def copy_course(source: Path, target: Path) -> list[Change]:
    """Copy lessons and sheets from `source` to `target`, or bring an earlier copy up to date.

    A file is replaced only when nothing in it is the learner's: its cells are those that were copied. Outputs,
    execution counts and metadata don't count, since opening and running a notebook changes them and running it
    again brings them back. An edited file stays; when the course has a newer version, that arrives beside it.

    Raises:
        UserError: `target` lies in a repository, is a file, or can't be written.
    """
    target = _checked_target(target)
    copies = _Copies(source, target)
    try:
        return copies.update()
    except OSError as error:
        where = error.filename or target
        raise UserError(
            f"can't write {where}: {error.strerror or error}; make room there or choose another folder"
        ) from error


def fingerprint(path: Path) -> str:
    """Return what identifies the work in a file: the text and attachments of a notebook's cells, else its bytes.

    Empty cells don't count: Shift-Enter on the last cell adds one.
    """
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        # A notebook that can't be read is taken as it is: any difference then counts as an edit.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            data = _cell_contents(json.loads(data))
    return hashlib.sha256(data).hexdigest()


def _cell_contents(notebook: dict) -> bytes:
    cells = [(cell["cell_type"], "".join(cell["source"]), cell.get("attachments") or {}) for cell in notebook["cells"]]
    written = [cell for cell in cells if cell[1].strip() or cell[2]]
    return json.dumps(written, sort_keys=True).encode()


def _checked_target(target: Path) -> Path:
    resolved = target.expanduser().resolve()
    for folder in (resolved, *resolved.parents):
        if is_repository(folder):
            raise UserError(f"{target} is inside the repository {folder}: choose a folder outside it")
    if resolved.exists() and not resolved.is_dir():
        raise UserError(f"{target} is a file: name a folder for your copy of the lessons")
    return resolved


class _Copies:
    """One update of a work folder.

    `sent` maps each course file to the fingerprints of the version that the course sent last; `beside` maps each
    new version that was laid beside an edited file to its fingerprints.
    """

    def __init__(self, source: Path, target: Path) -> None:
        self.source, self.target = source, target
        self.sent, self.beside = self._read_record()
        self.changes: list[Change] = []

    def update(self) -> list[Change]:
        names = _course_files(self.source)
        for name in names:
            self._update_file(name)
        for name in sorted(set(self.sent) - set(names)):
            del self.sent[name]
            if (self.target / name).exists():
                self.changes.append(Change("left", name))
        self._write_record()
        return self.changes

    def _update_file(self, name: str) -> None:
        incoming, sent = _prints(self.source / name), self.sent.get(name)
        here = _prints(self.target / name) if (self.target / name).exists() else None
        self.sent[name] = incoming
        if here is None:
            self._put(name, name)
            self.changes.append(Change("copied", name))
        elif self._is_replaceable(here, sent, incoming):
            self._put(name, name)
            self.changes.append(Change("updated", name))
        elif here["cells"] != incoming["cells"] and (sent is None or sent["cells"] != incoming["cells"]):
            beside = self._free_name(name, incoming)
            self._put(name, beside)
            self.beside[beside] = incoming
            self.changes.append(Change("kept", name, beside))

    @staticmethod
    def _is_replaceable(here: Prints, sent: Prints | None, incoming: Prints) -> bool:
        """Tell whether `incoming` is news and nothing in `here` is the learner's."""
        if here["cells"] == incoming["cells"]:  # only outputs differ: keep hers, unless she never saved the file
            return here != incoming and here == sent
        return sent is not None and here["cells"] == sent["cells"]

    def _put(self, name: str, destination: str) -> None:
        path = self.target / destination
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, (self.source / name).read_bytes())

    def _free_name(self, name: str, incoming: Prints) -> str:
        """Return NAME.new.ipynb, or NAME.new2.ipynb when the learner has worked in the former, and so on."""
        path = PurePosixPath(name)
        for number in itertools.count(1):
            beside = str(path.with_name(f"{path.stem}.new{number if number > 1 else ''}{path.suffix}"))
            if not (self.target / beside).exists():
                return beside
            untouched = (incoming["cells"], self.beside.get(beside, incoming)["cells"])
            if _prints(self.target / beside)["cells"] in untouched:
                return beside
        raise AssertionError("unreachable")

    def _read_record(self) -> tuple[dict[str, Prints], dict[str, Prints]]:
        try:
            record = json.loads((self.target / RECORD).read_text(encoding="utf-8"))
            return tuple(
                {name: {"cells": entry["cells"], "bytes": entry["bytes"]} for name, entry in record[key].items()}
                for key in ("sent", "beside")
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}, {}  # without a record every file that differs counts as edited

    def _write_record(self) -> None:
        content = {"about": "what `gradcourse start` copied here", "sent": self.sent, "beside": self.beside}
        self.target.mkdir(parents=True, exist_ok=True)
        _write_whole(self.target / RECORD, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _course_files(source: Path) -> list[str]:
    """Return the files to copy, relative to `source`; hidden ones and caches are left out."""
    paths = (path for folder in (LESSONS, SHEETS) for path in sorted((source / folder).rglob("*")))
    names = (path.relative_to(source).as_posix() for path in paths if path.is_file())
    return [name for name in names if not any(p.startswith(".") or p == "__pycache__" for p in name.split("/"))]


def _prints(path: Path) -> Prints:
    return {"cells": fingerprint(path), "bytes": hashlib.sha256(path.read_bytes()).hexdigest()}


def _write_whole(path: Path, data: bytes) -> None:
    """Write `data` so that `path` is never seen half written, even if this process dies."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
