"""Gradescope: the zip that makes its autograder, and what runs there.

Gradescope unpacks the zip into /autograder/source, runs source/setup.sh once, and for each submission run_autograder,
which takes the notebook from /autograder/submission and leaves /autograder/results/results.json.
"""

import json
import secrets
import sys
from pathlib import Path

from gradcourse.grading.bundle import COURSE, learner_files, package_files, zipped
from gradcourse.grading.records import ReportError, write_whole

ROOT_VARIABLE = "GRADCOURSE_AUTOGRADER"
"""Environment variable that names another folder than /autograder."""

_SETTINGS = "autograder.json"
_VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
_SET_UP = (
    "pyproject.toml",
    "requirements.lock",
    "start.py",
    "README.md",
    "LICENSE",
    "LICENSE-text.md",
    "LICENSE-data.md",
)

_SETUP = f"""#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image.
set -euo pipefail
cd "${{{ROOT_VARIABLE}:-/autograder}}/source/course"
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv libseccomp2 bubblewrap
python=python3
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    apt-get install -y --no-install-recommends python3.11 python3.11-venv  # Ubuntu 22.04 has it beside its 3.10
    python=python3.11
fi
"$python" start.py --no-lab
.venv/bin/python -m pip install -c requirements.lock -e ".[grading]"
"""

_RUN = f"""#!/usr/bin/env bash
# Gradescope runs this for each submission.
set -euo pipefail
root="${{{ROOT_VARIABLE}:-/autograder}}"
# Submissions run as another user where that is possible: what they must not read is closed to all others.
chmod -R go-rwx "$root/source/course/solutions" "$root/source/{_SETTINGS}" "$root/submission" "$root/results"
cd "$root/source/course"
exec "${{GRADCOURSE_PYTHON:-.venv/bin/python}}" -m gradcourse.grading.gradescope "$root"
"""


def zip_for(slug, out, course=COURSE, secret=None, visibility="after_published"):
    """Write the autograder's zip for one sheet. It holds the hidden cases: give it to Gradescope alone.

    Args:
        slug: of the sheet.
        out: the new zip file.
        course: the instructor's copy of the course.
        secret: that hidden cases are drawn by; None draws one. The same secret gives the same zip.
        visibility: when students see results: "hidden", "after_due_date", "after_published" or "visible".

    Raises:
        ReportError: in one line.
    """
    course, out = Path(course), Path(out)
    known = sorted(path.parent.name for path in course.glob("solutions/*/hidden.py"))
    if slug not in known:
        raise ReportError(
            f"there is no sheet {slug!r} with hidden cases in {course}: there is {', '.join(known) or 'none'}"
        )
    if visibility not in _VISIBILITIES:
        raise ReportError(f"visibility {visibility!r} is none of Gradescope's: {', '.join(_VISIBILITIES)}")
    if out.exists() or out.is_symlink():
        raise ReportError(f"{out} exists and is not replaced: choose another name or move it away")
    settings = {"slug": slug, "secret": secret or secrets.token_hex(32), "visibility": visibility}
    files = {f"course/{name}": content for name, content in _course_files(slug, course).items()}
    files |= {"setup.sh": _SETUP.encode(), "run_autograder": _RUN.encode()}
    files |= {_SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()}
    write_whole(out, zipped(files, executable=("setup.sh", "run_autograder")))
    out.chmod(0o600)


def _course_files(slug, course):
    """Return name -> bytes of what grading needs: the package, the released sheet, its lesson, hidden cases."""
    every = learner_files(course)
    names = [*_SET_UP, f"exercises/{slug}/{slug}.ipynb", *(name for name in every if name == f"notebooks/{slug}.ipynb")]
    hidden = f"solutions/{slug}/hidden.py"
    return package_files(course) | {name: every[name] for name in names} | {hidden: (course / hidden).read_bytes()}


def run(root):
    """Grade the submission under Gradescope's folder and write its results.json.

    Raises:
        ReportError: the submission can't be graded for a reason that is not the student's; no results are written then,
            and Gradescope tells the instructor.
    """
    from gradcourse.grading.engine import Grader
    from gradcourse.grading.jobs import Settings
    from gradcourse.grading.sandbox import SandboxError

    root, course = Path(root), Path.cwd()
    settings = json.loads((root / "source" / _SETTINGS).read_text(encoding="utf-8"))
    submission = _submission(root, settings["slug"])
    if submission is None:
        record = _nothing(settings["slug"])
    else:
        try:
            with Grader(Settings(settings["slug"], settings["secret"], course=str(course))) as grader:
                record = grader.grade(submission)
        except SandboxError as error:
            raise ReportError(f"no submission is run without a sandbox: {error}") from None
    record["visibility"] = settings["visibility"]
    for test in record["tests"]:
        test["visibility"] = settings["visibility"]  # a test's own goes before that of the whole
    write_whole(root / "results" / "results.json", json.dumps(record, indent=1) + "\n")


def _submission(root, slug):
    """Return the Submission: the notebook of the sheet's name, or the only one; None if there is none."""
    from gradcourse.grading.notebook import Submission

    folder = root / "submission"
    found = sorted(path for path in folder.rglob("*.ipynb") if "/." not in path.relative_to(root).as_posix())
    named = [path for path in found if path.stem == slug] or [path for path in found if slug in path.stem]
    if not named and len(found) != 1:
        return None
    path = (named or found)[0]
    return Submission(_student(root), path.relative_to(folder).as_posix(), path)


def _student(root):
    """Return what identifies who handed in: Gradescope's numbers, the same at each attempt."""
    try:
        users = json.loads((root / "submission_metadata.json").read_text(encoding="utf-8"))["users"]
        return "+".join(sorted(str(user["id"]) for user in users)) or "student"
    except (OSError, ValueError, LookupError, TypeError):
        return "student"


def _nothing(slug):
    from gradcourse.sheets.check import questions

    points = float(sum(question.points for question in questions(slug).values()))
    output = f"There is no notebook {slug}.ipynb in what you handed in: upload the sheet under that name."
    return {
        "score": 0.0,
        "max_score": points,
        "output": output,
        "stdout_visibility": "hidden",
        "tests": [],
        "extra_data": {},
    }


if __name__ == "__main__":
    try:
        run(sys.argv[1])
    except ReportError as error:
        sys.exit(f"gradcourse: {error}")
