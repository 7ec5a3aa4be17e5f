"""The command line: help without torch, one line and exit code 1 for what a user can put right."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradcourse import __main__ as command_line
from gradcourse.workspace import UserError, doctor, places

REPOSITORY = Path(__file__).parents[1]
COMMANDS = ["first", "lab", "doctor", "start", "progress", "build"]
COMMANDS += ["grade", "merge", "export", "gradescope-zip", "bundle", "lab-report", "selftest"]
SLOW_IMPORTS = {"torch", "numpy", "matplotlib", "jupyterlab", "jupyter_client", "nbformat", "nbclient", "psutil"}


def gradcourse(*arguments, capsys):
    """Run the command in this process; return exit code, standard output and standard error."""
    try:
        code = command_line.main(list(map(str, arguments)))
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_slow(arguments):
    code = (
        "import sys\nfrom gradcourse.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stopped:\n    assert stopped.code == 0\n"
        "print('imported:', *sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-c", code, *arguments], encoding="utf-8")
    usage, _, imported = printed.partition("imported:")
    assert usage.startswith(f"usage: gradcourse {arguments[0] if len(arguments) == 2 else '[-h]'}")
    assert SLOW_IMPORTS & set(imported.split()) == set()


def test_python_m_gradcourse_is_the_command():
    done = subprocess.run([sys.executable, "-m", "gradcourse", "--version"], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, f"gradcourse {importlib.import_module('gradcourse').__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lessons"],
        ["start"],
        ["lab", "--port", "0"],
        ["lab", "--port", "70000"],
        ["lab", "--port", "x"],
        ["first", "--seed", "-1"],
        ["first", "--seed", "0.5"],
        ["grade", "03", "submitted"],
        ["grade", "03", "submitted", "-o", "report", "--jobs", "0"],
        ["grade", "03", "submitted", "-o", "report", "--shard", "5/4"],
        ["grade", "03", "submitted", "-o", "report", "--seconds", "-1"],
        ["export", "excel", "report"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    code, out, err = gradcourse(*arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert err.startswith("usage: gradcourse")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab", "missing.ipynb"], "no notebook missing.ipynb"),
        (["start", REPOSITORY / "notebooks"], "is inside the repository"),
        (["first", "--picture", "picture.jpeg"], "name a .png"),
        (["first", "--picture", "missing/picture.png"], "in a folder that exists"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_user_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = gradcourse(*arguments, capsys=capsys)
    assert (code, out) == (1, "")
    assert err.startswith("gradcourse: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_taken_port_is_one_line(capsys, tmp_path):
    import socket

    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": []}), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, _, err = gradcourse("lab", path, "--no-browser", "--port", port, capsys=capsys)
    assert code == 1
    assert err.startswith(f"gradcourse: can't listen on port {port}")
    assert err.count("\n") == 1


def test_a_home_that_can_not_be_written_is_one_line(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps({"cells": []}), encoding="utf-8")
    variables = {name: str(path / "below") for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR")}
    command = [sys.executable, "-m", "gradcourse", "lab", "--no-browser", str(path)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gradcourse: JupyterLab can't write ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["start", "lab"])
def test_without_a_repository_the_message_says_where_lessons_are(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "__file__", str(tmp_path / "site-packages/gradcourse/workspace/places.py"))
    arguments = [command, tmp_path / "mine"] if command == "start" else [command]
    code, _, err = gradcourse(*arguments, capsys=capsys)
    assert code == 1
    assert err.startswith("gradcourse: the lessons are not at hand")
    assert err.count("\n") == 1


def test_start_copies_the_course_and_then_has_nothing_new(capsys, tmp_path):
    code, out, err = gradcourse("start", tmp_path / "mine", capsys=capsys)
    assert (code, err) == (0, "")
    here = {path.name for path in (tmp_path / "mine" / "notebooks").glob("*.ipynb")}
    assert here == {path.name for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    assert out.endswith(f'gradcourse lab "{tmp_path / "mine" / "notebooks" / "start.ipynb"}"\n')
    code, out, err = gradcourse("start", tmp_path / "mine", capsys=capsys)
    assert (code, err) == (0, "")
    assert out.startswith("nothing new")


@pytest.mark.parametrize("verdicts", [[True, True], [True, False]])
def test_doctor_exits_1_if_a_line_is_not_ok(verdicts, capsys, monkeypatch):
    findings = [doctor.Finding(ok, "something", "do this") for ok in verdicts]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    code, out, _ = gradcourse("doctor", capsys=capsys)
    assert code == (0 if all(verdicts) else 1)
    assert out.splitlines() == ["ok something" if ok else "-- something: do this" for ok in verdicts]


def test_doctor_examines_this_machine(capsys):
    code, out, err = gradcourse("doctor", capsys=capsys)
    lines = out.splitlines()
    assert code == (0 if all(line.startswith("ok ") for line in lines) else 1)
    for line, subject in zip(
        lines, ["Python", "torch", "threads", "memory", "path length", "kernel", "disk"], strict=True
    ):
        assert line[3:].startswith(subject)
    assert err == ""


def stand_in(monkeypatch, module, **functions):
    """Replace a module of the package by one that holds these functions."""
    import types

    replacement = types.ModuleType(module)
    vars(replacement).update(functions)
    monkeypatch.setitem(sys.modules, module, replacement)


def test_first_passes_seed_and_picture_on(monkeypatch, capsys, tmp_path):
    calls = []
    stand_in(monkeypatch, "gradcourse.first_experiment", run_first_experiment=lambda *given: calls.append(given))
    gradcourse("first", "--seed", "3", "--picture", tmp_path / "a.png", capsys=capsys)
    gradcourse("first", capsys=capsys)
    assert calls == [(3, tmp_path / "a.png"), (0, REPOSITORY / "first_experiment.png")]


def test_first_says_that_the_picture_can_not_be_saved(monkeypatch, capsys, tmp_path):
    def run_first_experiment(seed, picture):
        raise PermissionError(13, "Permission denied", str(picture))

    stand_in(monkeypatch, "gradcourse.first_experiment", run_first_experiment=run_first_experiment)
    code, _, err = gradcourse("first", "--picture", tmp_path / "a.png", capsys=capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert "a.png: Permission denied; choose another file" in err


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        ([], {"check": False, "paths": []}),
        (["--check", "a.ipynb"], {"check": True, "paths": [Path("a.ipynb")]}),
    ],
)
def test_build_passes_its_arguments_on_and_returns_the_code(monkeypatch, capsys, arguments, given):
    calls = []
    stand_in(monkeypatch, "gradcourse.authoring", build=lambda **options: calls.append(options) or 1)
    assert gradcourse("build", *arguments, capsys=capsys)[0] == 1
    assert calls == [given]


@pytest.mark.parametrize(
    ("command", "module", "missing", "remedy"),
    [
        ("build", "gradcourse.authoring", "nbclient", 'pip install -c requirements.lock -e ".[author]"'),
        ("build", "gradcourse.authoring", "nbformat", 'pip install -c requirements.lock -e ".[author]"'),
        ("first", "gradcourse.first_experiment", "torch", "start.py"),
    ],
)
def test_a_missing_library_is_one_line(monkeypatch, capsys, command, module, missing, remedy):
    monkeypatch.delitem(sys.modules, module, raising=False)
    for name in list(sys.modules):
        if name.split(".")[0] == "gradcourse" and name.count(".") == 1 and "workspace" not in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    code, _, err = gradcourse(command, capsys=capsys)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{missing} is not installed" in err
    assert remedy in err


def test_a_bug_in_the_package_is_not_taken_for_a_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradcourse.authoring", None)
    with pytest.raises(ModuleNotFoundError):
        command_line.main(["build"])


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [(UserError("do that"), 1, "gradcourse: do that\n"), (KeyboardInterrupt(), 130, "gradcourse: stopped\n")],
)
def test_main_catches_mistakes_and_control_c(monkeypatch, capsys, raised, code, line):
    def build(**options):
        raise raised

    stand_in(monkeypatch, "gradcourse.authoring", build=build)
    assert gradcourse("build", capsys=capsys) == (code, "", line)


def test_output_survives_a_console_that_lacks_a_character(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "gradcourse", "lab", str(tmp_path / "ü.ipynb")]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 1
    assert done.stderr.startswith(b"gradcourse: no notebook ")
    assert b"\\xfc.ipynb" in done.stderr
