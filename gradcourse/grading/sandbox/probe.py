"""The least worker: runs pieces of code, each in a confined child of its own, to see what they can get hold of.

Line by line on the socket: a JSON object with `code`, `bait` (a name that the code finds), `seconds` and `limits`;
answered by what the code left in its variable `got`, or by how it ended. `attempt` is the other side.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import dataclass

from gradcourse.grading.sandbox.confine import Limits, confine, empty_scratch

_MOST_ANSWER = 60_000


@dataclass(frozen=True)
class Attempted:
    """What came of a piece of code.

    Attributes:
        got: what it got hold of, as text; empty for nothing.
        ended: the exception that ended it, or "killed"; empty if it came to its end.
    """

    got: str = ""
    ended: str = ""


def attempt(running, code, bait=None, seconds=10, **limits):
    """Have a piece of code run in a sandbox.

    Args:
        running: a worker, which was started with this module.
        code: Python.
        bait: what it finds under this name, of what JSON knows.
        seconds: that it may take.
        limits: of Limits, those to change.

    Returns:
        What was Attempted.

    Raises:
        ConnectionError: when the worker is gone.
    """
    told = {"code": code, "bait": bait, "seconds": seconds, "limits": limits}
    running.socket.settimeout(seconds + 60)
    running.socket.sendall(json.dumps(told).encode() + b"\n")
    answer = b""
    while not answer.endswith(b"\n"):
        part = running.socket.recv(2**16)
        if not part:
            raise ConnectionError("the worker is gone")
        answer += part
    return Attempted(**json.loads(answer))


def main(channel):
    """Answer until the other side is gone."""
    lines = channel.makefile("rw", encoding="utf-8")
    for line in lines:
        lines.write(json.dumps(_attempt(json.loads(line))) + "\n")
        lines.flush()


def _attempt(told):
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        _be_child(told, theirs)
    theirs.close()
    answer = _receive(ours, told["seconds"])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    empty_scratch()
    try:
        return json.loads(answer)
    except ValueError:
        return {"ended": "killed"}


def _receive(sock, seconds):
    sock.settimeout(seconds)
    answer = b""
    try:
        while len(answer) < _MOST_ANSWER and (part := sock.recv(2**16)):
            answer += part
    except OSError:
        pass
    sock.close()
    return answer


def _be_child(told, sock):
    """Run the code and never come back."""
    try:
        confine(Limits(**told["limits"]), keep=[sock.fileno()])
        answer = _run(told["code"], told["bait"])
        sock.sendall(json.dumps(answer).encode()[:_MOST_ANSWER])
    finally:
        os._exit(0)


def _run(code, bait):
    names = {"bait": bait, "__name__": "__main__"}
    ended = ""
    try:
        exec(compile(code, "<attempt>", "exec"), names)
    except BaseException as error:
        ended = f"{type(error).__name__}: {error}"[:1000]
    got = names.get("got")
    return {"got": str(got)[:2000] if got else "", "ended": ended}


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
