"""Execute lessons and solutions, bring them to one normal form, derive the sheets from the solutions.

The single sources are notebooks/<slug>.ipynb, solutions/<slug>/<slug>.ipynb and solutions/<slug>/hidden.py.
exercises/<slug>/<slug>.ipynb is derived, by nbgrader's conventions: its `generate_assignment` gives the same cells.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

REPOSITORY = Path(__file__).resolve().parent.parent
SIZE_BUDGET = 500_000  # bytes of a stored notebook
CELL_SECONDS = 600  # a cell that takes longer hangs

KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE_INFO = {  # what a kernel reports, less the Python version
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
CELL_METADATA = ("nbgrader", "tags")  # all else is a trace of the editor
NBGRADER_KEYS = {"grade", "grade_id", "locked", "schema_version", "solution"}  # of every cell that nbgrader knows
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # names a model that is not stored
CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"  # nbgrader's
TEXT_STUB = "YOUR ANSWER HERE"  # nbgrader's


class AuthoringError(Exception):
    """What an author has to mend, in one line."""


@dataclass(frozen=True)
class Source:
    """One notebook that authors write, and where what is derived from it lies."""

    path: Path
    sheet: Path | None = None  # only a solution has one

    @property
    def hidden(self) -> Path:
        """Where the hidden cases of a solution are."""
        return self.path.parent / "hidden.py"


def build(check: bool = False, paths: list[Path] | None = None, root: Path = REPOSITORY) -> int:
    """Build lessons, solutions and sheets, or only say which are stale; print one line per file.

    Args:
        check: execute nothing and write nothing; say what is stale.
        paths: lessons, solutions or sheets to take; all of them if None or empty.
        root: the repository.

    Returns:
        The exit code: 0, or 1 if a file is stale or could not be built.
    """
    try:
        chosen = _choose(paths, root)
    except AuthoringError as error:
        print(f"gradcourse build: {error}")
        return 1
    bad = 0
    for source in chosen:
        bad += _check(source, root) if check else _build(source, root)
    bad += 0 if paths else _report_orphans(root)
    if check and not bad:
        print("nothing is stale")
    return 1 if bad else 0


def sources(root: Path = REPOSITORY) -> list[Source]:
    """List the lessons, then the solutions, each in the order of its slug."""
    lessons = [Source(path) for path in sorted((root / "notebooks").glob("*.ipynb"))]
    folders = sorted(path.parent for path in (root / "solutions").glob("*/*.ipynb"))
    slugs = [slug for slug, _ in groupby(folder.name for folder in folders)]
    return lessons + [Source(_in_folder(root / "solutions", s), _in_folder(root / "exercises", s)) for s in slugs]


def _in_folder(parent: Path, slug: str) -> Path:
    return parent / slug / f"{slug}.ipynb"


def _choose(paths: list[Path] | None, root: Path) -> list[Source]:
    """Find the sources of the files asked for; a sheet stands for its solution."""
    every = sources(root)
    if not every:
        raise AuthoringError(f"no notebooks/ or solutions/ with notebooks in {root}: run it in the repository")
    if not paths:
        return every
    home = {file.resolve(): source for source in every for file in (source.path, source.sheet) if file}
    unknown = [str(path) for path in paths if Path(path).resolve() not in home]
    if unknown:
        raise AuthoringError(f"{unknown[0]} is no lesson, solution or sheet of {root}: name an .ipynb file of them")
    return list(dict.fromkeys(home[Path(path).resolve()] for path in paths))


# -- one file ---------------------------------------------------------------------------------------------------------


def _build(source: Source, root: Path) -> int:
    name = source.path.relative_to(root).as_posix()
    try:
        notebook = _with_hidden(source, read(source.path))
        execute(notebook, source.path.parent)
        notebook = normalize(notebook)
        notebook.metadata["gradcourse"] = {"code": code_hash(notebook)}
        for fault in faults(notebook):
            raise AuthoringError(fault)
        sheet = derive(notebook) if source.sheet else None
    except AuthoringError as error:
        print(f"failed: {name}: {error}")
        return 1
    _write(source.path, text(notebook), root)
    if sheet:
        _write(source.sheet, text(sheet), root)
    return 0


def _check(source: Source, root: Path) -> int:
    name = source.path.relative_to(root).as_posix()
    try:
        found = read(source.path)
        wanted = normalize(_with_hidden(source, found))
        stale = "; ".join(_staleness(found, wanted, source.path))
        sheet = derive(wanted) if source.sheet else None
    except AuthoringError as error:
        print(f"stale: {name}: {error}")
        return 1
    if stale:
        print(f"stale: {name}: {stale}")
    return int(bool(stale)) + (_check_sheet(source.sheet, text(sheet), root) if sheet else 0)


def _check_sheet(path: Path, wanted: str, root: Path) -> int:
    name, solution = path.relative_to(root).as_posix(), f"solutions/{path.parent.name}/{path.name}"
    if not path.is_file():
        print(f"stale: {name}: missing; `gradcourse build {solution}` derives it")
    elif path.read_text(encoding="utf-8") != wanted:
        print(f"stale: {name}: not what is derived from {solution}")
    else:
        return 0
    return 1


def _report_orphans(root: Path) -> int:
    """Say which files under exercises/ have no source; nothing is deleted."""
    derived = {source.sheet for source in sources(root)}
    found = [path for path in (root / "exercises").rglob("*") if path.is_file() and path not in derived]
    names = [path.relative_to(root) for path in found]
    orphans = [name for name in sorted(names) if not any(part.startswith(".") for part in name.parts)]
    for name in orphans:
        print(f"stale: {name.as_posix()}: has no source in solutions/; delete it")
    return len(orphans)


def _staleness(found: NotebookNode, wanted: NotebookNode, path: Path) -> Iterator[str]:
    """Say what in a stored notebook is not as `build` would leave it."""
    yield from faults(wanted)
    if found.metadata.get("gradcourse") != {"code": code_hash(found)}:
        yield "the outputs are not from the present code"
        return  # all else may come from that
    changed = list(_differences(found, wanted))
    yield from changed
    if not changed and path.read_text(encoding="utf-8") != text(wanted):
        yield "not formatted as nbformat writes it"


def _differences(found: NotebookNode, wanted: NotebookNode) -> Iterator[str]:
    if found.metadata != wanted.metadata or found.get("nbformat_minor") != wanted.nbformat_minor:
        yield "the notebook's metadata is not in normal form"
    for old, new in zip(found.cells, wanted.cells, strict=True):
        keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if "source" in keys:  # only the hidden region is ever written for the author
            yield f"cell {new.id}: HIDDEN TESTS are not what hidden.py gives"
        elif keys:
            yield f"cell {new.id}: {', '.join(keys)} not in normal form"


# -- reading and writing ----------------------------------------------------------------------------------------------


def read(path: Path) -> NotebookNode:
    """Read a notebook of format 4 without repairing it."""
    try:
        raw = path.read_text(encoding="utf-8")
        if json.loads(raw).get("nbformat") != 4:
            raise AuthoringError("not a notebook of format 4: save it again with JupyterLab")
        return nbformat.v4.reads(raw)
    except FileNotFoundError:
        raise AuthoringError("missing: a folder in solutions/ holds a notebook of its own name") from None
    except (ValueError, AttributeError) as error:
        raise AuthoringError(f"not a notebook: {_one_line(error)}") from None


def text(notebook: NotebookNode) -> str:
    """Write a notebook as nbformat and JupyterLab do: sorted keys, one space of indent, a newline at the end."""
    return nbformat.v4.writes(notebook) + "\n"


def _write(path: Path, content: str, root: Path) -> None:
    """Replace a file in one step and print what became of it."""
    name = path.relative_to(root).as_posix()
    if path.is_file() and path.read_bytes() == content.encode():
        print(f"unchanged: {name}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content.encode())
    os.replace(part, path)
    print(f"built: {name}")


def code_hash(notebook: NotebookNode) -> str:
    """SHA-256 over the sources of all code cells, in order."""
    return hashlib.sha256(json.dumps([cell.source for cell in _code(notebook)]).encode()).hexdigest()


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _one_line(error: object) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


# -- executing --------------------------------------------------------------------------------------------------------


class _ThisInterpreter(AsyncKernelManager):
    """A kernel of the Python that runs `build`, whatever kernels the user has registered."""

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Run every code cell in a fresh kernel and store the outputs.

    Raises:
        AuthoringError: a cell raised, hung or ended the kernel; the message names the cell.
    """
    reached = ["(none)"]
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        kernel_manager_class=_ThisInterpreter,
        store_widget_state=False,  # one widget stored 5 MB
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # its warnings are about the kernel's sockets
        on_cell_execute=lambda cell, cell_index: reached.append(cell.get("id", f"number {cell_index}")),
    )
    try:
        with tempfile.TemporaryDirectory() as profile:  # the author's own IPython start-up files stay out
            client.execute(env=os.environ | {"IPYTHONDIR": profile, "GRADCOURSE_UNATTENDED": "1"})
    except CellExecutionError as error:
        raise AuthoringError(f"cell {reached[-1]}: {error.ename}: {_one_line(error.evalue)}") from None
    except CellTimeoutError:
        raise AuthoringError(f"cell {reached[-1]}: still running after {CELL_SECONDS} s") from None
    except DeadKernelError:
        raise AuthoringError(f"cell {reached[-1]}: the kernel died (out of memory, or os._exit)") from None


# -- the normal form --------------------------------------------------------------------------------------------------


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Give the one form in which a notebook with these cells and outputs is stored."""
    result = copy.deepcopy(notebook)
    stamp = result.metadata.get("gradcourse")
    result.metadata = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    result.metadata |= {"gradcourse": stamp} if stamp else {}
    result.nbformat, result.nbformat_minor = 4, 5
    for index, cell in enumerate(result.cells):
        _normalize_cell(cell, index)
    count = 0
    for cell in _code(result):
        count += bool(cell.source.strip())  # Jupyter does not count empty cells
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = list(_normalize_outputs(cell.get("outputs", []), cell.execution_count))
    return nbformat.from_dict(result)


def _normalize_cell(cell: NotebookNode, index: int) -> None:
    kept = {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)}
    if "nbgrader" in kept:  # these two belong to a released sheet
        kept["nbgrader"] = {k: v for k, v in kept["nbgrader"].items() if k not in ("checksum", "cell_type")}
    cell.metadata = kept
    cell.id = kept.get("nbgrader", {}).get("grade_id") or cell.get("id") or f"cell-{index}"


def _normalize_outputs(outputs: list[NotebookNode], count: int | None) -> Iterator[NotebookNode]:
    """Merge neighbouring streams of one name; drop widget views, whose models are not stored."""
    for stream, group in groupby(outputs, key=lambda output: output.get("name")):
        merged = list(group)
        if stream:
            merged[0].text = "".join(output.text for output in merged)
            del merged[1:]
        for output in merged:
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
            if output.output_type == "execute_result":
                output.execution_count = count
            yield output


def faults(notebook: NotebookNode) -> Iterator[str]:
    """Say what a notebook in normal form still has that only its author can mend."""
    size = len(text(notebook).encode())
    if size > SIZE_BUDGET:
        yield f"{size // 1000} KB stored, allowed are {SIZE_BUDGET // 1000} KB: fewer or smaller figures"
    ids = [cell.id for cell in notebook.cells]
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"cell {name}: {ids.count(name)} cells have this id; each needs its own"
    for cell in notebook.cells:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.id):
            yield f"cell {cell.id}: an id is 1 to 64 letters, digits, - and _"
        if "nbgrader" in cell.metadata and not set(cell.metadata.nbgrader) >= NBGRADER_KEYS:
            yield f"cell {cell.id}: its nbgrader metadata lacks {sorted(NBGRADER_KEYS - set(cell.metadata.nbgrader))}"
    for cell in _code(notebook):
        yield from (f"cell {cell.id}: {fault}" for output in cell.outputs for fault in _output_faults(output))
    invalid = next(nbformat.validator.iter_validate(notebook, version=4, version_minor=5), None)
    if invalid:
        yield f"not valid nbformat: {_one_line(invalid)}"


def _output_faults(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "error":
        yield f"ends in {output.ename}: {_one_line(output.evalue)}"
    if output.get("name") == "stderr":
        yield f"writes to standard error: {_one_line(output.text)}"
    if "data" in output and "text/plain" not in output.data:
        yield "an output has no text/plain, so nothing is compared"
    if "image/png" in output.get("data", {}) and not output.metadata.get("image/png", {}).get("alt", "").strip():
        yield 'an image has no alt text in its metadata["image/png"]["alt"]: draw it with a plot of gradcourse'


# -- hidden tests -----------------------------------------------------------------------------------------------------


def _with_hidden(source: Source, notebook: NotebookNode) -> NotebookNode:
    """Put what hidden.py gives into the test cells of a solution."""
    if not source.sheet or not source.hidden.is_file():
        return notebook
    result, cases = copy.deepcopy(notebook), _embed(source.hidden.read_text(encoding="utf-8"))
    for cell in result.cells:
        if _flag(cell, "grade") and not _flag(cell, "solution"):
            cell.source = _place(cell, cases)
    return result


def _embed(hidden: str) -> str:
    """Turn hidden.py into the body of one function, so that its names stay out of the notebook."""
    try:
        lines = hidden.splitlines()
        tree = ast.parse(hidden)
        if ast.get_docstring(tree) is not None:
            lines = lines[tree.body[0].end_lineno :]
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines).strip("\n"))
        function = "def hidden_cases(seed):\n" + textwrap.indent(body, "    ")
        compile(function, "hidden.py", "exec")
    except SyntaxError as error:
        raise AuthoringError(f"hidden.py can't stand inside a function: {error.msg}") from None
    if _meaning(ast.parse(function).body[0]) != _meaning(tree):
        raise AuthoringError("hidden.py: a string of several lines changes when it is indented; join shorter ones")
    return function + "\n\n    from numpy.random import default_rng\n\n    return cases(default_rng(seed))"


def _meaning(tree: ast.AST) -> list[str]:
    """Dump the statements of a module or function without any docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return [ast.dump(statement) for statement in tree.body]


def _place(cell: NotebookNode, cases: str) -> str:
    """Write the hidden region behind the line `result = gc.check(...)` of a test cell."""
    name = cell.metadata.nbgrader["grade_id"]
    released = _cut(cell.source, "HIDDEN TESTS", name)
    end, question, answer = _check_line(released, name)
    seed = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16)
    region = [
        "### BEGIN HIDDEN TESTS",
        f"hidden_seed = {seed}",
        "",
        "",
        "# fmt: off",  # made from hidden.py, which is formatted; indenting it moves line breaks
        *cases.splitlines(),
        "",
        "",
        f"result = gc.sheets.add_hidden(result, {answer}, hidden_cases(hidden_seed))",
        "del hidden_cases, hidden_seed",
        "# fmt: on",
        "### END HIDDEN TESTS",
    ]
    lines = released.split("\n")
    return "\n".join(lines[:end] + region + lines[end:])


def _check_line(source: str, name: str) -> tuple[int, str, str]:
    """Find the last line of `result = gc.check(ID, ANSWER)`, ID and ANSWER in a test cell."""
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise AuthoringError(f"cell {name}: {error.msg}, line {error.lineno}") from None
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name("result")], value=ast.Call(ast.Attribute(attr="check"), [first, answer])):
                question = getattr(first, "value", None)
                if f"{question}-test" != name:
                    raise AuthoringError(f"cell {name}: it checks {question!r}; its id must be {question}-test")
                if ast.unparse(statements[-1]) != "result.award()":
                    raise AuthoringError(f"cell {name}: the last line must be `result.award()`")
                return statement.end_lineno, question, ast.unparse(answer)
    raise AuthoringError(f"cell {name}: no line `result = gc.check({name.removesuffix('-test')!r}, ANSWER)`")


# -- deriving a sheet -------------------------------------------------------------------------------------------------


def derive(solution: NotebookNode) -> NotebookNode:
    """Make the learner's sheet: stubs for answers, no hidden tests, no outputs, cells locked as nbgrader does."""
    sheet = copy.deepcopy(solution)
    for cell in sheet.cells:
        cell.source = _cut(_stubbed(cell), "HIDDEN TESTS", cell.id, allowed=_flag(cell, "grade"))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if _flag(cell, "grade") or _flag(cell, "solution") or _flag(cell, "locked"):
            _lock(cell)
    return sheet


def _flag(cell: NotebookNode, name: str) -> bool:
    return bool(cell.metadata.get("nbgrader", {}).get(name, False))


def _stubbed(cell: NotebookNode) -> str:
    """Replace the solution by nbgrader's stub; an answer cell without markers is all solution."""
    stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
    source = _cut(cell.source, "SOLUTION", cell.id, stub, allowed=_flag(cell, "solution"))
    return stub if _flag(cell, "solution") and source == cell.source else source


def _cut(source: str, region: str, name: str, stub: str = "", *, allowed: bool = True) -> str:
    """Replace the lines from BEGIN `region` to END `region` by a stub, indented like BEGIN."""
    kept, inside, found = [], False, False
    for line in source.split("\n"):
        marker = next((word for word in ("BEGIN", "END") if f"{word} {region}" in line), None)
        if marker and (marker == "END") != inside:
            raise AuthoringError(f"cell {name}: {line.strip()!r} without its partner")
        if marker == "BEGIN" and stub:
            kept += textwrap.indent(stub, re.match(r"\s*", line).group()).split("\n")
        if not marker and not inside:
            kept.append(line)
        inside, found = (marker == "BEGIN") if marker else inside, found or bool(marker)
    if inside:
        raise AuthoringError(f"cell {name}: '### BEGIN {region}' without its partner")
    if found and not allowed:
        kind = "answer" if region == "SOLUTION" else "test"
        raise AuthoringError(f"cell {name}: {region} markers, but its nbgrader metadata does not make it a {kind} cell")
    return "\n".join(kept)


def _lock(cell: NotebookNode) -> None:
    """Add what a released nbgrader cell has: flags of the editor, cell type, checksum."""
    cell.metadata["deletable"] = False
    if not _flag(cell, "solution"):
        cell.metadata["editable"] = False
    cell.metadata["nbgrader"]["cell_type"] = cell.cell_type
    cell.metadata["nbgrader"]["checksum"] = _checksum(cell)


def _checksum(cell: NotebookNode) -> str:
    """Compute what `compute_checksum` in nbgrader 0.9.6 (nbgrader/utils.py) gives."""
    grade, solution = _flag(cell, "grade"), _flag(cell, "solution")
    locked = not solution and (grade or _flag(cell, "locked"))
    parts = [cell.source, cell.cell_type, str(grade), str(solution), str(locked), cell.metadata.nbgrader["grade_id"]]
    parts += [str(float(cell.metadata.nbgrader["points"]))] if grade else []
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()
