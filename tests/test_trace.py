"""Trace: slices, files, tables."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradcourse as gc
from gradcourse.trace import STATISTICS


@pytest.fixture(scope="module")
def trace():
    config = gc.Config(depth=10, activation="relu", init="he", gain=1.5, learning_rate=0.05, batch_size=64, steps=20)
    return gc.run(config)  # diverges: events, inf and NaN


def same(one, two):
    for name in ("has_weight", "steps", "loss", *STATISTICS):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.layers == two.layers
    assert repr(one.events) == repr(two.events)  # NaN in events is not equal to itself
    assert one.config == two.config


def test_save_and_load_give_the_same_trace(trace, tmp_path):
    trace.save(tmp_path / "trace.npz")
    loaded = gc.Trace.load(tmp_path / "trace.npz")
    same(loaded, trace)
    assert math.isnan(loaded.train_accuracy)
    assert repr(loaded) == repr(trace)


def test_a_trace_without_a_config_can_be_saved(trace, tmp_path):
    bare = replace(trace, config=None)
    bare.save(tmp_path / "trace.npz")
    same(gc.Trace.load(tmp_path / "trace.npz"), bare)


def test_a_config_with_a_function_is_refused_with_a_way_out(tmp_path):
    held = gc.run(gc.Config(depth=3, activation=torch.tanh, steps=0))
    with pytest.raises(ValueError, match="activation is a function"):
        held.save(tmp_path / "trace.npz")


def test_a_file_cut_short_or_of_another_kind_or_version_is_one_clear_line(trace, tmp_path):
    whole = tmp_path / "trace.npz"
    trace.save(whole)
    for name, content in {"short": whole.read_bytes()[:-40], "empty": b"", "text": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not a whole trace file"):
            gc.Trace.load(tmp_path / name)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="not a whole trace file"):
        gc.Trace.load(tmp_path / "other.npz")
    np.savez(tmp_path / "later.npz", about=np.array('{"format": 99}'))
    with pytest.raises(ValueError, match="its format is 99, this gradcourse reads 1"):
        gc.Trace.load(tmp_path / "later.npz")
    with pytest.raises(FileNotFoundError):
        gc.Trace.load(tmp_path / "missing.npz")


def test_select_takes_steps_and_layers(trace):
    part = trace.select(steps=[0, 2], layers=["linear1", "linear3"])
    np.testing.assert_array_equal(part.steps, [0, 2])
    assert part.layers == ("linear1", "linear3")
    columns = [trace.layers.index(name) for name in part.layers]
    np.testing.assert_array_equal(part.delta, trace.delta[[0, 2]][:, columns])
    np.testing.assert_array_equal(part.loss, trace.loss[[0, 2]])


def test_select_takes_slices_of_step_numbers():
    trace = gc.run(gc.Config(depth=4, steps=10, record_every=3))
    np.testing.assert_array_equal(trace.select(steps=slice(2, 7)).steps, [3, 6])
    assert trace.select(layers=slice(0, 2)).layers == trace.layers[:2]


def test_select_keeps_the_events_of_what_is_left(trace):
    last = int(trace.steps[-1])
    assert any(event.kind == "non-finite" for event in trace.select(steps=[last]).events)
    assert trace.select(steps=[0]).events == ()


@pytest.mark.parametrize(
    ("what", "words"), [({"steps": [99]}, "no step 99"), ({"layers": ["linear99"]}, "no layer 'linear99'")]
)
def test_select_names_what_is_missing(trace, what, words):
    with pytest.raises(KeyError, match=words):
        trace.select(**what)


def test_to_pandas_holds_every_value(trace):
    pd = pytest.importorskip("pandas")
    table = trace.to_pandas()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == trace.delta.size
    row = table[(table.step == 1) & (table.layer == "linear2")].iloc[0]
    assert row.delta == trace.delta[1, trace.layers.index("linear2")]
    assert row.loss == trace.loss[1]


def test_to_xarray_holds_every_value(trace):
    pytest.importorskip("xarray")
    data = trace.to_xarray()
    assert float(data.delta.sel(step=1, layer="linear2")) == trace.delta[1, trace.layers.index("linear2")]
    assert data.sizes == {"step": len(trace.steps), "layer": len(trace.layers)}
