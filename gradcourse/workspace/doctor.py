"""Is this machine ready for the course? Measure facts, then decide; the decisions are pure functions of the facts."""

from __future__ import annotations

import ast
import math
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from gradcourse.machine import affinity_cpus, cgroup_free_memory, cpu_quota, usable_cpus

KERNEL_MB, LAB_MB = 254, 146  # resident memory of a kernel with torch, matplotlib and ipywidgets; of the Lab server
DISK_MB = 200  # room for saved notebooks and figures
WINDOWS_PATH_LIMIT = 87  # for site-packages: 259 characters less the 171 of torch's longest file and a separator
KERNEL_SECONDS = 60


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: Whether nothing needs to be done.
        text: What was found.
        remedy: What to do when not ok.
    """

    ok: bool
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return the line that `gradcourse doctor` prints."""
        return f"ok {self.text}" if self.ok else f"-- {self.text}: {self.remedy}"


def examine() -> list[Finding]:
    """Measure this machine and return what was found, one finding per subject."""
    torch_facts = measure_torch()
    return [
        judge_python(sys.version_info[:3], required_python()),
        judge_torch(torch_facts),
        judge_threads(torch_facts.get("threads"), affinity_cpus(), cpu_quota(), os.environ.get("OMP_NUM_THREADS")),
        judge_memory(measure_free_memory()),
        judge_path_length(sysconfig.get_path("purelib"), windows=os.name == "nt"),
        judge_kernel(*measure_kernel(), own_prefix=sys.prefix),
        judge_disk(shutil.disk_usage(Path.cwd()).free, Path.cwd()),
    ]


def judge_python(version: tuple[int, int, int], required: str | None) -> Finding:
    """Judge the Python version against what the package asks for, e.g. ">=3.11,<3.15"; None: not installed."""
    text = "Python " + ".".join(map(str, version))
    if required is None:
        return Finding(False, f"{text} doesn't have gradcourse installed", "run start.py, or use its .venv")
    least, below = (tuple(map(int, bound.split("."))) for bound in re.findall(r"[\d.]+", required))
    return Finding(least <= version < below, text, f"the course needs Python {required}; run start.py with one")


def judge_torch(facts: dict) -> Finding:
    """Judge the facts that `measure_torch` returns."""
    if "error" in facts:
        return Finding(False, f"torch can't be imported ({facts['error']})", "run start.py again, it repairs .venv")
    build = f"CUDA {facts['cuda']} build" if facts["cuda"] else "CPU build"
    text = f"torch {facts['version']}, {build}"
    if not facts["matmul_right"]:
        return Finding(False, f"{text}, a product of two matrices is wrong", "install torch again: run start.py")
    return Finding(True, f"{text}, multiplies matrices")


def judge_threads(threads: int | None, affinity: int, quota: float, omp_num_threads: str | None) -> Finding:
    """Judge the threads that torch takes against the processors that this process may use.

    Args:
        threads: What torch takes; None where torch is missing, then it is taken to use every visible processor.
        affinity: Processors that the scheduler lets this process run on.
        quota: Processors that the cgroups grant; inf without a limit.
        omp_num_threads: The environment variable, if set.
    """
    usable = usable_cpus(affinity, quota)
    takes = affinity if threads is None else threads
    limit = "no quota" if math.isinf(quota) else f"a quota of {quota:g}"
    text = f"threads: torch takes {takes}, of {affinity} visible CPUs with {limit} it may use {usable}"
    where = f" (it is {omp_num_threads})" if omp_num_threads else ""
    remedy = f"set OMP_NUM_THREADS={usable}{where} before you start Python, else training is many times slower"
    return Finding(takes <= usable, text, remedy)


def judge_memory(free_bytes: float | None) -> Finding:
    """Judge the free memory against one kernel and JupyterLab; None: it can't be measured."""
    if free_bytes is None:
        return Finding(False, "memory can't be measured without psutil", "run start.py again, it repairs .venv")
    need, free = KERNEL_MB + LAB_MB, free_bytes / 1e6
    text = f"memory: {free:,.0f} MB free, a lesson takes {KERNEL_MB} MB and JupyterLab {LAB_MB} MB"
    return Finding(free >= need, text, f"free {need - free:,.0f} MB: shut down other kernels or close programs")


def judge_path_length(site_packages: str, *, windows: bool) -> Finding:
    """Judge the length of the path that torch is installed under; only Windows has a limit."""
    length = len(site_packages)
    if not windows:
        return Finding(True, f"path length: {length} characters, only Windows has a limit")
    text = f"path length: {length} characters up to site-packages, Windows allows {WINDOWS_PATH_LIMIT}"
    remedy = f"move the course to a folder whose path is {length - WINDOWS_PATH_LIMIT} shorter and run start.py there"
    return Finding(length <= WINDOWS_PATH_LIMIT, text, remedy)


def judge_kernel(prefix: str | None, detail: str, *, own_prefix: str) -> Finding:
    """Judge the Python that the kernel `python3` runs.

    Args:
        prefix: `sys.prefix` of the kernel that was started; None if none started.
        detail: The folder of its kernelspec, or why none started.
        own_prefix: `sys.prefix` here.
    """
    if prefix is None:
        return Finding(False, f"kernel python3 doesn't start ({detail})", "run start.py again, it repairs .venv")
    if os.path.realpath(prefix) != os.path.realpath(own_prefix):
        text = f"kernel python3 runs the Python of {prefix}, not of {own_prefix}"
        return Finding(False, text, f"open lessons with `gradcourse lab`, or remove {detail}")
    return Finding(True, "kernel python3 starts and runs this Python")


def judge_disk(free_bytes: float, folder: Path) -> Finding:
    """Judge the room for saved notebooks."""
    free = free_bytes / 1e6
    text = f"disk: {free:,.0f} MB free in {folder}"
    return Finding(free >= DISK_MB, text, f"make room for {DISK_MB} MB, or saving a notebook may fail")


def measure_torch() -> dict:
    """Import torch and return version, CUDA version, threads and whether a product is right, or the error."""
    try:
        import torch

        return {
            "version": torch.__version__,
            "cuda": torch.version.cuda,
            "threads": torch.get_num_threads(),
            "matmul_right": _product_is_right(torch),
        }
    except Exception as error:  # a broken installation fails in many ways: a DLL, an undefined symbol
        return {"error": _one_line(error)}


def _product_is_right(torch) -> bool:
    """Multiply whole numbers, where float32 is exact, and compare with plain Python."""
    rows = [[(3 * i + j) % 7 for j in range(16)] for i in range(16)]
    product = torch.tensor(rows, dtype=torch.float32) @ torch.tensor(rows, dtype=torch.float32)
    columns = list(zip(*rows, strict=True))
    return product.tolist() == [[sum(a * b for a, b in zip(r, c, strict=True)) for c in columns] for r in rows]


def measure_free_memory() -> float | None:
    """Return the bytes that a new process can have: the machine's, within the cgroup limits."""
    try:
        import psutil  # comes with ipykernel
    except ImportError:
        return None
    return min(psutil.virtual_memory().available, cgroup_free_memory())


def measure_kernel() -> tuple[str | None, str]:
    """Start the kernel `python3` as Jupyter finds it and ask for its `sys.prefix`.

    Returns:
        The prefix and the folder of the kernelspec; or None and why it did not start.
    """
    try:
        from jupyter_client.manager import start_new_kernel

        manager, client = start_new_kernel(
            startup_timeout=KERNEL_SECONDS, kernel_name="python3", stderr=subprocess.DEVNULL
        )
        try:
            reply = client.execute(
                "", user_expressions={"prefix": "__import__('sys').prefix"}, reply=True, timeout=KERNEL_SECONDS
            )
            text = reply["content"]["user_expressions"]["prefix"]["data"]["text/plain"]
            return ast.literal_eval(text), manager.kernel_spec.resource_dir
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    except Exception as error:  # no such kernelspec, its program is gone, it dies, no answer
        return None, _one_line(error)


def required_python() -> str | None:
    """Return the bounds on the Python version that the installed package declares."""
    try:
        return metadata.metadata("gradcourse")["Requires-Python"]
    except metadata.PackageNotFoundError:
        return None


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
