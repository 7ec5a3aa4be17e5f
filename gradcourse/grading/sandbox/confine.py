"""Inside the sandbox: what a forked child gives up before it runs a submission, and the scratch folder between two.

Uses nothing but the standard library, and is ready before the first fork.
"""

import ctypes
import itertools
import mmap
import os
import resource
import secrets
import signal
import sys
from dataclasses import dataclass

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_INSTRUCTION = 8  # bytes of one struct sock_filter

_MOVED = secrets.token_hex(8)  # begins names that no submission has used

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Attributes:
        address_space: bytes that it may map beyond what the preloaded libraries take.
        cpu_seconds: of all its threads together.
        file_bytes: size of a file.
        open_files: at a time.
        threads: of the sandbox's user; the kernel does not count those of root.
    """

    address_space: int = 3 * 2**30
    cpu_seconds: int = 600
    file_bytes: int = 64 * 2**20
    open_files: int = 128
    threads: int = 256


DEFAULT = Limits()


@dataclass
class Setting:
    """What the process that started this one has said.

    Attributes:
        program: the filter of system calls; empty where the sandbox is unsafe.
        scratch: the only folder that can be written to.
        threads: those of the same user that were there before.
    """

    program: bytes = b""
    scratch: str = ""
    threads: int = 0


setting = Setting()


def confine(limits=DEFAULT, keep=None):
    """Give up, for good, whatever a submission does not need.

    To be called in a forked child, as its last step before untrusted code.

    Args:
        limits: the Limits.
        keep: numbers of the file descriptors that stay open; None: all. The standard streams lead to /dev/null.

    Raises:
        OSError: when something could not be given up: the child must then end.
    """
    _close_files(keep)
    bind_to_parent()
    if sys.platform == "linux":
        _limit(limits)
    if setting.program:
        _load_filter(setting.program)


def bind_to_parent():
    """Die with the parent, gain no privileges, be closed to debuggers; on Linux, where this can be asked for."""
    if sys.platform == "linux":
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(_PR_SET_NO_NEW_PRIVS, 1)
        prctl(_PR_SET_DUMPABLE, 0)


def prctl(option, *arguments):
    """Call prctl.

    Raises:
        OSError: when it fails.
    """
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def _close_files(keep):
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    if keep is None:
        return
    first = 3
    for number in sorted(set(keep)):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _limit(limits):
    lower = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.threads + setting.threads,
        resource.RLIMIT_AS: limits.address_space + address_space_in_use(),
    }
    for which, most in lower.items():
        hard = resource.getrlimit(which)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (least, least))


def address_space_in_use():
    """Return the bytes that this process maps, to 16 MB, as the kernel counts them for RLIMIT_AS.

    There is no /proc to read it from: found by halving, as the least limit under which one more page can be mapped.
    """
    before = resource.getrlimit(resource.RLIMIT_AS)
    low, high = 0, 2**46
    try:
        while high - low > 2**24:
            middle = (low + high) // 2
            resource.setrlimit(resource.RLIMIT_AS, (middle, before[1]))
            low, high = (low, middle) if _can_map() else (middle, high)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return high


def _can_map():
    try:
        mmap.mmap(-1, mmap.PAGESIZE).close()
    except (OSError, MemoryError):
        return False
    return True


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _load_filter(program):
    described = _Program(len(program) // _INSTRUCTION, program)
    prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(described))


def empty_scratch():
    """Empty the scratch folder, between two submissions and with no untrusted process left.

    Folders are moved up before they are removed: a submission can nest them deeper than a recursion or a path goes.

    Raises:
        OSError: when it can't be emptied: the process must then end.
    """
    moved = itertools.count()
    while entries := list(os.scandir(setting.scratch)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, f"{setting.scratch}/{_MOVED}{next(moved)}")
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
