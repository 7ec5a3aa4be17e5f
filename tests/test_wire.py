"""What crosses the wire is what was sent, and nothing but plain data is taken."""

import contextlib
import json
import socket
import struct
import threading
import time

import numpy as np
import pytest

from gradcourse.grading import wire
from gradcourse.training import Config, Trained, build_model

LENGTH = struct.Struct("!Q")


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def same(left, right):
    if isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=right.dtype.kind == "f")
    if isinstance(right, (tuple, list)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(right, dict):
        return list(left) == list(right) and all(same(left[name], right[name]) for name in right)
    return type(left) is type(right) and (left == right or left != left)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -7, 1.5, float("inf"), float("nan"), "word", "日本", ""),
        *((), (1.0, (2.0, "x")), [1, [2]], {"a": None, "b": (1.0,)}),
        np.arange(6.0).reshape(2, 3),
        np.array(2.5),
        np.zeros((0, 3)),
        np.arange(6.0).reshape(2, 3).T,
        np.array([np.nan, np.inf]),
        (np.ones(2), [np.zeros(1, dtype="float32"), np.array([True])]),
    ],
    ids=repr,
)
def test_values_come_back_as_they_were(value):
    coded, blobs = wire.encode(value)
    assert same(wire.decode(json.loads(json.dumps(coded)), blobs), value)


def test_a_trained_network_comes_back_with_its_accuracy():
    config = Config(depth=3, width=8, norm="batch", betas=(0.8, 0.9), optimizer="adam")
    trained = Trained.of(build_model(config), config)
    coded, blobs = wire.encode(trained)
    again = wire.decode(json.loads(json.dumps(coded)), blobs)
    assert again.config == config
    assert same(again.state, trained.state)
    assert again.accuracy() == trained.accuracy()


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, lambda: 0, b"bytes", 1j, np.array(["a"]), np.array([None]), np.float64(1)]
)
def test_anything_else_can_not_be_handed_in(value):
    with pytest.raises(ValueError, match="can't be handed in"):
        wire.encode(value)


ARRAY = {"array": [0, "float64", [2]]}


@pytest.mark.parametrize(
    ("coded", "blobs"),
    [
        ({"pickle": "gASV"}, []),
        ({"array": [0, "object", [1]]}, [b"12345678"]),
        ({"array": [0, "float64", [3]]}, [b"12345678"]),
        ({"array": [0, "float64", [-1]]}, [b"12345678"]),
        ({"array": [-1, "float64", [1]]}, [b"12345678"]),
        ({"array": [0, "float64", [True]]}, [b"12345678"]),
        ({"array": [1, "float64", [1]]}, [b"12345678"]),
        ({"array": [0, "float64", [10**12, 10**12]]}, [b"12345678"]),
        ({"array": [0, "float64", [1] * 60]}, [b"12345678"]),
        ({"array": 3}, []),
        ({"tuple": 3}, []),
        ({"dict": [3]}, []),
        ({}, []),
        ({"tuple": [], "list": []}, []),
        ([1, 2], []),
        ({"list": [0] * 200_000}, []),
        ({"trained": {"config": {"depth": 3}}}, []),
        ({"trained": {"config": {"depth": 10**6, "width": 8}, "state": {}}}, []),
        ({"trained": {"config": {"depth": 3, "width": 10**6}, "state": {}}}, []),
        ({"trained": {"config": {"depht": 3}, "state": {}}}, []),
        ({"trained": {"config": {"depth": 3, "activation": None}, "state": {}}}, []),
        ({"trained": {"config": {"depth": 3}, "state": {"w": {"array": [0, "float64", [2]]}}}}, []),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_encode_does_not_make_is_refused(coded, blobs):
    with pytest.raises(wire.WireError):
        wire.decode(coded, blobs)


def test_a_value_that_is_nested_deeply_is_refused():
    coded = 1
    for _ in range(40):
        coded = {"list": [coded]}
    with pytest.raises(wire.WireError, match="too many parts"):
        wire.decode(coded, [])


def test_arrays_do_not_share_memory_with_the_message():
    value = wire.decode(ARRAY, [np.ones(2).tobytes()])
    value[0] = 5.0
    assert value.flags.writeable


def test_messages_come_one_by_one(pair):
    wire.send(pair[0], {"a": 1}, [b"xy", b""])
    wire.send(pair[0], {"b": None})
    assert wire.receive(pair[1], 1) == ({"a": 1}, [b"xy", b""])
    assert wire.receive(pair[1], 1) == ({"b": None}, [])


@pytest.mark.parametrize(
    "raw",
    [
        LENGTH.pack(2**60),
        LENGTH.pack(2) + b"[]",
        LENGTH.pack(4) + b"nope",
        LENGTH.pack(2) + b"{}",
        LENGTH.pack(14) + b'{"message": 3}',
        *(
            LENGTH.pack(len(text)) + text
            for text in (
                b'{"message": {}, "blobs": [-1]}',
                b'{"message": {}, "blobs": [1e3]}',
                b'{"message": {}, "blobs": [true]}',
                b'{"message": {}, "blobs": [999999999999]}',
                b'{"message": [], "blobs": []}',
                b"[" * 100_000,
                b"\xff\xfe\xfd",
                b'{"message": {"n": ' + b"9" * 5000 + b'}, "blobs": []}',
            )
        ),
    ],
    ids=lambda raw: repr(raw[8:40]),
)
def test_bytes_that_are_no_message_are_refused(raw, pair):
    pair[0].sendall(raw)
    with pytest.raises(wire.WireError):
        wire.receive(pair[1], 2)


def test_a_side_that_says_nothing_or_little_is_not_waited_for(pair):
    start = time.monotonic()
    with pytest.raises(wire.TimeoutOnWire):
        wire.receive(pair[1], 0.2)

    def trickle():
        with contextlib.suppress(OSError):  # the pair is closed at last
            pair[0].sendall(LENGTH.pack(1000))
            for _ in range(100):
                pair[0].sendall(b" ")
                time.sleep(0.05)

    threading.Thread(target=trickle, daemon=True).start()
    with pytest.raises(wire.TimeoutOnWire):
        wire.receive(pair[1], 0.4)
    assert time.monotonic() - start < 5


def test_a_side_that_is_gone_is_said(pair):
    pair[0].close()
    with pytest.raises(wire.Closed):
        wire.receive(pair[1], 1)
