"""The report: what is in it, that nothing in a name or message can do harm, that interruptions cost nothing."""

import csv
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from grading_records import POINTS, SLUG, record

from gradcourse.grading import lessons, records, report
from gradcourse.grading.records import ReportError, safe_name
from gradcourse.sheets.check import questions

ROOT = Path(__file__).parents[1]


class Page(HTMLParser):
    """The tags, addresses and text of a page, as a browser takes them."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, tag, attribute):
        return [found.get(attribute) for name, found in self.tags if name == tag]


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CLASS = [record("ada"), record("bob", (0, 2, 2, 0)), record("cyd", (1.5, 0, 0, 0))]


def test_report_holds_a_record_and_a_page_for_each_a_table_and_a_summary(tmp_path):
    report.write(tmp_path / "new" / "report", CLASS)
    assert sorted(files(tmp_path / "new" / "report")) == [
        *(f"feedback/{name}.html" for name in ("ada", "bob", "cyd")),
        "grades.csv",
        *(f"results/{name}.json" for name in ("ada", "bob", "cyd")),
        "summary.html",
    ]


def test_records_come_back_as_they_were(tmp_path):
    report.write(tmp_path, CLASS[::-1])
    assert report.read(tmp_path) == CLASS


def test_grades_have_the_columns_and_scores_of_nbgrader(tmp_path):
    report.write(tmp_path, CLASS)
    with (tmp_path / "grades.csv").open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    who = "assignment,duedate,timestamp,student_id,last_name,first_name,email"
    assert list(rows[0]) == f"{who},raw_score,late_submission_penalty,score,max_score".split(",")
    assert [(row["student_id"], row["raw_score"], row["score"], row["max_score"]) for row in rows] == [
        ("ada", "12.0", "12.0", "12.0"),
        ("bob", "4.0", "4.0", "12.0"),
        ("cyd", "1.5", "1.5", "12.0"),
    ]
    assert {row["assignment"] for row in rows} == {SLUG}


def test_report_is_the_same_for_the_same_records_in_any_order_and_in_parts(tmp_path):
    report.write(tmp_path / "whole", CLASS)
    for one in (CLASS[2], CLASS[0]):
        report.add(tmp_path / "parts", one)
    report.summarize(tmp_path / "parts")  # as after Ctrl-C
    report.write(tmp_path / "parts", [CLASS[1]])
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_what_was_graded_before_an_error_is_on_disk(tmp_path):
    def graded():
        yield CLASS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report.write(tmp_path, graded())
    assert report.read(tmp_path) == CLASS[:1]


# --- names

NAMES = [
    *(
        "ada",
        "Ada Lovelace",
        "Ünal Çelik",
        "Unal Celik",
        "李雷",
        "韩梅梅",
        "..",
        ".",
        "",
        " ",
        "a/b",
        "a\\b",
        "a:b",
        "../../etc/x",
    ),
    *(
        "con",
        "NUL.txt",
        "x" * 300,
        "x" * 299,
        ".hidden",
        "-rf",
        "a\0b",
        "a\nb",
        "\ud800",
        "a.b",
        "a_b",
        "ada@example.org",
    ),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_name_is_safe_as_a_file_name(name):
    safe = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,99}", safe)
    assert not safe.endswith(".")
    assert safe.split(".")[0].lower() not in {"con", "nul"}


def test_different_names_have_different_files():
    chosen = [safe_name(name) for name in NAMES]  # a name that somebody could choose to meet another's
    every = [*NAMES, *(name for name in chosen if name not in NAMES)]
    assert len({safe_name(name) for name in every}) == len(every)


def test_plain_names_stay():
    assert [safe_name(name) for name in ("ada", "a.b", "ada@example.org")] == ["ada", "a.b", "ada@example.org"]


def test_report_of_strange_names_stays_in_its_folder_and_keeps_all(tmp_path):
    names = [name for name in NAMES if name]
    report.write(tmp_path / "report", [record(name) for name in names])
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert sorted(one["extra_data"]["student"] for one in report.read(tmp_path / "report")) == sorted(names)
    assert len(list((tmp_path / "report" / "feedback").iterdir())) == len(names)


def test_name_that_the_file_system_takes_for_another_gets_its_own_file(tmp_path):
    report.add(tmp_path, record("ada"))
    (tmp_path / "results" / "ada.json").rename(tmp_path / "results" / "Ada.json")  # as if both were one there
    path = records.save(tmp_path, record("Ada"))
    assert path.name not in ("Ada.json", "ada.json")
    assert {one["extra_data"]["student"] for one in report.read(tmp_path)} == {"ada", "Ada"}


# --- pages

EVIL = '<script>alert(1)</script><img src=x onerror="x()">"\'&<!--</style></title>'


def test_markup_in_names_messages_and_notes_is_text(tmp_path):
    messages = {"03-q1": EVIL}
    one = record(EVIL, (0, 2, 4, 3), messages=messages, mistakes=messages, notes=[EVIL])
    one["output"], one["extra_data"]["sandbox"] = EVIL, EVIL
    report.write(tmp_path, [one, record("ada")])
    for path in (
        *tmp_path.glob("feedback/student*.html"),
        *tmp_path.glob("feedback/script*.html"),
        tmp_path / "summary.html",
    ):
        page = Page(path)
        assert {tag for tag, _ in page.tags} & {"script", "iframe", "object", "form"} == set()
        assert not any(name.startswith("on") for _, found in page.tags for name in found)
        assert all(source.startswith("data:image/svg+xml;base64,") for source in page.values("img", "src"))
        assert EVIL in page.text
    assert len(list(tmp_path.glob("feedback/*.html"))) == 2


def test_control_characters_are_not_in_a_page(tmp_path):
    report.write(tmp_path, [record("a\x1b[31m\u202eb\ud800", messages={"03-q1": "x\0y" + "z" * 50_000})])
    (path,) = tmp_path.glob("feedback/*.html")
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\0\x1b\u202e]", text)
    assert len(text) < 20_000


def test_feedback_says_score_message_counts_and_section(tmp_path):
    messages = {"03-q1": "It forgets the root. Seen at: layer_factor(sigmoid_slope, 1, 2)."}
    report.write(tmp_path, [record("ada", (1.5, 2, 4, 3), messages, notes=["cell 3 took longer than 8 s"])])
    page = Page(tmp_path / "feedback" / "ada.html")
    assert "10.5 of 12 points" in page.text
    assert "03-q1 · 1.5 of 3 points · in part It forgets the root." in page.text
    assert "5 of 5 visible cases, 0 of 8 hidden cases" in page.text
    assert "Lesson 03, section 1 · Measure the factor" in page.text
    assert "cell 3 took longer than 8 s" in page.text
    assert page.values("a", "href")[0] == f"../notebooks/{SLUG}.ipynb#1-%C2%B7-Measure-the-factor-%28core%29"


def test_feedback_leads_to_where_the_lessons_are(tmp_path):
    report.write(tmp_path, [record("ada")], lessons_at="https://hub.example.org/lab/tree/course/notebooks")
    hrefs = Page(tmp_path / "feedback" / "ada.html").values("a", "href")
    assert all(href.startswith(f"https://hub.example.org/lab/tree/course/notebooks/{SLUG}.ipynb") for href in hrefs)


def test_feedback_tells_nothing_but_what_is_the_student_s(tmp_path):
    one = record("ada", (0, 2, 4, 3), mistakes={"03-q1": "what only the instructor reads"}, seed="fingerprint")
    one["tests"].append(
        {"name": "secret", "score": 0, "max_score": 0, "output": "hidden output", "visibility": "hidden"}
    )
    one["extra_data"]["cases"]["03-q1"]["inputs"] = "the hidden input 42"
    report.write(tmp_path, [one])
    text = (tmp_path / "feedback" / "ada.html").read_text(encoding="utf-8")
    for word in ("what only the instructor reads", "fingerprint", "hidden output", "hidden input", "bubblewrap"):
        assert word not in text


def test_summary_counts_mistakes_and_describes_its_pictures(tmp_path):
    wrong = [record(f"w{n}", (0, 2, 4, 3), mistakes={"03-q1": "It forgets the root."}) for n in range(3)]
    odd = [
        record(f"o{n}", (0, 2, 4, 3), mistakes={"03-q1": f"layer_factor(slope, 1, 2) gives {n}; it must be 7"})
        for n in range(2)
    ]
    empty = [record("empty", (0, 0, 0, 0), mistakes={"03-q1": "Your function is not answered yet."})]
    report.write(tmp_path, [*wrong, *odd, *empty, record("ada"), record("bob")])
    page = Page(tmp_path / "summary.html")
    assert "03-q1 · mean 0.75 of 3 points What came of it Submissions Share right 2 25 %" in page.text
    assert "a It forgets the root. 3 38 % b no known mistake 2 25 % c not answered 1 12 %" in page.text
    points, outcomes, seconds = page.values("img", "alt")
    assert "8 scores out of 12" in points
    assert "03-q1: right 2, a 3, b 2, c 1; 03-q2: right 7" in outcomes
    assert "median 0.25" in seconds


@pytest.mark.parametrize("box", ["unsafe", "bubblewrap"])
def test_summary_says_when_there_was_no_sandbox(tmp_path, box):
    report.write(tmp_path, [record("ada", sandbox=box)])
    assert ("without a sandbox" in Page(tmp_path / "summary.html").text) == (box == "unsafe")


def test_summary_of_one_submission_of_nothing(tmp_path):
    one = record("ada", (0, 0, 0, 0))
    report.write(tmp_path, [one | {"tests": [], "execution_time": None}])
    assert "1 submissions" in Page(tmp_path / "summary.html").text


def test_text_that_matplotlib_takes_for_mathematics_is_drawn(tmp_path):
    report.write(tmp_path, [record("ada", (0, 2, 4, 3), mistakes={"03-q1": r"$\frac{$ 李"})])
    assert r"$\frac{$ 李" in Page(tmp_path / "summary.html").text


# --- damaged files, shards, disks


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is empty"),
        (b"{", "it is not JSON"),
        (b"[]", "it is not an object"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"{}", "extra_data names no student"),
        (b'{"extra_data": {"student": "x", "slug": "y"}}', "no list of tests"),
        (b'{"extra_data": {"student": "x", "slug": "y"}, "tests": [], "score": NaN, "max_score": 1}', "a score is not"),
        (b'{"extra_data": {"student": "x", "slug": "y"}, "tests": [], "score": "9", "max_score": 1}', "a score is not"),
    ],
)
def test_damaged_file_is_named_and_left_out(tmp_path, content, why):
    report.write(tmp_path, CLASS)
    (tmp_path / "results" / "bob.json").write_bytes(content)
    said = []
    assert report.read(tmp_path, said.append) == [CLASS[0], CLASS[2]]
    (line,) = said
    assert "bob.json is damaged" in line
    assert why in line
    report.add(tmp_path, CLASS[1])
    assert report.read(tmp_path, said.append) == CLASS


def test_no_report_has_no_records(tmp_path):
    assert report.read(tmp_path / "missing") == []


def test_report_takes_one_sheet(tmp_path):
    report.write(tmp_path, CLASS)
    with pytest.raises(ReportError, match="holds the report of 03_sigmoid_tanh_vanishing, not of 04_activations"):
        report.add(tmp_path, record("dan", slug="04_activations"))
    assert report.read(tmp_path) == CLASS


def test_shards_merge_into_what_one_run_gives(tmp_path):
    report.write(tmp_path / "whole", CLASS)
    for number, one in enumerate(CLASS):
        report.write(tmp_path / str(number), [one])
    report.merge([tmp_path / "0", tmp_path / "1", tmp_path / "2", tmp_path / "0"], tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (record("dan", slug="04_activations"), "another slug"),
        (record("dan", seed="4567"), "another seed"),
        (record("ada", (0, 0, 0, 0)), "ada has 12 points in one shard, 0 in"),
    ],
    ids=["slug", "seed", "score"],
)
def test_shards_that_do_not_belong_together_are_refused(tmp_path, other, message):
    report.write(tmp_path / "0", CLASS)
    report.write(tmp_path / "1", [other])
    with pytest.raises(ReportError, match=message):
        report.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_merge_of_no_report_says_so(tmp_path):
    with pytest.raises(ReportError, match="holds no results"):
        report.merge([tmp_path], tmp_path / "merged")


def test_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "report").write_text("mine", encoding="utf-8")
    with pytest.raises(
        ReportError, match=r"^can't write .*: Not a directory; make room there or choose another place$"
    ):
        report.add(tmp_path / "report", CLASS[0])
    assert (tmp_path / "report").read_text(encoding="utf-8") == "mine"


def test_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, monkeypatch):
    report.write(tmp_path, CLASS)
    before = files(tmp_path)

    def full(self, data):
        with self.open("wb") as opened:
            opened.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ReportError, match=r"No space left on device; make room"):
        report.add(tmp_path, record("ada", (0, 0, 0, 0)))
    monkeypatch.undo()
    assert files(tmp_path) == before


@pytest.mark.skipif(os.name != "posix", reason="users and permissions of POSIX")
def test_read_only_folder_is_one_line(tmp_path):
    """As root, who may write anywhere, the test becomes another user."""
    (tmp_path / "report").mkdir(mode=0o555)
    code = (
        "import os, sys\nfrom gradcourse.grading import report\nfrom grading_records import record\n"
        "if os.geteuid() == 0:\n    os.setgid(65534)\n    os.setuid(65534)\n"
        "try:\n    report.add(sys.argv[1], record('ada'))\nexcept report.ReportError as error:\n    print(error)\n"
    )
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", code, str(tmp_path / "report")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.stdout.startswith(f"can't write {tmp_path / 'report' / 'results'}: Permission denied; ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


# --- sections


def lesson_headings(slug):
    cells = json.loads((ROOT / "notebooks" / f"{slug}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [line for cell in cells for line in "".join(cell["source"]).splitlines() if line.startswith("## ")]


SLUGS = {path.stem[:2]: path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}


@pytest.mark.parametrize(
    "question", [f"{sheet}-q{n}" for sheet, places in lessons.SECTIONS.items() for n, _ in enumerate(places, start=1)]
)
def test_section_of_a_question_is_in_its_lesson(question):
    slug = SLUGS[question[:2]]
    assert question in questions(slug)
    heading = lessons.section(question, slug)
    assert f"## {heading}" in lesson_headings(slug)


def test_question_without_a_section_leads_to_its_lesson():
    assert lessons.link("03-q9", SLUG) == ("Lesson 03", f"../notebooks/{SLUG}.ipynb")
    assert lessons.link("99-q1", "99_none", "there/") == ("Lesson 99", "there/99_none.ipynb")


def test_records_of_these_tests_have_the_points_of_the_sheet():
    assert {id: question.points for id, question in questions(SLUG).items()} == POINTS
