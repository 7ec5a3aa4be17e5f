"""Submissions are found in what learning platforms give, and notebooks are read in any state."""

import json
import os
import stat
import zipfile

import pytest

from gradcourse.grading.notebook import CodeCell, Submission, Unreadable, code_cells, find

SLUG = "03_sigmoid_tanh_vanishing"


def notebook(*sources, **more):
    cells = [{"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": s} for n, s in enumerate(sources)]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook("x = 1") if content is None else content), encoding="utf-8")
    return path


def students(found):
    return [submission.student for submission in found]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"ada/{SLUG}.ipynb", f"bob/{SLUG}.ipynb"], ["ada", "bob"]),
        ([f"ada/{SLUG}/{SLUG}.ipynb"], ["ada"]),  # nbgrader's own: submitted/<student>/<slug>/
        ([f"lovelaceada_123_456_{SLUG}.ipynb", f"bobby_LATE_124_460_{SLUG}.ipynb"], ["bobby", "lovelaceada"]),  # Canvas
        ([f"Ada Lovelace_77_assignsubmission_file_/{SLUG}.ipynb"], ["Ada Lovelace"]),  # Moodle
        ([f"{SLUG}_ada.ipynb", f"bob-{SLUG}.ipynb"], ["ada", "bob"]),
        ([f"Zoë/{SLUG}.ipynb", f"李雷/{SLUG}.ipynb"], ["Zoë", "李雷"]),
        (["ada/work.ipynb"], ["ada"]),
        ([f".ipynb_checkpoints/{SLUG}.ipynb", "ada/.ipynb_checkpoints/x.ipynb", f"bob/{SLUG}.ipynb"], ["bob"]),
    ],
)
def test_students_are_known_by_the_names_of_folders_and_files(names, expected, tmp_path):
    for name in names:
        put(tmp_path / "in" / name)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "in" / name, name)
    for submitted in (tmp_path / "in", tmp_path / "in.zip"):
        found, notes = find(submitted, SLUG)
        assert students(found) == expected
        assert notes == []
        assert all(code_cells(submission.read())[0] == [CodeCell("c0", "x = 1")] for submission in found)


def test_the_learning_platforms_number_is_kept(tmp_path):
    put(tmp_path / f"lovelaceada_123_456_{SLUG}.ipynb")
    assert find(tmp_path, SLUG)[0][0].lms_id == "123"


def test_the_last_attempt_counts(tmp_path):
    put(tmp_path / f"ada_1_11_{SLUG}.ipynb", notebook("late"))
    put(tmp_path / f"ada_1_9_{SLUG}.ipynb", notebook("early"))
    found, notes = find(tmp_path, SLUG)
    assert code_cells(found[0].read())[0][0].source == "late"
    assert len(notes) == 1
    assert "ada has several notebooks" in notes[0]


def test_links_and_names_that_lead_outside_are_left_out(tmp_path):
    secret = put(tmp_path / "secret.ipynb")
    put(tmp_path / "in" / "ada" / f"{SLUG}.ipynb")
    (tmp_path / "in" / "eve").mkdir()
    (tmp_path / "in" / "eve" / f"{SLUG}.ipynb").symlink_to(secret)
    (tmp_path / "in" / "mal").symlink_to(tmp_path / "in" / "ada")
    found, notes = find(tmp_path / "in", SLUG)
    assert students(found) == ["ada"]
    assert any(f"eve/{SLUG}.ipynb was left out: it is a symbolic link" in note for note in notes)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr(f"../../eve/{SLUG}.ipynb", "{}")
        archive.writestr(f"/etc/{SLUG}.ipynb", "{}")
        archive.writestr("..\\mal.ipynb", "{}")
        link = zipfile.ZipInfo(f"trudy/{SLUG}.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, str(secret))
        archive.write(tmp_path / "in" / "ada" / f"{SLUG}.ipynb", f"ada/{SLUG}.ipynb")
    found, notes = find(tmp_path / "in.zip", SLUG)
    assert students(found) == ["ada"]
    assert len(notes) == 4


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("gradcourse.grading.notebook.MOST_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ada/bomb.ipynb", b"\0" * 2**24)
    (bomb,), _ = find(tmp_path / "in.zip", SLUG)
    with pytest.raises(Unreadable, match="larger than 1 MB"):
        bomb.read()


def test_two_students_of_one_name_stay_two(tmp_path):
    for number in (7, 8):
        put(tmp_path / f"Ada Lovelace_{number}_assignsubmission_file_" / f"{SLUG}.ipynb")
    found, notes = find(tmp_path, SLUG)
    assert students(found) == ["Ada Lovelace 7", "Ada Lovelace 8"]
    assert notes == []


def test_of_several_notebooks_in_a_folder_the_one_named_as_the_sheet_is_taken(tmp_path):
    for name in ("a draft", SLUG, "z draft"):
        put(tmp_path / "ada" / f"{name}.ipynb", notebook(name))
    found, notes = find(tmp_path, SLUG)
    assert [code_cells(submission.read())[0][0].source for submission in found] == [SLUG]
    assert len(notes) == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "holds no notebook"),
        (lambda path: path.write_bytes(b"PK no zip"), "neither a folder nor a zip"),
    ],
)
def test_nothing_to_grade_is_said_in_one_line(make, said, tmp_path):
    make(tmp_path / "in")
    with pytest.raises(ValueError, match=said) as caught:
        find(tmp_path / "in", SLUG)
    assert "\n" not in str(caught.value)


def test_what_is_no_plain_file_is_unreadable(tmp_path):
    (tmp_path / "ada.ipynb").mkdir()
    with pytest.raises(Unreadable, match="there is a folder in place of the notebook"):
        Submission("ada", "ada.ipynb", tmp_path / "ada.ipynb").read()
    os.mkfifo(tmp_path / "bob.ipynb")
    with pytest.raises(Unreadable, match="not a plain file"):
        Submission("bob", "bob.ipynb", tmp_path / "bob.ipynb").read()
    with pytest.raises(Unreadable, match="not a plain file"):
        Submission("eve", "eve.ipynb", tmp_path / "eve.ipynb").read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"  \n", "the file is empty"),
        (b'{"cells": [', "its JSON is broken"),
        (b"[1, 2]", "is JSON and no notebook"),
        (b"{}", "it has no cells"),
        (b'{"cells": 3}', "it has no cells"),
        (b"\xff\xfe{}", "not text in UTF-8"),
        (b"[" * 200_000, "JSON is broken"),
        (b"\x89PNG\r\n\x1a\n", "not text in UTF-8"),
    ],
)
def test_what_is_no_notebook_is_said(content, said):
    with pytest.raises(Unreadable, match=said):
        code_cells(content)


def test_cells_are_read_in_any_state():
    text = json.dumps(notebook("a = 1\r\nb = 2\r\n", ["c = 3\n", "d = 4"]))
    cells, notes = code_cells(b"\xef\xbb\xbf" + text.encode())
    assert [cell.source for cell in cells] == ["a = 1\nb = 2\n", "c = 3\nd = 4"]
    assert notes == []


def test_old_notebooks_and_other_kernels_are_noted():
    old = {"nbformat": 3, "worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1"]}]}]}
    assert code_cells(json.dumps(old).encode()) == ([CodeCell("", "x = 1")], ["the notebook is in the old format 3"])
    other = notebook("x <- 1", metadata={"kernelspec": {"language": "R", "name": "ir"}})
    assert code_cells(json.dumps(other).encode())[1] == ["its kernel is for R; it was run as Python"]


def test_cells_of_another_form_do_no_harm():
    strange = [
        None,
        3,
        {"cell_type": "code"},
        {"cell_type": "code", "source": 3, "id": [], "metadata": "x"},
        {"source": "x"},
    ]
    strange += [{"cell_type": "code", "source": [1, "x = 1", None], "metadata": {"nbgrader": 3}}]
    cells, _ = code_cells(json.dumps({"cells": strange, "metadata": 3}).encode())
    assert [cell.source for cell in cells] == ["", "", "x = 1"]


def test_an_nbgrader_id_goes_before_the_cells_own():
    cell = {"cell_type": "code", "id": "abc", "metadata": {"nbgrader": {"grade_id": "03-q1"}}, "source": ""}
    assert code_cells(json.dumps({"cells": [cell]}).encode())[0][0].id == "03-q1"
