"""What crosses between the grader and a process that is not trusted: JSON, and arrays as raw bytes. Never pickle.

A message is a JSON object and some blobs. On the wire: 8 bytes for the length of the JSON, the JSON with the lengths of
the blobs, the blobs.
"""

import json
import struct
import time
from dataclasses import asdict

import numpy as np

from gradcourse.training import Config, Trained

MOST_BYTES = 64 * 2**20
"""Of one message, blobs included."""

_LENGTH = struct.Struct("!Q")
_MOST_JSON = 4 * 2**20
_MOST_PARTS, _MOST_DEPTH = 100_000, 12  # of one value
_DTYPES = ("float64", "float32", "int64", "int32", "bool")
_MOST_LAYERS, _MOST_UNITS = 128, 1024  # of a network that is built from what a submission returned


class WireError(Exception):
    """What came over the wire is not a message or a value; the text says why."""


class TimeoutOnWire(WireError):
    """Nothing more came in time."""


class Closed(WireError):
    """The other side has closed its end."""


def send(sock, message, blobs=()):
    """Send a message.

    Args:
        sock: a connected stream socket.
        message: a dict of what JSON knows.
        blobs: bytes objects.
    """
    text = json.dumps({"message": message, "blobs": [len(blob) for blob in blobs]}).encode()
    sock.sendall(b"".join([_LENGTH.pack(len(text)), text, *blobs]))


def receive(sock, seconds=None):
    """Receive a message.

    Args:
        sock: a connected stream socket.
        seconds: for all of it; None: as long as it takes.

    Returns:
        The message and its blobs.

    Raises:
        TimeoutOnWire, Closed: when it does not come.
        WireError: for what is not a message.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    (length,) = _LENGTH.unpack(_exactly(sock, _LENGTH.size, deadline))
    if length > _MOST_JSON:
        raise WireError("a message that is too long")
    try:
        envelope = json.loads(_exactly(sock, length, deadline))
        message, lengths = envelope["message"], envelope["blobs"]
        whole = all(type(size) is int and size >= 0 for size in lengths) and isinstance(message, dict)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise WireError("bytes that are not a message") from None
    if not whole or sum(lengths) > MOST_BYTES:
        raise WireError("a message that is too long or of another form")
    return message, [_exactly(sock, size, deadline) for size in lengths]


def _exactly(sock, count, deadline):
    buffer = bytearray()
    while len(buffer) < count:
        try:
            sock.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))
            part = sock.recv(min(count - len(buffer), 2**20))
        except TimeoutError:
            raise TimeoutOnWire("nothing more came in time") from None
        except OSError as error:
            raise Closed(str(error)) from None
        if not part:
            raise Closed("the other side is gone")
        buffer += part
    return bytes(buffer)


def encode(value):
    """Return a value that an answer gave as what JSON knows, and the arrays in it as blobs.

    Args:
        value: as gradcourse.sheets.calling makes it: numbers, strings, None, float64 arrays, tuples, lists, dicts and
            Trained networks.

    Raises:
        ValueError: for anything else.
    """
    blobs = []
    return _encode(value, blobs), blobs


def _encode(value, blobs):
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is np.ndarray and value.dtype.name in _DTYPES:
        blobs.append(np.ascontiguousarray(value).tobytes())
        return {"array": [len(blobs) - 1, value.dtype.name, list(value.shape)]}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_encode(part, blobs) for part in value]}
    if type(value) is dict:
        return {"dict": [[str(name), _encode(part, blobs)] for name, part in value.items()]}
    if type(value) is Trained:
        state = {name: _encode(array, blobs) for name, array in value.state.items()}
        return {"trained": {"config": asdict(value.config), "state": state}}
    raise ValueError(f"returned a {type(value).__name__}, which can't be handed in")


def decode(coded, blobs):
    """Return the value that `encode` was given.

    Raises:
        WireError: for what `encode` does not make, and for values that are too large or too deep.
    """
    left = [_MOST_PARTS]
    try:
        return _decode(coded, blobs, left, _MOST_DEPTH)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError) as error:
        raise WireError(f"a value of another form: {error}") from None


def _decode(coded, blobs, left, depth):
    left[0] -= 1
    if left[0] < 0 or depth < 0:
        raise WireError("a value of too many parts")
    if coded is None or type(coded) in (bool, int, float, str):
        return coded
    ((kind, content),) = coded.items()
    if kind == "array":
        return _array(content, blobs)
    if kind in ("tuple", "list"):
        parts = [_decode(part, blobs, left, depth - 1) for part in content]
        return tuple(parts) if kind == "tuple" else parts
    if kind == "dict":
        return {str(name): _decode(part, blobs, left, depth - 1) for name, part in content}
    if kind == "trained":
        return _trained(content, blobs)
    raise WireError(f"a value of the unknown kind {kind!r}")


def _array(content, blobs):
    number, dtype, shape = content
    if dtype not in _DTYPES or len(shape) > 8 or not all(type(size) is int and size >= 0 for size in shape):
        raise WireError("an array of another form")
    if type(number) is not int or number < 0:
        raise WireError("an array without bytes")
    return np.frombuffer(blobs[number], dtype=dtype).reshape(shape).copy()


def _trained(content, blobs):
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in content["config"].items()}
    config = Config(**fields)
    if config.depth > _MOST_LAYERS or config.width > _MOST_UNITS:
        raise WireError(f"a network of more than {_MOST_LAYERS} layers or {_MOST_UNITS} units")
    if not isinstance(config.activation, str):
        raise WireError("a network whose activation is not a name")
    return Trained(config, {str(name): _array(array["array"], blobs) for name, array in content["state"].items()})
