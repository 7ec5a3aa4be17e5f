"""The learner's record: nothing that was kept is lost, whatever happens to the process, the disk or the file."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import gradcourse as gc
from gradcourse import journal

GOOD = b'{"gradcourse": 1, "kind": "hint", "id": "good", "at": "2026-01-01T00:00:00+00:00"}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own for the record, and a kernel that has said nothing yet."""
    monkeypatch.delenv("GRADCOURSE_UNATTENDED", raising=False)
    monkeypatch.setenv("GRADCOURSE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(journal, "_kernel", journal._Kernel())
    return tmp_path / "data"


def ids():
    return [event["id"] for event in journal.read()]


def another_kernel(monkeypatch):
    monkeypatch.setattr(journal, "_kernel", journal._Kernel())


def python(code, *arguments, **options):
    """Start another process that keeps events in the same folder."""
    command = [sys.executable, "-c", f"from gradcourse import journal\nimport os, sys\n{code}", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


# --- what is kept


def test_events_come_back_in_order_with_their_facts():
    journal.note("prediction", "03-p1", guess=0.25)
    journal.note("reveal", "03-p1", guess=[1.0, "b"], measured=np.float32(0.5), score=np.array([1, 2]), verdict=None)
    first, second = journal.read()
    assert (first["kind"], first["id"], first["guess"]) == ("prediction", "03-p1", 0.25)
    assert (second["guess"], second["measured"], second["score"]) == ([1.0, "b"], 0.5, [1, 2])
    assert first["at"] <= second["at"]


def test_no_record_is_an_empty_one_and_reading_makes_no_folder(folder, capsys):
    assert journal.read() == []
    assert not folder.exists()
    assert capsys.readouterr().out == ""


def test_the_folder_is_the_user_s_own_where_none_is_named(monkeypatch):
    import platformdirs

    monkeypatch.delenv("GRADCOURSE_DATA_DIR")
    assert str(journal.path().parent) == platformdirs.user_data_dir("gradcourse", appauthor=False)


@pytest.mark.parametrize(("value", "kept"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_unattended_nothing_is_kept_or_read(value, kept, monkeypatch, folder):
    journal.note("hint", "03-q1", number=1)
    monkeypatch.setenv("GRADCOURSE_UNATTENDED", value)
    journal.note("hint", "03-q1", number=2)
    assert len(journal.read()) == 2 * kept
    assert (folder / "journal.jsonl").read_text().count("\n") == 1 + kept


def right(factor, last, threshold):
    depth = 1
    while last >= threshold:
        last, depth = last * factor, depth + 1
    return depth


def unanswered(factor, last, threshold):
    raise NotImplementedError


def test_check_keeps_what_came_of_it_and_no_code(folder):
    gc.check("03-q2", right)
    gc.check("03-q2", lambda factor, last, threshold: 41312)
    gc.check("03-q2", unanswered)  # no try
    gc.check("03-q77", right)  # no question
    assert [(e["kind"], e["id"], e["passed"], e["points"], e["max_points"]) for e in journal.read()] == [
        ("check", "03-q2", True, 2, 2),
        ("check", "03-q2", False, 0, 2),
    ]
    assert "41312" not in (folder / "journal.jsonl").read_text()


def test_the_grader_s_worker_keeps_nothing():
    from gradcourse.grading.sandbox.running import environment

    assert environment("/scratch")["GRADCOURSE_UNATTENDED"] == "1"


# --- crashes


def test_a_torn_last_line_is_skipped_and_the_next_event_starts_a_new_one(folder, monkeypatch, capsys):
    journal.note("hint", "a", number=1)
    journal.note("hint", "b", number=1)
    whole = (folder / "journal.jsonl").read_bytes()
    start = whole.index(b"\n") + 1
    for end in range(start, len(whole)):
        (folder / "journal.jsonl").write_bytes(whole[:end])
        another_kernel(monkeypatch)
        journal.note("hint", "c", number=1)
        assert ids() in (["a", "c"], ["a", "b", "c"]), whole[start:end]
    assert ids() == ["a", "b", "c"]  # only the line's end was missing
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "journal.lock"]


KEEP_AND_SAY = """
for number in range(1_000_000):
    journal.note("hint", str(number), number=number, text="x" * 3000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.02, 0.05])
def test_a_process_that_is_killed_loses_nothing_that_it_kept(seconds, folder):
    process = python(KEEP_AND_SAY)
    process.stdout.readline()
    time.sleep(seconds)
    process.kill()  # signal 9, TerminateProcess on Windows
    said = [0] + [int(line) for line in process.communicate()[0].splitlines() if line]
    assert process.returncode != 0
    kept = [int(id) for id in ids()]
    assert kept == list(range(len(kept)))
    assert len(kept) >= max(said[:-1], default=0)  # the last number may be torn in the pipe
    journal.note("hint", "after", number=1)
    assert ids()[-1] == "after"


if os.name == "posix":

    def test_a_process_that_is_stopped_while_it_holds_the_lock_does_not_stop_others(folder):
        hold = 'with journal._locked(journal.path()):\n    print("held", flush=True)\n    sys.stdin.read()'
        folder.mkdir()
        process = python(hold, stdin=subprocess.PIPE)
        assert process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        try:
            journal.note("hint", "a", number=1)
        finally:
            process.kill()
            process.communicate()
        assert ids() == ["a"]


def test_several_processes_at_once_lose_and_mix_nothing():
    code = 'for number in range(200):\n    journal.note("hint", f"{sys.argv[1]}-{number}", text=sys.argv[1] * 3000)'
    processes = [python(code, name) for name in "abcd"]
    printed = [process.communicate()[0] for process in processes]
    events = journal.read()
    assert printed == [""] * 4
    assert sorted(e["id"] for e in events) == sorted(f"{name}-{number}" for name in "abcd" for number in range(200))
    assert all(event["text"] == event["id"][0] * 3000 for event in events)
    for name in "abcd":
        own = [event["id"] for event in events if event["id"].startswith(name)]
        assert own == [f"{name}-{number}" for number in range(200)]


# --- no room, no permission


if os.name == "posix":
    FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
for number in range(100):
    journal.note("hint", str(number), number=number)
"""

    def test_a_full_disk_costs_nothing_that_was_kept_and_is_said_once(folder):
        journal.note("hint", "before", number=1)
        out, _ = python(FULL).communicate()
        assert out.startswith(f"gradcourse: your progress can't be kept in {folder} (")
        assert "GRADCOURSE_DATA_DIR" in out
        assert out.count("\n") == 1
        assert (folder / "journal.jsonl").stat().st_size == 2000  # what was there, and a torn line
        kept = ids()
        assert kept == ["before", *map(str, range(len(kept) - 1))]
        assert len(kept) > 10
        journal.note("hint", "after", number=1)
        assert ids() == [*kept, "after"]

    @pytest.fixture
    def home(tmp_path):
        """A home that can only be read."""
        home = tmp_path / "home"
        (home / "kept").mkdir(parents=True)
        (home / "kept" / "journal.jsonl").write_bytes(GOOD)
        for folder in (home / "kept", home):
            folder.chmod(0o555)
        for above in (tmp_path, *tmp_path.parents[:3]):  # three where tests share the work
            above.chmod(above.stat().st_mode | 0o055)  # for the user below
        yield home
        for folder in (home, home / "kept"):
            folder.chmod(0o755)

    NOBODY = "if os.geteuid() == 0:\n    os.setuid(65534)\n"  # root could write everywhere

    def test_a_home_that_can_only_be_read_is_one_line_and_the_lesson_goes_on(home, monkeypatch):
        monkeypatch.setenv("GRADCOURSE_DATA_DIR", str(home / "data"))
        code = NOBODY + 'for n in range(3):\n    journal.note("hint", "a", number=n)\nprint(journal.read())'
        first, second = python(code).communicate()[0].splitlines()
        assert first == (
            f"gradcourse: your progress can't be kept in {home / 'data'} (Permission denied): the lesson goes on "
            "without; make room there, or set GRADCOURSE_DATA_DIR to a folder that you can write to"
        )
        assert second == "[]"

    def test_a_record_that_can_only_be_read_is_read(home, monkeypatch):
        monkeypatch.setenv("GRADCOURSE_DATA_DIR", str(home / "kept"))
        out, _ = python(NOBODY + 'print(*(event["id"] for event in journal.read()))').communicate()
        assert out == "good\n"


def test_a_folder_that_can_not_be_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADCOURSE_DATA_DIR", str(tmp_path / "file" / "data"))
    for number in range(3):
        journal.note("hint", "a", number=number)
        assert journal.read() == []
    assert capsys.readouterr().out.count("\n") == 1


def test_facts_that_are_no_data_are_kept_as_text_or_said(capsys):
    journal.note("reveal", "a", guess=object())
    assert journal.read()[0]["guess"].startswith("<object")
    circle = []
    circle.append(circle)
    journal.note("reveal", "b", guess=circle)
    assert capsys.readouterr().out.count("\n") == 1
    assert ids() == ["a"]


# --- files that are not as they should be

DAMAGED = {
    "bytes": bytes(range(256)) * 4,
    "text": b"my diary\n",
    "other JSON": b'{"cells": []}\n',
    "good and zeros": GOOD + b"\0" * 512,
    "good, foreign, good": GOOD + b"hello\n" + GOOD,
}
NEWER = b'{"gradcourse": 2, "kinds": ["hint"]}\n'


@pytest.mark.parametrize("use", [journal.read, lambda: journal.note("hint", "new")], ids=["read", "note"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_kept_aside_and_what_can_be_read_goes_on(content, use, folder, capsys):
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(content)
    use()
    aside = folder / "journal.damaged1.jsonl"
    printed = capsys.readouterr().out
    assert aside.read_bytes() == content
    assert str(aside) in printed
    assert printed.count("\n") == 1
    assert ids() == ["good"] * content.count(GOOD) + ["new"] * (use is not journal.read)


def test_a_newer_file_is_kept_aside_and_never_replaced(folder, monkeypatch, capsys):
    folder.mkdir()
    for number in (1, 2):
        (folder / "journal.jsonl").write_bytes(GOOD + NEWER * number)
        another_kernel(monkeypatch)
        assert ids() == ["good"]
        assert (folder / f"journal.newer{number}.jsonl").read_bytes() == GOOD + NEWER * number
    assert (folder / "journal.newer1.jsonl").read_bytes() == GOOD + NEWER
    assert "newer version of the course" in capsys.readouterr().out


@pytest.mark.parametrize("line", [b'{"gradcourse": 1, "kind": 3, "id": "a", "at": ""}', b'{"gradcourse": "1"}'])
def test_lines_of_ours_that_say_nothing_known_are_passed_over(line, folder, capsys):
    folder.mkdir()
    (folder / "journal.jsonl").write_bytes(GOOD + line + b"\n" + GOOD)
    assert ids() == ["good", "good"]
    assert capsys.readouterr().out == ""


def test_each_line_is_one_event_of_this_version(folder):
    journal.note("hint", "ü\n", text="a\nb\u2028c")
    (line,) = (folder / "journal.jsonl").read_bytes().splitlines()
    assert json.loads(line)["gradcourse"] == journal.VERSION
    assert ids() == ["ü\n"]
