"""What this process may use of the machine: processors and memory, as its control groups allow.

Containers and shared hubs limit a process through cgroups that torch does not read: with 4 visible cores and a
quota of one, torch starts 4 threads that keep interrupting each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def available_cpus(root: Path = ROOT) -> int:
    """Return how many processors this process may keep busy: the smaller of affinity and quota, at least 1.

    Args:
        root: The folder that holds `proc` and `sys`.
    """
    return usable_cpus(affinity_cpus(), cpu_quota(root))


def usable_cpus(affinity: int, quota: float) -> int:
    """Return the smaller of `affinity` and `quota`, the quota rounded up."""
    return affinity if math.isinf(quota) else max(1, min(affinity, math.ceil(quota)))


def affinity_cpus() -> int:
    """Return the number of processors that the scheduler lets this process run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux; macOS and Windows have no such call
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = ROOT) -> float:
    """Return the processors that the cgroups grant, e.g. 1.5; inf without a limit (and outside Linux)."""
    quotas = [math.inf]
    for folder in _cgroup_folders(root, "cpu"):
        unified = _read(folder / "cpu.max").split()
        if len(unified) == 2:  # version 2: "max 100000" or "150000 100000"
            quotas.append(_ratio(*unified))
        quotas.append(_ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return min(quotas)


def cgroup_free_memory(root: Path = ROOT) -> float:
    """Return the bytes that the cgroups leave to this process; inf without a limit."""
    free = [math.inf]
    for folder in _cgroup_folders(root, "memory"):
        for limit, usage in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            most, used = _read(folder / limit), _read(folder / usage)
            if most.isdigit() and used.isdigit():
                free.append(int(most) - max(0, int(used) - _reclaimable(folder)))
    return max(0.0, min(free))


def _cgroup_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders whose limits bind this process: its own group and every group above it."""
    base = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:  # version 2
            mounts = [base, base / "unified"]
        elif controller in controllers.split(","):
            mounts = [base / controller, base / controllers]
        else:
            continue
        # Inside a container the group named here is often not mounted; the container's own limits are then
        # at the top, which is among the parents.
        inner = Path(group.strip("/"))
        for mount in mounts:
            yield from (mount / part for part in (inner, *inner.parents))


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache that the kernel gives back when a program asks for memory."""
    entries = (line.split() for line in _read(folder / "memory.stat").splitlines())
    values = {entry[0]: int(entry[1]) for entry in entries if len(entry) == 2}
    return values.get("total_inactive_file", values.get("inactive_file", 0))


def _ratio(quota: str, period: str) -> float:
    if quota.isdigit() and period.isdigit() and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return math.inf  # "max" (version 2), "-1" (version 1), or no such file


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
