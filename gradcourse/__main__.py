"""The command line: `gradcourse ...` or `python -m gradcourse ...`.

Each command imports what it needs when it runs, so that help comes at once, and also where torch is missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gradcourse import __version__
from gradcourse.instructor import register
from gradcourse.learner.page import NOTEBOOK
from gradcourse.workspace.places import LESSONS, UserError, need_repository, repository


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code.

    What the user can put right is one line on standard error and exit code 1; wrong usage is 2, Ctrl-C 130.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that lacks a character shows its code instead
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except UserError as error:
        print(f"gradcourse: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gradcourse: stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gradcourse", description="A course on why gradients vanish and explode, and what cures them."
    )
    parser.add_argument("--version", action="version", version=f"gradcourse {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run, description: str) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=description, description=description)
        new.set_defaults(command=run)
        return new

    first = command("first", _first, "Run the first experiment: a 20-layer sigmoid net and its gradients.")
    first.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of data, weights and batches (0)")
    first.add_argument("--picture", type=Path, metavar="PATH", help="where to save the picture")

    lab = command("lab", _lab, "Open the start page or a lesson in JupyterLab; Ctrl-C stops it.")
    lab.add_argument("notebook", nargs="?", type=Path, metavar="NOTEBOOK", help="default: the start page")
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", type=_port, metavar="N", help="default: 8888, or the next free one")

    command("doctor", _doctor, "Check this machine; each line is ok or says what to do.")

    start = command("start", _start, "Copy lessons and sheets to a folder of your own, or update that copy.")
    start.add_argument("folder", type=Path, metavar="DIR", help="a folder outside the repository")

    progress = command("progress", _progress, "Show what you have done, and what is next.")
    progress.add_argument("--picture", type=Path, metavar="FILE", help="where to save the picture (progress.png)")
    progress.add_argument("--export", type=Path, metavar="FILE", help="write a file that you may hand to a teacher")
    progress.add_argument("--name", default="", metavar="NAME", help="that the teacher sees in it")

    build = command("build", _build, "For authors: run lessons and solutions, and derive the sheets.")
    build.add_argument("--check", action="store_true", help="run nothing; say what is stale, exit code 1 if any")
    build.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: every notebook")

    register(command)
    return parser


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: give a whole number, 0 or more")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 1 to 65535")
    return int(text)


def _first(arguments: argparse.Namespace) -> int:
    picture = arguments.picture or (repository() or Path.cwd()) / "first_experiment.png"
    if picture.suffix != ".png" or not picture.parent.is_dir():
        raise UserError(f"can't save a picture as {picture}: name a .png in a folder that exists")
    try:
        from gradcourse.first_experiment import run_first_experiment
    except ModuleNotFoundError as error:
        raise _missing(error, "python3 start.py") from error
    try:
        run_first_experiment(arguments.seed, picture)
    except OSError as error:
        raise UserError(f"can't save {picture}: {error.strerror}; choose another file with --picture") from error
    return 0


def _lab(arguments: argparse.Namespace) -> int:
    from gradcourse.workspace.lab import serve

    return serve(arguments.notebook, browser=not arguments.no_browser, port=arguments.port)


def _doctor(arguments: argparse.Namespace) -> int:
    from gradcourse.workspace.doctor import examine

    findings = examine()
    for finding in findings:
        print(finding)
    return 0 if all(finding.ok for finding in findings) else 1


def _start(arguments: argparse.Namespace) -> int:
    from gradcourse.workspace.copies import copy_course

    changes = copy_course(need_repository(), arguments.folder)
    for change in changes:
        print(change)
    if changes:
        page = arguments.folder.expanduser() / LESSONS / NOTEBOOK
        print(f'Open the start page: gradcourse lab "{page}"')
    else:
        print(f"nothing new: {arguments.folder} already has what is in the course, and your edits")
    return 0


def _progress(arguments: argparse.Namespace) -> int:
    from gradcourse.learner import command

    try:
        command.export(arguments.export, arguments.name) if arguments.export else command.show(arguments.picture)
    except ModuleNotFoundError as error:
        raise _missing(error, "python3 start.py") from error
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"can't write {error.filename}: {reason}; name another file that you can write") from error
    return 0


def _build(arguments: argparse.Namespace) -> int:
    try:
        from gradcourse.authoring import build
    except ModuleNotFoundError as error:
        raise _missing(error, 'pip install -c requirements.lock -e ".[author]"') from error
    return int(build(check=arguments.check, paths=arguments.files))


def _missing(error: ModuleNotFoundError, remedy: str) -> Exception:
    """Return the error to raise for a module that is not installed; a missing module of our own is a bug."""
    if not error.name or error.name.split(".")[0] == "gradcourse":
        return error
    return UserError(f"{error.name} is not installed in {sys.prefix}: run `{remedy}`")


if __name__ == "__main__":
    sys.exit(main())
