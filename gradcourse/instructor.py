"""The instructor's part of the command line. Each command imports what it needs when it runs."""

import argparse
import sys
from pathlib import Path

from gradcourse.workspace.places import UserError

_VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")  # Gradescope's
_SANDBOXES = ("auto", "bubblewrap", "landlock", "container", "unsafe")


def register(command):
    """Add the instructor's commands.

    Args:
        command: called with a name, a function of the parsed arguments and a description; returns the new parser.
    """
    grade = command("grade", _grade, "For instructors: grade submitted notebooks into a report.")
    grade.add_argument("slug", metavar="SLUG", help="of the sheet, such as 03_sigmoid_tanh_vanishing")
    grade.add_argument("submitted", type=Path, metavar="SUBMITTED", help="a folder of <student>/<slug>.ipynb, or a zip")
    grade.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT", help="folder of the report")
    grade.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes (1)")
    _sandbox(grade)
    grade.add_argument("--seed", metavar="SECRET", help="that hidden cases are drawn by; default: kept in the report")
    grade.add_argument("--resume", action="store_true", help="leave submissions alone that the report holds already")
    grade.add_argument("--only", nargs="+", default=(), metavar="ID", help="students, as their folders are named")
    grade.add_argument("--seconds", type=_seconds, default=8.0, metavar="S", help="for one cell or one call (8)")
    grade.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/N", help="grade the K-th of N parts only")
    grade.add_argument("--dask", metavar="ADDRESS", help="of a Dask scheduler, whose workers grade")
    grade.add_argument(
        "--lessons", default="../notebooks/", metavar="ADDRESS", help="of the lessons, for links in feedback"
    )
    _course(grade)

    merge = command("merge", _merge, "For instructors: put the reports of shards together.")
    merge.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    merge.add_argument("-o", "--output", type=Path, required=True, metavar="REPORT", help="folder of the whole")

    export = command("export", _export, "For instructors: write the scores of a report for a gradebook.")
    export.add_argument("kind", choices=("csv", "canvas", "moodle", "gradescope", "nbgrader"))
    export.add_argument("report", type=Path, metavar="REPORT")
    export.add_argument(
        "-o", "--output", type=Path, metavar="PATH", help="the new file or folder (nbgrader: gradebook.db)"
    )
    export.add_argument(
        "--roster", type=Path, metavar="FILE", help="Canvas' gradebook or Moodle's worksheet, as exported"
    )
    export.add_argument("--column", metavar="TITLE", help="of the assignment in the roster")
    export.add_argument("--scale", action="store_true", help="scale scores to the roster's points possible")

    upload = command("gradescope-zip", _gradescope_zip, "For instructors: make the autograder zip for Gradescope.")
    upload.add_argument("slug", metavar="SLUG")
    upload.add_argument("-o", "--output", type=Path, metavar="ZIP", help="default: SLUG-gradescope.zip")
    upload.add_argument(
        "--visibility", default="after_published", choices=_VISIBILITIES, help="of results (%(default)s)"
    )
    upload.add_argument("--seed", metavar="SECRET", help="that hidden cases are drawn by; default: a new one")
    _course(upload)

    bundle = command("bundle", _bundle, "For instructors: make what students get, without any answer.")
    bundle.add_argument(
        "folder", type=Path, metavar="DIR", help="a new folder, or one that this command made; with --zip the new zip"
    )
    bundle.add_argument("--zip", action="store_true", dest="archive", help="make a zip in place of a folder")
    _course(bundle)

    lab_report = command("lab-report", _lab_report, "For instructors: how well a class predicts, and what was hard.")
    lab_report.add_argument(
        "folder", type=Path, metavar="FOLDER", help="of the files that learners made by `gradcourse progress --export`"
    )
    lab_report.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="folder of the pictures and the page (lab-report)"
    )

    selftest = command("selftest", _selftest, "For instructors: try known attacks on the sandbox of this machine.")
    _sandbox(selftest)


def _sandbox(parser):
    parser.add_argument("--sandbox", choices=_SANDBOXES, default="auto", help="default: the strongest there is")


def _course(parser):
    parser.add_argument(
        "--course", type=Path, metavar="DIR", help="with solutions/ and exercises/; default: this course"
    )


def _count(text):
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes: give 1 or more")
    return int(text)


def _seconds(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: give seconds, more than 0")
    return value


def _shard(text):
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part of the whole: give 1/4 for the first of four")
    return int(part), int(parts)


def _said_in_one_line(run):
    """Turn what the instructor can put right into a UserError."""

    def command(arguments):
        if sys.platform != "linux" and getattr(arguments, "sandbox", "unsafe") not in ("container", "unsafe"):
            raise UserError("sandboxes need Linux: use --sandbox container, or unsafe for notebooks that you have read")
        try:
            return run(arguments)
        except ModuleNotFoundError as error:
            if not error.name or error.name.split(".")[0] == "gradcourse":
                raise
            raise UserError(f"{error.name} is not installed in {sys.prefix}: run `pip install '.[grading]'`") from error
        except Exception as error:
            if type(error).__name__ in _TOLD:
                raise UserError(str(error)) from error
            raise

    return command


_TOLD = ("ReportError", "SandboxError", "NoSheet")  # by name: their modules are imported late


@_said_in_one_line
def _grade(arguments):
    from gradcourse.grading.command import run, secret_of
    from gradcourse.grading.jobs import Limits, Settings

    limits = Limits(cell=arguments.seconds, call=arguments.seconds)
    secret = secret_of(arguments.output, arguments.seed)
    course = arguments.course and str(arguments.course.resolve())
    settings = Settings(arguments.slug, secret, arguments.sandbox, course, limits)
    whole, sandboxes = run(
        settings,
        arguments.submitted,
        arguments.output,
        jobs=arguments.jobs,
        dask=arguments.dask,
        shard=arguments.shard,
        only=arguments.only,
        resume=arguments.resume,
        lessons_at=arguments.lessons,
    )
    print(f"sandbox: {', '.join(sorted(sandboxes)) or 'none was needed'}")
    if not whole:
        print(f"gradcourse: stopped; the same command with --resume goes on. {arguments.output} holds what was done")
        return 130
    print(f"{arguments.output}/summary.html")
    return 0


@_said_in_one_line
def _merge(arguments):
    from gradcourse.grading import report

    report.merge(arguments.reports, arguments.output)
    print(f"{arguments.output}/summary.html")
    return 0


@_said_in_one_line
def _export(arguments):
    from gradcourse.grading import export

    kind, out = arguments.kind, arguments.output
    if out is None:
        raise UserError(f"export {kind}: name what to write by -o")
    if kind in ("canvas", "moodle"):
        if arguments.roster is None:
            raise UserError(f"export {kind}: give the roster that you downloaded by --roster")
        fill = export.to_canvas if kind == "canvas" else export.to_moodle
        print(fill(arguments.report, arguments.roster, out, arguments.column, arguments.scale))
    else:
        print(getattr(export, f"to_{kind}")(arguments.report, out))
    return 0


@_said_in_one_line
def _gradescope_zip(arguments):
    from gradcourse.grading.gradescope import COURSE, zip_for

    out = arguments.output or Path(f"{arguments.slug}-gradescope.zip")
    zip_for(arguments.slug, out, arguments.course or COURSE, arguments.seed, arguments.visibility)
    print(f"{out}: it holds the hidden cases, give it to Gradescope alone")
    return 0


@_said_in_one_line
def _bundle(arguments):
    from gradcourse.grading.bundle import COURSE, bundle

    print("\n".join(bundle(arguments.folder, arguments.course or COURSE, arguments.archive)))
    return 0


@_said_in_one_line
def _lab_report(arguments):
    from gradcourse.grading import lab_report

    print("\n".join(lab_report.write(arguments.folder, arguments.output or Path("lab-report"))))
    return 0


@_said_in_one_line
def _selftest(arguments):
    from gradcourse.grading.attacks import run_attacks
    from gradcourse.grading.sandbox import open_sandbox

    sandbox = open_sandbox(arguments.sandbox)
    print(f"sandbox: {sandbox.name}")
    outcomes = []
    for outcome in run_attacks(sandbox):
        print(outcome, flush=True)
        outcomes.append(outcome)
    escaped = [outcome for outcome in outcomes if not outcome.contained]
    print(f"{len(outcomes) - len(escaped)} of {len(outcomes)} attacks are contained")
    return 1 if escaped else 0
