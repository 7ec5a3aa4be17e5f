"""Which files a confined Python may read: itself, its libraries and this package without the sheets' answers."""

import importlib.util
import os
import stat
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder gradcourse/, in a repository or in site-packages."""

SHEETS_OPEN = ("__init__.py", "calling.py", "check.py", "key.py", "question.py")
"""What of gradcourse/sheets/ can be read: the machinery. Every other file there holds oracles and known mistakes."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime"),
    *("/usr/share/zoneinfo", "/usr/share/fonts"),
    "/nix/store",  # the system libraries of NixOS
)
_LIBRARIES = ("torch", "numpy", "matplotlib", "tqdm")  # they may lie outside the prefix, in a user's site-packages


def outside_package():
    """List the folders and files that Python and its libraries need; the package may lie in one of them."""
    prefixes = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)]
    paths = [Path(path) for path in (*_SYSTEM, *library_folders())]
    paths += [prefix / name for prefix in prefixes for name in ("lib", "lib64", "pyvenv.cfg")]
    paths += [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    found = [path for path in dict.fromkeys(paths) if path.exists()]
    return [path for path in found if not any(other in path.parents for other in found)]


def library_folders():
    """List the folders from which the libraries are imported, for sys.path."""
    specs = filter(None, map(importlib.util.find_spec, _LIBRARIES))
    folders = [Path(spec.origin).parents[1] for spec in specs if spec.origin]
    return list(dict.fromkeys([Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")] + folders))


def of_package():
    """List what can be read of this package: all but the sheets' answers."""
    entries = [path for path in sorted(PACKAGE.iterdir()) if path.name not in ("sheets", "__pycache__")]
    return entries + [path for path in (PACKAGE / "sheets" / name for name in SHEETS_OPEN) if path.exists()]


def executables():
    """List the paths under which this Python is started."""
    return list(dict.fromkeys(map(Path, (sys.executable, sys._base_executable))))


def split(paths, closed):
    """Cut a folder out of others.

    Args:
        paths: folders and files.
        closed: a folder that may lie below one of them.

    Returns:
        Folders and files that cover the same but `closed`; and the folders between, which can only be listed.
    """
    whole, between = [], []
    left = list(paths)
    while left:
        path = left.pop()
        real = Path(os.path.realpath(path))
        if real == closed:
            continue
        if real in closed.parents:
            between.append(path)
            left.extend(sorted(path.iterdir()))
        else:
            whole.append(path)
    return whole, between


def open_to_others(paths):
    """Tell whether a user who owns none of these files can read them."""
    for part in {part for path in map(Path, paths) for part in (path, *path.resolve().parents)}:
        mode = part.stat().st_mode
        needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & needed:
            return False
    return True
