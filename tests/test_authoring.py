"""Building lessons, solutions and sheets, on a small repository made for the purpose."""

import ast
import io
import json

import nbformat
import pytest

from gradcourse import authoring

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
FIGURE = f"""from IPython.display import display

png = {PIXEL!r}
display(
    {{"image/png": png, "text/plain": "one pixel"}}, raw=True, metadata={{"image/png": {{"alt": "a red pixel"}}}}
)"""
SETUP = """from types import SimpleNamespace as Bag


def add_hidden(result, answer, cases):
    return Bag(award=lambda: print(sorted(name for name, _ in cases)), right=[answer(x) for _, x in cases])


gc = Bag(check=lambda name, answer: Bag(award=lambda: print("public only")), sheets=Bag(add_hidden=add_hidden))"""
ANSWER = """def double(x):
    ### BEGIN SOLUTION
    return 2 * x
    ### END SOLUTION"""
TEST = 'result = gc.check("01-q1", double)\nresult.award()'
HIDDEN = '''"""Hidden cases of 01."""

OFFSET = 1


def cases(rng):
    """Draw the cases.

    Two of them.
    """
    return [("01-q1", OFFSET + float(rng.uniform())), ("01-q1", 2.0)]
'''
STUBBED = "def double(x):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
# Computed once by nbgrader 0.9.6 (utils.compute_checksum) for the released cells of this sheet.
CHECKSUMS = {"01-q1": "f5d6c317338604ff4f5410347fcde2be", "01-q1-test": "b59ef807d4524de6e8a98f369be3c6f8"}


def grading(name, **values):
    base = {"grade": False, "grade_id": name, "locked": False, "schema_version": 3, "solution": False, "task": False}
    return {"nbgrader": base | values}


def code(source, name, **metadata):
    return nbformat.v4.new_code_cell(source, id=name, metadata=metadata)


def sheet_cells():
    return [
        nbformat.v4.new_markdown_cell("# Double", id="head"),
        code(SETUP, "set-up"),
        code(ANSWER, "some-id", **grading("01-q1", solution=True)),
        code(TEST, "01-q1-test", **grading("01-q1-test", grade=True, locked=True, points=2)),
    ]


def save(path, cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A repository with one lesson and one solution, built once and only read."""
    root = tmp_path_factory.mktemp("repository")
    lesson = [code("x = 0.5\nprint(x)\nprint(x + 1)", "run"), code(FIGURE, "draw"), code("x * 3", "last")]
    save(root / "notebooks/00_lesson.ipynb", lesson)
    save(root / "solutions/01_sheet/01_sheet.ipynb", sheet_cells())
    (root / "solutions/01_sheet/hidden.py").write_text(HIDDEN)
    assert authoring.build(root=root) == 0
    return root


@pytest.fixture
def repository(built, tmp_path):
    """A copy of the built repository, free to be spoiled."""
    for file in [path for path in built.rglob("*") if path.is_file()]:
        copy = tmp_path / file.relative_to(built)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path


def lesson_of(root):
    return root / "notebooks/00_lesson.ipynb"


def solution_of(root):
    return root / "solutions/01_sheet/01_sheet.ipynb"


def sheet_of(root):
    return root / "exercises/01_sheet/01_sheet.ipynb"


def edit(path, change):
    """Change the JSON of a notebook and write it as nbformat would."""
    notebook = nbformat.v4.reads(path.read_text())
    change(notebook)
    path.write_text(nbformat.v4.writes(notebook) + "\n")


def cell(path, name):
    return next(cell for cell in nbformat.v4.reads(path.read_text()).cells if cell.id == name)


def test_build_stores_the_outputs_of_each_cell(built):
    assert cell(lesson_of(built), "run").outputs[0].text == "0.5\n1.5\n"
    assert cell(lesson_of(built), "last").outputs[0].data["text/plain"] == "1.5"
    assert [c.execution_count for c in nbformat.v4.reads(lesson_of(built).read_text()).cells] == [1, 2, 3]


def test_build_writes_what_nbformat_writes(built):
    for path in (lesson_of(built), solution_of(built), sheet_of(built)):
        buffer = io.StringIO()
        nbformat.write(nbformat.read(path, as_version=nbformat.NO_CONVERT), buffer)
        assert path.read_text() == buffer.getvalue()


def test_build_leaves_no_timing_and_no_python_version(built):
    raw = json.loads(lesson_of(built).read_text())
    assert set(raw["metadata"]) == {"gradcourse", "kernelspec", "language_info"}
    assert "version" not in raw["metadata"]["language_info"]
    assert all(cell["metadata"] == {} for cell in raw["cells"])


def test_build_twice_changes_nothing(repository, capsys):
    before = {path: path.read_bytes() for path in repository.rglob("*.ipynb")}
    assert authoring.build(root=repository) == 0
    assert {path: path.read_bytes() for path in repository.rglob("*.ipynb")} == before
    assert capsys.readouterr().out.count("unchanged: ") == 3


def test_build_of_one_file_takes_that_file(repository, capsys):
    assert authoring.build(paths=[sheet_of(repository)], root=repository) == 0
    assert capsys.readouterr().out.splitlines() == [
        "unchanged: solutions/01_sheet/01_sheet.ipynb",
        "unchanged: exercises/01_sheet/01_sheet.ipynb",
    ]


@pytest.mark.parametrize("check", [True, False])
def test_build_of_an_unknown_file_says_so(repository, capsys, check):
    assert authoring.build(check, [repository / "notebooks/99_none.ipynb"], repository) == 1
    assert "99_none.ipynb is no lesson, solution or sheet" in capsys.readouterr().out


def test_build_outside_a_repository_says_so(tmp_path, capsys):
    assert authoring.build(True, None, tmp_path) == 1
    assert "run it in the repository" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "cell last: ZeroDivisionError: division by zero"),
        ("import warnings\nwarnings.warn('old')", "cell last: writes to standard error"),
        (FIGURE.replace("a red pixel", " "), "cell last: an image has no alt text"),
        ("print('x' * 600_000)", "601 KB stored, allowed are 500 KB"),
        ("import os\nos._exit(1)", "cell last: the kernel died"),
    ],
    ids=["error", "stderr", "alt", "size", "exit"],
)
def test_build_of_a_faulty_cell_names_it_and_touches_nothing(repository, capsys, source, message):
    lesson = lesson_of(repository)
    edit(lesson, lambda notebook: notebook.cells[-1].update(source=source))
    before = lesson.read_bytes()
    assert authoring.build(paths=[lesson], root=repository) == 1
    assert f"failed: notebooks/00_lesson.ipynb: {message}" in capsys.readouterr().out.splitlines()[0]
    assert lesson.read_bytes() == before


def test_check_of_what_was_built_is_clean_and_runs_nothing(built, capsys, monkeypatch):
    monkeypatch.setattr(authoring, "execute", None)
    assert authoring.build(check=True, root=built) == 0
    assert capsys.readouterr().out == "nothing is stale\n"


def set_metadata(**values):
    return lambda notebook: notebook.metadata.update(values)


def set_cell(index, **values):
    return lambda notebook: notebook.cells[index].update(values)


def add_stream(notebook):
    extra = nbformat.v4.new_output("stream", name="stdout", text="more\n")
    notebook.cells[0].outputs.append(extra)


def spoil_image(notebook):
    notebook.cells[1].outputs[0].metadata = {}


def spoil_with_view(notebook):
    notebook.cells[1].outputs[0].data[authoring.WIDGET_VIEW] = {"model_id": "1"}


def spoil_widget_state(notebook):
    notebook.metadata["widgets"] = {"state": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_cell(0, source="x = 1"), "the outputs are not from the present code"),
        (set_metadata(gradcourse={}), "the outputs are not from the present code"),
        (set_metadata(kernelspec={"name": "mine"}), "the notebook's metadata is not in normal form"),
        (spoil_widget_state, "the notebook's metadata is not in normal form"),
        (set_cell(0, execution_count=7), "cell run: execution_count not in normal form"),
        (set_cell(0, metadata={"execution": {"iopub.status.busy": "now"}}), "cell run: metadata not in normal form"),
        (add_stream, "cell run: outputs not in normal form"),
        (spoil_with_view, "cell draw: outputs not in normal form"),
        (spoil_image, "cell draw: an image has no alt text"),
        (set_cell(0, id="draw"), "cell draw: 2 cells have this id"),
        (set_cell(0, id="a.b"), "cell a.b: an id is"),
    ],
)
def test_check_says_what_is_stale_in_one_line(repository, capsys, change, message):
    edit(lesson_of(repository), change)
    assert authoring.build(check=True, root=repository) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("stale: notebooks/00_lesson.ipynb: ")
    assert message in line


def test_check_sees_foreign_formatting(repository, capsys):
    lesson = lesson_of(repository)
    lesson.write_text(json.dumps(json.loads(lesson.read_text()), indent=2))
    assert authoring.build(check=True, root=repository) == 1
    assert "not formatted as nbformat writes it" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 3}'])
def test_check_of_what_is_no_notebook_says_so(repository, capsys, content):
    lesson_of(repository).write_text(content)
    assert authoring.build(check=True, root=repository) == 1
    assert "stale: notebooks/00_lesson.ipynb: not a notebook" in capsys.readouterr().out


def test_check_sees_a_change_of_one_byte_in_a_sheet(repository, capsys):
    sheet_of(repository).write_text(sheet_of(repository).read_text().replace("# Double", "# double"))
    assert authoring.build(check=True, root=repository) == 1
    assert "stale: exercises/01_sheet/01_sheet.ipynb: not what is derived" in capsys.readouterr().out


def test_check_sees_a_missing_sheet(repository, capsys):
    sheet_of(repository).unlink()
    assert authoring.build(check=True, root=repository) == 1
    assert "stale: exercises/01_sheet/01_sheet.ipynb: missing" in capsys.readouterr().out


def test_check_sees_an_orphan(repository, capsys):
    save(repository / "exercises/02_gone/02_gone.ipynb", [])
    assert authoring.build(check=True, root=repository) == 1
    assert "stale: exercises/02_gone/02_gone.ipynb: has no source" in capsys.readouterr().out


def test_check_sees_that_hidden_cases_changed(repository, capsys):
    (solution_of(repository).parent / "hidden.py").write_text(HIDDEN.replace("2.0", "3.0"))
    assert authoring.build(check=True, root=repository) == 1
    assert "cell 01-q1-test: HIDDEN TESTS are not what hidden.py gives" in capsys.readouterr().out


def test_hidden_cases_run_in_the_solution(built):
    assert cell(solution_of(built), "01-q1-test").outputs[0].text == "['01-q1', '01-q1']\n"


def test_hidden_region_leaves_no_name_behind(built):
    source = cell(solution_of(built), "01-q1-test").source
    names = {}
    exec(SETUP, names)
    exec(ANSWER, names)
    before = set(names)
    exec(source, names)
    assert set(names) - before == {"result"}
    assert names["result"].right[1] == 4.0


def test_hidden_region_draws_other_numbers_for_another_question():
    def test_cell(name):
        return code(f'result = gc.check("{name}", f)\nresult.award()', f"{name}-test", **grading(f"{name}-test"))

    regions = {authoring._place(test_cell(name), "def hidden_cases(seed): ...") for name in ("01-q1", "01-q2")}
    seeds = {ast.literal_eval(region.split("hidden_seed = ")[1].split()[0]) for region in regions}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ('TEXT = """a\nb"""\n\n\ndef cases(rng):\n    return []\n', "a string of several lines"),
        ("from __future__ import annotations\n", "can't stand inside a function"),
        ("from math import *\n", "can't stand inside a function"),
        ("def cases(rng)\n", "can't stand inside a function"),
    ],
    ids=["string", "future", "star", "syntax"],
)
def test_hidden_that_cannot_be_embedded_is_refused(repository, capsys, hidden, message):
    (solution_of(repository).parent / "hidden.py").write_text(hidden)
    assert authoring.build(check=True, root=repository) == 1
    assert message in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("result.award()", "no line `result = gc.check('01-q1', ANSWER)`"),
        ('result = gc.check("01-q2", double)\nresult.award()', "it checks '01-q2'"),
        ('result = gc.check("01-q1", double)', "the last line must be `result.award()`"),
        ('result = gc.check("01-q1" double)', "invalid syntax"),
    ],
)
def test_a_test_cell_of_another_form_is_refused(repository, capsys, source, message):
    edit(solution_of(repository), set_cell(3, source=source))
    assert authoring.build(check=True, root=repository) == 1
    assert "cell 01-q1-test: " in (out := capsys.readouterr().out)
    assert message in out


def test_sheet_has_the_stub_and_no_hidden_tests(built):
    assert cell(sheet_of(built), "01-q1").source == STUBBED
    assert cell(sheet_of(built), "01-q1-test").source == TEST
    assert cell(sheet_of(built), "set-up").source == SETUP


def test_sheet_has_no_outputs(built):
    cells = nbformat.v4.reads(sheet_of(built).read_text()).cells
    assert [(c.outputs, c.execution_count) for c in cells if c.cell_type == "code"] == [([], None)] * 3


def test_sheet_is_locked_as_nbgrader_locks(built):
    answer, test = cell(sheet_of(built), "01-q1"), cell(sheet_of(built), "01-q1-test")
    assert answer.metadata == {"deletable": False} | grading(
        "01-q1", solution=True, cell_type="code", checksum=CHECKSUMS["01-q1"]
    )
    assert test.metadata == {"deletable": False, "editable": False} | grading(
        "01-q1-test", grade=True, locked=True, points=2, cell_type="code", checksum=CHECKSUMS["01-q1-test"]
    )
    assert cell(sheet_of(built), "set-up").metadata == {}


def test_solution_gets_the_ids_of_its_questions(built):
    assert cell(solution_of(built), "01-q1").source == ANSWER


def test_sheet_of_an_answer_without_markers_is_all_stub():
    notebook = nbformat.v4.new_notebook(cells=[code("x = 1", "01-q1", **grading("01-q1", solution=True))])
    assert authoring.derive(notebook).cells[0].source == authoring.CODE_STUB


@pytest.mark.parametrize(
    ("source", "role"),
    [
        ("### BEGIN SOLUTION\nx = 1", "solution"),
        ("x = 1\n### END SOLUTION", "solution"),
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "solution"),
        ("### BEGIN HIDDEN TESTS\nx = 1", "grade"),
        ("### BEGIN SOLUTION\n### END SOLUTION", "grade"),
        (f"{ANSWER}\n### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS", "solution"),
    ],
)
def test_sheet_of_misplaced_markers_is_refused_by_cell(source, role):
    lone = code(source, "01-q1", **grading("01-q1", points=1, **{role: True}))
    with pytest.raises(authoring.AuthoringError, match=r"^cell 01-q1: "):
        authoring.derive(nbformat.v4.new_notebook(cells=[lone]))


def test_normalize_keeps_author_tags_and_drops_editor_state():
    spoiled = code("1", "a", tags=["core"], collapsed=True, scrolled=False, trusted=True)
    notebook = authoring.normalize(nbformat.v4.new_notebook(cells=[spoiled, code("", "b"), code("2", "c")]))
    assert notebook.cells[0].metadata == {"tags": ["core"]}
    assert [c.execution_count for c in notebook.cells] == [1, None, 2]


def test_normalize_merges_neighbouring_streams_only():
    def stream(text):
        return nbformat.v4.new_output("stream", name="stdout", text=text)

    shown = nbformat.v4.new_output("display_data", data={"text/plain": "x"})
    outputs = [stream("a"), stream("b"), shown, stream("c")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", id="a", outputs=outputs)])
    (found,) = authoring.normalize(notebook).cells
    assert [output.get("text") for output in found.outputs] == ["ab", None, "c"]


def test_normalize_gives_missing_ids_by_place():
    bare = nbformat.from_dict({"cell_type": "code", "metadata": {}, "source": "1", "outputs": []})
    notebook = nbformat.from_dict({"cells": [bare], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    assert authoring.normalize(notebook).cells[0].id == "cell-0"
