"""The rules of tests/conftest.py: slow tests on demand, no unlisted skip in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
INNER = """
import pytest
if {at_import}:
    pytest.importorskip("no_such_module", reason="not here")

def test_runs():
    pass

@pytest.mark.skipif({skipped}, reason="not today")
def test_is_skipped():
    pass

@pytest.mark.xfail(reason="known")
def test_fails_as_expected():
    assert False

@pytest.mark.slow
def test_is_slow():
    pass
"""


@pytest.fixture
def inner(tmp_path):
    """Run a small test file under our conftest; return the exit code and what was printed."""

    def run(*arguments, ci="", slow="", skipped=False, at_import=False):
        for name in ("conftest.py", "nbval_variants.py"):
            (tmp_path / name).write_text((TESTS / name).read_text(encoding="utf-8"), encoding="utf-8")
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
        (tmp_path / "test_inner.py").write_text(INNER.format(skipped=skipped, at_import=at_import))
        command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "xdist", *arguments]
        # Only the plugins named are loaded: the rules must not depend on what else is installed.
        rules = {"CI": ci, "RUN_SLOW": slow, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        cleared = {"CI", "RUN_SLOW", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"}
        kept = {name: value for name, value in os.environ.items() if name not in cleared}
        done = subprocess.run(command, cwd=tmp_path, env=kept | rules, capture_output=True, text=True)
        return done.returncode, done.stdout

    return run


def test_skip_outside_ci_is_a_skip(inner):
    code, output = inner(skipped=True)
    assert code == 0
    assert "1 skipped" in output


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_skip_in_ci_fails(inner, workers):
    code, output = inner(*workers, ci="true", skipped=True)
    assert code == 1
    assert "not listed in ALLOWED_SKIPS of tests/conftest.py: Skipped: not today" in output


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_skipped_file_in_ci_fails(inner, workers):
    code, output = inner(*workers, ci="true", at_import=True)
    assert code != 0
    assert "not listed in ALLOWED_SKIPS" in output


def test_ci_without_skips_passes_and_leaves_slow_tests_out(inner):
    code, output = inner(ci="true")
    assert code == 0
    assert "2 passed" in output
    assert "1 deselected" in output
    assert "1 xfailed" in output


@pytest.mark.parametrize(
    ("arguments", "slow", "ran"), [((), "1", "3 passed"), (("-m", "slow"), "", "1 passed")], ids=["RUN_SLOW", "-m slow"]
)
def test_slow_tests_run_when_asked_for(inner, arguments, slow, ran):
    code, output = inner(*arguments, slow=slow)
    assert code == 0
    assert ran in output


def test_the_variant_of_this_run_is_printed(inner):
    assert "nbval variants of this run: plain, " in inner()[1]
