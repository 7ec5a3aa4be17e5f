"""Machine facts, copies of the lessons, doctor's verdicts, and JupyterLab as a process."""

import asyncio
import contextlib
import errno
import json
import math
import os
import random
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from gradcourse import machine
from gradcourse.workspace import UserError, available_cpus, copies, doctor, lab, places

REPOSITORY = Path(__file__).parents[1]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# --- machine: what the cgroups allow

V2 = "0::/user.slice/job\n"
V1 = "4:memory:/docker/abc\n3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n"
HYBRID = "2:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        pytest.param("", {}, math.inf, id="no cgroups"),
        pytest.param(V2, {}, math.inf, id="no limit files"),
        pytest.param(V2, {"user.slice/job/cpu.max": "max 100000"}, math.inf, id="v2 unlimited"),
        pytest.param(V2, {"user.slice/job/cpu.max": "100000 100000"}, 1, id="v2 one"),
        pytest.param(V2, {"user.slice/job/cpu.max": "150000 100000"}, 1.5, id="v2 one and a half"),
        pytest.param(V2, {"user.slice/cpu.max": "200000 100000"}, 2, id="v2 limit of the parent"),
        pytest.param(
            V2,
            {"user.slice/cpu.max": "100000 100000", "user.slice/job/cpu.max": "400000 100000"},
            1,
            id="v2 parent is stricter",
        ),
        pytest.param(V2, {"cpu.max": "300000 100000"}, 3, id="v2 inside a container"),
        pytest.param(V2, {"user.slice/job/cpu.max": "rubbish"}, math.inf, id="v2 rubbish"),
        pytest.param(
            V1,
            {"cpu/docker/abc/cpu.cfs_quota_us": "50000", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
            0.5,
            id="v1 half",
        ),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"},
            2,
            id="v1 inside a container",
        ),
        pytest.param(
            V1,
            {"cpu/docker/abc/cpu.cfs_quota_us": "-1", "cpu/docker/abc/cpu.cfs_period_us": "100000"},
            math.inf,
            id="v1 unlimited",
        ),
        pytest.param(HYBRID, {"unified/cpu.max": "100000 100000"}, 1, id="hybrid"),
    ],
)
def test_cpu_quota_is_the_strictest_limit(tmp_path, groups, files, quota):
    fake_cgroups(tmp_path, groups, files)
    assert machine.cpu_quota(tmp_path) == quota


def fake_cgroups(root, groups, files):
    write(root / "proc" / "self" / "cgroup", groups)
    for name, text in files.items():
        write(root / "sys" / "fs" / "cgroup" / name, text + "\n")


@pytest.mark.parametrize(
    ("affinity", "quota", "usable"), [(4, math.inf, 4), (4, 1, 1), (4, 1.5, 2), (4, 0.2, 1), (2, 8, 2), (1, 0.01, 1)]
)
def test_usable_cpus_round_the_quota_up(affinity, quota, usable):
    assert machine.usable_cpus(affinity, quota) == usable


def test_available_cpus_follow_the_quota(tmp_path):
    fake_cgroups(tmp_path, V2, {"cpu.max": "10000 100000"})
    assert available_cpus(tmp_path) == 1


if hasattr(os, "sched_setaffinity"):

    def test_available_cpus_follow_the_affinity():
        code = (
            "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
            "from gradcourse.workspace import available_cpus; print(available_cpus())"
        )
        assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


@pytest.mark.parametrize(
    ("groups", "files", "free"),
    [
        pytest.param(V2, {"memory.max": "max", "memory.current": "7"}, math.inf, id="v2 unlimited"),
        pytest.param(V2, {"memory.max": "1000", "memory.current": "700"}, 300, id="v2"),
        pytest.param(
            V2,
            {"memory.max": "1000", "memory.current": "700", "memory.stat": "anon 500\ninactive_file 150"},
            450,
            id="v2 file cache counts as free",
        ),
        pytest.param(V2, {"memory.max": "1000", "memory.current": "1200"}, 0, id="over the limit"),
        pytest.param(
            V1,
            {"memory/docker/abc/memory.limit_in_bytes": "500", "memory/docker/abc/memory.usage_in_bytes": "100"},
            400,
            id="v1",
        ),
    ],
)
def test_cgroup_memory_is_limit_less_use(tmp_path, groups, files, free):
    fake_cgroups(tmp_path, groups, files)
    assert machine.cgroup_free_memory(tmp_path) == free


# --- copies


def notebook(*sources, output=None):
    """A notebook as JSON text; with `output`, as if it had been run and saved in JupyterLab."""
    cells = [{"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": source} for i, source in enumerate(sources)]
    for number, cell in enumerate(cells):
        cell["execution_count"] = number + 7 if output else None
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    if output:
        content["metadata"] = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return json.dumps(content, indent=2 if output else 1)


LESSON = "notebooks/00_a.ipynb"
SHEET = "exercises/s/s.ipynb"
START = "notebooks/start.ipynb"


@pytest.fixture
def course(tmp_path):
    """A course with one lesson and one sheet."""
    root = tmp_path / "course"
    write(root / "gradcourse" / "__main__.py", "")
    write(root / LESSON, notebook("1 + 1", "old"))
    write(root / SHEET, notebook("def answer(): ..."))
    return root


@pytest.fixture
def desk(tmp_path):
    return tmp_path / "Wörk folder"


def start(course, desk):
    """Run `copy_course`; return {file: action}."""
    return {change.name: change.action for change in copies.copy_course(course, desk)}


def files(folder):
    """The visible files in a folder."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.startswith("."))


def test_start_copies_lessons_and_sheets(course, desk):
    write(course / "notebooks/.ipynb_checkpoints/00_a-checkpoint.ipynb", notebook("x"))
    write(course / "solutions/s/s.ipynb", notebook("secret"))
    assert start(course, desk) == {LESSON: "copied", SHEET: "copied"}
    assert files(desk) == sorted([LESSON, SHEET])
    assert (desk / LESSON).read_bytes() == (course / LESSON).read_bytes()


def test_start_again_changes_nothing(course, desk):
    start(course, desk)
    assert start(course, desk) == {}


def test_start_updates_a_file_that_was_not_edited(course, desk):
    start(course, desk)
    write(course / LESSON, notebook("1 + 1", "new"))
    assert start(course, desk) == {LESSON: "updated"}
    assert "new" in (desk / LESSON).read_text(encoding="utf-8")


@pytest.mark.parametrize("theirs", ["old", "new"])
def test_start_takes_a_run_and_saved_lesson_as_not_edited(course, desk, theirs):
    start(course, desk)
    write(desk / LESSON, notebook("1 + 1", "old", "", output="2"))
    write(course / LESSON, notebook("1 + 1", theirs))
    assert start(course, desk) == ({LESSON: "updated"} if theirs == "new" else {})
    assert ('"text"' in (desk / LESSON).read_text(encoding="utf-8")) == (theirs == "old")


def test_start_brings_new_outputs_to_a_file_that_was_never_saved(course, desk):
    start(course, desk)
    write(course / LESSON, notebook("1 + 1", "old", output="2"))
    assert start(course, desk) == {LESSON: "updated"}


def test_start_keeps_outputs_of_the_learner_when_only_outputs_are_new(course, desk):
    start(course, desk)
    write(desk / LESSON, notebook("1 + 1", "old", output="mine"))
    write(course / LESSON, notebook("1 + 1", "old", output="theirs"))
    assert start(course, desk) == {}
    assert "mine" in (desk / LESSON).read_text(encoding="utf-8")


def test_start_lays_a_new_version_beside_an_edited_file(course, desk):
    start(course, desk)
    write(desk / SHEET, notebook("def answer(): return 42", output="ran"))
    mine = (desk / SHEET).read_bytes()
    write(course / SHEET, notebook("def answer(): ...  # clearer"))
    (change,) = copies.copy_course(course, desk)
    assert str(change) == f"kept     {SHEET}: you edited it; the new version is exercises/s/s.new.ipynb"
    assert (desk / SHEET).read_bytes() == mine
    assert (desk / "exercises/s/s.new.ipynb").read_bytes() == (course / SHEET).read_bytes()
    assert start(course, desk) == {}


def test_start_leaves_an_edited_file_alone_when_the_course_has_nothing_new(course, desk):
    start(course, desk)
    write(desk / SHEET, notebook("def answer(): return 42"))
    assert start(course, desk) == {}
    assert files(desk) == sorted([LESSON, SHEET])


@pytest.mark.parametrize(("worked_in", "names"), [(False, ["s.new"]), (True, ["s.new", "s.new2"])])
def test_start_never_writes_over_work_in_a_new_file(course, desk, worked_in, names):
    start(course, desk)
    write(desk / SHEET, notebook("mine"))
    write(course / SHEET, notebook("second version"))
    start(course, desk)
    if worked_in:
        write(desk / "exercises/s/s.new.ipynb", notebook("merged by hand"))
    write(course / SHEET, notebook("third version"))
    assert start(course, desk) == {SHEET: "kept"}
    assert [name for name in files(desk) if ".new" in name] == [f"exercises/s/{name}.ipynb" for name in names]
    assert "third version" in (desk / f"exercises/s/{names[-1]}.ipynb").read_text(encoding="utf-8")


def test_start_updates_again_once_the_learner_took_the_new_version(course, desk):
    start(course, desk)
    write(desk / SHEET, notebook("mine"))
    write(course / SHEET, notebook("second version"))
    start(course, desk)
    os.replace(desk / "exercises/s/s.new.ipynb", desk / SHEET)
    write(course / SHEET, notebook("third version"))
    assert start(course, desk) == {SHEET: "updated"}


@pytest.mark.parametrize("record", [None, "", "[]", '{"sent": {"a": 1}}'])
def test_start_without_a_record_takes_every_difference_as_an_edit(course, desk, record):
    start(course, desk)
    (desk / places.RECORD).unlink()
    if record is not None:
        write(desk / places.RECORD, record)
    write(course / LESSON, notebook("new"))
    assert start(course, desk) == {LESSON: "kept"}


def test_start_takes_an_unreadable_notebook_as_edited(course, desk):
    start(course, desk)
    write(desk / LESSON, "{half written")
    write(course / LESSON, notebook("new"))
    assert start(course, desk) == {LESSON: "kept"}
    assert (desk / LESSON).read_text(encoding="utf-8") == "{half written"


def test_start_brings_a_deleted_file_back(course, desk):
    start(course, desk)
    (desk / SHEET).unlink()
    assert start(course, desk) == {SHEET: "copied"}


def test_start_leaves_what_the_course_dropped(course, desk):
    start(course, desk)
    (course / LESSON).unlink()
    assert start(course, desk) == {LESSON: "left"}
    assert start(course, desk) == {}
    assert (desk / LESSON).exists()


def test_an_image_pasted_into_a_cell_is_an_edit(tmp_path):
    plain = json.loads(notebook("text"))
    pasted = json.loads(notebook("text"))
    pasted["cells"][0]["attachments"] = {"image.png": {"image/png": "AAAA"}}
    paths = [write(tmp_path / name, json.dumps(nb)) for name, nb in (("a.ipynb", plain), ("b.ipynb", pasted))]
    assert copies.fingerprint(paths[0]) != copies.fingerprint(paths[1])


@pytest.mark.parametrize("seed", range(20))
def test_start_never_loses_a_line_the_learner_wrote(course, desk, seed):
    """Edits here, changes there and updates in any order: every line she wrote stands in some file."""
    rng = random.Random(seed)
    written = []
    start(course, desk)
    for step in range(30):
        name = rng.choice([LESSON, SHEET])
        match rng.choice(["edit", "run", "upstream", "start", "take"]):
            case "edit":
                path = rng.choice(sorted(desk.rglob("*.ipynb")))
                sources = [cell["source"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
                written.append(f"line {step} of hers")
                write(path, notebook(*sources, written[-1]))
            case "run":
                sources = [cell["source"] for cell in json.loads((desk / name).read_text(encoding="utf-8"))["cells"]]
                write(desk / name, notebook(*sources, output=f"{step}"))
            case "upstream":
                write(course / name, notebook(f"version {rng.randrange(3)}"))
            case "start":
                start(course, desk)
            case "take":  # she gives up her file for the new one
                for beside in list((desk / name).parent.glob("*.new.ipynb")):
                    lost = (desk / name).read_text(encoding="utf-8")
                    written = [line for line in written if line not in lost]
                    os.replace(beside, desk / name)
        everything = "".join(path.read_text(encoding="utf-8") for path in desk.rglob("*.ipynb"))
        assert [line for line in written if line not in everything] == []


@pytest.mark.parametrize("failing_call", range(1, 4))
def test_start_survives_a_full_disk(course, desk, monkeypatch, failing_call):
    calls = []

    def replace_until_full(part, path, real=os.replace):
        calls.append(path)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(part, path)

    monkeypatch.setattr(copies.os, "replace", replace_until_full)
    with pytest.raises(UserError, match=r"can't write .*No space left on device; make room there"):
        copies.copy_course(course, desk)
    assert not list(desk.rglob("*.part"))
    copies.copy_course(course, desk)
    assert files(desk) == sorted([LESSON, SHEET])
    assert start(course, desk) == {}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("course", "is inside the repository"),
        ("course/notebooks/mine", "is inside the repository"),
        ("a file", "is a file"),
        ("a file/below", "can't write"),
    ],
)
def test_start_refuses_a_folder_it_can_not_use(course, tmp_path, target, message):
    write(tmp_path / "a file", "")
    before = files(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        copies.copy_course(course, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


# --- doctor


GOOD_TORCH = {"version": "2.13.0", "cuda": None, "threads": 2, "matmul_right": True}


@pytest.mark.parametrize(
    ("finding", "ok", "says"),
    [
        (doctor.judge_python((3, 11, 0), ">=3.11,<3.15"), True, "Python 3.11.0"),
        (doctor.judge_python((3, 10, 9), ">=3.11,<3.15"), False, "needs Python >=3.11,<3.15"),
        (doctor.judge_python((3, 15, 0), ">=3.11,<3.15"), False, "needs Python"),
        (doctor.judge_python((3, 14, 9), ">=3.11,<3.15"), True, "Python 3.14.9"),
        (doctor.judge_python((3, 12, 1), None), False, "doesn't have gradcourse"),
        (doctor.judge_torch(GOOD_TORCH), True, "torch 2.13.0, CPU build"),
        (doctor.judge_torch(GOOD_TORCH | {"cuda": "12.6"}), True, "CUDA 12.6 build"),
        (doctor.judge_torch(GOOD_TORCH | {"matmul_right": False}), False, "product of two matrices is wrong"),
        (doctor.judge_torch({"error": "DLL load failed"}), False, "can't be imported (DLL load failed): run start.py"),
        (doctor.judge_threads(2, 2, math.inf, None), True, "no quota"),
        (doctor.judge_threads(1, 4, 1, "1"), True, "a quota of 1"),
        (doctor.judge_threads(4, 4, 1, None), False, "OMP_NUM_THREADS=1 before"),
        (doctor.judge_threads(4, 4, 2.5, "4"), False, "OMP_NUM_THREADS=3 (it is 4)"),
        (doctor.judge_threads(None, 4, 1, None), False, "OMP_NUM_THREADS=1"),
        (doctor.judge_memory(4e9), True, "4,000 MB free"),
        (doctor.judge_memory(400e6), True, "400 MB free"),
        (doctor.judge_memory(None), False, "can't be measured"),
        (doctor.judge_memory(100e6), False, "free 300 MB"),
        (doctor.judge_path_length("C:" + "x" * 85, windows=True), True, "87 characters"),
        (doctor.judge_path_length("C:" + "x" * 86, windows=True), False, "1 shorter"),
        (doctor.judge_path_length("/" + "x" * 200, windows=False), True, "only Windows"),
        (doctor.judge_kernel("/env", "/spec", own_prefix="/env"), True, "runs this Python"),
        (doctor.judge_kernel("/other", "/spec", own_prefix="/env"), False, "or remove /spec"),
        (doctor.judge_kernel(None, "No such kernel", own_prefix="/env"), False, "doesn't start (No such kernel)"),
        (doctor.judge_disk(1e9, Path("here")), True, "1,000 MB free"),
        (doctor.judge_disk(1e7, Path("here")), False, "make room"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_doctor_says_ok_or_what_to_do(finding, ok, says):
    assert finding.ok == ok
    assert says in str(finding)
    assert str(finding).startswith("ok " if ok else "-- ")
    assert "\n" not in str(finding)


def test_windows_path_limit_leaves_room_for_the_longest_file_of_torch():
    """A path may have 259 characters; at the limit the longest file (171) just fits, one more does not."""
    assert len("C:" + "x" * (doctor.WINDOWS_PATH_LIMIT - 2) + "\\" + "y" * 171) == 259


def test_doctor_asks_for_the_python_that_the_project_does():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    (bounds,) = re.findall(r'requires-python = "(.+)"', text)
    from packaging.specifiers import SpecifierSet

    assert SpecifierSet(doctor.required_python()) == SpecifierSet(bounds)


def test_doctor_measures_torch():
    import torch

    facts = doctor.measure_torch()
    assert facts["matmul_right"] is True
    assert facts["version"] == torch.__version__


def test_doctor_reports_a_torch_that_fails_to_import(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "torch" in doctor.measure_torch()["error"]


def test_doctor_starts_the_kernel_of_this_python(monkeypatch):
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    prefix, detail = doctor.measure_kernel()
    assert prefix == sys.prefix, detail


def test_doctor_reports_a_kernel_whose_python_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", str(foreign_kernel(tmp_path)))
    prefix, detail = doctor.measure_kernel()
    assert prefix is None
    assert "no-such-python" in detail


def foreign_kernel(folder):
    """A Jupyter data folder with a kernelspec python3 of another, vanished Python."""
    spec = {
        "argv": [str(folder / "no-such-python"), "-f", "{connection_file}"],
        "display_name": "P",
        "language": "python",
    }
    write(folder / "kernels" / "python3" / "kernel.json", json.dumps(spec))
    return folder


# --- lab


@pytest.fixture
def work_folder(course, desk):
    start(course, desk)
    return desk


def test_lab_opens_the_first_lesson_of_the_folder_it_is_called_in(work_folder, monkeypatch):
    monkeypatch.chdir(work_folder / "exercises" / "s")
    assert lab.find_notebook(None) == (work_folder.resolve(), Path(LESSON))


def test_lab_opens_the_start_page_where_there_is_one(course, desk, monkeypatch):
    write(course / START, notebook("1"))
    start(course, desk)
    monkeypatch.chdir(desk / "exercises" / "s")
    assert lab.find_notebook(None) == (desk.resolve(), Path(START))


def start_page(output):
    """A start notebook that shows this output, as a contents manager hands it out."""
    shown = {"output_type": "execute_result", "data": {"text/html": output, "text/plain": output}}
    cell = {"cell_type": "code", "id": "start-page", "source": "", "outputs": [shown]}
    return {"type": "notebook", "content": {"cells": [cell]}}


@pytest.mark.parametrize(
    ("model", "name", "fresh"),
    [
        (start_page("old"), "notebooks/start.ipynb", True),
        (start_page("old"), "notebooks/00_a.ipynb", False),
        ({"type": "notebook", "content": None}, "notebooks/start.ipynb", False),
        ({"type": "file", "content": "old"}, "notebooks/start.ipynb", False),
        ({"type": "notebook", "content": {"cells": []}}, "notebooks/start.ipynb", False),
    ],
)
def test_lab_hands_the_start_page_out_as_it_is_now(model, name, fresh):
    class Contents:
        async def get(self, path):
            return model

    contents, before = Contents(), json.dumps(model)
    lab.show_progress(contents, REPOSITORY)
    after = json.dumps(asyncio.run(contents.get(name)))
    assert (after != before) == fresh
    assert ("Begin lesson 00" in after) == fresh


def test_lab_leaves_a_contents_manager_of_another_kind_alone():
    class Contents:
        def get(self, path):
            return start_page("old")

    contents = Contents()
    lab.show_progress(contents, REPOSITORY)
    assert contents.get("notebooks/start.ipynb") == start_page("old")


def test_lab_shows_the_work_folder_around_a_notebook(work_folder):
    assert lab.find_notebook(work_folder / SHEET) == (work_folder.resolve(), Path(SHEET))


def test_lab_shows_the_own_folder_of_a_notebook_from_elsewhere(tmp_path):
    path = write(tmp_path / "x y.ipynb", notebook("1"))
    assert lab.find_notebook(path) == (tmp_path.resolve(), Path("x y.ipynb"))


@pytest.mark.parametrize("name", ["notebooks/00_b.ipynb", "notebooks", "nowhere/00_a.ipynb"])
def test_lab_says_which_notebooks_there_are(work_folder, name):
    with pytest.raises(UserError, match=r"no notebook .*: .* holds (00_a.ipynb|no notebook)"):
        lab.find_notebook(work_folder / name)


def test_lab_says_that_lessons_are_not_at_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "__file__", str(tmp_path / "site-packages/gradcourse/workspace/places.py"))
    with pytest.raises(UserError, match=r"the lessons are not at hand.*clone the repository"):
        lab.find_notebook(None)


@pytest.mark.parametrize(
    ("usable", "visible", "current", "threads"),
    [(2, 2, {}, None), (1, 4, {}, "1"), (3, 4, {}, "3"), (1, 4, {"OMP_NUM_THREADS": "2"}, None)],
)
def test_lab_sets_threads_only_when_the_quota_is_smaller(tmp_path, usable, visible, current, threads):
    assert lab.lab_environment(tmp_path, current, usable, visible).get("OMP_NUM_THREADS") == threads


def test_lab_settings_come_before_those_of_the_user(tmp_path):
    variables = lab.lab_environment(tmp_path, {"JUPYTER_PATH": "hers"}, 1, 1)
    assert variables["JUPYTER_PATH"].split(os.pathsep) == [str(tmp_path), "hers"]
    assert variables["JUPYTER_CONFIG_PATH"] == str(tmp_path)


def test_lab_refuses_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"can't listen on port {port} .*--port"):
            lab.check_port(port)


class RunningLab:
    """A `gradcourse lab` process that listens: `url`, `get(path)`."""

    def __init__(self, process):
        self.process = process
        self.url = None

    def wait_until_it_listens(self):
        printed = []
        for line in self.process.stdout:
            printed.append(line)
            found = re.fullmatch(r"JupyterLab: (.+)\n", line)
            if found:
                self.url = found[1]
                return
        raise AssertionError("the lab ended: " + "".join(printed))

    def get(self, path):
        address, _, token = self.url.partition("?token=")
        base = re.match(r"http://[^/]+/", address)[0]
        request = urllib.request.Request(base + path, headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()


@contextlib.contextmanager
def running_lab(*arguments, home, **variables):
    """Run `gradcourse lab` with an empty home, so that nothing of this machine's user takes part."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    home.mkdir(exist_ok=True)
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "APPDATA": str(home), "PYTHONUTF8": "1", **variables}
    command = [sys.executable, "-m", "gradcourse", "lab", "--no-browser", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    patience = threading.Timer(600, process.kill)
    patience.start()
    try:
        running = RunningLab(process)
        running.wait_until_it_listens()
        yield running
    finally:
        process.terminate()
        process.communicate()
        patience.cancel()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A lab on a notebook, in the presence of a foreign kernelspec python3 in every place a user can have one."""
    folder = tmp_path_factory.mktemp("ö served")
    path = write(folder / "notebooks" / "a b#ü.ipynb", notebook("1"))
    user, listed = foreign_kernel(folder / "user"), foreign_kernel(folder / "listed")
    port = free_port()
    tabs = {"data": {"layout-restorer:data": {}}, "metadata": {"id": "default"}}
    write(folder / "tabs" / "default-37a8.jupyterlab-workspace", json.dumps(tabs))
    variables = {
        "JUPYTER_DATA_DIR": str(user),
        "JUPYTER_PATH": str(listed),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "tabs"),
    }
    with running_lab(path, "--port", port, home=folder / "home", **variables) as running:
        yield running, port, folder


def test_lab_listens_on_the_port_asked_for(served):
    running, port, _ = served
    assert running.url.startswith(f"http://localhost:{port}/lab/tree/a%20b%23%C3%BC.ipynb?token=")
    assert "jupyter-config-data" in running.get("lab")


def test_lab_starts_kernels_of_this_python_whatever_the_user_has(served):
    running, _, _ = served
    specs = json.loads(running.get("api/kernelspecs"))
    assert specs["default"] == "python3"
    assert specs["kernelspecs"]["python3"]["spec"]["argv"][0] == sys.executable


def test_lab_has_no_announcements(served):
    running, _, _ = served
    page = json.loads(re.search(r"jupyter-config-data[^>]*>(.*?)</script>", running.get("lab"), flags=re.DOTALL)[1])
    assert "@jupyterlab/apputils-extension:announcements" in page["disabledExtensions"]
    assert json.loads(running.get("lab/api/update"))["notification"] is None


def test_lab_shows_the_folder_of_the_notebook(served):
    running, _, _ = served
    assert [entry["name"] for entry in json.loads(running.get("api/contents"))["content"]] == ["a b#ü.ipynb"]


def test_lab_does_not_open_the_tabs_of_another_project(served):
    running, _, _ = served
    assert json.loads(running.get("lab/api/workspaces"))["workspaces"]["ids"] == []


def test_lab_writes_no_configuration_for_the_user(served):
    running, _, folder = served
    running.get("lab")
    assert not list((folder / "home").rglob("*.json"))
    assert not (folder / "home" / ".jupyter").exists()


def test_lab_without_a_port_takes_the_next_free_one(tmp_path):
    path = write(tmp_path / "a.ipynb", notebook("1"))
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # someone else holds it: as good
            stack.enter_context(socket.create_server(("127.0.0.1", lab.FIRST_PORT)))
        running = stack.enter_context(running_lab(path, home=tmp_path / "home"))
        assert f"localhost:{lab.FIRST_PORT}/" not in running.url
        assert "jupyter-config-data" in running.get("lab")


if os.name == "posix":  # Windows has no pseudo-terminals

    def test_control_c_stops_the_lab_without_a_question(tmp_path):
        import pexpect

        path = write(tmp_path / "a.ipynb", notebook("1"))
        command = ["-m", "gradcourse", "lab", "--no-browser", "--port", str(free_port()), str(path)]
        environment = os.environ | {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
        with pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", timeout=120) as terminal:
            terminal.expect("Ctrl-C here stops it.")
            terminal.sendintr()
            terminal.expect(pexpect.EOF)
        assert terminal.exitstatus == 0
        assert "JupyterLab stopped." in terminal.before
        assert "?" not in terminal.before
        assert not list(tmp_path.glob("gradcourse-lab-*"))
