"""From a report to a gradebook: nbgrader, Canvas, Moodle, Gradescope, CSV.

A file that goes in is never written to, and no file that exists is replaced: what comes out is always a new one.
nbgrader's gradebook, which is changed in place, is copied first.
"""

import csv
import io
import itertools
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from gradcourse.grading.records import ReportError, read, safe_name, write_whole, writing
from gradcourse.grading.report import GRADE_COLUMNS, grade_rows
from gradcourse.grading.rosters import Roster, fill_canvas, fill_moodle

__all__ = ["Exported", "to_canvas", "to_csv", "to_gradescope", "to_moodle", "to_nbgrader"]


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        out: the new file or folder, or the gradebook.
        filled: number of scores in it.
        unknown: who was graded and could not be matched, each with why.
        missing: who is in the gradebook and was not graded; what it held for them is unchanged.
    """

    out: Path
    filled: int
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def __str__(self):
        lines = [f"{self.out}: {self.filled} scores"]
        lines += [f"not exported: {name}" for name in self.unknown]
        lines += [f"not graded, unchanged: {name}" for name in self.missing]
        return "\n".join(lines)


def to_csv(report, out):
    """Write a table of grades in nbgrader's columns.

    Args:
        report: folder of the report.
        out: the new file.

    Raises:
        ReportError: in one line; of this and all the exports below.
    """
    found, out = _results(report), _new(out)
    text = io.StringIO()
    table = csv.DictWriter(text, GRADE_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(grade_rows(found))
    write_whole(out, text.getvalue())
    return Exported(out, len(found))


def to_gradescope(report, out):
    """Write a folder with <student>/results.json, as Gradescope's autograder gives it, for each submission."""
    found, out = _results(report), _new(out)
    for record in found:
        path = out / safe_name(record["extra_data"]["student"]) / "results.json"
        write_whole(path, json.dumps(record, indent=1, sort_keys=True) + "\n")
    return Exported(out, len(found))


def to_canvas(report, roster, out, column=None, scale=False):
    """Fill one column of a gradebook that was exported from Canvas, for import there.

    Args:
        report: folder of the report.
        roster: the exported CSV file.
        out: the new file: who the students are, and that column alone.
        column: title of the assignment; None makes a new column by the sheet's name.
        scale: whether scores are scaled to the points that Canvas has for the column.
    """
    return _fill(fill_canvas, report, roster, out, column, scale)


def to_moodle(report, worksheet, out, column=None, scale=False):
    """Fill the grades of an offline grading worksheet that was downloaded from Moodle, for upload there.

    Args:
        report: folder of the report.
        worksheet: the downloaded CSV file, in any language.
        out: the new file.
        column: title of the column of grades; None: it is found.
        scale: whether scores are scaled to Moodle's maximum.
    """
    return _fill(fill_moodle, report, worksheet, out, column, scale)


def _fill(fill, report, given, out, column, scale):
    found, out = _results(report), _new(out)
    roster = Roster.load(given)
    filled, unknown, missing = fill(roster, found, column, scale)
    roster.save(out)
    return Exported(out, filled, tuple(unknown), tuple(missing))


def _results(report):
    """Return the records of a report that holds some."""
    found = read(report)
    if not found:
        raise ReportError(f"{report} holds no results: name a folder that `gradcourse grade -o` wrote")
    return found


def _new(out):
    """Return the path of a file that does not exist yet."""
    path = Path(out)
    if path.exists() or path.is_symlink():
        raise ReportError(f"{path} exists and is not replaced: choose another name or move it away")
    return path


def to_nbgrader(report, database):
    """Enter the scores into nbgrader's gradebook, through nbgrader's own API; scores set by hand stay.

    Args:
        report: folder of the report.
        database: file such as gradebook.db; an existing one is copied first, a missing one made.

    Returns:
        The Exported; students that nbgrader did not know are in its gradebook now.
    """
    found, database = _results(report), Path(database)
    try:
        from nbgrader.api import Gradebook, InvalidEntry, MissingEntry
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise ReportError(
            f"nbgrader is not installed in {sys.prefix}: run this in the environment that has it"
        ) from None
    _copy_first(database)
    try:
        with writing(database), Gradebook(f"sqlite:///{database.resolve()}") as gradebook:
            missing = {student.id for student in gradebook.students}
            _enter_sheet(gradebook, found[0])
            for record in found:
                _enter(gradebook, record)
                missing.discard(record["extra_data"]["student"])
    except (SQLAlchemyError, InvalidEntry, MissingEntry, UnicodeEncodeError) as error:
        raise ReportError(f"nbgrader's gradebook {database} can't take the scores: {_first_line(error)}") from None
    return Exported(database, len(found), missing=tuple(sorted(missing)))


def _copy_first(database):
    """Copy a gradebook to the first free name beside it."""
    if not database.exists():
        return
    names = (database.with_name(f"{database.name}.before{number}") for number in itertools.count(1))
    copy = next(name for name in names if not name.exists())
    with writing(copy):
        shutil.copy2(database, copy)


def _enter_sheet(gradebook, record):
    """Have the assignment with its notebook and test cells in the gradebook, as `nbgrader generate_assignment` does."""
    slug = record["extra_data"]["slug"]
    gradebook.update_or_create_assignment(slug)
    gradebook.update_or_create_notebook(slug, slug)
    for test in record["tests"]:
        points = float(test["max_score"])
        gradebook.update_or_create_grade_cell(f"{test['name']}-test", slug, slug, max_score=points, cell_type="code")


def _enter(gradebook, record):
    student, slug = record["extra_data"]["student"], record["extra_data"]["slug"]
    gradebook.update_or_create_student(student)
    gradebook.update_or_create_submission(slug, student)
    for test in record["tests"]:
        grade = gradebook.find_grade(f"{test['name']}-test", slug, slug, student)
        grade.auto_score, grade.needs_manual_grade = float(test["score"]), False
    gradebook.db.commit()


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
