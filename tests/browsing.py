"""A real browser on a real JupyterLab: what the tests and benchmarks that look at pages share."""

import contextlib
import json
import re
import shutil
from pathlib import Path

from test_workspace import free_port, running_lab

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
MINUTES_TO_RUN = 4
KERNEL_IDLE = "(ipykernel) | Idle"  # in the status bar; before the kernel answers, Run does nothing
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def notebook_of(*sources):
    """A notebook of code cells."""
    empty = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [empty | {"id": f"cell-{number}", "source": source} for number, source in enumerate(sources)]
    return {"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}


@contextlib.contextmanager
def browser_page(width=1280, height=1000):
    """A fresh browser window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()


@contextlib.contextmanager
def opened(page, path, home, **variables):
    """JupyterLab on a notebook that is written already, with a kernel that answers and keeps what a learner does."""
    with running_lab(path, "--port", free_port(), home=home, GRADCOURSE_UNATTENDED="0", **variables) as lab:
        page.goto(lab.url)
        wait_for_kernel(page)
        yield lab


def wait_for_kernel(page):
    """Wait until a notebook is shown and its kernel answers."""
    page.locator(".jp-NotebookPanel .jp-Notebook").wait_for(timeout=120_000)
    page.locator("#jp-main-statusbar", has_text=KERNEL_IDLE).wait_for(timeout=120_000)


def code_cells(path):
    """The code cells of a saved notebook that hold code."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    return [one for one in cells if one["cell_type"] == "code" and "".join(one["source"]).strip()]


def run_all_cells(page, path):
    """Run > Run All Cells, wait until the kernel has worked through them, and save."""
    page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator('[data-command="runmenu:run-all"]').click()
    waiting = ["nothing was saved"]
    for _ in range(MINUTES_TO_RUN * 60):
        page.wait_for_timeout(1000)
        page.keyboard.press("Control+s")
        idle = KERNEL_IDLE in page.locator("#jp-main-statusbar").inner_text()
        with contextlib.suppress(json.JSONDecodeError):  # read while it was being saved
            waiting = ["".join(one["source"]) for one in code_cells(path) if not one["execution_count"]]
        if idle and not waiting:
            return
    raise AssertionError(f"idle: {idle}, not run: {waiting}")


def run_cell(page, number, source=None):
    """Run the code cell at this place of the notebook, with another source if one is given; return what it prints."""
    cell = page.locator(f'.jp-Notebook [data-windowed-list-index="{number}"]')
    editor = cell.locator(".cm-content")
    editor.scroll_into_view_if_needed()
    editor.click()
    if source is not None:
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(source)
    prompt = cell.locator(".jp-InputPrompt")
    before = prompt.inner_text()
    page.keyboard.press("Control+Enter")
    for _ in range(600):
        page.wait_for_timeout(100)
        if prompt.inner_text() not in (before, "[*]:", "[ ]:"):
            return "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts())
    raise AssertionError(f"cell {number} did not end: {prompt.inner_text()}")
