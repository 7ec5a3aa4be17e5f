"""A report of grading: a record and a page of feedback per submission, a table of grades, a summary of the class.

    REPORT/results/<student>.json    what the engine found, in Gradescope's fields
    REPORT/feedback/<student>.html   for the student
    REPORT/grades.csv                in nbgrader's columns
    REPORT/summary.html              for the instructor

Every file is written in one step, and from the records alone: `add` after each submission and `summarize` at the end,
or after Ctrl-C, give what one `write` gives.
"""

import csv
import io
import re
from collections import Counter
from pathlib import Path
from statistics import fmean

from gradcourse.grading import lessons, records
from gradcourse.grading.records import ReportError, read

__all__ = ["GRADE_COLUMNS", "ReportError", "add", "grade_rows", "merge", "read", "summarize", "write"]

GRADE_COLUMNS = (
    *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
    *("raw_score", "late_submission_penalty", "score", "max_score"),
)
"""Of the table that `nbgrader export` writes."""

_MISTAKES_SHOWN = 5


def write(folder, found, lessons_at="../notebooks/"):
    """Write a report of these records, beside those that it already holds.

    Args:
        folder: for the report; made if it is missing.
        found: an iterable of records.
        lessons_at: where the students' lessons are: a folder relative to the page of feedback, or an address.

    Raises:
        ReportError: in one line, what can't be written; every record that was taken before is on disk.
    """
    for record in found:
        add(folder, record, lessons_at)
    summarize(folder)


def add(folder, record, lessons_at="../notebooks/"):
    """Write the files of one submission; `summarize` then brings the tables up to date."""
    path = records.save(folder, record)
    page = Path(folder) / "feedback" / f"{path.stem}.html"
    records.write_whole(page, _feedback(record, lessons_at))


def merge(folders, into, lessons_at="../notebooks/"):
    """Write one report of the records of several, as the shards of a large class give them.

    Raises:
        ReportError: shards of different sheets or seeds, or one submission with two scores.
    """
    found = {}
    for folder in folders:
        part = read(folder)
        if not part:
            raise ReportError(f"{folder} holds no results: name folders that `gradcourse grade -o` wrote")
        for record in part:
            _add_to(found, record, folder)
    write(into, found.values(), lessons_at)


def _add_to(found, record, folder):
    extra = record["extra_data"]
    first = next(iter(found.values()), record)["extra_data"]
    for name in ("slug", "seed"):
        if extra.get(name) != first.get(name):
            raise ReportError(f"{folder} was graded with another {name} than the shards before it: grade it again")
    before = found.setdefault(extra["student"], record)
    if (before["score"], before["tests"]) != (record["score"], record["tests"]):
        student = records.safe_name(extra["student"])
        raise ReportError(f"{student} has {before['score']:g} points in one shard, {record['score']:g} in {folder}")


def summarize(folder):
    """Write grades.csv and summary.html from the records that a report holds."""
    found = read(folder)
    rows = io.StringIO()
    table = csv.DictWriter(rows, GRADE_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(grade_rows(found))
    records.write_whole(Path(folder) / "grades.csv", rows.getvalue())
    if found:
        records.write_whole(Path(folder) / "summary.html", _summary(folder, found))


def grade_rows(found):
    """Return a row of GRADE_COLUMNS for each record; times and names are the gradebook's to fill."""
    return [
        dict.fromkeys(GRADE_COLUMNS, "")
        | {
            "assignment": record["extra_data"]["slug"],
            "student_id": _for_spreadsheet(record["extra_data"]["student"]),
            "raw_score": float(record["score"]),
            "late_submission_penalty": 0.0,
            "score": float(record["score"]),
            "max_score": float(record["max_score"]),
        }
        for record in found
    ]


def _for_spreadsheet(text):
    """Return a student's text such that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _feedback(record, lessons_at):
    from gradcourse.grading.pages import render

    extra = record["extra_data"]
    shown = [test for test in record["tests"] if test.get("visibility") != "hidden"]
    output = record.get("output", "").removeprefix(f"{record['score']:g} of {record['max_score']:g} points.").strip()
    return render(
        "feedback",
        slug=extra["slug"],
        student=extra["student"],
        score=record["score"],
        max_score=record["max_score"],
        output=output,
        tests=[_shown_test(test, extra, lessons_at) for test in shown],
        notes=[note for note in extra.get("notes", []) if note not in output],
    )


def _shown_test(test, extra, lessons_at):
    """Return what a student sees of one question: of hidden cases, how many."""
    text, href = lessons.link(test["name"], extra["slug"], lessons_at)
    tried = extra.get("cases", {}).get(test["name"], {})
    counts = [f"{tried[kind][0]} of {tried[kind][1]} {kind} cases" for kind in ("visible", "hidden") if tried.get(kind)]
    return {
        **{name: test[name] for name in ("name", "score", "max_score")},
        "verdict": {"right": "passed", "partly": "in part"}.get(_outcome(test), "not yet"),
        "output": test.get("output", ""),
        "counts": ", ".join(counts),
        "lesson": text,
        "href": href,
    }


def _outcome(test):
    """Return "right", "partly" or "wrong"."""
    if test["score"] >= test["max_score"]:
        return "right"
    return "partly" if test["score"] > 0 else "wrong"


def _summary(folder, found):
    from gradcourse.grading import pictures
    from gradcourse.grading.pages import render

    questions = [_question(name, found) for name in dict.fromkeys(t["name"] for r in found for t in r["tests"])]
    bars = [(one["name"], [(label or "right", count) for label, _, count in one["parts"]]) for one in questions]
    seconds = [float(record.get("execution_time") or 0.0) for record in found]
    drawn = [("Points", pictures.scores([r["score"] for r in found], max(r["max_score"] for r in found)))]
    drawn += [("What came of each question", pictures.mistakes(bars, len(found)))] if bars else []
    drawn += [("Time per submission", pictures.times(seconds))]
    boxes = sorted({str(record["extra_data"].get("sandbox") or "unknown") for record in found})
    return render(
        "summary",
        slug=found[0]["extra_data"]["slug"],
        sandbox=", ".join(boxes),
        unsafe="unsafe" in boxes,
        pictures=drawn,
        questions=questions,
        students=[_line(folder, *pair) for pair in zip(found, seconds, strict=True)],
    )


def _line(folder, record, seconds):
    extra = record["extra_data"]
    href = f"feedback/{records.stem(folder, extra['student'])}.html"
    notes = list(extra.get("notes", []))
    return {"student": extra["student"], "href": href, "score": record["score"], "seconds": seconds, "notes": notes}


def _question(name, found):
    """Return what came of a question in the class: its mean, and rows (label, words, count), the right ones first."""
    pairs = [(record, test) for record in found for test in record["tests"] if test["name"] == name]
    counts = Counter(_words(record, test) for record, test in pairs)
    right = counts.pop("right", 0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [(chr(ord("a") + place), *item) for place, item in enumerate(ranked[:_MISTAKES_SHOWN])]
    rest = sum(count for _, count in ranked[_MISTAKES_SHOWN:])
    parts += [("other", "other mistakes", rest)] if rest else []
    return {
        "name": name,
        "mean": fmean(test["score"] for _, test in pairs),
        "max_score": max(test["max_score"] for _, test in pairs),
        "parts": [("", "right", right), *parts],
    }


def _words(record, test):
    """Return what came of one answer, in words that are the same for the same mistake."""
    if _outcome(test) == "right":
        return "right"
    mistake = record["extra_data"].get("cases", {}).get(test["name"], {}).get("mistake") or ""
    told = " ".join(str(mistake or test.get("output", "")).split())[:300]
    told = re.sub(r"\.? \d+ of \d+ hidden cases pass\.?$", ".", told)
    if "is not answered yet" in told:
        return "not answered"
    if told.startswith("The visible cases pass, and "):
        return "right on the visible cases only"
    if raised := re.match(r"Your function raised (\w+)", told):
        return f"raised {raised[1]}"
    if not mistake or re.match(r"\w+\(.*\) gives ", told):  # that text has the values of one answer
        return "no known mistake, in part right" if _outcome(test) == "partly" else "no known mistake"
    return told
