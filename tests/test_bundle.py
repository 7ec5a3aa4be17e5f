"""What students get: all that they need, no answer and no hidden case, the same bytes each time."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from gradcourse.grading.bundle import RECORD, bundle, leaks, learner_files
from gradcourse.grading.records import ReportError

ROOT = Path(__file__).resolve().parents[1]
SLUGS = sorted(path.name for path in (ROOT / "exercises").iterdir() if path.is_dir())


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "class"
    bundle(folder)
    return folder


# --- what is in it


def test_bundle_holds_lessons_sheets_package_and_set_up(made):
    names = set(files(made))
    assert {f"exercises/{slug}/{slug}.ipynb" for slug in SLUGS} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")} <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "gradcourse").rglob("*.py")} <= names
    assert {"start.py", "pyproject.toml", "requirements.lock", "environment.yml", "gradcourse/digits.npz"} <= names
    assert {"README.md", "LICENSE", "docs/glossary/README.md", "docs/gallery/README.md", "references.bib"} <= names
    for name in sorted(names - {"README.md", RECORD}):
        assert (made / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_bundle_holds_nothing_else(made):
    tops = {name.split("/")[0] for name in files(made)}
    assert tops == {
        *(
            "notebooks",
            "exercises",
            "gradcourse",
            "docs",
            "README.md",
            "start.py",
            "pyproject.toml",
            "requirements.lock",
        ),
        *("environment.yml", "LICENSE", "LICENSE-text.md", "LICENSE-data.md", "CITATION.cff", "references.bib"),
        *(".gitattributes", ".gitignore", RECORD),
    }
    names = "\n".join(files(made))
    assert not re.search(
        r"solutions|hidden\.py|wrong_answers|__pycache__|\.ipynb_checkpoints|nbgrader_config|gradebook", names
    )


def test_bundle_s_pages_link_to_what_is_in_it(made):
    for page in ("README.md", "docs/glossary/README.md", "docs/gallery/README.md"):
        text = (made / page).read_text(encoding="utf-8")
        targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
        assert targets
        assert [target for target in targets if not ((made / page).parent / target).exists()] == []


def test_bundle_s_readme_lists_the_lessons_and_speaks_to_learners(made):
    text = (made / "README.md").read_text(encoding="utf-8")
    lessons = sorted(path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert re.findall(r"^\| \[\d\d\]\(notebooks/(.+?)\)", text, flags=re.MULTILINE) == lessons
    assert "| Lesson | Question | Minutes |\n|---|---|---|\n| [00]" in text
    assert not re.search("solutions|nbgrader|start.py test|<!--", text)


def test_bundle_is_a_course_of_its_own(made, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-B", "-m", "gradcourse", "start", str(tmp_path / "mine")]
    done = subprocess.run(command, cwd=made, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in (tmp_path / "mine" / "exercises").glob("*/*.ipynb")) == SLUGS


# --- what must not be in it: each text, and what it is as JSON in a notebook, searched for in the bytes of every file


def as_stored(lines):
    """The forms that lines of code may have in a file: as they are, as one JSON string, as a notebook's list."""
    escaped = [json.dumps(line, ensure_ascii=False)[1:-1] for line in lines]
    ascii_only = [json.dumps(line)[1:-1] for line in lines]
    yield "\n".join(lines)
    yield "\r\n".join(lines)
    for form in (escaped, ascii_only):
        yield "\\n".join(form)
        yield '\\n",\n    "'.join(form)


def solution_regions():
    """(slug, cell, lines) of each answer of two lines or more, at each level of indentation that it has."""
    for path in sorted((ROOT / "solutions").glob("*/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            kept, inside = [], False
            for line in "".join(cell["source"]).split("\n"):
                if "### END SOLUTION" in line:
                    if len([one for one in kept if one.strip()]) >= 2:
                        yield path.parent.name, cell["id"], kept
                    kept, inside = [], False
                elif "### BEGIN SOLUTION" in line:
                    inside = True
                elif inside:
                    kept.append(line)


def dedented(lines):
    """The lines with all of their common indentation, with none, and with four spaces less."""
    width = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return {tuple(line[cut:] for line in lines) for cut in {0, width, min(4, width)}}


def found_in(lines, contents):
    needles = [form.encode() for variant in dedented(lines) for form in as_stored(variant)]
    return [name for name, content in contents.items() if any(needle in content for needle in needles)]


REGIONS = list(solution_regions())


def test_every_sheet_has_answers_to_look_for():
    assert {slug for slug, _, _ in REGIONS} == set(SLUGS)


def test_bundle_holds_no_answer(made):
    contents = files(made)
    assert {(slug, cell): found_in(lines, contents) for slug, cell, lines in REGIONS if found_in(lines, contents)} == {}


def hidden_lines():
    for path in sorted((ROOT / "solutions").glob("*/hidden.py")):
        yield path.parent.name, path.read_text(encoding="utf-8").splitlines()


def test_bundle_holds_nothing_of_a_hidden_py(made):
    """No long line of one, imports aside, and no two lines that follow each other there."""
    contents, found = files(made), []
    for slug, lines in hidden_lines():
        written = [line for line in lines if not re.match(r'import |from |"""', line)]
        pairs = [pair for pair in pairwise(written) if all(map(str.strip, pair))]
        alone = [(line,) for line in written if len(line.strip()) >= 40]
        assert pairs
        found += [(slug, part, names) for part in (*pairs, *alone) if (names := found_in(part, contents))]
    assert found == []


def test_search_finds_what_it_looks_for():
    """The solutions themselves hold every answer, and their hidden regions hold hidden.py."""
    contents = files(ROOT / "solutions")
    for slug, cell, lines in REGIONS:
        assert f"{slug}/{slug}.ipynb" in found_in(lines, contents), cell
    for slug, lines in hidden_lines():
        assert f"{slug}/hidden.py" in found_in(lines[-3:-1], contents)


# --- a course that is not ready to be handed out


@pytest.fixture
def course(tmp_path):
    """A copy of the course with the solutions of one sheet."""
    copy = tmp_path / "course"
    for name in files_of_course():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


def files_of_course():
    own = [name for name in learner_files(ROOT) if not name.startswith("exercises/")]
    sheet = "03_sigmoid_tanh_vanishing"
    return [
        *own,
        *("docs/learners.md", f"exercises/{sheet}/{sheet}.ipynb"),
        *(f"solutions/{sheet}/{name}" for name in (f"{sheet}.ipynb", "hidden.py")),
    ]


def spoil_sheet(course):
    sheet = "03_sigmoid_tanh_vanishing"
    shutil.copy(course / f"solutions/{sheet}/{sheet}.ipynb", course / f"exercises/{sheet}/{sheet}.ipynb")


def answer_in_lesson(course):
    """A scratch notebook in which somebody tried the answer, indented otherwise."""
    _, _, lines = next(region for region in REGIONS if region[0].startswith("03"))
    source = ["if True:\n", *("  " + line.strip() + "\n" for line in lines)]
    cell = {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    (course / "notebooks" / "Untitled.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def hidden_in_package(course):
    lines = (course / "solutions/03_sigmoid_tanh_vanishing/hidden.py").read_text(encoding="utf-8").splitlines()
    cases = next(number for number, line in enumerate(lines) if line.startswith("def cases"))
    (course / "gradcourse" / "scratch.py").write_text("\n".join(lines[cases : cases + 6]), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_sheet, r"exercises/03_.*\.ipynb holds the answer 03-q1 of 03_"),
        (answer_in_lesson, r"notebooks/Untitled\.ipynb holds the answer 03-q1 of 03_"),
        (hidden_in_package, r"gradcourse/scratch\.py holds a part of the hidden cases of 03_"),
    ],
)
def test_bundle_with_an_answer_is_refused_before_anything_is_written(course, tmp_path, spoil, message):
    assert leaks(learner_files(course), course) == []
    spoil(course)
    with pytest.raises(ReportError, match=message) as caught:
        bundle(tmp_path / "class", course)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "class").exists()


def test_stray_files_stay_out(course, tmp_path):
    for name in (
        "gradebook.db",
        "notebooks/answers.txt",
        "exercises/notes.md",
        "gradcourse/grades.csv",
        "report/results/ada.json",
    ):
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_text("secret", encoding="utf-8")
    (course / "gradcourse" / ".cache").mkdir()
    (course / "gradcourse" / ".cache" / "a.py").write_text("secret", encoding="utf-8")
    bundle(tmp_path / "class", course)
    assert [name for name, content in files(tmp_path / "class").items() if content == b"secret"] == []


def test_students_can_not_make_a_bundle(made, tmp_path):
    with pytest.raises(ReportError, match="has no solutions/"):
        bundle(tmp_path / "class", made)


def test_course_that_is_not_whole_is_one_line(course, tmp_path):
    (course / "start.py").unlink()
    with pytest.raises(ReportError, match=r"can't read .*start\.py: No such file or directory"):
        bundle(tmp_path / "class", course)


@pytest.mark.parametrize("place", ["", "notebooks/class", "class"])
def test_bundle_inside_the_course_is_refused(course, place):
    with pytest.raises(ReportError, match="is inside the course"):
        bundle(course / place, course)


# --- the same bytes, and again into the same folder


def test_zip_is_the_same_each_time_whatever_the_times_of_files(course, tmp_path):
    bundle(tmp_path / "one.zip", course, archive=True)
    for path in course.rglob("*.py"):
        os.utime(path, (0, 1_000_000_000))
    bundle(tmp_path / "two.zip", course, archive=True)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_zip_holds_what_the_folder_holds(course, tmp_path):
    bundle(tmp_path / "class", course)
    bundle(tmp_path / "class.zip", course, archive=True)
    with zipfile.ZipFile(tmp_path / "class.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
        assert archive.getinfo("start.py").external_attr >> 16 == 0o100755
    expected = files(tmp_path / "class")
    del expected[RECORD]
    assert held == expected


def test_zip_that_exists_is_not_replaced(course, tmp_path):
    (tmp_path / "class.zip").write_text("mine", encoding="utf-8")
    with pytest.raises(ReportError, match="exists and is not replaced"):
        bundle(tmp_path / "class.zip", course, archive=True)
    assert (tmp_path / "class.zip").read_text(encoding="utf-8") == "mine"


def test_next_bundle_brings_what_is_new_and_keeps_what_was_edited(course, tmp_path):
    target = tmp_path / "class"
    bundle(target, course)
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("ref", encoding="utf-8")
    (target / "README.md").write_text("my class", encoding="utf-8")
    (target / "syllabus.md").write_text("mine", encoding="utf-8")
    (target / "docs/gallery/plot_map.png").write_text("edited", encoding="utf-8")
    (course / "notebooks/00_start_here.ipynb").write_text('{"cells": []}', encoding="utf-8")
    for name in ("docs/gallery/plot_map.png", "docs/gallery/plot_loss.png"):
        (course / name).unlink()
    lines = bundle(target, course)
    assert lines == [
        "kept README.md: it was edited there; move it away to get the course's",
        "removed docs/gallery/plot_loss.png: no longer part of the course",
        "kept docs/gallery/plot_map.png: no longer part of the course",
        f"{target}: 1 files written, {len(learner_files(course)) - 1} as they were",
    ]
    assert (target / "notebooks/00_start_here.ipynb").read_text(encoding="utf-8") == '{"cells": []}'
    assert (target / "README.md").read_text(encoding="utf-8") == "my class"
    assert {"syllabus.md", ".git/HEAD"} <= set(files(target))


def test_folder_of_something_else_is_refused(course, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(ReportError, match="is not empty and no earlier bundle"):
        bundle(tmp_path / "thesis", course)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["README.md"]


def test_fresh_clone_is_filled(course, tmp_path):
    (tmp_path / "class" / ".git").mkdir(parents=True)
    (tmp_path / "class" / "README.md").write_text("a fresh repository", encoding="utf-8")
    assert bundle(tmp_path / "class", course)[0].startswith("kept README.md")
    assert (tmp_path / "class" / "start.py").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}'])
def test_damaged_memory_of_a_bundle_is_one_line(course, tmp_path, content):
    bundle(tmp_path / "class", course)
    (tmp_path / "class" / RECORD).write_text(content, encoding="utf-8")
    with pytest.raises(ReportError, match="choose an empty folder"):
        bundle(tmp_path / "class", course)


def test_memory_of_a_bundle_leads_nowhere_else(course, tmp_path):
    bundle(tmp_path / "class", course)
    victim = tmp_path / "victim"
    victim.write_text("", encoding="utf-8")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # fingerprint of no bytes
    record = json.loads((tmp_path / "class" / RECORD).read_text(encoding="utf-8"))
    record["files"] |= {"../victim": empty, str(victim): empty}
    (tmp_path / "class" / RECORD).write_text(json.dumps(record), encoding="utf-8")
    bundle(tmp_path / "class", course)
    assert victim.exists()


def test_file_in_the_way_is_one_line(course, tmp_path):
    (tmp_path / "class").write_text("mine", encoding="utf-8")
    with pytest.raises(ReportError, match="is a file: name a folder"):
        bundle(tmp_path / "class", course)
