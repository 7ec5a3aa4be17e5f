"""From a report to gradebooks: the right score in the right row, nobody lost, no file overwritten."""

import csv
import json
import os

import pytest
from grading_records import SLUG, record
from test_nbgrader import Course, make_environment

from gradcourse.grading import export, report
from gradcourse.grading.records import ReportError

CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Essay (11),Sheet 03 (12),Current Score,Final Score\n"
    ",,,,,,Manual Posting,,\n"
    "    Points Possible,,,,,20,12,(read only),(read only)\n"
    '"Lovelace, Ada",501,u1,ada,Lab 1,17,,85,80\n'
    '"Noether, Emmy",502,u2,emmy@example.org,Lab 2,18,3,90,90\n'
    '"Müller, Jörg",503,u3,joerg,Lab 1,,5,0,0\n'
    '"Student, Test",599,,t0,Lab 1,,,,\n'
)
MOODLE = {
    "en": (
        "Identifier,Full name,Email address,Status,Grade,Maximum grade,Grade can be changed,"
        "Last modified (submission),Last modified (grade),Feedback comments\n",
        "Participant",
        '"100.00"',
    ),
    "de": (
        "ID,Vollständiger Name,E-Mail-Adresse,Status,Bewertung,Maximale Bewertung,Bewertung kann geändert werden,"
        "Zuletzt geändert (Abgabe),Zuletzt geändert (Bewertung),Feedback als Kommentar\n",
        "Teilnehmer/in",
        '"100,00"',
    ),
    "nl": (
        "Identificatie,Volledige naam,E-mailadres,Status,Cijfer,Maximumcijfer,Cijfer kan gewijzigd worden,"
        "Laatst gewijzigd (inzending),Laatst gewijzigd (beoordeling),Feedback\n",
        "Deelnemer",
        '"100,00"',
    ),
    "ja": (
        "ID,氏名,メールアドレス,ステータス,評定,最大評点,評定の変更,最終更新日時 (提出),最終更新日時 (評定),コメント\n",
        "参加者",
        '"100.00"',
    ),
}


def worksheet(language, possible=None):
    head, word, most = MOODLE[language]
    rows = [
        f'{word} 71,"Ada Lovelace",ada@example.org,Submitted,,{possible or most},Yes,"Monday, 3 March",-,\n',
        f'{word}72,"Emmy Noether",emmy@example.org,Submitted,,{possible or most},Yes,-,-,"well, done"\n',
        f"{word} 73,Jörg Müller,j@example.org,-,,{possible or most},Yes,-,-,\n",
    ]
    return head + "".join(rows)


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.reader(opened))


def graded(tmp_path, *records):
    report.write(tmp_path / "report", records)
    return tmp_path / "report"


def given(tmp_path, text, name="given.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- Canvas


def to_canvas(tmp_path, records, text=CANVAS, **options):
    roster = given(tmp_path, text)
    before = roster.read_bytes()
    done = export.to_canvas(graded(tmp_path, *records), roster, tmp_path / "out.csv", **options)
    assert roster.read_bytes() == before
    return done, table(tmp_path / "out.csv")


@pytest.mark.parametrize("title", ["Sheet 03", "Sheet 03 (12)"])
def test_canvas_column_is_filled_and_others_are_left_out(tmp_path, title):
    done, rows = to_canvas(tmp_path, [record("ada"), record("stranger"), record("u2", (0, 2, 2, 0.5))], column=title)
    assert rows == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Sheet 03 (12)"],
        ["", "", "", "", "", "Manual Posting"],
        ["    Points Possible", "", "", "", "", "12"],
        ["Lovelace, Ada", "501", "u1", "ada", "Lab 1", "12"],
        ["Noether, Emmy", "502", "u2", "emmy@example.org", "Lab 2", "4.5"],
        ["Müller, Jörg", "503", "u3", "joerg", "Lab 1", "5"],  # a blank would delete Canvas' score
        ["Student, Test", "599", "", "t0", "Lab 1", ""],
    ]
    assert (done.filled, done.unknown, done.missing) == (2, ("stranger: no row fits",), ("Müller, Jörg",))
    assert str(done).splitlines()[1:] == ["not exported: stranger: no row fits", "not graded, unchanged: Müller, Jörg"]


def test_canvas_new_column_has_the_points_of_the_sheet(tmp_path):
    _, rows = to_canvas(tmp_path, [record("ada")])
    assert [row[5:] for row in rows] == [[SLUG], [""], ["12"], ["12"], [""], [""], [""]]


@pytest.mark.parametrize(
    ("student", "extra"),
    [
        ("lovelaceada", {}),  # as Canvas names files
        ("whatever", {"lms_id": "501"}),
        ("Lovelace, Ada", {}),
        ("Ada Lovelace", {}),
        ("ADA", {}),
        ("501", {}),
        ("mullerjorg", {}),
        ("u3", {}),
    ],
)
def test_canvas_student_is_found_by(tmp_path, student, extra):
    done, rows = to_canvas(tmp_path, [record(student, **extra)], column="Sheet 03")
    wanted = 5 if student in ("mullerjorg", "u3") else 3
    assert done.filled == 1
    assert rows[wanted][5] == "12"


def test_canvas_number_goes_before_a_name(tmp_path):
    """Emmy's file, handed in under Ada's name."""
    _, rows = to_canvas(tmp_path, [record("ada", lms_id="502")], column="Sheet 03")
    assert [row[5] for row in rows[3:6]] == ["", "12", "5"]


def test_canvas_rows_that_can_not_be_told_apart_are_left_and_named(tmp_path):
    text = CANVAS + '"Lovelace, Ada",504,u4,ada2,Lab 2,,1,,\n'
    done, rows = to_canvas(
        tmp_path, [record("lovelaceada"), record("u2"), record("emmy@example.org")], text, column="Sheet 03"
    )
    assert done.filled == 0
    assert set(done.unknown) == {
        "lovelaceada: 2 rows fit",
        "u2: 2 submissions fit one row",
        "emmy@example.org: 2 submissions fit one row",
    }
    assert [row[5] for row in rows[3:]] == ["", "3", "5", "", "1"]


def test_canvas_file_keeps_its_form(tmp_path):
    text = "\ufeff" + CANVAS.replace(",", ";").replace("Lovelace; Ada", "Lovelace, Ada").replace("\n", "\r\n")
    to_canvas(tmp_path, [record("ada")], text.encode(), column="Sheet 03")
    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbfStudent;ID;")
    assert data.count(b"\r\n") == data.count(b"\n") == 7


def test_canvas_other_maximum_is_refused_or_scaled(tmp_path):
    text = CANVAS.replace(",20,12,", ",20,100,")
    with pytest.raises(ReportError, match=r"the column has 100 points and the sheet 12: .* --scale"):
        to_canvas(tmp_path, [record("ada")], text, column="Sheet 03")
    _, rows = to_canvas(tmp_path, [record("ada", (0, 0, 4, 0))], text, column="Sheet 03", scale=True)
    assert [row[5] for row in rows[2:4]] == ["100", "33.33"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (CANVAS, {"column": "Sheet 3"}, r"no column 'Sheet 3': give one of Essay \(11\), Sheet 03 \(12\)"),
        (CANVAS.replace("Essay (11)", "Sheet 03 (11)"), {"column": "Sheet 03"}, "several columns 'Sheet 03'"),
        (CANVAS, {"column": "Final Score"}, "the column takes no points"),
        (CANVAS.replace("    Points Possible", ""), {}, "no row 'Points Possible'"),
        ("a,b\n1,2\n", {}, "is no export of Canvas"),
        ("Student,ID,Section\n", {}, "holds no students"),
        ("", {}, "holds no students"),
        (CANVAS.encode("utf-16"), {}, "is not CSV in UTF-8"),
    ],
)
def test_canvas_file_of_another_kind_is_one_line(tmp_path, text, options, message):
    with pytest.raises(ReportError, match=message) as caught:
        to_canvas(tmp_path, [record("ada")], text, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


# --- Moodle


@pytest.mark.parametrize("language", MOODLE)
def test_moodle_grades_are_filled_in_any_language(tmp_path, language):
    source = given(tmp_path, worksheet(language))
    folder = graded(tmp_path, record("Ada Lovelace", (0, 0, 4, 2), lms_id="71"), record("emmy@example.org"))
    done = export.to_moodle(folder, source, tmp_path / "out.csv", scale=True)
    rows, before = table(tmp_path / "out.csv"), table(source)
    comma = language in ("de", "nl")
    assert [row[4] for row in rows[1:]] == (["50,00", "100,00", ""] if comma else ["50.00", "100.00", ""])
    assert [row[:4] + row[5:] for row in rows] == [row[:4] + row[5:] for row in before]
    assert (done.filled, done.unknown, done.missing) == (2, (), ("Jörg Müller",))


def test_moodle_grades_are_not_scaled_unasked(tmp_path):
    folder, source = graded(tmp_path, record("Emmy Noether", (0, 0, 4, 0.5))), given(tmp_path, worksheet("en"))
    with pytest.raises(ReportError, match="100 points and the sheet 12"):
        export.to_moodle(folder, source, tmp_path / "out.csv")
    fitting = given(tmp_path, worksheet("en", "12.00"), "fitting.csv")
    export.to_moodle(folder, fitting, tmp_path / "out.csv")
    assert [row[4] for row in table(tmp_path / "out.csv")[1:]] == ["", "4.50", ""]


def test_moodle_title_that_is_not_known_is_asked_for(tmp_path):
    text = worksheet("en", "12.00").replace(",Grade,", ",Punkte,")
    folder, source = graded(tmp_path, record("71", lms_id="71")), given(tmp_path, text)
    with pytest.raises(ReportError, match="which column has the grades"):
        export.to_moodle(folder, source, tmp_path / "out.csv")
    with pytest.raises(ReportError, match="no column 'Points'"):
        export.to_moodle(folder, source, tmp_path / "out.csv", column="Points")
    assert export.to_moodle(folder, source, tmp_path / "out.csv", column="Punkte").filled == 1


def test_moodle_gradebook_export_is_no_worksheet(tmp_path):
    source = given(tmp_path, "First name,Surname,Email address\nAda,Lovelace,ada7@example.org\n")
    with pytest.raises(ReportError, match="no column like 'Participant 7'"):
        export.to_moodle(graded(tmp_path, record("ada")), source, tmp_path / "out.csv")


# --- CSV, Gradescope, files


def test_csv_is_the_table_of_the_report(tmp_path):
    folder = graded(tmp_path, record("ada"), record("bob", (0, 0, 0, 0)))
    assert export.to_csv(folder, tmp_path / "out.csv").filled == 2
    assert (tmp_path / "out.csv").read_bytes() == (folder / "grades.csv").read_bytes()


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1"])
def test_csv_holds_no_formula(tmp_path, name):
    export.to_csv(graded(tmp_path, record(name)), tmp_path / "out.csv")
    assert table(tmp_path / "out.csv")[1][3] == f"'{name}"


def test_gradescope_results_are_the_records(tmp_path):
    folder = graded(tmp_path, record("ada"), record("../bob", (0, 0, 0, 0)))
    export.to_gradescope(folder, tmp_path / "out")
    paths = sorted((tmp_path / "out").rglob("*"))
    assert [path.name for path in paths if path.is_file()] == ["results.json"] * 2
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    assert {one["score"] for one in found} == {12.0, 0.0}
    for one in found:  # the fields and words that Gradescope documents
        assert isinstance(one["score"], float)
        assert {test["visibility"] for test in one["tests"]} <= {
            "hidden",
            "after_due_date",
            "after_published",
            "visible",
        }
        assert {test["status"] for test in one["tests"]} <= {"passed", "failed"}


EXPORTS = {
    "csv": lambda folder, source, out: export.to_csv(folder, out),
    "gradescope": lambda folder, source, out: export.to_gradescope(folder, out),
    "canvas": export.to_canvas,
    "moodle": export.to_moodle,
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_file_that_exists_is_never_replaced(tmp_path, kind):
    folder, source = graded(tmp_path, record("ada")), given(tmp_path, CANVAS)
    before = source.read_bytes()
    with pytest.raises(ReportError, match=r"exists and is not replaced"):
        EXPORTS[kind](folder, source, source)
    assert source.read_bytes() == before
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReportError, match=r"exists and is not replaced"):
        EXPORTS[kind](folder, source, tmp_path / "dangling")


@pytest.mark.parametrize("kind", EXPORTS)
def test_export_of_no_report_is_one_line(tmp_path, kind):
    with pytest.raises(ReportError, match=r"holds no results: name a folder"):
        EXPORTS[kind](tmp_path, given(tmp_path, CANVAS), tmp_path / "out.csv")


@pytest.mark.parametrize("kind", ["canvas", "moodle"])
def test_export_without_the_roster_is_one_line(tmp_path, kind):
    with pytest.raises(ReportError, match=r"can't read .*missing\.csv: No such file or directory"):
        EXPORTS[kind](graded(tmp_path, record("ada")), tmp_path / "missing.csv", tmp_path / "out.csv")


def test_export_to_nbgrader_without_nbgrader_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nbgrader.api", None)
    with pytest.raises(ReportError, match="nbgrader is not installed in"):
        export.to_nbgrader(graded(tmp_path, record("ada")), tmp_path / "gradebook.db")


# --- nbgrader, in an environment of its own

EXPORT = """
import sys
sys.path.insert(0, sys.argv[1])
from gradcourse.grading import export, records
try:
    print(export.to_nbgrader(sys.argv[2], sys.argv[3]))
except records.ReportError as error:
    print("one line:", error)
"""
BY_HAND = f"""
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    book.find_grade("03-q1-test", {SLUG!r}, {SLUG!r}, "bob").manual_score = 1.0
    book.update_or_create_student("absent")
    book.db.commit()
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    course = Course(tmp_path_factory.mktemp("course"), make_environment(tmp_path_factory.mktemp("nbgrader")))
    course.python("-m", "pip", "install", "--quiet", "-c", os.path.join(root, "requirements.lock"), "nbgrader==0.9.6")
    for name in ("solutions", "nbgrader_config.py"):
        (course.folder / name).symlink_to(os.path.join(root, name))
    return course


def through_nbgrader(course, folder):
    """Export into nbgrader's gradebook, have nbgrader write its table, and return both."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    said = course.python("-W", "ignore", "-c", EXPORT, root, folder, "gradebook.db")
    course.nbgrader("export", "--to", "grades.csv")
    with (course.folder / "grades.csv").open(encoding="utf-8", newline="") as opened:
        return said, {
            row["student_id"]: (row["raw_score"], row["score"], row["max_score"]) for row in csv.DictReader(opened)
        }


@pytest.mark.slow
@pytest.mark.parametrize("released", [False, True], ids=["new gradebook", "gradebook of nbgrader"])
def test_nbgrader_exports_the_scores_of_the_report(course, tmp_path, released):
    (course.folder / "gradebook.db").unlink(missing_ok=True)
    if released:
        course.nbgrader("generate_assignment", SLUG)
    folder = graded(tmp_path, record("ada"), record("bob", (0, 2, 0, 1.5)), record("李 雷", (0, 0, 0, 0)))
    said, scores = through_nbgrader(course, folder)
    assert said == "gradebook.db: 3 scores\n"
    assert scores == {"ada": ("12.0", "12.0", "12.0"), "bob": ("3.5", "3.5", "12.0"), "李 雷": ("0.0", "0.0", "12.0")}
    course.python("-c", BY_HAND)
    report.add(folder, record("ada", (0, 0, 4, 3)))  # graded again
    said, scores = through_nbgrader(course, folder)
    assert scores["ada"] == ("7.0", "7.0", "12.0")
    assert scores["bob"] == ("4.5", "4.5", "12.0")  # the point given by hand stays
    assert said.splitlines()[1:] == ["not graded, unchanged: absent"]
    assert list(course.folder.glob("gradebook.db.before*"))


@pytest.mark.slow
def test_nbgrader_gradebook_that_is_none_is_one_line(course, tmp_path):
    (course.folder / "gradebook.db").unlink(missing_ok=True)
    (course.folder / "gradebook.db").write_bytes(b"no database at all, " * 100)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = graded(tmp_path, record("ada"))
    said = course.python("-W", "ignore", "-c", EXPORT, root, folder, "gradebook.db")
    assert said.startswith("one line: nbgrader's gradebook gradebook.db can't take the scores: ")
    assert said.count("\n") == 1
    (course.folder / "gradebook.db").unlink()
