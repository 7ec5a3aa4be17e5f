"""Another user for a worker that root starts: one that owns nothing, with no privilege."""

import contextlib
import ctypes
import os
import pwd
import random

from gradcourse.grading.sandbox import confine, files

_FIRST, _LAST = 61184, 65519  # systemd keeps these numbers for users that own nothing
_READ_SEARCH = 1 << 2  # CAP_DAC_READ_SEARCH
_CAPABILITIES_VERSION = 0x20080522
_PR_SET_KEEPCAPS = 8


def another(paths):
    """Choose the user that a worker becomes, if root starts it.

    Args:
        paths: what the worker has to read.

    Returns:
        What `become` is told: the user's number, and whether it needs the privilege to read in folders that are closed
        to others, as a Python in root's home is; or None for a plain user, who can't become another.
    """
    if os.geteuid() != 0:
        return None
    taken = {user.pw_uid for user in pwd.getpwall()}
    number = random.SystemRandom().choice([number for number in range(_FIRST, _LAST) if number not in taken])
    return [number, not files.open_to_others(paths)]


def become(number, read_search):
    """Become another user, for good, without any privilege but to read what the sandbox shows.

    Raises:
        OSError: when that is refused.
    """
    confine.prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(number, number, number)
    os.setresuid(number, number, number)
    kept = _READ_SEARCH if read_search else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable; then their upper halves
    if ctypes.CDLL(None, use_errno=True).capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "privileges can't be dropped")


def threads():
    """Count the threads of this user, as the kernel does for its limit; 0 where there is no /proc to see any."""
    count = 0
    for process in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{process}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{process}/task"))
    return count
