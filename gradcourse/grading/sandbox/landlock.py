"""The sandbox for machines that allow no namespaces, as most containers: Landlock, another user, no way to the network.

Landlock is an allowlist of files that a process takes upon itself, and that its children can't put off.
"""

import contextlib
import os
import threading

from gradcourse.grading.sandbox import files
from gradcourse.grading.sandbox.running import WORKER, Sandbox, launch, python
from gradcourse.grading.sandbox.scratch import Scratch
from gradcourse.grading.sandbox.users import another


class Landlock(Sandbox):
    """Landlock, as another user when root starts it."""

    name = "landlock"

    def start(self, module=WORKER):  # noqa: D102
        program = self.program()
        rules = _rules()
        user = another([*rules["read"], *rules["list"]])
        scratch = Scratch()
        try:
            if user:
                os.chown(scratch.path, user[0], user[0])
            running = launch(
                lambda channel: python(module, channel, program, scratch.path, rules=rules, user=user),
                scratch.path,
                scratch,
            )
        except BaseException:
            scratch.remove()
            raise
        threading.Thread(target=_watch, args=(running,), daemon=True).start()
        return running


def _rules():
    readable = [path for path in files.outside_package() if path.exists()]
    whole, between = files.split(readable, files.PACKAGE)
    listed = [*between, files.PACKAGE, files.PACKAGE / "sheets"]
    whole += files.of_package()
    return {"read": list(map(str, whole)), "list": list(map(str, listed))}


def _watch(running):
    """End a worker whose scratch folder grows too large: Landlock does not count."""
    while running.alive():
        if not running.scratch.is_small():
            running.process.kill()
        with contextlib.suppress(Exception):
            running.process.wait(0.2)
