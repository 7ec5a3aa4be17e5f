"""`gradcourse grade` from its arguments to its report: which submissions, by whom, and what is left to do."""

import secrets
import sys
import time
from contextlib import closing
from pathlib import Path

from gradcourse.grading import report
from gradcourse.grading.jobs import grade, grade_one
from gradcourse.grading.notebook import find
from gradcourse.grading.report import ReportError

_SECRET = "secret.txt"


def run(
    settings,
    submitted,
    folder,
    *,
    jobs=1,
    dask=None,
    shard=(1, 1),
    only=(),
    resume=False,
    lessons_at="../notebooks/",
):
    """Grade a folder or zip of submissions into a report.

    Args:
        settings: the Settings.
        submitted: see notebook.find.
        folder: of the report.
        jobs: number of processes.
        dask: address of a Dask scheduler whose workers grade, in place of processes of this machine.
        shard: (k, n): grade the k-th of n parts only.
        only: students; empty: all.
        resume: whether submissions that the report holds already, graded by the same secret, are left alone.
        lessons_at: where the lessons are, for the links in the feedback.

    Returns:
        Whether all were graded, False after Ctrl-C, with the report of those that were; and the sandboxes they ran in.

    Raises:
        ReportError: for what the instructor can put right, in one line.
    """
    chosen, notes = _chosen(submitted, settings.slug, shard, only)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    done = _done(folder, settings) if resume else set()
    left = [submission for submission in chosen if submission.student not in done]
    sandboxes = set()
    records = _on_cluster(settings, left, dask) if dask else grade(settings, left, jobs)
    try:
        with closing(records):
            for record in _with_progress(records, len(chosen), len(chosen) - len(left)):
                report.add(folder, record, lessons_at)
                sandboxes.add(record["extra_data"]["sandbox"])
        whole = True
    except KeyboardInterrupt:
        whole = False
    report.summarize(folder)
    return whole, sandboxes


def secret_of(folder, seed=None):
    """Return the secret that hidden cases are drawn by: the one given, the report's, or a new one that it keeps."""
    path = Path(folder) / _SECRET
    if seed is not None:
        return seed
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(16) + "\n", encoding="utf-8")
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ReportError(f"can't write {path}: {error.strerror}; choose another folder with -o") from error


def _chosen(submitted, slug, shard, only):
    try:
        found, notes = find(submitted, slug)
    except ValueError as error:
        raise ReportError(str(error)) from error
    missing = set(only) - {submission.student for submission in found}
    if missing:
        names = ", ".join(submission.student for submission in found[:5])
        raise ReportError(f"no submission of {', '.join(sorted(missing))}; there are {len(found)}, of {names} ...")
    found = [submission for submission in found if not only or submission.student in only]
    part, parts = shard
    return found[part - 1 :: parts], notes


def _done(folder, settings):
    return {
        record["extra_data"]["student"]
        for record in report.read(folder)
        if (record["extra_data"]["slug"], record["extra_data"].get("seed")) == (settings.slug, settings.fingerprint)
    }


def _on_cluster(settings, submissions, address):
    """Yield the records of submissions that a Dask cluster's workers grade."""
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ModuleNotFoundError as error:
        raise ReportError('dask.distributed is not installed: run `pip install ".[cluster]"`') from error
    try:
        client = Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ReportError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        # A task of a worker that dies is done again elsewhere; a submission can't be the reason, it dies alone.
        futures = [client.submit(grade_one, settings, submission, pure=False) for submission in submissions]
        for _, record in completed(futures, with_results=True):
            yield record


def _with_progress(records, total, done):
    from tqdm import tqdm

    start = time.monotonic()
    with tqdm(total=total, initial=done, unit="submission", disable=None, dynamic_ncols=True) as bar:
        for count, record in enumerate(records, 1):
            bar.set_postfix_str(f"{60 * count / (time.monotonic() - start):.0f} per minute", refresh=False)
            bar.update()
            yield record
