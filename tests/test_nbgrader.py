"""A course that runs nbgrader: its own commands on sheet 03, in an environment of its own.

nbgrader is installed by pip into a fresh virtual environment; torch and the rest come from the running one.
"""

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
from test_sheets import SHEETS

from gradcourse.grading.engine import Grader
from gradcourse.grading.jobs import Settings
from gradcourse.grading.notebook import Submission
from gradcourse.grading.sheet import Cases
from gradcourse.sheets import questions

ROOT = Path(__file__).resolve().parent.parent
SLUG = "03_sigmoid_tanh_vanishing"
SHEET = f"{SLUG}/{SLUG}.ipynb"
SCORES = f"""
import json
from nbgrader.api import Gradebook
with Gradebook("sqlite:///gradebook.db") as book:
    submissions = book.find_assignment({SLUG!r}).submissions
    print(json.dumps({{one.student.id: [one.score, one.max_score] for one in submissions}}))
"""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Course:
    """A copy of what nbgrader needs of the repository, and the environment that it runs in."""

    folder: Path
    scripts: Path

    def python(self, *arguments):
        """Run Python there and return what it prints; its scripts are found, as in an activated environment."""
        cleared = ("PYTHONWARNINGS", "PYTHONPATH", "PYTHONHOME")
        kept = {name: value for name, value in os.environ.items() if name not in cleared}
        path = os.pathsep.join([str(self.scripts), os.environ["PATH"]])
        command = [str(self.scripts / "python"), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, env=kept | {"PATH": path}, capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def nbgrader(self, *arguments):
        return self.python("-m", "nbgrader", *arguments)


def make_environment(folder):
    """Make a virtual environment that also sees the packages of the running one; return its folder of scripts."""
    venv.create(folder, with_pip=True)
    scheme = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    seen = "; ".join(f"site.addsitedir({path!a})" for path in {*map(sysconfig.get_path, ("purelib", "platlib"))})
    (site / "running.pth").write_text(f"import site; {seen}\n")
    return Path(sysconfig.get_path("scripts", "venv", scheme))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """nbgrader installed, the release generated over the one that is committed."""
    folder = tmp_path_factory.mktemp("course")
    course = Course(folder, make_environment(tmp_path_factory.mktemp("nbgrader")))
    course.python("-m", "pip", "install", "--quiet", "-c", ROOT / "requirements.lock", "nbgrader==0.9.6")
    for name in ("solutions", "exercises"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    course.nbgrader("generate_assignment", SLUG)
    return course


def cells(path):
    return nbformat.v4.reads(path.read_text(encoding="utf-8")).cells


def test_release_of_nbgrader_has_the_cells_and_metadata_of_ours(course):
    ours, theirs = cells(ROOT / "exercises" / SHEET), cells(course.folder / "exercises" / SHEET)
    assert theirs == ours
    assert any("nbgrader" in cell.metadata for cell in ours)


def test_release_of_nbgrader_is_ours_byte_for_byte(course):
    theirs = (course.folder / "exercises" / SHEET).read_text(encoding="utf-8")
    assert theirs == (ROOT / "exercises" / SHEET).read_text(encoding="utf-8")


def test_release_of_nbgrader_holds_the_sheet_alone(course):
    assert [path.name for path in (course.folder / "exercises" / SLUG).iterdir()] == [f"{SLUG}.ipynb"]


def test_solution_validates(course):
    assert "Success! Your notebook passes all the tests." in course.nbgrader("validate", f"solutions/{SHEET}")


def submit(course, slug, student, answers):
    """Hand in a released sheet with the answer cells replaced; return the path."""
    notebook = nbformat.v4.reads((course.folder / "exercises" / slug / f"{slug}.ipynb").read_text(encoding="utf-8"))
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    path = course.folder / "submitted" / student / slug / f"{slug}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return path


def answers_of(slug):
    """The answers of the solution, and the same with a wrong one to the first question.

    In the clinic to the last one: there other answers call that to the first.
    """
    solved = {
        cell.id: cell.source
        for cell in cells(ROOT / "solutions" / slug / f"{slug}.ipynb")
        if "BEGIN SOLUTION" in cell.source
    }
    id = list(questions(slug))[-1 if slug == "10_clinic" else 0]
    question = questions(slug)[id]
    wrong = next(iter(SHEETS[slug].WRONG[id]))
    bank = inspect.getsource(SHEETS[slug])
    return solved, solved | {id: f"{bank}\n\n{question.name} = {wrong.__name__}\n"}


def graded_on_nbgraders_cases(slug, submissions):
    """The grader's records where all students meet the hidden cases that stand in nbgrader's source."""
    with Grader(Settings(slug, "nbgrader")) as grader:
        cases = {}
        for id, question in grader.sheet.questions.items():
            seed = int(hashlib.sha256(id.encode()).hexdigest()[:8], 16)  # as in the sheet's HIDDEN TESTS
            drawn = grader.sheet._draw(np.random.default_rng(seed))
            cases[id] = Cases(question, [case for case in drawn if case.question == id])
        grader.sheet.hidden = lambda student: cases
        return [grader.grade(submission) for submission in submissions]


@pytest.mark.parametrize("slug", SHEETS)
def test_autograde_gives_what_the_grader_gives(course, slug):
    """Right, empty, and partly right sheets; to the hundredth to which the grader rounds each question."""
    solved, wrong = answers_of(slug)
    if slug != SLUG:
        course.nbgrader("generate_assignment", slug)
    students = {"solved": solved, "empty": {}, "wrong": wrong}
    paths = {student: submit(course, slug, student, answers) for student, answers in students.items()}
    course.nbgrader("autograde", slug)
    theirs = json.loads(course.python("-c", SCORES.replace(repr(SLUG), repr(slug))))
    submissions = [Submission(student, path.name, path) for student, path in paths.items()]
    ours = {record["extra_data"]["student"]: record for record in graded_on_nbgraders_cases(slug, submissions)}
    most = sum(question.points for question in questions(slug).values())
    assert theirs["solved"] == [most, most] == [ours["solved"]["score"]] * 2
    assert theirs["empty"] == [0, most]
    assert ours["empty"]["score"] == 0
    assert theirs["wrong"][0] < most
    assert theirs["wrong"][0] == pytest.approx(ours["wrong"]["score"], abs=0.006 * len(questions(slug)))
