"""Run nbval strictly over one notebook, in the environments in which every stored output must come out again."""

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CELL_SECONDS = 300  # ends a cell that hangs; no cell is meant to come near it

VARIANTS = {
    "plain": {"OMP_NUM_THREADS": "1"},
    "threads2": {"OMP_NUM_THREADS": "2"},
    "default-isa": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
    # and an IPython start-up file:
    "perturbed": {"OMP_NUM_THREADS": "1", "GRADCOURSE_TEST_NOISE": "1"},
    "perturbed-2": {"OMP_NUM_THREADS": "1", "GRADCOURSE_TEST_NOISE": "2"},
}
CLEARED = {"ATEN_CPU_CAPABILITY", "MKL_NUM_THREADS", "PYTEST_ADDOPTS", "PYTHONWARNINGS", "PYTHONSTARTUP"}


def variant_of_the_day():
    """Name the variant that a run without `slow` takes beside plain: each has its turn."""
    others = sorted(set(VARIANTS) - {"plain"})
    return others[date.today().toordinal() % len(others)]


@dataclass(frozen=True)
class Run:
    """What nbval said: its exit code, the outcome of each code cell in order, everything it printed."""

    code: int
    passed: list[bool]
    output: str = field(repr=False)


def environment(variant, folder):
    """Return the environment of a variant; its IPython folder is new, so that no one's start-up files interfere."""
    profile = folder / "ipython"
    perturbed = "GRADCOURSE_TEST_NOISE" in VARIANTS[variant]
    shutil.copytree(TESTS / "variants" / "perturbed", profile) if perturbed else profile.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name not in CLEARED}
    # Without autoload only nbval is plugged into the inner pytest, whatever else is installed.
    own = {"IPYTHONDIR": str(profile), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "GRADCOURSE_UNATTENDED": "1"}
    return inherited | VARIANTS[variant] | own


def run_nbval(notebook, variant, folder):
    """Run nbval over a notebook with the kernel of this interpreter; `folder` is an empty place for what it writes."""
    (folder / "pytest.ini").write_text("[pytest]\n")  # the repository's own settings are not meant for notebooks
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "nbval.plugin", "-p", "no:cacheprovider", "--color=no", "-q"]
    command += ["-c", str(folder / "pytest.ini"), f"--rootdir={folder}", f"--junitxml={report}"]
    command += ["--nbval", "--nbval-current-env", f"--nbval-cell-timeout={CELL_SECONDS}"]
    command += [f"--nbval-sanitize-with={TESTS / 'nbval_sanitize.cfg'}", str(notebook)]
    done = subprocess.run(
        command, cwd=folder, env=environment(variant, folder), capture_output=True, text=True, encoding="utf-8"
    )
    return Run(done.returncode, _outcomes(report), done.stdout + done.stderr)


def _outcomes(report):
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else []
    return [not any(mark.tag in ("failure", "error", "skipped") for mark in case) for case in cases]
