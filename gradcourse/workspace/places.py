"""Which folder holds the course: the repository, or a work folder that `gradcourse start` made."""

from __future__ import annotations

from pathlib import Path

RECORD = ".gradcourse.json"  # marks a work folder, and remembers what was copied into it
LESSONS = "notebooks"
SHEETS = "exercises"


class UserError(Exception):
    """Something that the user can put right; the message is one line that says how."""


def is_repository(folder: Path) -> bool:
    """Tell whether `folder` is a copy of the course repository."""
    return (folder / LESSONS).is_dir() and (folder / "gradcourse" / "__main__.py").is_file()


def is_work_folder(folder: Path) -> bool:
    """Tell whether `gradcourse start` made `folder`."""
    return (folder / RECORD).is_file()


def course_folder(place: Path) -> Path | None:
    """Return the nearest of `place` and its parents that is a repository or a work folder."""
    place = place.resolve()
    return next((f for f in (place, *place.parents) if is_work_folder(f) or is_repository(f)), None)


def repository() -> Path | None:
    """Return the repository that this package runs from, else the one around the current folder."""
    around_package = Path(__file__).resolve().parents[2]
    if is_repository(around_package):
        return around_package
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if is_repository(folder)), None)


def need_repository() -> Path:
    """Return the repository.

    Raises:
        UserError: the package is installed alone, without its lessons.
    """
    found = repository()
    if found is None:
        raise UserError(
            "the lessons are not at hand: they are in the course repository, not in the installed package; "
            "unpack or clone the repository and run this command inside it"
        )
    return found
