"""Gradescope's autograder: the zip unpacked as Gradescope documents it, and run on a submission."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gradcourse.grading import gradescope
from gradcourse.grading.gradescope import ROOT_VARIABLE, zip_for
from gradcourse.grading.records import ReportError
from gradcourse.sheets.check import questions

ROOT = Path(__file__).resolve().parents[1]
SLUG = "03_sigmoid_tanh_vanishing"
SOLUTION = ROOT / "solutions" / SLUG / f"{SLUG}.ipynb"
SHEET = ROOT / "exercises" / SLUG / f"{SLUG}.ipynb"
POINTS = {id: question.points for id, question in questions(SLUG).items()}
METADATA = {"id": 7, "users": [{"id": 42, "name": "Ada", "email": "ada@example.org"}], "assignment": {"title": "Sheet"}}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "autograder.zip"
    zip_for(SLUG, path, secret="a secret of this test")
    return path


@pytest.fixture
def autograder(tmp_path, archive):
    """The folder /autograder as Gradescope lays it out: the zip in source/, run_autograder copied beside it."""
    root = tmp_path / "autograder"
    for name in ("source", "submission", "results"):
        (root / name).mkdir(parents=True)
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            path = Path(opened.extract(entry, root / "source"))
            path.chmod(entry.external_attr >> 16 & 0o777)  # as unzip does
    shutil.copy(root / "source" / "run_autograder", root / "run_autograder")
    (root / "submission_metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    return root


def run_autograder(root):
    """Run it with this Python in place of the environment that setup.sh makes."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    environment = kept | {ROOT_VARIABLE: str(root), "GRADCOURSE_PYTHON": sys.executable}
    return subprocess.run(
        [root / "run_autograder"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def results(root):
    return json.loads((root / "results" / "results.json").read_text(encoding="utf-8"))


def test_zip_has_its_scripts_at_the_root_and_nothing_that_is_not_needed(archive):
    with zipfile.ZipFile(archive) as opened:
        modes = {entry.filename: entry.external_attr >> 16 for entry in opened.infolist()}
    assert archive.stat().st_mode & 0o077 == 0
    tops = {name.split("/")[0] for name in modes}
    assert tops == {"setup.sh", "run_autograder", "autograder.json", "course"}
    assert all(stat.S_ISREG(modes[name]) and modes[name] & 0o111 == 0o111 for name in ("setup.sh", "run_autograder"))
    solutions = [name for name in modes if "solutions" in name]
    assert solutions == [f"course/solutions/{SLUG}/hidden.py"]  # of this sheet alone, and not the answers
    assert {f"course/exercises/{SLUG}/{SLUG}.ipynb", "course/start.py", "course/pyproject.toml"} <= set(modes)
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gradcourse").rglob("*.py")}
    assert {f"course/{name}" for name in package} <= set(modes)


def test_zip_is_the_same_for_the_same_secret_and_another_without_one(archive, tmp_path):
    zip_for(SLUG, tmp_path / "same.zip", secret="a secret of this test")
    assert (tmp_path / "same.zip").read_bytes() == archive.read_bytes()
    secrets = set()
    for name in ("one", "two"):
        zip_for(SLUG, tmp_path / f"{name}.zip")
        with zipfile.ZipFile(tmp_path / f"{name}.zip") as opened:
            secrets.add(json.loads(opened.read("autograder.json"))["secret"])
    assert len(secrets) == 2
    assert all(len(secret) >= 32 for secret in secrets)


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_scripts_are_of_a_form_that_bash_takes(autograder, script):
    path = autograder / "source" / script
    assert path.read_bytes().startswith(b"#!/usr/bin/env bash\n")
    assert b"\r" not in path.read_bytes()
    assert subprocess.run(["bash", "-n", path], capture_output=True).stderr == b""


def test_setup_makes_the_environment_that_run_autograder_uses(autograder, tmp_path):
    """With stand-ins for apt-get and Python: setup.sh runs start.py in the course, and installs the grader there."""
    (tmp_path / "bin").mkdir()
    said = tmp_path / "said"
    made = f"mkdir -p .venv/bin && cp {tmp_path}/bin/python3 .venv/bin/python"
    stand_in = f'#!/bin/sh\necho "$(basename "$0") $*" >>{said}\ncase "$*" in *start.py*) {made};; esac\n'
    for name in ("apt-get", "python3"):
        (tmp_path / "bin" / name).write_text(stand_in, encoding="utf-8")
        (tmp_path / "bin" / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, ROOT_VARIABLE: str(autograder)}
    subprocess.run(
        [autograder / "source" / "setup.sh"], cwd=autograder, env=environment, check=True, capture_output=True
    )
    assert said.read_text(encoding="utf-8").splitlines()[2:] == [
        "python3 -c import sys; sys.exit(sys.version_info < (3, 11))",
        "python3 start.py --no-lab",
        "python -m pip install -c requirements.lock -e .[grading]",
    ]


def test_right_submission_gets_full_marks(autograder):
    shutil.copy(SOLUTION, autograder / "submission" / SOLUTION.name)
    done = run_autograder(autograder)
    assert (done.returncode, done.stderr) == (0, "")
    found = results(autograder)
    assert (found["score"], found["max_score"]) == (sum(POINTS.values()), sum(POINTS.values()))
    assert {test["name"]: test["score"] for test in found["tests"]} == POINTS
    assert {test["visibility"] for test in found["tests"]} == {"after_published"}
    assert found["visibility"] == "after_published"
    assert found["stdout_visibility"] == "hidden"
    assert found["extra_data"]["student"] == "42"
    assert found["extra_data"]["sandbox"] != "unsafe"


def test_empty_sheet_under_another_name_gets_nothing(autograder):
    shutil.copy(SHEET, autograder / "submission" / "my answers.ipynb")
    assert run_autograder(autograder).returncode == 0
    found = results(autograder)
    assert (found["score"], found["max_score"]) == (0, sum(POINTS.values()))
    assert len(found["tests"]) == len(POINTS)


def test_no_notebook_is_told_to_the_student(autograder):
    (autograder / "submission" / "answers.pdf").write_bytes(b"%PDF")
    assert run_autograder(autograder).returncode == 0
    found = results(autograder)
    assert (found["score"], found["max_score"]) == (0, sum(POINTS.values()))
    assert f"There is no notebook {SLUG}.ipynb" in found["output"]


def test_what_submissions_must_not_read_is_closed(autograder):
    (autograder / "submission" / "answers.pdf").write_bytes(b"%PDF")
    run_autograder(autograder)
    for name in (
        "source/course/solutions",
        f"source/course/solutions/{SLUG}/hidden.py",
        "source/autograder.json",
        "results",
    ):
        assert (autograder / name).stat().st_mode & 0o077 == 0, name


def test_no_sandbox_gives_the_instructor_a_line_and_the_student_no_score(autograder, monkeypatch):
    """As where a container allows neither namespaces nor Landlock."""
    from gradcourse.grading import engine
    from gradcourse.grading.sandbox import SandboxError

    def none(name):
        assert name == "auto"
        raise SandboxError("no sandbox can be had here")

    shutil.copy(SHEET, autograder / "submission" / SHEET.name)
    monkeypatch.chdir(autograder / "source" / "course")
    monkeypatch.setattr(engine, "open_sandbox", none)
    with pytest.raises(ReportError, match="no submission is run without a sandbox: no sandbox can be had here"):
        gradescope.run(autograder)
    assert not (autograder / "results" / "results.json").exists()


@pytest.mark.parametrize(
    ("metadata", "student"),
    [
        (None, "student"),
        ("{", "student"),
        ('{"users": []}', "student"),
        ('{"users": [{"id": 9}, {"id": 10}]}', "10+9"),
        ('{"users": [{"id": 10}, {"id": 9}]}', "10+9"),
        ('{"users": "x"}', "student"),
    ],
)
def test_student_is_known_by_gradescope_s_numbers(tmp_path, metadata, student):
    if metadata is not None:
        (tmp_path / "submission_metadata.json").write_text(metadata, encoding="utf-8")
    assert gradescope._student(tmp_path) == student


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], None),
        (["a.ipynb"], "a.ipynb"),
        (["a.ipynb", "b.ipynb"], None),
        (["a.ipynb", f"{SLUG}.ipynb", f"{SLUG}-copy.ipynb"], f"{SLUG}.ipynb"),
        (["a.ipynb", f"deep/er/{SLUG}.ipynb"], f"deep/er/{SLUG}.ipynb"),
        ([f"{SLUG} (1).ipynb", "a.ipynb"], f"{SLUG} (1).ipynb"),
        ([f".ipynb_checkpoints/{SLUG}-checkpoint.ipynb", "a.ipynb"], "a.ipynb"),
    ],
)
def test_notebook_of_a_submission_is_that_of_the_sheet_or_the_only_one(tmp_path, names, chosen):
    for name in names:
        (tmp_path / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "submission" / name).write_text("{}", encoding="utf-8")
    found = gradescope._submission(tmp_path, SLUG)
    assert (found.file if found else None) == chosen


@pytest.mark.parametrize(
    ("slug", "options", "message"),
    [
        ("99_none", {}, r"there is no sheet '99_none' with hidden cases in .*: there is 01_"),
        (SLUG, {"visibility": "public"}, "visibility 'public' is none of Gradescope's: hidden, after_due_date"),
    ],
)
def test_mistake_of_the_instructor_is_one_line(tmp_path, slug, options, message):
    with pytest.raises(ReportError, match=message) as caught:
        zip_for(slug, tmp_path / "out.zip", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.zip").exists()


def test_zip_that_exists_is_not_replaced(tmp_path):
    (tmp_path / "out.zip").write_text("mine", encoding="utf-8")
    with pytest.raises(ReportError, match="exists and is not replaced"):
        zip_for(SLUG, tmp_path / "out.zip")
