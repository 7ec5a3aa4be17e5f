"""The process that holds submissions: preloads torch, and forks a confined child for each. It judges nothing.

``python -m gradcourse.grading.worker FD``: FD is a Unix stream socket to the grader. "r" with a socket makes a child
that talks over that socket; "k" ends it, and is answered with "e". "t" loads what training needs, answered with "y".
"""

import contextlib
import gc
import inspect
import linecache
import os
import re
import signal
import socket
import sys
import threading
import types
from importlib import import_module

from gradcourse.grading.sandbox.confine import Limits, confine, empty_scratch

RUN, KILL, ENDED, READY, WITH_TRAINING = b"r", b"k", b"e", b"y", b"t"

_ALWAYS = (
    *("IPython.core.inputtransformer2", "cloudpickle", "matplotlib.pyplot"),
    *(f"gradcourse.{name}" for name in ("clinic", "diagnosis", "models", "plots", "recording", "sheets.calling")),
    *(f"gradcourse.{name}" for name in ("sweeps", "theory", "training")),
)
_FOR_TRAINING = ("torch._dynamo",)  # every torch optimizer imports it; a fork of a process that has it takes longer
_MOST_WORDS = 400  # of an exception's text


def main(control):
    """Serve the grader until it closes its end.

    Args:
        control: the socket to it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the grader decides what ends
    _preload(*_ALWAYS)
    control.sendall(READY)
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if order == WITH_TRAINING:
            _preload(*_FOR_TRAINING)
            control.sendall(READY)
            continue
        if order != RUN or not descriptors:
            return
        child = os.fork()
        if child == 0:
            control.close()
            _be_child(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])
        control.recv(1)  # KILL, or nothing when the grader is gone
        _end(child)
        control.sendall(ENDED)


def _preload(*names):
    """Import what submissions import, so that a fork has it, and compute nothing that starts a thread."""
    import matplotlib
    import torch

    matplotlib.use("agg")
    torch.set_num_threads(1)
    for name in names:
        import_module(name)
    gc.collect()
    gc.freeze()  # else each child's collector touches, and so copies, all that was loaded here


def _end(child):
    """End a child and remove what it wrote."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    empty_scratch()


def _be_child(sock):
    """Run a submission and never come back."""
    try:
        confine(Limits(), keep=[sock.fileno()])
        Child(sock).serve()
    except BaseException:  # whatever it is: a copy of the worker must not go on
        pass
    finally:
        os._exit(0)


class Child:
    """A submission in the process that runs it.

    Attributes:
        found: question -> the objects that its function's name was bound to, in order.
    """

    def __init__(self, sock):
        self._sock, self.found = sock, {}
        self._module = types.ModuleType("__main__")
        sys.modules["__main__"] = self._module
        _be_a_kernel(self._module.__dict__)

    def serve(self):
        """Do what the grader asks, until it is gone."""
        from gradcourse.grading import wire

        while True:
            message, blobs = wire.receive(self._sock)
            if message["do"] == "cells":
                self._run_cells(message["cells"], message["names"])
            elif message["do"] == "call":
                self._call(message, blobs)

    def _say(self, **message):
        from gradcourse.grading import wire

        wire.send(self._sock, message)

    def _run_cells(self, cells, names):
        """Run cells, tell before each which it is, and note what the names of the functions stand for after each."""
        self.found = {question: [] for question in names}
        places = {question: [] for question in names}
        for number, source in cells:
            self._say(at=number)
            failed = _run_cell(source, number, self._module.__dict__)
            if failed:
                self._say(failed=number, error=failed)
            for question, name in names.items():
                now = self._module.__dict__.get(name)
                if now is not None and not any(now is before for before in self.found[question]):
                    self.found[question].append(now)
                    places[question].append([number, callable(now)])
        self._say(done=places)

    def _call(self, message, blobs):
        """Call a candidate on each case and send what it gave."""
        import cloudpickle

        from gradcourse.sheets.calling import call, data, takes

        answer = self.found[message["question"]][message["candidate"]]
        cases = [arguments for blob in blobs for arguments in cloudpickle.loads(blob)]
        fits = takes(answer, len(cases[0]))
        self._say(token=message["token"], takes=fits)
        if not fits:
            return
        read = data if message["open"] else None
        for arguments in cases:
            self._send_outcome(message["token"], call(answer, arguments, message["refused"], message["in_place"], read))

    def _send_outcome(self, token, outcome):
        from gradcourse.grading import wire

        problem = outcome.problem
        try:
            value, blobs = wire.encode(outcome.value)
        except ValueError as error:
            value, blobs, problem = None, [], str(error)
        told = {"problem": problem[:_MOST_WORDS], "exception": outcome.exception, "refused": outcome.refused}
        wire.send(self._sock, {"token": token, "value": value, "integers": outcome.integers, **told}, blobs)


class _Nowhere:
    """Takes what is printed."""

    encoding = "utf-8"

    def write(self, text):
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return False

    def fileno(self):
        return 1  # /dev/null


class _Shell:
    """Stands for IPython's shell: magics and shell lines do nothing, cells under %%time and its kin are run."""

    _RUN_BODY = ("capture", "prun", "time", "timeit")

    def __init__(self, names):
        self.user_ns = names

    def run_cell_magic(self, magic, line, body):
        if magic in self._RUN_BODY:
            exec(compile(_python(body), "<cell>", "exec"), self.user_ns)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: None


def _be_a_kernel(names):
    """Make this process look like a notebook's kernel to the code that runs in it, without anyone who looks."""
    import builtins

    import IPython.display
    import matplotlib.pyplot

    import gradcourse.sheets

    shell = _Shell(names)
    sys.stdout = sys.stderr = _Nowhere()
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 (input() ends at once)
    builtins.get_ipython = names["get_ipython"] = lambda: shell
    IPython.display.display = builtins.display = names["display"] = lambda *shown, **options: None
    matplotlib.pyplot.show = lambda *args, **kwargs: None
    gradcourse.sheets.check = gradcourse.check = _no_check
    for module in (sys, threading):  # calls that a question forbids are noted by a profiler
        for name in filter(re.compile("set(profile|trace)").match, dir(module)):
            setattr(module, name, _not_here)

    names.update({"__name__": "__main__", "__builtins__": builtins})


def _no_check(id, answer):
    """Stand for gc.check: what it would say is found out elsewhere."""
    return types.SimpleNamespace(passed=False, points=0.0, message="", award=lambda: None)


def _not_here(*args):
    raise RuntimeError("tracing is not available here")


def _python(source):
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)


def _run_cell(source, number, names):
    """Run a cell; return the exception that ended it, in words, empty if none did."""
    import ast

    try:
        text, name = _python(source), f"<cell {number}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waiting = eval(code, names)
        if inspect.iscoroutine(waiting):
            import asyncio

            asyncio.run(waiting)
    except BaseException as error:  # SystemExit too
        return _in_words(error)
    return ""


def _in_words(error):
    try:
        text = " ".join(str(error).split())
        return f"{type(error).__name__}{': ' + text if text else ''}"[:_MOST_WORDS]
    except BaseException:  # an exception may be of the student's own class
        return "an exception that can't be shown"


if __name__ == "__main__":
    from gradcourse.grading.worker import main as serve  # not __main__: submissions have that name

    serve(socket.socket(fileno=int(sys.argv[1])))
