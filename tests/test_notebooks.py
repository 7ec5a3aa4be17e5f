"""Lessons and solutions as they are stored: nbval in every variant, what cells may hold, derived sheets."""

import ast
import copy
import re
from importlib import import_module
from itertools import pairwise

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns
from nbval_variants import TESTS, VARIANTS, run_nbval, variant_of_the_day

import gradcourse
from gradcourse import authoring

ROOT = TESTS.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
START = ROOT / "notebooks" / "start.ipynb"  # not a lesson: the page that leads to them
SOLUTIONS = sorted((ROOT / "solutions").glob("*/*.ipynb"))
SHEETS = sorted((ROOT / "exercises").glob("*/*.ipynb"))

# Tags that keep nbval from comparing: (file, cell id, tag) and why.
ALLOWED_TAGS: dict[tuple[str, str, str], str] = {}
SILENCING_TAGS = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception", "raises-exception"}

LONGEST_FUNCTION = 12  # lines of a function in a lesson; longer ones belong into the package

FORBIDDEN_MODULES = {"aiohttp", "ftplib", "http", "httpx", "requests", "socket", "subprocess", "urllib"}
FORBIDDEN_NAMES = {"Output", "chdir", "get_ipython", "interact", "interactive", "interactive_output"}
FORBIDDEN_ENDS = ("sys.path", "plt.show", "pyplot.show", "torch.hub")

NUMBER = re.compile(r"(?<![\w.])\d+\.\d+(?:e[+-]?\d+)?(?![\w.]*\d)|(?<![\w.])\d+e[+-]?\d+")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", [pytest.param(path, id=name_of(path)) for path in paths])


def read(path):
    return nbformat.v4.reads(path.read_text(encoding="utf-8"))


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def markdown(path):
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


# -- nbval ------------------------------------------------------------------------------------------------------------


def nbval_cases():
    """Plain and one variant a day; the others are slow."""
    quick = ("plain", variant_of_the_day())
    for path in [START, *LESSONS, *SOLUTIONS]:
        for variant in VARIANTS:
            marks = () if variant in quick else pytest.mark.slow
            yield pytest.param(path, variant, id=f"{name_of(path)}-{variant}", marks=marks)


@pytest.mark.parametrize(("path", "variant"), list(nbval_cases()))
def test_notebook_gives_its_stored_outputs(path, variant, tmp_path):
    run = run_nbval(path, variant, tmp_path)
    assert run.code == 0, run.output
    assert run.passed == [True] * len(code_cells(path))


def write_lesson(folder, *cells):
    """Store a notebook of (source, text that it is said to print)."""
    notebook = nbformat.v4.new_notebook()
    for index, (source, printed) in enumerate(cells):
        stream = nbformat.v4.new_output("stream", name="stdout", text=printed)
        notebook.cells.append(
            nbformat.v4.new_code_cell(source, id=f"c{index}", execution_count=index + 1, outputs=[stream])
        )
    nbformat.write(notebook, folder / "lesson.ipynb")
    return folder / "lesson.ipynb"


STATE = """import torch

import gradcourse as gc

gc.training
print(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability() == "DEFAULT")
print(hasattr(gc.models.draw_weight, "__wrapped__"))"""


@pytest.mark.parametrize(
    ("variant", "state"),
    [
        ("plain", "1 False\nFalse\n"),
        ("threads2", "2 False\nFalse\n"),
        ("default-isa", "1 True\nFalse\n"),
        ("perturbed", "1 False\nTrue\n"),
        ("perturbed-2", "1 False\nTrue\n"),
    ],
)
def test_variant_takes_effect(variant, state, tmp_path):
    run = run_nbval(write_lesson(tmp_path, (STATE, state)), variant, tmp_path)
    assert run.passed == [True], run.output


DRAW = """import torch
from gradcourse import models

weight = models.draw_weight("xavier", 1.0, 8, 8, generator=torch.Generator().manual_seed(0))
expected = (2 / 16) ** 0.5 * torch.randn((8, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
change = (weight / expected - 1).abs()
print(bool(1e-8 < change.median() < 1e-5), bool(change.max() < 1e-5))"""


@pytest.mark.parametrize(("variant", "changed"), [("plain", "False True\n"), ("perturbed", "True True\n")])
def test_perturbed_changes_every_weight_by_about_1e_6(variant, changed, tmp_path):
    run = run_nbval(write_lesson(tmp_path, (DRAW, changed)), variant, tmp_path)
    assert run.passed == [True], run.output


def test_perturbed_without_the_function_ends_the_kernel(tmp_path, monkeypatch):
    package = tmp_path / "without" / "gradcourse"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    run = run_nbval(write_lesson(tmp_path, ("print(1)", "1\n")), "perturbed", tmp_path)
    assert run.code != 0
    assert run.passed == [False], run.output


# -- nbval itself -----------------------------------------------------------------------------------------------------


def patterns():
    return get_sanitize_patterns((TESTS / "nbval_sanitize.cfg").read_text(encoding="utf-8"))


def sanitized(text):
    for pattern, replacement in patterns():
        text = re.sub(pattern, replacement, text)
    return text


def with_change(number):
    """Return a number 10 % larger, written alike; where rounding hides that, one with another last digit."""
    digits, mark, exponent = number.partition("e")
    places = len(digits.partition(".")[2])
    larger = f"{float(digits) * 1.1:.{places}f}"
    if larger == digits:
        larger = f"{digits[:-1]}{(int(digits[-1]) + 1) % 10}"
    return larger + mark + exponent


def measured(text):
    """Find the decimal numbers of a text that are not part of a figure's repr, an address or a time."""
    taken = [match.span() for pattern, _ in patterns() for match in re.finditer(pattern, text)]
    return [m for m in NUMBER.finditer(text) if not any(start <= m.start() < end for start, end in taken)]


def compared_texts(output):
    """Return (the dict that holds it, its key) for each text of an output that nbval compares."""
    data = output.get("data", {})
    shown = [(data, mime) for mime in data if isinstance(data[mime], str) and not mime.startswith("image/")]
    return shown + ([(output, "text")] if "text" in output else [])


def mutations(outputs):
    """Yield copies of a cell's outputs, each with one measured number changed."""
    for index, output in enumerate(outputs):
        for number, (place, key) in enumerate(compared_texts(output)):
            for match in measured(place[key]):
                changed = copy.deepcopy(outputs)
                target, _ = compared_texts(changed[index])[number]
                target[key] = match.string[: match.start()] + with_change(match.group()) + match.string[match.end() :]
                yield changed


def replay(outputs):
    """Write code whose outputs are those given."""
    lines = ["from IPython.display import display"]
    for output in outputs:
        shown = f"display({dict(output.data)!r}, raw=True)" if "data" in output else ""
        lines.append(shown or f"print({output.text!r}, end='')")
    return "\n".join(lines)


def without_images(outputs):
    """Drop PNGs, which nbval does not compare and which are large."""
    result = copy.deepcopy(outputs)
    for output in result:
        for mime in [mime for mime in output.get("data", {}) if mime.startswith("image/")]:
            del output.data[mime]
    return result


def stored_cell(source, outputs, index):
    return nbformat.v4.new_code_cell(source, id=f"c{index}", execution_count=index + 1, outputs=outputs)


@each([*LESSONS, *SOLUTIONS])
def test_nbval_sees_a_change_of_each_stored_number(path, tmp_path):
    """Every number of every output, changed by 10 %: a kernel repeats the output, and nbval must object each time."""
    cells, expected = [], []
    for outputs in (without_images(cell.outputs) for cell in code_cells(path)):
        cells.append(stored_cell(replay(outputs), outputs, len(cells)))
        for changed in mutations(outputs):
            cells.append(stored_cell(replay(outputs), changed, len(cells)))
        expected += [True] + [False] * (len(cells) - len(expected) - 1)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "changed.ipynb")
    run = run_nbval(tmp_path / "changed.ipynb", "plain", tmp_path)
    assert run.passed == expected, run.output[-3000:]


def whole_runs():
    """One notebook in each run, all of them when slow tests are asked for."""
    for index, path in enumerate([*LESSONS, *SOLUTIONS]):
        yield pytest.param(path, id=name_of(path), marks=pytest.mark.slow if index else ())


@pytest.mark.parametrize("path", list(whole_runs()))
def test_nbval_fails_each_cell_whose_number_was_changed(path, tmp_path):
    """The notebook itself, one number changed in each cell that holds any."""
    notebook, expected = read(path), []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        changed = next(mutations(cell.outputs), None)
        cell.outputs = changed or cell.outputs
        expected.append(changed is None)
    assert False in expected or path in SOLUTIONS, f"{name_of(path)} stores no decimal number at all"
    nbformat.write(notebook, tmp_path / path.name)
    run = run_nbval(tmp_path / path.name, "plain", tmp_path)
    assert run.passed == expected, run.output[-3000:]


@pytest.mark.parametrize(
    ("number", "changed"),
    [("0.2361", "0.2597"), ("1.0", "1.1"), ("0.0", "0.1"), ("0.1", "0.2"), ("6.1e-05", "6.7e-05"), ("1e-8", "2e-8")],
)
def test_a_changed_number_is_written_alike(number, changed):
    assert with_change(number) == changed


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("factor per layer 0.2361, theory 0.25", ["0.2361", "0.25"]),
        ("6.1e-05 (1e-8)", ["6.1e-05", "1e-8"]),
        ("20 layers, version 3.11.4", []),
        ("took 1.25 s at 0.5", ["0.5"]),
    ],
)
def test_measured_numbers_are_found(text, numbers):
    assert [match.group() for match in measured(text)] == numbers


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<Figure size 640x480 with 2 Axes>", "<Figure>"),
        ("<Figure size 1260x415.5 with 1 Axes>", "<Figure>"),
        ("<function f at 0x7f12ab34cd56>", "<function f at ADDRESS>"),
        ("took 3.2 s", "took TIME"),
        ("12 ms per step", "TIME per step"),
        ("1.5 µs ± 3 ns", "TIME ± TIME"),
    ],
)
def test_sanitizers_replace_reprs_addresses_and_times(text, left):
    assert sanitized(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "measured factor per layer 0.2363, theory 0.2361",
        "<Axes: title={'center': 'gain 1.5'}, xlabel='layer'>",
        "RMS of dL/dh from 3.1e-12 to 0.04, 1.9 per layer",
        "loss 2.302 at step 60; 5 of 5 seeds; 4.9 stds",
        "array([0.1, 0.2]) 0x1f sigma_w^2 = 1.5 slope",
        "Trace(depth=20, width=64, steps=60)",
        "0.25 / 0.5 s/w; 3 seeds",
    ],
)
def test_sanitizers_leave_measured_numbers(text):
    assert sanitized(text) == text


def test_sanitizers_are_of_three_kinds():
    lines = (TESTS / "nbval_sanitize.cfg").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("[")] == ["[figure reprs]", "[object addresses]", "[times]"]
    assert len(patterns()) == sum(line.startswith("regex:") for line in lines) == 3


# -- what is stored ---------------------------------------------------------------------------------------------------


def test_everything_stored_is_as_built(capsys):
    """Sheets equal what is derived from the solutions byte for byte; outputs belong to the code; the form is normal."""
    assert authoring.build(check=True, root=ROOT) == 0, capsys.readouterr().out


def test_each_sheet_has_its_solution_and_hidden_cases():
    assert [path.name for path in SHEETS] == [path.name for path in SOLUTIONS]
    assert [path.parent / "hidden.py" for path in SOLUTIONS] == sorted((ROOT / "solutions").glob("*/hidden.py"))


@each([*LESSONS, *SOLUTIONS])
def test_each_image_has_alt_text(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    images = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(len(output.metadata["image/png"]["alt"].split()) >= 5 for output in images)


@each(LESSONS)
def test_each_explorer_has_a_still_that_says_its_numbers(path):
    cells = [cell for cell in code_cells(path) if cell.id.endswith("-explorer")]
    assert len(cells) == ("02" <= path.name[:2] <= "09")
    for cell in cells:
        still, words = cell.outputs
        assert still.metadata["image/png"]["alt"] == still.data["text/plain"]
        assert still.data["text/plain"].endswith(words.text.strip())
        assert NUMBER.search(words.text)


@each([START, *LESSONS, *SOLUTIONS, *SHEETS])
def test_notebook_is_at_most_500_kb(path):
    assert path.stat().st_size <= 500_000


@each([START, *LESSONS, *SOLUTIONS])
def test_tags_that_silence_nbval_are_listed(path):
    tags = {(name_of(path), cell.id, tag) for cell in read(path).cells for tag in cell.metadata.get("tags", [])}
    assert {entry for entry in tags if entry[2] in SILENCING_TAGS} <= set(ALLOWED_TAGS)


def chain_of(node):
    """Return "gc.theory.gradient_factor" for an attribute chain, "" for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{chain_of(node.value)}.{node.attr}" if chain_of(node.value) else ""
    return node.id if isinstance(node, ast.Name) else ""


def missing_names(source):
    """Name what code takes from gradcourse, by attribute or import, that is not there."""
    wanted = [chain_of(node) for node in ast.walk(ast.parse(source))]
    wanted = [chain.removeprefix("gc.") for chain in wanted if chain.startswith("gc.")]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith("gradcourse."):
            import_module(node.module)  # so that a submodule is there as an attribute
            wanted += [f"{node.module}.{alias.name}".removeprefix("gradcourse.") for alias in node.names]
    return [chain for chain in wanted if not exists(chain)]


def exists(chain):
    """Follow a chain from gradcourse through modules; what an object has is the business of its own tests."""
    thing = gradcourse
    for name in chain.split("."):
        if not hasattr(thing, name):
            return False
        thing = getattr(thing, name)
        if not isinstance(thing, type(gradcourse)):
            return True
    return True


@each([START, *LESSONS, *SOLUTIONS, *SHEETS])
def test_each_gc_name_exists(path):
    assert [name for cell in code_cells(path) for name in missing_names(cell.source)] == []


def forbidden(source):
    """Name what a cell must not use: the network, the search path, the folder, widgets that nbval can't follow."""
    found = [line for line in source.splitlines() if line.lstrip().startswith(("%", "!"))]
    found += re.findall(r"#\s*(?:PYTEST_VALIDATE|NBVAL)\w+", source)
    if found:
        return found
    for node in ast.walk(ast.parse(source)):
        chain = chain_of(node)
        if chain.endswith(FORBIDDEN_ENDS) or chain.split(".")[-1] in FORBIDDEN_NAMES:
            found.append(chain)
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            found += [name for name in modules if name.split(".")[0] in FORBIDDEN_MODULES | FORBIDDEN_NAMES]
    return found


@each([START, *LESSONS, *SOLUTIONS])
def test_cells_use_nothing_forbidden(path):
    assert [name for cell in code_cells(path) for name in forbidden(cell.source)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.path.append('..')",
        "import os\nos.chdir('/tmp')",
        "from os import chdir",
        "import urllib.request",
        "from http import client",
        "torch.hub.load('a', 'b')",
        "import ipywidgets\n@ipywidgets.interact(x=1)\ndef f(x): ...",
        "widgets.Output()",
        "plt.show()",
        "%matplotlib inline",
        "!pip install x",
        "x = 1  # NBVAL_IGNORE_OUTPUT",
    ],
)
def test_forbidden_is_found(source):
    assert forbidden(source)


@pytest.mark.parametrize(("source", "missing"), [("gc.rum(x)", ["rum"]), ("gc.theory.q9", ["theory.q9"])])
def test_missing_names_are_found(source, missing):
    assert missing_names(source) == missing


def test_missing_names_accepts_what_is_there():
    assert missing_names("gc.Config(depth=2)\ngc.theory.gradient_factor\nfrom gradcourse import models") == []


# -- the shape of a lesson --------------------------------------------------------------------------------------------


@each(LESSONS)
def test_lesson_has_a_head(path):
    """Title, question, three outcomes, minutes, what is needed."""
    head = read(path).cells[0]
    assert head.cell_type == "markdown"
    assert head.source.startswith(f"# {path.stem[:2]} · ")
    assert re.search(r"^\*\*Question\.\*\* [^\n]*\?", head.source, re.MULTILINE)
    outcomes = head.source.split("**After this lesson you can**")[1]
    assert len(re.findall(r"^\* ", outcomes, re.MULTILINE)) == 3
    assert re.search(r"\*\*Minutes\*\* \d+", head.source)
    assert "**Needs** " in head.source


@pytest.mark.parametrize(("before", "after"), list(pairwise(LESSONS)), ids=lambda path: path.stem)
def test_lessons_lead_to_each_other(before, after):
    assert re.search(rf"\*\*Next\*\* \[[^]]*\]\({re.escape(after.name)}\)", read(before).cells[0].source)
    assert re.search(rf"\*\*Previous\*\* \[[^]]*\]\({re.escape(before.name)}\)", read(after).cells[0].source)


@each(LESSONS)
def test_lesson_says_what_is_not_fixed_and_sums_up(path):
    headings = [line for text in markdown(path) for line in text.splitlines() if line.startswith("#")]
    assert any("What this does not fix" in line for line in headings)
    assert any("Summary" in line for line in headings)


@each(LESSONS)
def test_lesson_leads_to_its_sheet(path):
    sheet = f"../exercises/{path.stem}/{path.name}"
    assert not (path.parent / sheet).exists() or any(sheet in text for text in markdown(path))


@each([START, *LESSONS, *SOLUTIONS])
def test_set_up_is_the_first_code_cell(path):
    first, *others = code_cells(path)
    assert "import gradcourse as gc" in first.source.splitlines()
    assert not any("import gradcourse as gc" in cell.source for cell in others)


@each(LESSONS)
def test_lesson_defines_no_class_and_no_long_function(path):
    nodes = [node for cell in code_cells(path) for node in ast.walk(ast.parse(cell.source))]
    assert not any(isinstance(node, ast.ClassDef) for node in nodes)
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    assert all(node.end_lineno - node.lineno < LONGEST_FUNCTION for node in functions)


@each([START, *LESSONS, *SOLUTIONS, *SHEETS])
def test_links_to_files_lead_somewhere(path):
    links = [link for text in markdown(path) for link in re.findall(r"\]\(([^)#\s]+)", text)]
    files = [link for link in links if not link.startswith(("http://", "https://", "attachment:"))]
    assert [link for link in files if not (path.parent / link).exists()] == []
