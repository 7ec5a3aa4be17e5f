"""The first code that runs inside a sandbox: closes what is still open, then becomes the worker."""

import base64
import contextlib
import json
import os
import resource
import runpy
import socket
import sys
from pathlib import Path

from gradcourse.grading.sandbox import confine, ruleset, users

MOST_FILES = 1024  # a child closes them all, one by one on an old kernel

# Loads this package alone, from where it lies: its folder's neighbours are none of a submission's business.
BOOT = """\
import importlib.util, sys
folder = sys.argv[1]
init = folder + "/__init__.py"
spec = importlib.util.spec_from_file_location("gradcourse", init, submodule_search_locations=[folder])
sys.modules["gradcourse"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from gradcourse.grading.sandbox import inside
inside.main(sys.argv[2])
"""


def main(told):
    """Become the worker.

    Args:
        told: a JSON object: `module` to run, `channel` (number of a file descriptor, or path of a socket to connect
            to), `libraries` for sys.path, `program` (the filter of system calls), `scratch`; for Landlock `rules`; and
            `user`, to become another.
    """
    told = json.loads(told)
    sys.path += [folder for folder in told["libraries"] if folder not in sys.path]
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_FILES, MOST_FILES))
    channel = _channel(told["channel"])
    confine.setting.program = base64.b64decode(told["program"])
    confine.setting.scratch = told["scratch"]
    _give_up(told)
    os.chdir(told["scratch"])
    sys.argv = [told["module"], str(channel)]
    runpy.run_module(told["module"], run_name="__main__", alter_sys=True)


def _give_up(told):
    """Become another user and restrict oneself, as far as that was asked for."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out, end this process and not the grader
    prepared = ruleset.prepare(told["rules"], told["scratch"]) if told.get("rules") else None
    if told.get("user"):
        users.become(*told["user"])
    confine.setting.threads = users.threads()
    confine.bind_to_parent()
    if prepared is not None:
        ruleset.restrict(prepared)


def _channel(where):
    if isinstance(where, int):
        return where
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(where)
    return connection.detach()
