"""Grading one submission: judged here, in a process that no submission runs in."""

import platform
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from gradcourse.grading.child import Child, Ended
from gradcourse.grading.notebook import Unreadable, code_cells
from gradcourse.grading.sandbox import SandboxError, open_sandbox
from gradcourse.grading.sheet import Sheet
from gradcourse.grading.worker import READY, WITH_TRAINING
from gradcourse.sheets import Result
from gradcourse.sheets.calling import Outcome

_MOST_RESTARTS = 3  # of a submission whose cells hang or end the process
_SECONDS_TO_LOAD = 120  # torch, on a machine that is busy
_PACKAGES = ("gradcourse", "torch", "numpy")


class Grader:
    """One sheet and one running sandbox."""

    def __init__(self, settings):
        self.settings = settings
        self.sheet = Sheet(settings.slug, settings.secret, settings.course)
        self.sandbox = open_sandbox(settings.sandbox)
        self._running = None
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the sandbox."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def grade(self, submission):
        """Return the record of a submission; nothing that it does raises."""
        start = time.perf_counter()
        notes, results = [], {}
        try:
            cells, notes = code_cells(submission.read())
            results = self._results(submission, cells, notes)
        except Unreadable as error:
            notes.append(str(error))
        return self._record(submission, results, notes, time.perf_counter() - start)

    def _results(self, submission, cells, notes):
        """Return question -> (Result, its counts)."""
        work = _Work(self, submission, cells, notes)
        try:
            return {id: work.judge(id) for id in self.sheet.questions}
        finally:
            work.end()

    def new_child(self):
        """Have a process made for a submission, with a new sandbox where the old one is gone."""
        try:
            return Child(self._running or self._start())
        except OSError:
            self.close()
            return Child(self._start())

    def _start(self):
        """Start the sandbox and wait until its worker has loaded what submissions import."""
        self._running = self.sandbox.start()
        self._running.socket.settimeout(_SECONDS_TO_LOAD)
        self._await_ready()
        if any(question.judge for question in self.sheet.questions.values()):
            self._running.socket.sendall(WITH_TRAINING)
            self._await_ready()
        return self._running

    def _await_ready(self):
        try:
            ready = self._running.socket.recv(1)
        except OSError:
            ready = b""
        if ready != READY:
            complaint = self._running.complaint()
            self.close()
            raise SandboxError(f"the worker in the {self.sandbox.name} sandbox did not start: {complaint}")

    def _record(self, submission, results, notes, seconds):
        questions = self.sheet.questions
        nothing = "There was nothing to grade: " + "; ".join(notes) if notes else "There was nothing to grade."
        tests, cases = [], {}
        for id, question in questions.items():
            result, counts = results.get(id, (Result(id, 0, 1, question.points, nothing), {}))
            status = "passed" if result.passed else "failed"
            told = {"name": id, "score": result.points, "max_score": float(question.points), "status": status}
            tests.append(told | {"output": result.message, "visibility": "visible"})
            cases[id] = counts
        score = round(sum(test["score"] for test in tests), 2)
        most = float(sum(question.points for question in questions.values()))
        return {
            "score": score,
            "max_score": most,
            "execution_time": round(seconds, 4),
            "output": " ".join([f"{score:g} of {most:g} points.", *(f"Note: {note}." for note in notes)]),
            "visibility": "after_published",
            "stdout_visibility": "hidden",
            "tests": tests,
            "extra_data": {
                "student": submission.student,
                "lms_id": submission.lms_id,
                "slug": self.sheet.slug,
                "file": submission.file,
                "sandbox": self.sandbox.name,
                "seed": self.settings.fingerprint,
                "versions": versions(),
                "cases": cases,
                "notes": notes,
            },
        }


@cache
def versions():
    """Return package -> version of what computed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a copy that is not installed
            found[name] = "unknown"
    return found


class _Work:
    """A submission that is being graded: its process, and what is known of its cells."""

    def __init__(self, grader, submission, cells, notes):
        self._grader, self._sheet, self._limits = grader, grader.sheet, grader.settings.limits
        self._cells, self._notes = cells, notes
        self._hidden = self._sheet.hidden(submission.student)
        self._until = time.monotonic() + self._limits.submission
        self._names = {id: question.name for id, question in self._sheet.questions.items()}
        self._child, self._found, self._failed, self._skipped = None, {}, {}, set()

    def end(self):
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def judge(self, id):
        """Return the Result of one question over all cases, and what the record says of them."""
        visible, hidden = self._sheet.visible[id], self._hidden[id]
        outcomes, message = self._outcomes(id, [visible, hidden])
        if outcomes is None:
            result = visible.key.nothing(message)
            return result, _counts(0, visible, 0, hidden)
        count = len(visible.key.cases)
        shown = _judged(visible.key, outcomes[:count])
        refused = any(outcome.refused for outcome in outcomes)
        passed = 0 if refused else _passed(hidden.key, outcomes[count:])
        seen = 0 if refused else shown.cases_passed
        message = _message(shown, passed, len(hidden.key.cases), refused)
        total = count + len(hidden.key.cases)
        mistake = "" if shown.passed else _mistake(visible.key, outcomes[:count])
        counts = _counts(seen, visible, passed, hidden, mistake)
        return Result(id, seen + passed, total, shown.max_points, message), counts

    def _outcomes(self, id, parts):
        """Return the Outcomes on all cases, or None and why there are none."""
        if time.monotonic() > self._until:
            return (
                None,
                f"The notebook took longer than {self._limits.submission:g} s in all; this question was not tried.",
            )
        if not self._start():
            return None, "The notebook's cells could not be run: " + "; ".join(self._notes) + "."
        candidate = self._candidate(id)
        if candidate is None:
            return None, self._why_missing(id)
        keys = [part.key for part in parts]
        try:
            outcomes = self._child.call(keys, [part.pickled for part in parts], candidate, self._limits)
        except Ended as ended:
            self.end()
            self._notes.append(f"{id}: a call {ended}")
            lost = sum(len(key.cases) for key in keys) - len(ended.outcomes)
            return [*ended.outcomes, *[Outcome(problem=str(ended))] * lost], ""
        if outcomes is None:
            return (
                None,
                f"Your function must take the arguments of {self._sheet.questions[id].signature}, in this order.",
            )
        return outcomes, ""

    def _start(self):
        """Have the cells run, without those that hang or end the process; return whether they have."""
        cells = [cell for cell in self._sheet.cells_to_run(self._cells) if cell[0] not in self._skipped]
        while self._child is None:
            if len(self._skipped) > _MOST_RESTARTS or time.monotonic() > self._until:
                return False
            child = self._grader.new_child()
            try:
                self._found, self._failed = child.run_cells(cells, self._names, self._limits)
                self._child = child
            except Ended as ended:
                child.kill()
                self._notes.append(f"code cell {ended.number + 1} {ended} and was skipped")
                self._skipped.add(ended.number)
                cells = [cell for cell in cells if cell[0] != ended.number]
        return True

    def _candidate(self, id):
        """Return which of the objects that a question's name stood for is the answer; None if there is none.

        The last one, but one from the question's own cell before others, and what the sheet came with only where
        there is nothing else.
        """
        places = self._found[id]

        def rank(candidate):
            number, callable_ = places[candidate]
            cell = self._cells[number] if 0 <= number < len(self._cells) else None
            if cell is None:
                return (False, False, False, candidate)
            return (callable_, not self._sheet.is_untouched(cell), cell.id == id, candidate)

        return max(range(len(places)), key=rank, default=None)

    def _why_missing(self, id):
        name = self._names[id]
        for number, words in self._failed.items():
            if 0 <= number < len(self._cells) and name in self._cells[number].source:
                return f"There is no function {name}: its cell ended with {words}."
        return f"There is no function {name} in the notebook."


def _judged(key, outcomes):
    """Return the Result on visible cases; a value that trips the judge is a wrong one."""
    try:
        return key.result(outcomes)
    except Exception as error:
        return key.nothing(f"What your function returned can't be judged ({type(error).__name__}).")


def _passed(key, outcomes):
    try:
        return key.count(outcomes)
    except Exception:  # as above
        return 0


def _message(shown, passed, hidden, refused):
    if not hidden or refused:
        return shown.message
    if shown.passed and passed < hidden:
        return (
            f"The visible cases pass, and {passed} of {hidden} hidden ones: does your function compute, or does it "
            "know the visible inputs only?"
        )
    return f"{shown.message} {passed} of {hidden} hidden cases pass."


def _counts(seen, visible, passed, hidden, mistake=""):
    counts = {"visible": [seen, len(visible.key.cases)], "hidden": [passed, len(hidden.key.cases)]}
    return counts | {"mistake": mistake}


def _mistake(key, outcomes):
    """Return the message of the known mistake that an answer makes, empty for none."""
    try:
        return key.mistake(outcomes)
    except Exception:  # as above
        return ""
