"""What grading costs: `gradcourse grade` with its sandbox beside `nbgrader autograde`, on the same notebooks.

    python benchmarks/grading.py             20 submissions of sheet 03 by both, one process each
    python benchmarks/grading.py --class N   N submissions, with one and with two jobs (1000)
    python benchmarks/grading.py --growth    10 to 3000 submissions, as a table and a picture

Wall-clock times of whole commands, starts included: what an instructor waits for. Both pin themselves to one core for
each process, so that the second core is not counted for one of them only. Peak memory is the sum over the command's
processes, of which pages that they share count once (PSS). nbgrader is installed into a fresh environment, which needs
the package index; torch and the rest come from the running one.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))
SLUG = "03_sigmoid_tanh_vanishing"
STUDENTS = 20


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--class", type=int, nargs="?", const=1000, dest="students", metavar="N")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--sandbox", default="auto")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.growth:
            grow(Path(folder), arguments.sandbox)
        elif arguments.students:
            compare_jobs(Path(folder), arguments.students, arguments.sandbox)
        else:
            compare_with_nbgrader(Path(folder), arguments.sandbox)


def hand_in(folder, students):
    """Write submissions as nbgrader has them, a third of them right, a third half right, a third empty."""
    from test_grading import cell_of, released, solved

    half = solved()
    for id in ("03-q1", "03-q4"):
        cell_of(half, id)["source"] = cell_of(released(), id)["source"]
    kinds = [json.dumps(notebook) for notebook in (solved(), half, released())]
    for number in range(students):
        path = folder / f"student{number:04d}" / SLUG / f"{SLUG}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(kinds[number % 3], encoding="utf-8")
    return folder


def timed(command, cores=1, **options):
    """Run a command on some cores; return its seconds and the peak of its processes' memory in MB."""
    began = time.perf_counter()
    running = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    os.sched_setaffinity(running.pid, sorted(os.sched_getaffinity(0))[:cores])
    peak, over = [0], threading.Event()
    watcher = threading.Thread(target=watch, args=(psutil.Process(running.pid), peak, over))
    watcher.start()
    _, said = running.communicate()
    seconds = time.perf_counter() - began
    over.set()
    watcher.join()
    if running.returncode:
        raise SystemExit(f"{command[:4]} failed: {said.decode()[-500:]}")
    return seconds, peak[0] / 2**20


def watch(process, peak, over):
    while not over.wait(0.2):
        total = 0
        for one in [process, *children(process)]:
            try:
                total += one.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


def children(process):
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def grade(submitted, report, sandbox, jobs=1):
    shutil.rmtree(report, ignore_errors=True)
    command = [sys.executable, "-m", "gradcourse", "grade", SLUG, submitted, "-o", report, "--sandbox", sandbox]
    return timed([*command, "--jobs", jobs], cores=jobs, cwd=ROOT)


def compare_with_nbgrader(folder, sandbox):
    from test_nbgrader import make_environment

    scripts = make_environment(folder / "environment")
    subprocess.run(
        [scripts / "python", "-m", "pip", "install", "-q", "-c", ROOT / "requirements.lock", "nbgrader==0.9.6"],
        check=True,
    )
    course = folder / "course"
    for name in ("solutions", "exercises"):
        shutil.copytree(ROOT / name, course / name)
    shutil.copy(ROOT / "nbgrader_config.py", course)
    environment = os.environ | {"PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}
    nbgrader = [scripts / "python", "-m", "nbgrader"]
    subprocess.run(
        [*nbgrader, "generate_assignment", SLUG], cwd=course, env=environment, check=True, capture_output=True
    )
    hand_in(course / "submitted", STUDENTS)
    theirs = timed([*nbgrader, "autograde", SLUG], cwd=course, env=environment)
    ours = grade(course / "submitted", folder / "report", sandbox)
    start = grade(alone(folder / "alone"), folder / "report", sandbox)
    print(f"{STUDENTS} submissions of sheet {SLUG}, one core each, sandbox {sandbox}")
    print(f"  {'':34s} {'seconds':>9s} {'per minute':>11s} {'peak MB':>8s}")
    for name, (seconds, memory) in (("nbgrader autograde", theirs), ("gradcourse grade", ours)):
        print(f"  {name:34s} {seconds:9.2f} {60 * STUDENTS / seconds:11.0f} {memory:8.0f}")
    each = (ours[0] - start[0]) / (STUDENTS - 1)
    print(f"  gradcourse grade for one submission takes {start[0]:.2f} s, each further one {1e3 * each:.1f} ms")
    print(f"  whole commands: {theirs[0] / ours[0]:.0f} times as many per minute")
    print(f"  per submission: {theirs[0] / STUDENTS / each:.0f} times as many per minute once the worker has started")


def alone(folder):
    return hand_in(folder, 1)


def compare_jobs(folder, students, sandbox):
    submitted = hand_in(folder / "submitted", students)
    print(f"{students} submissions of sheet {SLUG}, sandbox {sandbox}")
    one = grade(submitted, folder / "report", sandbox)
    two = grade(submitted, folder / "report", sandbox, jobs=2)
    for name, (seconds, memory) in (("one job, one core", one), ("two jobs, two cores", two)):
        print(f"  {name:34s} {seconds:9.2f} s {60 * students / seconds:11.0f} per minute {memory:8.0f} MB")
    ceiling = two_loops_at_once()
    print(f"  two jobs are {one[0] / two[0]:.2f} times one; two loops that share nothing {ceiling:.2f} times one")


def two_loops_at_once():
    """How many times one loop's work this machine does with two of them: what two jobs can reach."""
    loop = [sys.executable, "-c", "for i in range(50_000_000): i * i"]
    alone, _ = timed(loop)
    began = time.perf_counter()
    both = [subprocess.Popen(loop) for _ in range(2)]
    for one, core in zip(both, sorted(os.sched_getaffinity(0)), strict=False):
        os.sched_setaffinity(one.pid, {core})
    for one in both:
        one.wait()
    return 2 * alone / (time.perf_counter() - began)


def grow(folder, sandbox, counts=(10, 30, 100, 300, 1000, 3000)):
    rows = []
    print(f"  {'submissions':>11s} {'seconds':>9s} {'ms each':>8s} {'peak MB':>8s}")
    for count in counts:
        seconds, memory = grade(hand_in(folder / f"in{count}", count), folder / "report", sandbox)
        rows.append((count, seconds, memory))
        print(f"  {count:11d} {seconds:9.2f} {1e3 * seconds / count:8.1f} {memory:8.0f}", flush=True)
    draw(rows, Path("grading_growth.png"))


def draw(rows, path):
    from matplotlib import pyplot as plt

    counts, seconds, memory = zip(*rows, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    left.loglog(counts, seconds, "o-")
    left.set(xlabel="submissions", ylabel="seconds", title="Time of the whole command")
    right.semilogx(counts, memory, "o-")
    right.set(xlabel="submissions", ylabel="MB", title="Peak memory", ylim=(0, None))
    figure.savefig(path, dpi=120)
    print(path)


if __name__ == "__main__":
    main()
