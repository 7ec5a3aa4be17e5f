"""Grading: submissions in, records out, by one process or several. Loads torch only where submissions are judged."""

import hashlib
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.util import Finalize
from threading import Lock

_LOADED_ONCE = ["gradcourse.grading.engine", "torch._dynamo"]  # by several jobs; every torch optimizer imports the last


@dataclass(frozen=True)
class Limits:
    """How long a submission may take.

    Attributes:
        cell: seconds for one cell.
        call: seconds for one call of an answer.
        submission: seconds for all of it.
    """

    cell: float = 8.0
    call: float = 8.0
    submission: float = 120.0


@dataclass(frozen=True)
class Settings:
    """What grading a sheet depends on.

    Attributes:
        slug: of the sheet.
        secret: that hidden cases are drawn by.
        sandbox: name of the backend, or "auto".
        course: the folder with solutions/ and exercises/; None: the one that this package lies in.
        limits: how long submissions may take.
    """

    slug: str
    secret: str = field(repr=False)
    sandbox: str = "auto"
    course: str | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def fingerprint(self):
        """What tells two secrets apart and does not tell the secret."""
        return hashlib.sha256(f"fingerprint of {self.secret}".encode()).hexdigest()[:12]


def grade(settings, submissions, jobs=1):
    """Grade submissions.

    Args:
        settings: the Settings.
        submissions: Submissions (see notebook.find).
        jobs: number of processes that grade, each with a sandbox of its own.

    Yields:
        A record, as it is written as JSON, for each submission as it is done; with several jobs in any order.

    Raises:
        NoSheet: see Sheet.
        SandboxError: when there is no sandbox.
    """
    submissions = list(submissions)
    if jobs == 1 or len(submissions) < 2:
        from gradcourse.grading.engine import Grader

        with Grader(settings) as grader:
            yield from map(grader.grade, submissions)
        return
    with _pool(min(jobs, len(submissions))) as pool:
        futures = [pool.submit(grade_one, settings, submission) for submission in submissions]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _pool(jobs):
    """Return a pool whose processes are forks of one that has loaded torch and computed nothing yet."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LOADED_ONCE)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which it inherits: Ctrl-C is for the grader
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_ctrl_c_to_the_grader)


def _leave_ctrl_c_to_the_grader():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_graders, _one_at_a_time = {}, Lock()


def grade_one(settings, submission):
    """Grade one submission with this process' own Grader, which stays for the next: for pools and clusters."""
    from gradcourse.grading.engine import Grader

    with _one_at_a_time:
        if settings not in _graders:
            grader = _graders[settings] = Grader(settings)
            Finalize(grader, grader.close, exitpriority=1)  # atexit is not for a pool's processes
        return _graders[settings].grade(submission)
