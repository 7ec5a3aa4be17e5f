"""Imports inside the package point one way, and importing it alone is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "gradcourse"

# What each part may import. A new part gets a line here: think about which way it points.
EVERYTHING = None
MAY_IMPORT = {
    "__init__": EVERYTHING,  # hands names on, lazily
    "__main__": EVERYTHING,  # the command line
    "instructor": {"grading", "workspace"},  # its part for instructors
    "data": set(),
    "initialization": set(),
    "layers": set(),
    "machine": set(),
    "models": {"initialization", "layers"},
    "optimizers": set(),
    "theory": {"models"},
    "trace": set(),
    "readout": {"trace"},
    "reductions": set(),
    "recording": {"models", "readout", "reductions", "trace"},
    "config": {"data", "models", "optimizers"},
    "training": {"config", "data", "models", "optimizers", "recording"},
    "sweeps": {
        *("config", "data", "layers", "models", "optimizers", "readout", "recording", "reductions", "training"),
        "machine",  # how much memory and how many processors are left
    },
    "plots": {"recording", "theory", "trace"},
    "diagnosis": {"recording", "theory", "training"},
    "clinic": {"models", "optimizers", "recording", "sweeps", "training"},
    "journal": set(),
    "predictions": {"journal", "widgets"},
    "widgets": set(),
    "learner": {"journal", "plots"},
    "explorer": {"data", "journal", "models", "plots", "recording", "theory", "training", "widgets"},
    # Questions about traces need them measured; those about optimizers have one as their oracle.
    "sheets": {"clinic", "data", "journal", "models", "optimizers", "recording", "theory", "training"},
    "authoring": set(),
    # A network that was handed in is evaluated anew; so is a learner's record. Reports have the course's colours.
    "grading": {"learner", "plots", "sheets", "training"},
    "workspace": {"learner", "machine"},  # the start page
    "first_experiment": {"diagnosis", "plots", "recording", "theory", "training"},
}
HEAVY = ("torch", "matplotlib", "numpy", "sklearn", "pandas", "xarray", "ipywidgets", "nbformat", "nbclient")


def part_of(path):
    """Name the part that a file belongs to: its module, or the folder it lies in."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def absolute(node, path):
    """List the dotted names that an import statement in a file takes."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level == 0:
        base = node.module
    else:
        parents = ["gradcourse", *path.relative_to(PACKAGE).parts[:-1]]
        base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
    return [f"{base}.{alias.name}" for alias in node.names]


def parts_imported(source, path):
    """Name the parts of gradcourse that a file imports, its own left out."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name.split(".") for node in nodes for name in absolute(node, path)]
    parts = {name[1] for name in names if name[0] == "gradcourse" and len(name) > 1}
    return parts - {part_of(path), "__version__"}


def files():
    return [pytest.param(path, id=path.relative_to(PACKAGE).as_posix()) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize("path", files())
def test_imports_point_one_way(path):
    part = part_of(path)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what gradcourse.{part} may import"
    imported = parts_imported(path.read_text(encoding="utf-8"), path)
    assert MAY_IMPORT[part] is EVERYTHING or imported <= MAY_IMPORT[part]


def test_imports_have_no_cycle():
    order = {name: allowed for name, allowed in MAY_IMPORT.items() if allowed is not EVERYTHING}
    while order:
        free = [name for name, allowed in order.items() if not allowed & set(order)]
        assert free, f"MAY_IMPORT has a cycle among {sorted(order)}"
        for name in free:
            del order[name]


def test_only_the_command_line_knows_explorer_authoring_and_grading():
    for part, allowed in MAY_IMPORT.items():
        if part == "instructor":
            continue  # a part of the command line
        assert allowed is EVERYTHING or not allowed & {"explorer", "authoring", "grading", "workspace"}, part


@pytest.mark.parametrize(
    ("source", "place", "parts"),
    [
        ("from gradcourse import theory as _theory", "plots.py", {"theory"}),
        ("from gradcourse.sheets.check import check", "grading/engine.py", {"sheets"}),
        ("import gradcourse.training", "plots.py", {"training"}),
        ("from . import training", "plots.py", {"training"}),
        ("from .training import run", "plots.py", {"training"}),
        ("from ..training import run", "sheets/check.py", {"training"}),
        ("from .question import Case", "sheets/check.py", set()),
        ("def f():\n    from gradcourse import explorer", "plots.py", {"explorer"}),
        ("import numpy", "plots.py", set()),
    ],
)
def test_imports_are_read(source, place, parts):
    assert parts_imported(source, PACKAGE / place) == parts


def test_importing_the_package_loads_nothing_heavy():
    code = f"import gradcourse, sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
