"""Landlock as the kernel offers it: rights on folders and files, taken upon itself by a process."""

import ctypes
import os

from gradcourse.grading.sandbox import files

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same number on every processor
_RULE_PATH_BENEATH, _ASK_VERSION = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _IOCTL_DEVICE = (1 << bit for bit in (0, 1, 2, 3, 14, 15))
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE, _MAKE_LINK, _REFER = (1 << bit for bit in (4, 5, 7, 8, 12, 13))
_SCRATCH_RIGHTS = (
    _WRITE_FILE | _READ_FILE | _READ_DIR | _TRUNCATE
    | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _MAKE_LINK | _REFER
)  # fmt: skip
_KNOWN_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # rights on files, by version; later ones: 16
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals


def prepare(rules, scratch):
    """Make ready what `restrict` takes upon this process, inside and while all files can be seen.

    Args:
        rules: as `Landlock.start` makes them.
        scratch: the folder that can be written to.

    Raises:
        OSError: when the kernel has no Landlock.
    """
    ruleset = _create_ruleset()
    _allow(ruleset, rules["read"], _READ_FILE | _READ_DIR)
    _allow(ruleset, rules["list"], _READ_DIR)
    _allow(ruleset, files.DEVICES, _READ_FILE | _WRITE_FILE)
    _allow(ruleset, [scratch], _SCRATCH_RIGHTS)
    return ruleset


def restrict(ruleset):
    """Restrict this process, for good, to what a prepared ruleset allows.

    Raises:
        OSError: when the kernel refuses.
    """
    _system(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def version():
    """Return the version of Landlock that this kernel has.

    Raises:
        OSError: when it has none.
    """
    return _system(_CREATE_RULESET, None, 0, _ASK_VERSION)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _handled(known):
    """Return all rights that a version of Landlock can deny."""
    return _Ruleset(2 ** _KNOWN_BITS.get(known, 16) - 1, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)


def _create_ruleset():
    handled = _handled(version())
    return _system(_CREATE_RULESET, ctypes.byref(handled), ctypes.sizeof(handled), 0)


def _allow(ruleset, paths, rights):
    rights &= _handled(version()).files
    for path in paths:
        if not os.path.exists(path):
            continue
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = rights if os.path.isdir(path) else rights & _FILE_RIGHTS
        rule = _PathBeneath(allowed, opened)
        _system(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(opened)


def _system(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    returned = libc.syscall(*(ctypes.c_long(value) if isinstance(value, int) else value for value in arguments))
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return returned
