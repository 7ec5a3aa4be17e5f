"""A sheet as a learner does it, in a real browser: a wrong answer, a right one, and what is kept."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from browsing import CHROMIUM, browser_page, opened, run_cell, wait_for_kernel
from wrong_answers import sigmoid_tanh_vanishing as bank

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[1]
SLUG = "03_sigmoid_tanh_vanishing"


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def place_of(path, id):
    """The number of a cell in the notebook."""
    return [cell["id"] for cell in cells_of(path)].index(id)


if CHROMIUM or sys.platform == "linux":  # elsewhere a browser is not asked for

    @pytest.fixture
    def page():
        if CHROMIUM is None:
            pytest.skip("no Chromium on this machine")
        with browser_page() as page:
            yield page

    def answer(page, path, source):
        """Write an answer into the cell of the first question, check it, and return what the check says."""
        place = place_of(path, "03-q1")
        run_cell(page, place, source)
        return run_cell(page, place + 1)

    def test_a_wrong_answer_is_named_and_a_right_one_passes(page, tmp_path):
        path = tmp_path / "exercises" / SLUG / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / "exercises" / SLUG / path.name, path)
        with opened(page, path, tmp_path / "home"):
            run_cell(page, place_of(path, "setup"))
            wrong, message = WRONG
            assert message in answer(page, path, wrong)
            assert "passed" in answer(page, path, RIGHT)
