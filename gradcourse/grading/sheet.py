"""A sheet as the grader holds it: its questions, what a released copy looks like, its cases."""

import ast
import hashlib
import hmac
import importlib.util
import symtable
from pathlib import Path

import cloudpickle
import numpy as np

from gradcourse.grading.notebook import code_cells
from gradcourse.sheets import module_of, questions
from gradcourse.sheets.key import AnswerKey

VARIANTS = 16
"""Sets of hidden cases; which of them a submission meets follows from the secret and its student."""


_TEST = "result = gc.check("  # how the test cell of a question begins


class NoSheet(ValueError):
    """There is no such sheet, or what the grader needs of it is not at hand; the text says what."""


class Sheet:
    """One sheet: questions, visible and hidden cases, the released notebook.

    Attributes:
        slug: of the sheet.
        questions: id -> Question.
    """

    def __init__(self, slug, secret, course=None):
        """Load a sheet.

        Args:
            slug: such as "03_sigmoid_tanh_vanishing".
            secret: str that the hidden cases are drawn by.
            course: the folder that holds solutions/ and exercises/; None: the one that this package lies in.

        Raises:
            NoSheet: when there is no such sheet, or no hidden.py or released notebook of it.
        """
        course = Path(course) if course else Path(__file__).parents[2]
        try:
            self.questions = questions(slug)
        except KeyError as error:
            raise NoSheet(f"grade {slug}: {error.args[0]}") from None
        self.slug, self._secret = slug, secret.encode()
        self._draw = _hidden(course / "solutions" / slug / "hidden.py", slug)
        self._released = _released(course / "exercises" / slug / f"{slug}.ipynb")
        cloudpickle.register_pickle_by_value(module_of(slug))  # its file holds the oracles: no submission can read it
        self.visible = {id: Cases(question, question.cases()) for id, question in self.questions.items()}
        self._variants = {}

    def hidden(self, student):
        """Return the hidden Cases that a student's submission meets, by question."""
        digest = hmac.new(self._secret, f"{self.slug}/{student}".encode(), hashlib.sha256).digest()
        variant = int.from_bytes(digest[:8], "big") % VARIANTS
        if variant not in self._variants:
            self._variants[variant] = self._drawn(variant)
        return self._variants[variant]

    def _drawn(self, variant):
        seed = hmac.new(self._secret, f"{self.slug}#{variant}".encode(), hashlib.sha256).digest()
        cases = self._draw(np.random.default_rng(int.from_bytes(seed[:16], "big")))
        own = {id: [case for case in cases if case.question == id] for id in self.questions}
        return {id: Cases(self.questions[id], cases) for id, cases in own.items()}

    def is_untouched(self, cell):
        """Whether a cell is one of the released sheet's, as it was released."""
        return cell.source.strip() in self._released

    def cells_to_run(self, cells):
        """Return (number, source) of the cells that have to be run.

        Test cells need not, and cells of the sheet that nobody has changed only if another cell uses what they define.
        """
        own = [cell for cell in cells if not (self._is_only_to_look_at(cell) or self._is_test(cell))]
        used = set().union(*(names_used(cell.source) for cell in own))
        return [
            (number, cell.source)
            for number, cell in enumerate(cells)
            if not self._is_test(cell)
            and not (self._is_only_to_look_at(cell) and names_set(cell.source).isdisjoint(used))
        ]

    def _is_test(self, cell):
        return cell.id.removesuffix("-test") in self.questions and cell.source.startswith(_TEST)

    def _is_only_to_look_at(self, cell):
        return self.is_untouched(cell) and cell.id not in self.questions and not _only_imports(cell.source)


class Cases:
    """Cases of a question, ready to be sent, with their answer key.

    Attributes:
        key: their AnswerKey.
        pickled: the list of their arguments, for a process that trusts the grader. Nothing is ever unpickled here.
    """

    def __init__(self, question, cases):
        self.key = AnswerKey(question, cases)
        self.pickled = cloudpickle.dumps([case.arguments for case in self.key.cases])


def _hidden(path, slug):
    """Return the function that draws hidden cases."""
    if not path.is_file():
        raise NoSheet(
            f"grade {slug}: no {path}; hidden cases stay with the instructor's copy: name its folder by --course"
        )
    spec = importlib.util.spec_from_file_location(f"hidden_{slug}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # not in sys.modules, so that its functions are sent by value
    return module.cases


def _released(path):
    """Return the sources of the released sheet's code cells."""
    if not path.is_file():
        raise NoSheet(f"grade: no {path}, the sheet as it was released: run gradcourse build")
    return {cell.source.strip() for cell in code_cells(path.read_bytes())[0]}


def _tree(source):
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _only_imports(source):
    tree = _tree(source)
    return tree is not None and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body)


def names_used(source):
    """Return the names that a cell takes from outside of its own functions; all its words where it is not Python."""
    try:
        table = symtable.symtable(source, "cell", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        letters = (letter if letter.isidentifier() or letter.isdigit() else " " for letter in source)
        return set("".join(letters).split())
    return set(_global_names(table))


def _global_names(table):
    outermost = table.get_type() == "module"
    yield from (
        name.get_name() for name in table.get_symbols() if name.is_referenced() and (outermost or name.is_global())
    )
    for inner in table.get_children():
        yield from _global_names(inner)


def names_set(source):
    """Return the names that a cell of the sheet binds."""
    tree = _tree(source)
    nodes = ast.walk(tree) if tree else ()
    bound = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    functions = (ast.FunctionDef, ast.ClassDef)
    return bound | {node.name for node in (tree.body if tree else ()) if isinstance(node, functions)}
