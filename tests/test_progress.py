"""Progress: what is read from the course's own files, what it amounts to, how it is shown and handed on."""

import ast
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from records import LESSONS, check, event, learner, reveal

import gradcourse as gc
from gradcourse import __main__ as command_line
from gradcourse import journal
from gradcourse.learner import course, export, hints, page, record
from gradcourse.learner.record import Record
from gradcourse.sheets import questions

REPOSITORY = Path(__file__).parents[1]
SLUGS = [lesson.slug for lesson in LESSONS]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A record of its own, an empty folder to stand in."""
    monkeypatch.delenv("GRADCOURSE_UNATTENDED", raising=False)
    monkeypatch.setenv("GRADCOURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(journal, "_kernel", journal._Kernel())
    monkeypatch.setattr(hints, "_given", {})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def keep(events):
    for one in events:
        journal.note(**{key: value for key, value in one.items() if key != "at"})


# --- the course


def test_every_lesson_is_read():
    assert sorted(path.stem for path in (REPOSITORY / "notebooks").glob("[0-9]*.ipynb")) == SLUGS
    assert all(lesson.question.endswith("?") and 0 < lesson.core_minutes <= lesson.minutes for lesson in LESSONS)


@pytest.mark.parametrize("lesson", LESSONS[1:], ids=SLUGS[1:])
def test_questions_of_a_sheet_are_those_of_the_package(lesson):
    known = questions(lesson.slug)
    assert [(task.id, task.core) for task in lesson.questions] == [(id, one.core) for id, one in known.items()]
    assert all(task.hints and not re.search("</?(details|summary)", "".join(task.hints)) for task in lesson.questions)


def predicted_in(path):
    """The first arguments of all calls of gc.predict, by Python's own parser."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    calls = [node for text in code for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    return {call.args[0].value for call in calls if ast.unparse(call.func) == "gc.predict"}


def test_predictions_of_a_lesson_are_those_of_its_cells():
    for lesson in LESSONS:
        assert {task.id for task in lesson.predictions} == predicted_in(REPOSITORY / "notebooks" / lesson.address)
        assert any(task.core for task in lesson.predictions)
    core = {task.id: task.core for lesson in LESSONS for task in lesson.predictions}
    assert (core["00-p1"], core["03-p1"], core["03-p4"]) == (True, True, False)


def test_a_notebook_that_can_not_be_read_is_left_out(tmp_path):
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns("0[4-9]*", "1*"))
    for number, content in enumerate(("", "[]", '{"cells": [{}]}', "\xff")):
        (tmp_path / "notebooks" / f"2{number}_a.ipynb").write_text(content, encoding="latin-1")
    found = course.lessons(tmp_path)
    assert [lesson.slug for lesson in found] == SLUGS[:4]
    assert not any(lesson.questions for lesson in found)  # there are no sheets


def test_the_course_is_the_nearest_one_around(tmp_path):
    (tmp_path / "mine" / "notebooks").mkdir(parents=True)
    (tmp_path / "mine" / "notebooks" / "00_a.ipynb").touch()
    assert course.folder(tmp_path / "mine" / "notebooks") == (tmp_path / "mine").resolve()
    assert course.folder(tmp_path) == REPOSITORY


# --- what events amount to


def test_record_sums_up():
    events = [event("prediction", "03-p1", guess=1.0), reveal("03-p1", 1.0, 0.01, 0.2), event("explore", "04-e1")]
    events += [check("03-q1", False), check("03-q1", False), check("03-q1", True), check("03-q1", False)]
    events += [event("hint", "03-q1", number=1), event("hint", "03-q1", number=1), event("hint", "03-q1", number=2)]
    events += [check("05-q1", False), event("unheard of", "x")]
    done = Record(events)
    assert done.opened == {"03", "04"}
    assert done.predicted == {"03-p1"}
    assert done.passed == {"03-q1"}
    assert done.tries == {"03-q1": 3, "05-q1": 1}
    assert done.hints == {"03-q1": 2}
    assert [(one.id, one.score, one.off) for one in done.reveals] == [("03-p1", 0.2, 2.0)]


def test_a_check_that_lesson_00_shows_is_no_try():
    shown, begin = check("03-q2", False), event("prediction", "03-p1", guess=1.0)
    assert Record([shown, begin, check("03-q2", False), check("03-q2", True)]).tries == {"03-q2": 2}
    assert Record([shown, begin]).tries == {}
    assert Record([shown, check("03-q2", True)]).tries == {"03-q2": 2}  # only the sheet was worked on
    assert Record([check("03-q2", True), begin]).tries == {"03-q2": 1}


def test_only_the_first_reveal_of_a_prediction_counts():
    done = Record([reveal("03-p1", 1.0, 0.1, 0.5), reveal("03-p1", 0.1, 0.1, 1.0), reveal("03-p2", "a", "a", 1)])
    assert [(one.id, one.score, one.off) for one in done.reveals] == [("03-p1", 0.5, 1.0), ("03-p2", 1.0, None)]


@pytest.mark.parametrize("score", [None, True, -0.1, 1.1, math.nan, "1", [1]])
def test_what_is_no_score_is_left_out(score):
    assert Record([reveal("03-p1", 1.0, 1.0, score)]).reveals == []


@pytest.mark.parametrize(
    ("guess", "measured", "off"),
    [
        *((1e-3, 1.0, 3), (-2.0, -200, 2), (5, 5, 0), (1e-300, 1e300, 600)),
        *((1, -1, None), (0.0, 1, None), (1, math.inf, None), (math.nan, 1, None), (10**400, 1, None)),
        *(("a", 1, None), (True, 1, None), ([1], 1, None)),
    ],
)
def test_orders_of_magnitude(guess, measured, off):
    assert record.orders_of_magnitude(guess, measured) == (off if off is None else pytest.approx(off))


def test_running_median_is_that_of_the_last_values():
    values = list(np.random.default_rng(0).uniform(size=40))
    brute = [float(np.median(values[max(0, k - 4) : k + 1])) for k in range(40)]
    assert record.running_median(values, 5) == brute


def core(tasks):
    return [task.id for task in tasks if task.core]


def test_following_the_next_step_does_the_core_path_in_order_and_ends():
    """A learner who does nothing but the next step meets each core prediction and question once, lesson by lesson."""
    events, walked = [], []
    for _ in range(500):
        step = record.next_step(LESSONS, Record(events))
        if not step.address:
            break
        found = re.search(r"\d\d-[pq]\d+", step.text)
        id = found[0] if found else core(LESSONS[int(step.text[13:15])].predictions)[0]
        assert f"{id[:2]}_" in step.address
        assert ("exercises" in step.address) == ("q" in id)
        assert (REPOSITORY / "notebooks" / step.address).exists()
        events.append(check(id, True) if "q" in id else event("prediction", id))
        walked.append(id)
    assert walked == [id for lesson in LESSONS for id in core(lesson.predictions) + core(lesson.questions)]
    assert step.text == "You have done the core path of the whole course."


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([], "Begin lesson 00"),
        ([event("explore", "05-e1")], "Go on with lesson 05"),
        ([event("prediction", id) for id in core(LESSONS[5].predictions)], "Answer question 05-q"),
        ([check(id, True) for id in core(LESSONS[5].questions)], "Begin lesson 06"),
        ([check(id, True) for id in core(LESSONS[10].questions)], "Begin lesson 00"),
        ([event("hint", "77-q1", number=1)], "Begin lesson 00"),
        # What lesson 00 shows of gc.check is no work on sheet 03.
        ([*(event("prediction", id) for id in core(LESSONS[0].predictions)), check("03-q2", False)], "Begin lesson 01"),
        ([event("explore", "03-e1"), event("explore", "02-e1"), check("03-q2", False)], "Go on with lesson 03"),
    ],
)
def test_next_step_starts_where_the_learner_is(events, text):
    assert record.next_step(LESSONS, Record(events)).text.startswith(text)


# --- shown


def test_progress_draws_the_numbers_and_says_them():
    events = learner(0, LESSONS[:4])
    keep(events)
    figure = gc.progress()
    left, right = figure.axes
    bars = [[bar.get_width() for bar in container] for container in left.containers]
    assert bars[0] == [1.0] * 4 + [0.0] * 7
    assert bars[1] == [0.0] + [1.0] * 3 + [0.0] * 7  # lesson 00 has no sheet
    scores = [one["score"] for one in events if one["kind"] == "reveal"]
    drawn = {x: y for line in right.lines[:-1] for x, y in zip(*line.get_data(), strict=True)}
    assert [drawn[x + 1] for x in range(len(scores))] == scores
    assert list(right.lines[-1].get_ydata()) == record.running_median(scores)
    said = gc.describe(figure)
    assert "4 of 11 lessons opened" in said
    assert "03 4 of 4 predictions, 4 of 4 questions" in said
    assert f"03-p4 {scores[-1]:.2g}" in said
    assert "04 not opened" in said


@pytest.mark.parametrize("theme", ["default", "dark_background"])
def test_progress_is_drawn_in_the_colours_of_the_theme(theme):
    keep(learner(1, LESSONS[:2]))
    with plt.style.context(theme):
        figure = gc.progress()
        figure.savefig(os.devnull, format="png")
    ax = figure.axes[1]
    assert ax.lines[-1].get_color() == ax.xaxis.label.get_color() != ax.get_facecolor()


def test_progress_leaves_no_open_figure_that_a_notebook_would_show_again():
    before = plt.get_fignums()
    gc.progress()
    assert plt.get_fignums() == before


def test_empty_progress_is_a_picture_that_says_what_to_do():
    said = gc.describe(gc.progress())
    assert "0 of 11 lessons opened" in said
    assert "gc.predict commits a guess" in said


def test_start_page_leads_to_every_lesson_and_sheet():
    keep(learner(2, LESSONS[:1]))
    html = gc.learner.start_page()._repr_html_()
    links = re.findall(r'href="(.+?)"', html)
    wanted = {one.address for one in LESSONS} | {one.sheet_address for one in LESSONS if one.questions}
    assert set(links) == wanted
    assert all((REPOSITORY / "notebooks" / link).exists() for link in links)
    assert links[0] == LESSONS[1].address  # the next step
    assert "<strong>Next step:</strong>" in html
    assert not re.search("colou?r|background|<script|<style", html)


def test_start_page_as_text_is_what_the_command_prints(capsys):
    keep(learner(6, LESSONS[:3]))
    _, out, _ = gradcourse("progress", capsys=capsys)
    assert out.startswith(repr(gc.learner.start_page()))


def test_start_page_escapes_what_a_lesson_says():
    lesson = course.Lesson("00_a", "<b>", "`x<y` & <i>?", 1, 1, (), ())
    html = page.StartPage((lesson,), Record([]))._repr_html_()
    assert "<code>x&lt;y</code> &amp; &lt;i&gt;?" in html
    assert "<b>" not in html


def test_the_stored_start_page_is_that_of_nobody(monkeypatch):
    keep(learner(3))
    monkeypatch.setenv("GRADCOURSE_UNATTENDED", "1")
    cells = json.loads((REPOSITORY / "notebooks" / page.NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    (output,) = cells[-1]["outputs"]
    assert "".join(output["data"]["text/html"]) == gc.learner.start_page()._repr_html_()


def test_the_start_page_needs_nothing_heavy():
    code = "import gradcourse.learner, sys; print([n for n in ('torch', 'numpy', 'matplotlib') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- hints


def test_hints_come_one_by_one_from_the_sheet_and_are_counted(capsys):
    texts = next(task.hints for task in LESSONS[3].questions if task.id == "03-q1")
    for number, text in enumerate(texts, start=1):
        gc.hint("03-q1")
        assert capsys.readouterr().out == f"03-q1, hint {number} of {len(texts)}\n\n{text}\n"
    gc.hint("03-q1")
    assert capsys.readouterr().out.startswith(f"03-q1: that was the last of {len(texts)} hints")
    assert [one["number"] for one in journal.read()] == list(range(1, len(texts) + 1))


def test_hints_are_those_of_the_sheet_beside_the_notebook(capsys):
    text = "<details><summary>Hint 1</summary>\n\nTry $x$.\n\n</details>"
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text}, {"cell_type": "code", "id": "77-q1"}]
    cells[1] |= {"metadata": {}, "source": ""}
    Path("77_mine.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    gc.hint("77-q1")
    assert capsys.readouterr().out == "77-q1, hint 1 of 1\n\nTry $x$.\n"


@pytest.mark.parametrize(
    ("id", "words"),
    [
        *(("03-q9", "this sheet has 03-q1, 03-q2, 03-q3, 03-q4."), ("03-p1", "this sheet has 03-q1")),
        *(("88-q1", "at hand"), ("", "at hand"), (None, "at hand"), ("../x", "at hand"), (3, "at hand")),
    ],
)
def test_an_unknown_question_has_no_hints_and_one_line(id, words, capsys):
    gc.hint(id)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert words in printed
    assert journal.read() == []


# --- the command


def gradcourse(*arguments, capsys):
    code = command_line.main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_command_prints_a_table_and_saves_a_picture(capsys, folder):
    keep(learner(4, LESSONS[:2]))
    code, out, err = gradcourse("progress", capsys=capsys)
    assert (code, err) == (0, "")
    rows = out.splitlines()[1 : 1 + len(LESSONS)]
    assert [row[:2] for row in rows] == [lesson.number for lesson in LESSONS]
    assert re.search(r"5 of 5 +4 of 4 +\d+$", rows[1])
    assert f"Kept in {folder / 'data' / 'journal.jsonl'}" in out
    assert Path("progress.png").read_bytes()[:4] == b"\x89PNG"
    assert out.endswith("Picture: progress.png\n")


@pytest.mark.parametrize("option", ["--picture", "--export"])
def test_command_says_where_it_can_not_write(option, capsys):
    keep([check("03-q1", True)])
    code, _, err = gradcourse("progress", option, Path("missing") / "a.png", capsys=capsys)
    assert code == 1
    assert err.startswith("gradcourse: can't write missing")
    assert err.count("\n") == 1


def test_export_hands_on_what_a_teacher_needs_and_nothing_else(capsys):
    keep(learner(5, LESSONS[:2]))
    journal.note("reveal", "09-p1", guess=1.0, measured=1.0, score=1.0, verdict="", secret="mine")
    journal.note("something later", "09-x1", secret="mine")
    code, out, err = gradcourse("progress", "--export", "ada.json", "--name", "Ada <b>", capsys=capsys)
    assert (code, err) == (0, "")
    assert "Nothing was sent" in out
    assert "secret" not in Path("ada.json").read_text(encoding="utf-8")
    handed = export.read(Path("ada.json"))
    own = Record(journal.read())
    assert handed.name == "Ada <b>"
    assert (handed.record.reveals, handed.record.tries, handed.record.hints) == (own.reveals, own.tries, own.hints)


def test_export_replaces_no_file(capsys):
    Path("thesis.json").write_text("mine", encoding="utf-8")
    code, _, err = gradcourse("progress", "--export", "thesis.json", capsys=capsys)
    assert code == 1
    assert "thesis.json: File exists" in err
    assert Path("thesis.json").read_text(encoding="utf-8") == "mine"


def test_names_of_the_package_are_functions_not_modules():
    assert callable(gc.progress)
    assert callable(gc.hint)
    assert not any((REPOSITORY / "gradcourse" / f"{name}.py").exists() for name in ("progress", "hint"))
    importlib.import_module("gradcourse.learner.picture")
    assert callable(gc.progress)
