"""Grading: right work gets its points in any state of the notebook, wrong work what its cases earn, nothing more."""

import copy
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from test_sheets import SHEETS

from gradcourse.grading.engine import Grader
from gradcourse.grading.jobs import Limits, Settings, grade
from gradcourse.grading.notebook import Submission
from gradcourse.grading.sheet import NoSheet, Sheet
from gradcourse.sheets import questions

REPOSITORY = Path(__file__).resolve().parents[1]
SLUG = "03_sigmoid_tanh_vanishing"
POINTS = {id: question.points for id, question in questions(SLUG).items()}
QUICK = Limits(cell=3.0, call=3.0)


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def released(slug=SLUG):
    return load(REPOSITORY / "exercises" / slug / f"{slug}.ipynb")


def solved(slug=SLUG):
    """The released sheet with the reference solution's answers, as a student would hand it in."""
    solution = {cell["id"]: cell["source"] for cell in load(REPOSITORY / "solutions" / slug / f"{slug}.ipynb")["cells"]}
    notebook = released(slug)
    for cell in notebook["cells"]:
        if cell["id"] in questions(slug):
            cell["source"] = solution[cell["id"]]
    return notebook


def cell_of(notebook, id):
    return next(cell for cell in notebook["cells"] if cell["id"] == id)


def code(source, **more):
    return {
        "cell_type": "code",
        "id": "mine",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "source": source,
    } | more


@pytest.fixture(scope="module")
def grader():
    with Grader(Settings(SLUG, "secret", limits=QUICK)) as grader:
        yield grader


@pytest.fixture
def marks(grader, tmp_path):
    """Grade a notebook, or the bytes of one, and return the record."""

    def graded(notebook, student="ada"):
        path = tmp_path / f"{student}.ipynb"
        path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())
        return grader.grade(Submission(student, path.name, path))

    return graded


def scores(record):
    return {test["name"]: test["score"] for test in record["tests"]}


@pytest.mark.parametrize("slug", SHEETS)
def test_reference_gets_full_marks_and_the_empty_sheet_none(slug, tmp_path):
    for name, notebook in (("right", solved(slug)), ("empty", released(slug))):
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    submissions = [Submission(name, name, tmp_path / f"{name}.ipynb") for name in ("right", "empty")]
    right, empty = grade(Settings(slug, "another secret"), submissions)
    assert right["score"] == right["max_score"] == sum(question.points for question in questions(slug).values())
    assert right["extra_data"]["notes"] == []
    assert empty["score"] == 0
    assert all("not answered yet" in test["output"] for test in empty["tests"])


def answered_by(slug, id, answer):
    """The solved sheet with another answer to one question, as the bank of answers has it."""
    notebook, question = solved(slug), questions(slug)[id]
    bank = inspect.getsource(SHEETS[slug])
    cell_of(notebook, id)["source"] = f"{bank}\n\n{question.name} = {answer.__name__}\n"
    return notebook


def answers_of(sheet, id):
    return [*sheet.WRONG[id], *sheet.RIGHT[id], *([sheet.ONLY_VISIBLE[id]] if id in sheet.ONLY_VISIBLE else [])]


BANK = [
    pytest.param(slug, id, answer, id=f"{id}-{answer.__name__}", marks=() if number == 0 else pytest.mark.slow)
    for slug, sheet in SHEETS.items()
    for id in sheet.WRONG
    for number, answer in enumerate(answers_of(sheet, id))
]
_open = {}


@pytest.fixture(scope="module")
def grader_of():
    """One Grader for each sheet."""

    def grader(slug):
        if slug not in _open:
            _open[slug] = Grader(Settings(slug, "a third secret"))
        return _open[slug]

    yield grader
    for grader in _open.values():
        grader.close()
    _open.clear()


# They look their answers up in the sheet's module, which a submission can't read.
READ_THE_SHEET = {"knows_the_visible_steps", "knows_the_visible_networks"}
# What they return hangs on rounding, which two processes may do differently: another mistake is seen in it, or (the
# ward, which trains) fewer of its look-ups are found.
ROUNDING = {"singular_values_at_the_end", "qr_at_the_end", "knows_the_ward"}


@pytest.mark.parametrize(("slug", "id", "answer"), BANK)
def test_an_answer_gets_what_its_cases_earn_and_the_check_says_why(slug, id, answer, grader_of, tmp_path):
    grader = grader_of(slug)
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(answered_by(slug, id, answer)), encoding="utf-8")
    record = grader.grade(Submission("ada", "x", path))
    visible, hidden = grader.sheet.visible[id].key, grader.sheet.hidden("ada")[id].key
    refused = visible.question.refused
    here = visible.result(visible.outcomes(answer, refused))
    passed = [here.cases_passed, hidden.count(hidden.outcomes(answer, refused))]
    if "calls" in here.message or answer.__name__ in READ_THE_SHEET:
        passed = [0, 0]
    counts = record["extra_data"]["cases"][id]
    if answer.__name__ == "knows_the_ward":
        assert counts["visible"][0] <= passed[0]
        passed[0] = counts["visible"][0]
    assert [counts["visible"][0], counts["hidden"][0]] == passed
    most = len(visible.cases) + len(hidden.cases)
    assert scores(record)[id] == pytest.approx(round(visible.question.points * sum(passed) / most, 2))
    if passed[0] < len(visible.cases) and answer.__name__ not in READ_THE_SHEET | ROUNDING:
        told = next(test["output"] for test in record["tests"] if test["name"] == id)
        assert here.message[:60] in told


def damaged():
    """Ways in which a notebook with the right answers comes back."""
    tests = [cell["id"] for cell in released()["cells"] if cell["id"].endswith("-test")]

    def without_tests(notebook):
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] not in tests]

    def edited_tests(notebook):
        for id in tests:
            cell_of(notebook, id)["source"] = "print('all right')\nraise SystemExit"

    def moved(notebook):
        notebook["cells"].reverse()
        notebook["cells"].insert(0, notebook["cells"].pop())

    def split(notebook):
        for place, cell in enumerate(notebook["cells"]):
            if cell["id"] == "03-q1":
                notebook["cells"].insert(place, code("scratch = 1", metadata=cell["metadata"]))
                return

    def duplicated_before(notebook):
        notebook["cells"].insert(2, cell_of(released(), "03-q1"))

    def duplicated_after(notebook):
        notebook["cells"].append(cell_of(released(), "03-q1"))

    def duplicated_right(notebook):
        notebook["cells"].append(copy.deepcopy(cell_of(notebook, "03-q1")))

    def without_metadata(notebook):
        for cell in notebook["cells"]:
            cell["metadata"], cell["id"] = {}, "x"

    def failing_cells(notebook):
        for source in (
            "1/0",
            "raise SystemExit",
            "import no_such_module",
            "def broken(:",
            "input()",
            "raise KeyboardInterrupt",
        ):
            notebook["cells"].insert(2, code(source))

    def magics(notebook):
        for source in (
            "%matplotlib inline",
            "!pip install torch",
            "%%bash\nrm -rf /",
            "%timeit 1",
            "?print",
            "%%html\n<b>",
        ):
            notebook["cells"].insert(2, code(source))
        cell = cell_of(notebook, "03-q1")
        cell["source"] = "%%time\n" + "".join(cell["source"])

    def noise(notebook):
        for source in (
            "import warnings; warnings.warn('careful')",
            "import sys; print('x' * 10**6, file=sys.stderr)",
            "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()",
            "import ipywidgets; ipywidgets.interact(lambda x: x, x=3)",
            "display(1); get_ipython().run_line_magic('time', '1')",
            "import IPython.display as d; d.display(d.HTML('<b>'))",
            "open('note.txt', 'w').write('mine')",
            "await __import__('asyncio').sleep(0)",
            "import threading; threading.Thread(target=print).start()",
        ):
            notebook["cells"].insert(2, code(source))

    def other_kernel(notebook):
        notebook["metadata"]["kernelspec"] = {"name": "mine", "display_name": "Mine", "language": "python"}

    def stale_claims(notebook):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = [
                    {"output_type": "stream", "name": "stdout", "text": "03-q1: passed, 100 of 100 points"}
                ]

    def as_format_3(notebook):
        cells = [{**cell, "input": cell.pop("source")} for cell in notebook["cells"]]
        notebook.clear()
        notebook.update(nbformat=3, worksheets=[{"cells": cells}])

    def large(notebook):
        notebook["cells"].append(code("1", outputs=[{"output_type": "stream", "text": "x" * 40 * 2**20}]))

    return [value for value in locals().values() if callable(value)]


@pytest.mark.parametrize("change", damaged(), ids=lambda change: change.__name__)
def test_right_work_keeps_its_score_in_any_state(change, marks):
    notebook = solved()
    change(notebook)
    record = marks(notebook)
    assert scores(record) == POINTS, record["extra_data"]["notes"]


def test_bytes_around_the_notebook_do_not_matter(marks):
    text = json.dumps(solved(), ensure_ascii=False).replace("\\n", "\\r\\n")
    assert marks(b"\xef\xbb\xbf" + text.encode())["score"] == 12


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the file is empty"), (b"{", "its JSON is broken"), (b"{}", "it has no cells")],
)
def test_a_file_that_is_no_notebook_gets_nothing_and_says_why(content, said, marks):
    record = marks(content)
    assert record["score"] == 0
    assert any(said in note for note in record["extra_data"]["notes"])
    assert said in record["tests"][0]["output"]


def test_stale_outputs_that_claim_full_marks_are_not_read(marks):
    notebook = released()
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "passed, 3 of 3 points"}]
    assert marks(notebook)["score"] == 0


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import os; os._exit(0)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import time; time.sleep(1000)",
    ],
)
def test_a_cell_that_hangs_or_ends_the_process_is_skipped_and_the_rest_counts(source, marks):
    notebook = solved()
    notebook["cells"].insert(3, code(source))
    record = marks(notebook)
    assert scores(record) == POINTS
    assert len(record["extra_data"]["notes"]) <= 1  # a kill may be refused


@pytest.mark.parametrize(
    "body", ["while True: pass", "import os; os._exit(0)", "import sys; sys.exit()", "[0] * 10**11"]
)
def test_a_call_that_hangs_or_ends_the_process_costs_its_question_alone(body, marks):
    notebook = solved()
    cell_of(notebook, "03-q1")["source"] = f"def layer_factor(slope, weight_variance, q):\n    {body}"
    assert scores(marks(notebook)) == POINTS | {"03-q1": 0.0}


def test_a_call_that_hangs_on_one_case_keeps_the_cases_before(marks, grader):
    notebook = solved()
    answer = cell_of(notebook, "03-q2")
    first = grader.sheet.visible["03-q2"].key.cases[1].arguments[0]
    answer["source"] = "".join(answer["source"]).replace(
        "depth_below(factor, last, threshold):",
        f"depth_below(factor, last, threshold):\n    while factor == {first!r}: pass",
    )
    record = marks(notebook)
    assert record["extra_data"]["cases"]["03-q2"]["visible"] == [1, 4]
    assert 0 < scores(record)["03-q2"] < POINTS["03-q2"]
    assert "a call took longer than 3 s" in record["extra_data"]["notes"][0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("layer_factor = 3", "must take the arguments"),
        ("def layer_factor(slope): return 1", "must take the arguments"),
        ("", "There is no function layer_factor in the notebook."),
        ("1/0\ndef layer_factor(slope, weight_variance, q): return 1", "its cell ended with ZeroDivisionError"),
        ("def layer_factor(slope, weight_variance, q): return object()", "returned a object"),
        ("def layer_factor(slope, weight_variance, q): return {}", "returned a dict"),
        ("def layer_factor(slope, weight_variance, q): return (x for x in [1])", "returned a generator"),
        ("def layer_factor(slope, weight_variance, q): return float('nan')", "NaN"),
        ("def layer_factor(slope, weight_variance, q): return 'one'", "gives 'one'"),
        ("def layer_factor(slope, weight_variance, q): return [[1, 2], [3]]", "rows of different lengths"),
        ("def layer_factor(slope, weight_variance, q): raise SystemExit('bye')", "SystemExit"),
        ("def layer_factor(slope, weight_variance, q): raise BaseException('x' * 10**6)", "raised BaseException"),
        ("def layer_factor(slope, weight_variance, q):\n    x = []\n    x.append(x)\n    return x", "layer_factor"),
    ],
    ids=lambda value: value[:60],
)
def test_an_answer_that_can_not_be_judged_gets_nothing_and_says_why(source, said, marks):
    notebook = solved()
    cell_of(notebook, "03-q1")["source"] = source
    record = marks(notebook)
    assert scores(record) == POINTS | {"03-q1": 0.0}
    told = record["tests"][0]["output"]
    assert said in told
    assert len(told) < 2000


def test_a_call_that_the_question_forbids_is_found_under_any_name(marks):
    notebook = solved()
    cell_of(notebook, "03-q1")["source"] = (
        "from gradcourse.theory.meanfield import gradient_factor as mine\nimport gradcourse.theory as t\n\n"
        "def layer_factor(slope, weight_variance, q):\n    return getattr(t, 'mean_square' + '_slope')(slope, q)\n"
    )
    record = marks(notebook)
    assert scores(record)["03-q1"] == 0
    assert "Your function calls gradcourse.theory" in record["tests"][0]["output"]


def test_nothing_of_a_hidden_case_is_told(marks, grader):
    notebook = solved()
    answer = "def layer_factor(slope, weight_variance, q):\n    raise ValueError(f'{weight_variance!r} {q!r}')"
    cell_of(notebook, "03-q1")["source"] = answer
    text = json.dumps(marks(notebook))
    for case in grader.sheet.hidden("ada")["03-q1"].key.cases:
        assert repr(case.arguments[1]) not in text
        assert repr(case.arguments[2]) not in text


def test_hidden_cases_follow_from_secret_and_student():
    one, two = Sheet(SLUG, "one"), Sheet(SLUG, "two")

    def first(sheet, student):
        return sheet.hidden(student)["03-q2"].key.cases[0].arguments

    assert first(one, "ada") == first(Sheet(SLUG, "one"), "ada")
    assert first(one, "ada") != first(two, "ada")
    assert len({first(one, f"student {number}") for number in range(40)}) > 5


def test_the_same_seed_gives_the_same_records(grader, marks):
    notebook = solved()
    cell_of(notebook, "03-q2")["source"] = "def depth_below(factor, last, threshold):\n    return 7"
    one, two = (marks(notebook) for _ in range(2))
    for record in (one, two):
        record.pop("execution_time")
    assert one == two


def test_what_one_submission_does_is_not_seen_by_the_next(marks):
    spoil = (
        "import builtins, math, sys, numpy as np, torch, gradcourse as gc\nbuiltins.len = lambda x: 0\n"
        "np.sqrt = np.exp\ntorch.exp = torch.sin\nsys.modules['math'] = None\nopen('left.txt', 'w').write('x')\n"
    )
    notebook = released()
    notebook["cells"].insert(2, code(spoil))
    assert marks(notebook, "eve")["score"] == 0
    notebook = solved()
    notebook["cells"].insert(2, code("import os\nassert not os.listdir('.'), os.listdir('.')\nlayer_factor = None"))
    record = marks(notebook)
    assert record["score"] == 12
    assert record["extra_data"]["notes"] == []


def test_jobs_give_what_one_job_gives(tmp_path):
    submissions = []
    for number in range(4):
        notebook = solved() if number % 2 else released()
        path = tmp_path / f"{number}.ipynb"
        path.write_text(json.dumps(notebook), encoding="utf-8")
        submissions.append(Submission(f"s{number}", path.name, path))
    settings = Settings(SLUG, "secret")
    alone, together = ({r["extra_data"]["student"]: scores(r) for r in grade(settings, submissions, n)} for n in (1, 2))
    assert alone == together
    assert [sum(alone[f"s{number}"].values()) for number in range(4)] == [0, 12, 0, 12]


@pytest.mark.parametrize(
    ("slug", "course", "said"),
    [
        ("99_no_sheet", None, "there is no sheet '99_no_sheet'"),
        (SLUG, "nowhere", "hidden cases stay with the instructor"),
    ],
)
def test_a_sheet_that_is_not_there_is_said_in_one_line(slug, course, said, tmp_path):
    with pytest.raises(NoSheet, match=said) as caught:
        Sheet(slug, "secret", course and tmp_path / course)
    assert "\n" not in str(caught.value)


def test_the_sheets_own_cells_run_only_where_something_uses_them():
    from gradcourse.grading.notebook import code_cells

    sheet = Sheet(SLUG, "secret")
    cells, _ = code_cells(json.dumps(solved()).encode())
    run = {cells[number].id for number, _ in sheet.cells_to_run(cells)}
    assert run == {"setup", *POINTS}
    notebook = solved()
    notebook["cells"].append(code("def f():\n    return relu.depth"))
    cells, _ = code_cells(json.dumps(notebook).encode())
    assert "q3-look" in {cells[number].id for number, _ in sheet.cells_to_run(cells)}


def test_oracles_are_not_where_a_submission_can_read_them(marks):
    cheat = (
        "import importlib\ndef layer_factor(slope, weight_variance, q):\n"
        "    return importlib.import_module('gradcourse.sheets.sigmoid_tanh_vanishing').QUESTIONS[0].oracle(slope, "
        "weight_variance, q)"
    )
    notebook = released()
    cell_of(notebook, "03-q1")["source"] = cheat
    record = marks(notebook)
    assert record["score"] == 0
    assert "ModuleNotFoundError" in record["tests"][0]["output"] or "No module" in record["tests"][0]["output"]


def test_points_are_the_share_of_all_cases():
    assert np.isclose(sum(POINTS.values()), 12)
