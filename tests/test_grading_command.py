"""`gradcourse grade` as an instructor uses it: reports, resuming, shards, a cluster, Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_grading import SLUG, cell_of, released, solved
from test_main import gradcourse

from gradcourse.grading import report

WRONG = "def depth_below(factor, last, threshold):\n    return 7"
STUDENTS = ("ada", "bob", "eve", "zoë")


@pytest.fixture(scope="module")
def submitted(tmp_path_factory):
    """Four students: right, empty, one wrong answer, right."""
    folder = tmp_path_factory.mktemp("submitted")
    half = solved()
    cell_of(half, "03-q2")["source"] = WRONG
    for student, notebook in zip(STUDENTS, (solved(), released(), half, solved()), strict=True):
        path = folder / student / f"{SLUG}.ipynb"
        path.parent.mkdir()
        path.write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def graded(submitted, tmp_path_factory):
    """The report of all four in one go."""
    folder = tmp_path_factory.mktemp("report")
    subprocess.run([*COMMAND, SLUG, submitted, "-o", folder, "--seed", "s"], check=True, capture_output=True)
    return folder


COMMAND = [sys.executable, "-m", "gradcourse", "grade"]


def points(folder):
    return {record["extra_data"]["student"]: record["score"] for record in report.read(folder)}


def test_a_report_holds_records_feedback_grades_and_summary(graded):
    assert points(graded) == {"ada": 12, "bob": 0, "eve": pytest.approx(10.25, abs=0.5), "zoë": 12}
    assert len(list((graded / "feedback").iterdir())) == 4
    assert (graded / "grades.csv").read_text(encoding="utf-8").count(SLUG) == 4
    assert "<html" in (graded / "summary.html").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_scores_and_jobs_do_not_matter(graded, submitted, tmp_path, capsys):
    code, _, _ = gradcourse("grade", SLUG, submitted, "-o", tmp_path, "--seed", "s", "--jobs", 2, capsys=capsys)
    assert code == 0
    assert points(tmp_path) == points(graded)


def test_a_secret_is_made_kept_and_not_told(submitted, tmp_path, capsys):
    for _ in range(2):
        code, out, err = gradcourse("grade", SLUG, submitted, "-o", tmp_path, "--only", "bob", capsys=capsys)
        assert code == 0
    secret = tmp_path / "secret.txt"
    assert secret.stat().st_mode & 0o077 == 0
    text = secret.read_text().strip()
    assert len(text) == 32
    told = out + err + "".join(p.read_text(encoding="utf-8") for p in tmp_path.rglob("*.*") if p != secret)
    assert text not in told


def test_resume_grades_what_is_missing_or_was_graded_by_another_secret(submitted, tmp_path, capsys):
    def grade(*more):
        assert gradcourse("grade", SLUG, submitted, "-o", tmp_path, *more, capsys=capsys)[0] == 0
        return {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}

    first = grade("--seed", "s", "--only", "ada", "bob")
    assert len(first) == 2
    second = grade("--seed", "s", "--resume")
    assert len(second) == 4
    assert all(second[name] == first[name] for name in first)
    third = grade("--seed", "another", "--resume")
    assert all(third[name] > second[name] for name in second)


def test_shards_together_are_the_whole(graded, submitted, tmp_path, capsys):
    for part in (1, 2, 3):
        out = tmp_path / f"{part}"
        assert (
            gradcourse("grade", SLUG, submitted, "-o", out, "--seed", "s", "--shard", f"{part}/3", capsys=capsys)[0]
            == 0
        )
    parts = [tmp_path / "1", tmp_path / "2", tmp_path / "3"]
    assert sorted(len(points(part)) for part in parts) == [1, 1, 2]
    assert gradcourse("merge", *parts, "-o", tmp_path / "whole", capsys=capsys)[0] == 0
    assert points(tmp_path / "whole") == points(graded)


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(tmp_path, graded, submitted):
    """The last of the four never ends by itself; Ctrl-C comes when the others are done."""
    endless = solved()
    endless["cells"][1]["source"] = "while True: pass"
    slow = tmp_path / "in"
    for student in STUDENTS:
        (slow / student).mkdir(parents=True)
        text = (submitted / student / f"{SLUG}.ipynb").read_text(encoding="utf-8")
        (slow / student / f"{SLUG}.ipynb").write_text(
            text if student != "zoë" else json.dumps(endless), encoding="utf-8"
        )
    command = [*COMMAND, SLUG, slow, "-o", tmp_path / "out", "--seed", "s"]
    running = subprocess.Popen(
        [*command, "--seconds", "500"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("feedback/*.html"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the same command with --resume goes on" in out
    assert "Traceback" not in err
    assert len(points(tmp_path / "out")) == 3
    assert (tmp_path / "out" / "summary.html").exists()
    (slow / "zoë" / f"{SLUG}.ipynb").write_text(json.dumps(solved()), encoding="utf-8")
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    assert points(tmp_path / "out") == points(graded)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grade", "99_none", "SUBMITTED", "-o", "OUT"], "there is no sheet '99_none'"),
        (["grade", SLUG, "nowhere", "-o", "OUT"], "nowhere does not exist"),
        (["grade", SLUG, "SUBMITTED", "-o", "OUT", "--only", "mallory"], "no submission of mallory; there are 4"),
        (["grade", SLUG, "SUBMITTED", "-o", "OUT", "--course", "nowhere"], "hidden cases stay with the instructor"),
        (["grade", SLUG, "SUBMITTED", "-o", "/proc/no"], "choose another folder with -o"),
        (["grade", SLUG, "SUBMITTED", "-o", "OUT", "--sandbox", "container"], "container"),
        (["merge", "nowhere", "-o", "OUT"], "nowhere holds no results"),
        (["export", "csv", "nowhere", "-o", "OUT.csv"], "nowhere"),
        (["export", "csv", "OUT"], "name what to write by -o"),
        (["export", "canvas", "OUT", "-o", "OUT.csv"], "give the roster that you downloaded by --roster"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_an_instructor_can_put_right_is_one_line(arguments, said, submitted, tmp_path, capsys):
    names = {"SUBMITTED": submitted, "OUT": tmp_path / "out", "OUT.csv": tmp_path / "out.csv"}
    code, _, err = gradcourse(*(names.get(argument, argument) for argument in arguments), capsys=capsys)
    assert code == 1
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("gradcourse: ")


CLUSTER = """
import json, os, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        print(json.dumps([cluster.scheduler_address, [worker.pid for worker in cluster.workers.values()]]), flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def cluster(tmp_path):
    """A Dask cluster of two worker processes: its address and their numbers."""
    pytest.importorskip("distributed")
    path = tmp_path / "cluster.py"
    path.write_text(CLUSTER)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": environment}
    running = subprocess.Popen([sys.executable, path], text=True, **pipes)
    yield json.loads(running.stdout.readline())
    running.stdin.close()
    running.wait(60)
    running.stdout.close()


def test_a_cluster_gives_what_one_machine_gives(cluster, graded, submitted, tmp_path):
    address, _ = cluster
    command = [*COMMAND, SLUG, submitted, "-o", tmp_path / "out", "--seed", "s", "--dask", address]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert points(tmp_path / "out") == points(graded)


def test_a_worker_of_the_cluster_that_is_killed_loses_nothing(cluster, tmp_path):
    address, workers = cluster
    folder = tmp_path / "in"
    for number in range(40):
        path = folder / f"student{number:02d}" / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(solved()), encoding="utf-8")
    command = [*COMMAND, SLUG, folder, "-o", tmp_path / "out", "--seed", "s", "--dask", address]
    grading = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list((tmp_path / "out").glob("feedback/*.html"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(workers[0], signal.SIGKILL)
    _, err = grading.communicate(timeout=300)
    assert grading.returncode == 0, err
    assert points(tmp_path / "out") == {f"student{number:02d}": 12 for number in range(40)}


def test_a_cluster_that_is_not_there_is_one_line(submitted, tmp_path, capsys):
    pytest.importorskip("distributed")
    arguments = ["grade", SLUG, submitted, "-o", tmp_path, "--dask", "tcp://127.0.0.1:1"]
    code, _, err = gradcourse(*arguments, capsys=capsys)
    assert code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in err
