"""What a class hands in: damaged, foreign and repeated files are named and left out, the rest is drawn."""

import json
import re
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from records import LESSONS, check, event, learner, reveal

from gradcourse import __main__ as command_line
from gradcourse.grading import lab_report
from gradcourse.grading.records import ReportError
from gradcourse.learner import course
from gradcourse.learner.record import Record

IDS = [task.id for lesson in LESSONS for task in lesson.questions]


def hand_in(folder, file, events, name=""):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"gradcourse_progress": 1, "name": name, "made": "2026-01-01", "events": events}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def lab_report_of(folder, output, capsys):
    code = command_line.main(["lab-report", str(folder), "-o", str(output)])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_class_of_any_size_gives_pictures_and_a_page(count, tmp_path, capsys):
    for seed in range(count):
        hand_in(tmp_path / "class", f"{seed}/mine.json", learner(seed, LESSONS[: 1 + seed % 11]), f"Learner {seed}")
    code, lines, err = lab_report_of(tmp_path / "class", tmp_path / "report", capsys)
    assert (code, err) == (0, "")
    assert lines[0] == f"{count} learner{'s' if count > 1 else ''}"
    assert lines[-1] == f"{tmp_path / 'report'}/index.html"
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert text.count("<td>Learner ") == count
    assert not re.search(r'(src|href)="(?!data:)', text)  # one file, nothing is loaded
    wanted = {"index.html", "order.png", "predictions.png"} | ({"questions.png"} if count > 1 else set())
    assert {path.name for path in (tmp_path / "report").iterdir()} == wanted  # lesson 00 has no sheet


def test_numbers_are_those_of_the_class():
    records = [
        ("a", Record([check("03-q1", False), check("03-q1", True), event("hint", "03-q1", number=1)])),
        ("b", Record([reveal("03-p1", 1.0, 1.0, 1.0), check("03-q1", False), check("03-q2", True)])),
        ("c", Record([reveal("03-p1", 1.0, 10.0, 0.5), *[check("03-q1", False)] * 3, check("03-q1", True)])),
        ("d", Record([check("99-q1", True), reveal("99-p1", 1.0, 1.0, 1.0), reveal("03-p2", "a", "b", 0.0)])),
    ]
    first, second = lab_report.difficulties(IDS, records)
    assert (first.id, first.tried, first.passed, first.tries, first.median_tries) == ("03-q1", 3, 2 / 3, (2, 4), 3.0)
    assert first.hints == pytest.approx(1 / 3)
    assert (second.id, second.tried, second.passed, second.tries, second.hints) == ("03-q2", 1, 1.0, (1,), 0.0)
    assert lab_report.scores_of(["03-p1", "03-p2", "03-p3"], records) == {"03-p1": [1.0, 0.5], "03-p2": [0.0]}
    assert lab_report.scores_by_order({"03-p1", "03-p2"}, records) == [[1.0, 0.5, 0.0]]


def test_the_pictures_say_their_numbers(tmp_path):
    found = [(str(seed), Record(learner(seed, LESSONS[:4]))) for seed in range(9)]
    hardest = lab_report.difficulties(IDS, found)
    said = {name: words for name, _, _, words in lab_report._pictures(LESSONS, found, hardest)}
    scores = [one.score for _, record in found for one in record.reveals if one.id == "03-p1"]
    assert f"03-p1 {median(scores):.2f} of 9" in said["predictions"]
    orders = [[record.reveals[place].score for _, record in found] for place in range(16)]
    halves = [median(np.ravel(part)) for part in (orders[:8], orders[8:])]
    assert f"median {halves[0]:.2f} in the first half, {halves[1]:.2f} in the second" in said["order"]
    assert halves[0] < halves[1]
    first = hardest[0]
    assert f"{first.id} {first.passed:.0%} of 9, {first.median_tries:.2g}" in said["questions"]


LEFT_OUT = {
    "not JSON": (b"{", "can't be read (not JSON)"),
    "empty": (b"", "can't be read (not JSON)"),
    "not text": (b"\xff\xfe\x00", "can't be read (not text)"),
    "deep": (b"[" * 100_000, "can't be read (not JSON)"),
    "foreign": (b'{"cells": []}', "is no file of `gradcourse progress --export`"),
    "list": (b"[]", "is no file of"),
    "newer": (b'{"gradcourse_progress": 2}', "newer version of the course: update this one"),
    "no events": (b'{"gradcourse_progress": 1, "name": "", "events": []}', "holds no event"),
    "no name": (b'{"gradcourse_progress": 1, "events": []}', "is damaged"),
    "other events": (b'{"gradcourse_progress": 1, "name": "", "events": [1]}', "is damaged"),
    "half an event": (b'{"gradcourse_progress": 1, "name": "", "events": [{"kind": "hint", "id": "a"}]}', "is damaged"),
}


@pytest.mark.parametrize(("content", "words"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_file_that_can_not_be_used_is_one_line_and_left_out(content, words, tmp_path, capsys):
    hand_in(tmp_path, "ada.json", learner(0, LESSONS[:2]))
    (tmp_path / "bad.json").write_bytes(content)
    code, lines, err = lab_report_of(tmp_path, tmp_path / "report", capsys)
    assert (code, err) == (0, "")
    assert lines[0].startswith("left out: bad.json ")
    assert words in lines[0]
    assert lines[1] == "1 learner"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_of_two_exports_of_one_record_the_longer_is_taken(order, tmp_path):
    events = learner(0, LESSONS[:3])
    for file, share in zip(order, (len(events) // 2, len(events)), strict=True):
        hand_in(tmp_path, f"{file}.json", events[:share], "Ada")
    hand_in(tmp_path, "other.json", learner(1, LESSONS[:3]), "Ada")  # the same name is not the same record
    found, left_out = lab_report.collect(tmp_path)
    assert sorted(len(record.events) for _, record in found) == sorted([len(events), len(learner(1, LESSONS[:3]))])
    assert left_out == [f"left out: {order[0]}.json is of the same learner as {order[1]}.json and holds no more"]


def test_names_and_events_are_taken_for_what_they_are(tmp_path, capsys):
    strange = [event("hint", "03-q1", number=[1]), event("check", "03-q1", passed="yes"), event("check", "<b>")]
    strange += [reveal("03-p1", 10**400, {}, 10**400), reveal("03-p2", 1, 1, 0.5), event("reveal", "03-p3", score={})]
    hand_in(tmp_path, "x.json", [*learner(0, LESSONS[:2]), *strange], "<script>alert(1)</script>\u202e")
    code, _, err = lab_report_of(tmp_path, tmp_path / "report", capsys)
    assert (code, err) == (0, "")
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert not re.search("<b>|\u202e", text)


@pytest.mark.parametrize("name", ["nowhere", "ada.json", "empty"])
def test_a_folder_without_files_is_one_line(name, tmp_path, capsys):
    hand_in(tmp_path, "ada.json", [])
    (tmp_path / "empty").mkdir()
    code, lines, err = lab_report_of(tmp_path / name, tmp_path / "report", capsys)
    assert (code, lines) == (1, [])
    assert err.startswith("gradcourse: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_without_the_lessons_it_says_so(tmp_path, monkeypatch):
    hand_in(tmp_path, "ada.json", learner(0, LESSONS[:2]))
    monkeypatch.setattr(course, "folder", lambda place=None: None)
    with pytest.raises(ReportError, match="lessons are not at hand"):
        lab_report.write(tmp_path, Path("report"))
