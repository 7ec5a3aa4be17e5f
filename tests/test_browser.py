"""Lessons in a real browser, as a learner sees them."""

import json
import sys
from pathlib import Path

import pytest
from browsing import CHROMIUM, code_cells, notebook_of, opened, run_all_cells
from test_workspace import free_port, running_lab

from gradcourse import journal
from gradcourse.workspace.copies import copy_course

pytestmark = pytest.mark.browser

REPOSITORY = Path(__file__).parents[1]
PROBE = notebook_of(
    "import sys\nsys.prefix",
    "import matplotlib.pyplot as plt\nax = plt.figure().add_subplot()\nax.semilogy([1e-9, 1e-3, 1])",
)


def without_outputs(path):
    """A lesson as it is before its first run: what is seen afterwards comes from the run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for one in notebook["cells"]:
        if one["cell_type"] == "code":
            one["outputs"], one["execution_count"] = [], None
    return notebook


def saved_figures(path):
    """The ends of the PNGs in a saved notebook, without stills, which a living widget hides."""
    outputs = [output for one in code_cells(path) for output in one["outputs"]]
    outputs = [one for one in outputs if "gradcourse-still" not in "".join(one.get("data", {}).get("text/html", ""))]
    figures = ["".join(output["data"]["image/png"]) for output in outputs if "image/png" in output.get("data", {})]
    return {figure.strip()[-60:] for figure in figures}


def drawn_figures(page):
    """The ends of the PNGs that the browser draws, decoded without an error and large enough to read.

    JupyterLab may draw only what is in view: scroll from the top to the bottom.
    """
    large = "i.complete && i.naturalWidth > 200 && i.getBoundingClientRect().width > 200"  # a hidden one has no width
    script = f"images => images.filter(i => {large}).map(i => i.src.trim())"
    window = page.locator(".jp-WindowedPanel-outer").first
    found = set()
    for position in range(0, 100_000, 400):
        bottom = window.evaluate("(e, y) => { e.scrollTop = y; return e.scrollTop + e.clientHeight }", position)
        page.wait_for_timeout(50)
        found |= {source[-60:] for source in page.locator(".jp-OutputArea-output img").evaluate_all(script)}
        if bottom >= window.evaluate("e => e.scrollHeight") - 1:
            break
    return found


def take_picture(page, path):
    """Save what the window shows around its first figure, for the eyes of whoever ran the test."""
    page.locator(".jp-OutputArea-output img").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.screenshot(path=path)


def lessons():
    """The first lesson; the others are slow."""
    names = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("[0-9]*.ipynb"))
    return ["probe", names[0], *(pytest.param(name, marks=pytest.mark.slow) for name in names[1:])]


if CHROMIUM or sys.platform == "linux":  # elsewhere a browser is not asked for

    @pytest.mark.parametrize("name", lessons())
    def test_run_all_cells_shows_figures_and_no_popup(name, page, tmp_path):
        notebook = PROBE if name == "probe" else without_outputs(REPOSITORY / "notebooks" / f"{name}.ipynb")
        path = tmp_path / "my course" / f"{name}.ipynb"
        path.parent.mkdir()
        path.write_text(json.dumps(notebook), encoding="utf-8")
        with opened(page, path, tmp_path / "home"):
            run_all_cells(page, path)
            popups = page.locator(".jp-Dialog, .Toastify__toast").all_inner_texts()
            figures = drawn_figures(page)
            take_picture(page, tmp_path / f"{name}.png")
        outputs = [output for one in code_cells(path) for output in one["outputs"]]
        assert [output for output in outputs if output["output_type"] == "error"] == []
        assert [output for output in outputs if output.get("name") == "stderr"] == []
        assert popups == []
        assert figures == saved_figures(path) != set()
        if name == "probe":
            assert outputs[0]["data"]["text/plain"] == [repr(sys.prefix)]

    @pytest.mark.slow
    def test_start_page_shows_what_was_done_and_leads_on(page, tmp_path, monkeypatch):
        kept = {"GRADCOURSE_UNATTENDED": "0", "GRADCOURSE_DATA_DIR": str(tmp_path / "data")}
        for name, value in kept.items():
            monkeypatch.setenv(name, value)
        copy_course(REPOSITORY, tmp_path / "mine")
        path = tmp_path / "mine" / "notebooks" / "start.ipynb"
        with running_lab(path, "--port", free_port(), home=tmp_path / "home", **kept) as lab:
            page.goto(lab.url)
            step = page.locator(".jp-OutputArea-output a").first
            step.wait_for(timeout=120_000)
            assert step.inner_text().startswith("Begin lesson 00")
            for id in ("00-p1", "00-p2"):
                journal.note("prediction", id, guess=1.0)
            page.reload()
            step.wait_for(timeout=120_000)
            page.screenshot(path=tmp_path / "start.png")
            assert step.inner_text().startswith("Begin lesson 01")
            step.focus()
            page.keyboard.press("Enter")
            page.locator(".lm-TabBar-tabLabel", has_text="01_gradients_you_can_trust.ipynb").wait_for(timeout=60_000)

    def with_explorer():
        names = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("0[2-9]*.ipynb"))
        return [pytest.param(name, marks=pytest.mark.slow if name[:2] != "03" else ()) for name in names]

    @pytest.mark.parametrize("name", with_explorer())
    def test_exported_lesson_shows_its_explorer_as_a_still(name, page, tmp_path):
        from nbconvert import HTMLExporter

        lesson = REPOSITORY / "notebooks" / f"{name}.ipynb"
        (cell,) = [one for one in code_cells(lesson) if one["id"].endswith("-explorer")]
        path = tmp_path / "lesson.html"
        path.write_text(HTMLExporter().from_filename(str(lesson))[0], encoding="utf-8")
        page.route("http*://**", lambda route: route.abort())  # the page asks for MathJax
        page.goto(path.as_uri(), wait_until="domcontentloaded")
        outputs = page.locator(".jp-OutputArea", has_text="".join(cell["outputs"][1]["text"]).strip())
        still = outputs.locator("img")
        still.wait_for()
        assert still.bounding_box()["width"] > 400
        still.screenshot(path=tmp_path / f"{name}.png")
