"""A sheet as a learner does it, in a real browser: a wrong answer, a right one, and what is kept."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from browsing import CHROMIUM, opened, run_cell, wait_for_kernel

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REPOSITORY = Path(__file__).parents[1]
SLUG = "03_sigmoid_tanh_vanishing"
WRONG = """def layer_factor(slope, weight_variance, q):
    return 0.25
"""
RIGHT = """def layer_factor(slope, weight_variance, q):
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return np.sqrt(weight_variance * np.sum(weights * slope(np.sqrt(q) * nodes) ** 2) / np.sqrt(2 * np.pi))
"""


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def place_of(path, id):
    """The number of a cell in the notebook."""
    return [cell["id"] for cell in cells_of(path)].index(id)


if CHROMIUM or sys.platform == "linux":  # elsewhere a browser is not asked for

    def answer(page, path, source):
        """Write an answer into the cell of the first question, check it, and return what the check says."""
        place = place_of(path, "03-q1")
        run_cell(page, place, source)
        return run_cell(page, place + 1)

    def questions_passed(page, path):
        """Row of lesson 03 in the learner's progress, as a cell of the notebook prints it."""
        printed = run_cell(page, place_of(path, "03-q2"), "import gradcourse as gc\nprint(gc.learner.start_page())")
        found = [line for line in printed.splitlines() if line.startswith("03")]
        assert found, printed
        return found[0]

    def test_a_wrong_answer_is_named_a_right_one_passes_and_that_is_kept(page, tmp_path):
        path = tmp_path / "exercises" / SLUG / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / "exercises" / SLUG / path.name, path)
        with opened(page, path, tmp_path / "home"):
            run_cell(page, place_of(path, "setup"))
            assert "0.25 is the largest slope of the sigmoid" in answer(page, path, WRONG)
            assert "03-q1: passed" in answer(page, path, RIGHT)
            assert "1 of 4" in questions_passed(page, path)
            page.reload()
            wait_for_kernel(page)
            assert "1 of 4" in questions_passed(page, path)
        again = page.context.browser.new_page()
        with opened(again, path, tmp_path / "home"):
            assert "1 of 4" in questions_passed(again, path)  # by another kernel
