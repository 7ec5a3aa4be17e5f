"""The grader's side of a submission that runs: asks, waits no longer than allowed, and takes only what fits."""

import secrets
import socket

from gradcourse.grading import wire
from gradcourse.grading.worker import KILL, RUN
from gradcourse.sheets.calling import Outcome, data, plain


class Ended(Exception):
    """A submission's process gives no answer any more; the text says why, `number` is the cell or case it was at."""

    def __init__(self, why, number):
        super().__init__(why)
        self.number = number


class Child:
    """A submission in a process of its own."""

    def __init__(self, running):
        """Have a process made.

        Args:
            running: the sandbox's running worker.
        """
        self._control = running.socket
        ours, theirs = socket.socketpair()
        socket.send_fds(self._control, [RUN], [theirs.fileno()])
        theirs.close()
        self._sock = ours

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()

    def kill(self):
        """End the process; again it does nothing."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
            self._control.sendall(KILL)
            self._control.recv(1)

    def run_cells(self, cells, names, limits):
        """Run cells.

        Args:
            cells: pairs of number and source.
            names: question -> name of its function.
            limits: the Limits.

        Returns:
            question -> (number of the cell, whether it can be called) of everything that the name stood for, in order;
            and what ended cells: number -> words.

        Raises:
            Ended: when a cell takes too long or ends the process.
        """
        failed, at = {}, -1
        self._send({"do": "cells", "cells": [list(cell) for cell in cells], "names": names}, at)
        while True:
            message, _ = self._receive(limits.cell, at)
            if "done" in message:
                return _places(message["done"], names), failed
            at = _whole(message.get("at", at))
            if "failed" in message:
                failed[_whole(message["failed"])] = str(message.get("error", ""))[:400]

    def call(self, key, pickled, candidate, limits):
        """Call an answer on cases.

        Args:
            key: AnswerKeys of the cases, one for each of `pickled`.
            pickled: their arguments.
            candidate: number of the object that the question's name stood for.
            limits: the Limits.

        Returns:
            The Outcomes of all cases in order, or None when the answer does not take the question's arguments.

        Raises:
            Ended: when a call takes too long or ends the process; `outcomes` has those before.
        """
        question, token = key[0].question, secrets.token_hex(8)
        asked = {"do": "call", "token": token, "question": question.id, "candidate": candidate}
        asked |= {"refused": list(question.refused), "in_place": question.in_place, "open": question.judge is not None}
        outcomes, read = [], data if question.judge else plain
        try:
            self._send(asked, 0, pickled)
            if not self._receive(limits.call, 0, token)[0].get("takes"):
                return None
            for number in range(sum(len(one.cases) for one in key)):
                outcomes.append(_outcome(*self._receive(limits.call, number, token), read))
        except Ended as ended:
            ended.outcomes = outcomes
            raise
        return outcomes

    def _send(self, message, at, blobs=()):
        try:
            wire.send(self._sock, message, blobs)
        except OSError:
            raise Ended("ended its own process", at) from None

    def _receive(self, seconds, at, token=None):
        try:
            message, blobs = wire.receive(self._sock, seconds)
        except wire.TimeoutOnWire:
            raise Ended(f"took longer than {seconds:g} s", at) from None
        except wire.Closed:
            raise Ended("ended its own process", at) from None
        except wire.WireError as error:
            raise Ended(f"sent {error}", at) from None
        if token is not None and message.get("token") != token:
            raise Ended("sent a message that nobody asked for", at)
        return message, blobs


def _whole(value):
    return value if type(value) is int else -1


def _places(done, names):
    """Return what a child says about its names, if it has the form that it must have."""
    found = {}
    for question in names:
        pairs = done.get(question, []) if isinstance(done, dict) else []
        fits = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
        found[question] = [(_whole(pair[0]), pair[1] is True) for pair in pairs] if fits else []
    return found


def _outcome(message, blobs, read):
    """Return the Outcome that a message tells of; `read` sees that its value is plain data of the right kind."""
    problem = str(message.get("problem", ""))
    value = None
    if not problem:
        try:
            value = read(wire.decode(message.get("value"), blobs))
        except (wire.WireError, ValueError) as error:
            problem = str(error) if isinstance(error, ValueError) else f"returned {error}"
    told = {name: str(message.get(name, "")) for name in ("exception", "refused")}
    return Outcome(value=value, problem=problem[:400], integers=message.get("integers") is True, **told)
