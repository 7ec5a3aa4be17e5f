"""The guides in docs/ that no one runs: their commands are understood, and their links lead somewhere."""

import pytest
from test_repository import broken_links, commands, is_understood

INSTRUCTOR, LEARNERS = "docs/instructor.md", "docs/learners.md"


@pytest.mark.parametrize(
    ("program", "arguments"),
    sorted({*commands(INSTRUCTOR), *commands(LEARNERS)}),
    ids=lambda part: part if isinstance(part, str) else " ".join(part),
)
def test_command_of_the_guides_is_understood(program, arguments, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()  # the folder that the commands name
    monkeypatch.chdir(tmp_path)
    assert is_understood(program, arguments)


def test_instructor_s_guide_names_every_command_of_hers():
    named = {arguments[0] for program, arguments in commands(INSTRUCTOR) if program == "gradcourse"}
    assert named >= {"bundle", "grade", "merge", "export", "gradescope-zip", "lab-report", "selftest", "build"}
    kinds = {arguments[1] for _, arguments in commands(INSTRUCTOR) if arguments[:1] == ("export",)}
    assert kinds == {"canvas", "moodle", "nbgrader", "csv"}


def test_links_of_the_instructor_s_guide_lead_to_files_that_exist():
    assert broken_links(INSTRUCTOR) == []
