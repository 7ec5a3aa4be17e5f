"""A sweep gives what `run` gives, config by config, however its runs were done; bad use is refused before the start."""

import _thread
import sys
import threading
import time
from dataclasses import fields, replace
from html import escape
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tqdm
from torch import nn

import gradcourse as gc
from gradcourse import sweeps
from gradcourse.sweeps import memory, plan, progress, stack, workers
from gradcourse.trace import STATISTICS

BASE = gc.Config(
    depth=4, width=16, activation="tanh", learning_rate=0.05, batch_size=32, steps=100, record_every=3, dtype="float64"
)
SHORT = replace(BASE, steps=4, record_every=1)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(number)


def assert_equal_traces(trace, expected, relative):
    """Compare every field of two Traces: numbers up to rounding, the rest exactly."""
    for name in (field.name for field in fields(gc.Trace)):
        one, other = getattr(trace, name), getattr(expected, name)
        if name in ("loss", *STATISTICS):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=relative, atol=relative * _scale(other), err_msg=name)
        elif name == "events":
            assert_equal_events(one, other, relative)
        elif name.endswith("accuracy"):
            assert type(one) is float
            assert one == pytest.approx(other, abs=1e-12, nan_ok=True), name
        else:
            np.testing.assert_array_equal(one, other, err_msg=name)
            assert type(one) is type(other)


def _scale(values):
    finite = np.abs(values[np.isfinite(values)])
    return finite.max(initial=0.0) * 1e-3


def assert_equal_events(events, expected, relative):
    assert [(e.kind, e.step, e.layer, e.direction) for e in events] == [
        (e.kind, e.step, e.layer, e.direction) for e in expected
    ]
    norms, wanted = ([(e.raw, e.used) for e in part] for part in (events, expected))
    np.testing.assert_allclose(norms, wanted, rtol=max(relative, 1e-12))


CASES = {
    "gain and seed": ({}, {"gain": [0.8, 1.2], "seed": range(2)}),
    "learning rate, ReLU": ({"activation": "relu", "init": "he"}, {"learning_rate": [0.01, 0.05]}),
    "depth": ({}, {"depth": [1, 2, 6]}),
    "init": ({}, {"init": ["he", "orthogonal", "lsuv"], "bias_std": [0.0, 0.1]}),
    "activation": ({}, {"activation": ["gelu", "sigmoid", "selu", "identity", torch.sin, nn.Hardtanh(), "silu"]}),
    "data": ({"learning_rate": 0.01}, {"data": ["digits", "synthetic"], "loss": ["mse", "cross_entropy"]}),
    "scaling": ({"learning_rate": 0.01}, {"scaling": ["unit", "standard"]}),
    "norm": ({}, {"norm": [None, "batch", "layer", "weight"], "gain": [0.5, 2.0]}),
    "residual": ({}, {"residual": ["add", "scaled", "rezero", "preactivation"], "norm": [None, "batch", "layer"]}),
    "residual scale": ({"residual": "add"}, {"residual_scale": [None, 0.3]}),
    "residual weight norm": ({"residual": "scaled", "activation": "relu"}, {"norm": ["weight"], "seed": [0, 1]}),
    "clip norm": ({}, {"clip_norm": [None, 0.3, 0.1]}),
    "clip value": ({"norm": "batch"}, {"clip_value": [None, 0.01, 1e-3]}),
    "clip weights": ({"optimizer": "rmsprop", "learning_rate": 1e-3}, {"clip_weights": [None, 0.3, 0.1]}),
    "accumulate": ({"activation": "relu"}, {"accumulate": [2], "norm": [None, "batch"], "seed": [0, 1]}),
    "momentum": ({"learning_rate": 0.02}, {"momentum": [0.0, 0.5, 0.9], "weight_decay": [None, 0.1]}),
    "Nesterov": ({"momentum": 0.9, "learning_rate": 0.01}, {"nesterov": [False, True], "seed": [0, 1]}),
    "adam": ({"learning_rate": 1e-3}, {"optimizer": ["adam", "adamw"], "weight_decay": [None, 0.0, 0.1]}),
    "adam's own": ({"optimizer": "adam", "betas": (0.8, 0.9)}, {"eps": [None, 1e-3], "learning_rate": [1e-3, 3e-3]}),
    "others": ({"learning_rate": 1e-3}, {"optimizer": ["adagrad", "rmsprop", "lion"], "weight_decay": [None, 0.1]}),
    "schedule": ({}, {"schedule": ["constant", "step", "cosine", "warmup"]}),
    "sizes": ({}, {"batch_size": [16, 32], "width": [8, 16]}),
    "steps": ({}, {"steps": [0, 1, 5], "record_every": [1, 2]}),
}


@pytest.mark.parametrize("name", CASES)
def test_sweep_equals_run_in_float64_over_100_steps(name):
    base, axes = CASES[name]
    swept = gc.sweep(replace(BASE, **base), **axes)
    assert "one by one" not in swept.plan
    for key, trace in swept.items():
        assert_equal_traces(trace, gc.run(swept.configs[key]), 1e-10)


@pytest.mark.parametrize("name", ["gain and seed", "learning rate, ReLU", "clip norm", "momentum", "adam", "depth"])
def test_sweep_equals_run_in_float32(name):
    base, axes = CASES[name]
    swept = gc.sweep(replace(BASE, dtype="float32", **base), **axes)
    for key, trace in swept.items():
        expected = gc.run(swept.configs[key])
        for statistic in ("loss", *STATISTICS):
            values = getattr(expected, statistic)
            np.testing.assert_allclose(getattr(trace, statistic), values, rtol=1e-5, atol=1e-5 * _scale(values))


def test_sweep_equals_run_with_group_norm_at_the_start():
    """Small groups amplify rounding: a relative 1e-15 in the weights is 1e-8 after 40 steps of `run` itself."""
    swept = gc.sweep(replace(SHORT, norm="group", width=64), seed=range(2))
    for seed in range(2):
        assert_equal_traces(swept[seed], gc.run(swept.configs[seed,]), 1e-10)


WILD = gc.Config(depth=6, width=16, activation="relu", init="he", batch_size=32, learning_rate=0.3, steps=40)


def test_sweep_diverging_runs_end_as_in_run_and_harm_no_other():
    swept = gc.sweep(WILD, gain=[0.5, 3.0, 0.7, 6.0], clip_weights=[None, 0.5])
    ends = {len(trace.steps) for trace in swept.values()}
    assert len(ends) > 1
    for (gain, clip), trace in swept.items():
        expected = gc.run(swept.configs[gain, clip])
        assert len(trace.steps) == len(expected.steps)
        assert [(e.kind, e.step, e.layer, e.direction) for e in trace.events] == [
            (e.kind, e.step, e.layer, e.direction) for e in expected.events
        ]
        if gain < 1:
            alone = gc.sweep(swept.configs[gain, clip], seed=[0])[0]
            for name in ("loss", *STATISTICS):
                np.testing.assert_array_equal(getattr(trace, name), getattr(alone, name))
            assert trace.test_accuracy == alone.test_accuracy


def test_sweep_accuracy_of_a_run_that_ended_is_that_of_its_last_weights():
    """The loss overflows at the second step, the weights do not: `run` still measures what they classify."""
    config = replace(WILD, depth=2, activation="relu", loss="mse", gain=1e12, learning_rate=1e-30, steps=5)
    swept = gc.sweep(config, gain=[1e12, 1e11, 1.0])
    for key, trace in swept.items():
        expected = gc.run(swept.configs[key])
        assert len(trace.steps) == len(expected.steps)
        assert trace.train_accuracy == pytest.approx(expected.train_accuracy, nan_ok=True)


def test_sweep_gradient_whose_norm_overflows_is_clipped_as_in_run_and_else_left_alone():
    config = replace(WILD, depth=2, loss="mse", gain=1e8, learning_rate=1e-30, steps=3)
    swept = gc.sweep(config, clip_norm=[None, 1.0])
    for key, trace in swept.items():
        expected = gc.run(swept.configs[key])
        assert np.isfinite(expected.loss).all()
        assert expected.train_accuracy > 0
        assert trace.train_accuracy == pytest.approx(expected.train_accuracy)
        np.testing.assert_allclose(trace.update_ratio, expected.update_ratio, rtol=1e-4)
        np.testing.assert_allclose(trace.weight_gradient, expected.weight_gradient, rtol=1e-4)


def test_sweep_statistics_beyond_float32_s_squares_equal_run_s():
    tiny = gc.sweep(replace(SHORT, depth=7, activation="sigmoid", dtype="float32"), gain=[1e-4, 1.0])
    for key, trace in tiny.items():
        np.testing.assert_allclose(trace.delta, gc.run(tiny.configs[key]).delta, rtol=1e-4)
    assert 0 < tiny[1e-4].delta[0, 0] < 1e-25


def test_sweep_sees_updates_below_precision():
    swept = gc.sweep(replace(SHORT, dtype="float32"), learning_rate=[1e-12, 0.1])
    kinds = [{event.kind for event in trace.events} for trace in swept.values()]
    assert kinds == [{"zero update"}, set()]
    assert_equal_events(swept[1e-12].events, gc.run(swept.configs[1e-12,]).events, 1e-5)


def test_sweep_non_finite_gradient_of_a_finite_loss_is_blamed_as_in_run():
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient / 0.0

    swept = gc.sweep(SHORT, activation=[Broken.apply], seed=[0, 1])
    assert "one by one" not in swept.plan
    for key, trace in swept.items():
        assert trace.events[0].direction == "backward"
        assert_equal_events(trace.events, gc.run(swept.configs[key]).events, 1e-10)


def test_sweep_random_numbers_of_others_are_left_alone():
    before = torch.random.get_rng_state()
    gc.sweep(SHORT, seed=range(2), dropout=[0.0, 0.1])
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == 1


def test_sweep_digits_do_not_depend_on_the_number_of_threads():
    config = replace(SHORT, width=64, batch_size=128, dtype="float32", norm="batch")
    one = gc.sweep(config, seed=range(5))
    torch.set_num_threads(2)
    two = gc.sweep(config, seed=range(5))
    for key in one:
        assert_equal_traces(two[key], one[key], 1e-6)


# --- what can't be stacked


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return torch.tanh(x * self.weight)


ONE_BY_ONE = {
    "convolutions": {"model": "conv", "width": 4},
    "dropout": {"dropout": 0.2},
    "muon": {"optimizer": "muon"},
    "parameters": {"activation": Scaled()},
    "not elementwise": {"activation": lambda x: x - x.mean(0)},
    "in place": {"activation": nn.ReLU(inplace=True)},
    "made of modules": {"activation": nn.Sequential(nn.Tanh(), nn.ReLU())},
    "by shape": {"activation": lambda x: torch.tanh(x) / x.shape[1] ** 0.5},
}


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_sweep_what_cannot_be_stacked_is_done_by_run_and_said(name):
    swept = gc.sweep(replace(SHORT, **ONE_BY_ONE[name]), seed=range(2))
    assert swept.plan.startswith("0 of 2 runs stacked, 2 one by one: ")
    for key, trace in swept.items():
        assert_equal_traces(trace, gc.run(swept.configs[key]), 0.0)


def test_sweep_plan_counts_both_kinds():
    swept = gc.sweep(SHORT, dropout=[0.0, 0.1], depth=[3, 4], seed=range(2))
    assert swept.plan == "4 of 8 runs stacked in 2, 4 one by one: dropout (4)"


# --- the mapping


@pytest.fixture(scope="module")
def swept():
    return gc.sweep(SHORT, gain=[0.8, 1.2], seed=range(3))


def test_sweep_is_a_mapping_in_product_order(swept):
    assert list(swept) == list(product([0.8, 1.2], range(3)))
    assert len(swept) == 6
    for (gain, seed), trace in swept.items():
        assert (trace.config.gain, trace.config.seed) == (gain, seed)
        assert trace.config == swept.configs[gain, seed]
    assert swept.axes == {"gain": (0.8, 1.2), "seed": (0, 1, 2)}
    assert (0.8, 1) in swept
    assert 0.8 not in swept
    assert repr(swept) == "<Sweep over gain (2) x seed (3): 6 traces>"


def test_sweep_select_leaves_the_other_axes(swept):
    part = swept.select(gain=1.2)
    assert list(part) == [(0,), (1,), (2,)]
    assert part[2] is part[2,] is swept[1.2, 2]
    assert part.axes == {"seed": (0, 1, 2)}
    assert swept.select(seed=1, gain=0.8) is swept[0.8, 1]


def test_sweep_array_has_a_dimension_for_each_axis(swept):
    losses = swept.array(lambda trace: trace.loss)
    assert losses.shape == (2, 3, 4)
    np.testing.assert_array_equal(losses[1, 2], swept[1.2, 2].loss)
    assert swept.array(lambda trace: trace.test_accuracy).shape == (2, 3)


def test_sweep_axis_takes_anything_that_a_field_takes():
    swept = gc.sweep(
        replace(SHORT, optimizer="adam"),
        betas=[None, [0.5, 0.9]],
        gain=np.array([0.5, 1.0]),
        activation=["relu", torch.tanh],
    )
    assert next(iter(swept)) == (None, 0.5, "relu")
    assert swept[(0.5, 0.9), 1.0, torch.tanh].config.betas == (0.5, 0.9)
    assert type(swept[None, 0.5, "relu"].config.gain) is float
    single = gc.sweep(replace(SHORT, optimizer="adam"), betas=[(0.5, 0.9)])
    assert single[0.5, 0.9] is single[(0.5, 0.9),]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda s: s[0.8], r"0.8 is no key of this sweep; a key is a tuple \(gain, seed\), as \(0.8, 0\)"),
        (lambda s: s[0.9, 1], "gain=0.9 is not in this sweep; it has 0.8, 1.2"),
        (lambda s: s[0.8, 1, 2], "is no key of this sweep"),
        (lambda s: s[[0.8, 1]], "can't be hashed"),
        (lambda s: s.select(depth=3), "no axis 'depth' in this sweep; it has gain, seed"),
        (lambda s: s.select(seed=7), "seed=7 is not in this sweep; it has 0, 1, 2"),
        (lambda s: s.select(gain=0.8)[7], "7 is no key of this sweep"),
    ],
)
def test_sweep_wrong_key_is_answered_with_what_there_is(swept, ask, said):
    with pytest.raises(KeyError, match=said):
        ask(swept)


def test_sweep_axis_of_named_changes_runs_what_the_names_stand_for():
    swept = gc.sweep(
        SHORT,
        start={"small": {"gain": 0.5, "learning_rate": 0.02}, "plain": {}},
        cure={"none": {}, "relu": {"activation": "relu", "init": "he"}, "double": lambda c: {"gain": 2 * c.gain}},
        seed=[0, 1],
    )
    assert swept.axes == {"start": ("small", "plain"), "cure": ("none", "relu", "double"), "seed": (0, 1)}
    assert swept["small", "double", 1].config == replace(SHORT, gain=1.0, learning_rate=0.02, seed=1)
    assert swept["plain", "none", 0].config == SHORT
    alone = gc.run(replace(SHORT, gain=0.5, learning_rate=0.02, activation="relu", init="he"))
    np.testing.assert_allclose(swept["small", "relu", 0].loss, alone.loss, rtol=1e-5)


# --- bad use


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ((BASE, {"cure": {}}), ValueError, r"sweep\(cure=\{\}\): an axis needs at least one value"),
        ((BASE, {"cure": {"he": "he"}}), TypeError, "write the fields that it changes"),
        ((BASE, {"cure": {"he": {"inti": "he"}}}), TypeError, "sweep: cure='he' can't be run: .*inti"),
        (({"depth": 3}, {"gain": [1]}), TypeError, r"sweep\(\) takes a Config, not dict"),
        ((BASE, {}), ValueError, "needs an axis"),
        ((BASE, {"gian": [1.0]}), ValueError, "no field 'gian'; did you mean gain?"),
        ((BASE, {"qqq": [1.0]}), ValueError, "no field 'qqq'; its fields are depth, width"),
        ((BASE, {"gain": []}), ValueError, r"sweep\(gain=\[\]\): an axis needs at least one value"),
        ((BASE, {"gain": [1, 2, 1.0]}), ValueError, "1.0 is there twice"),
        ((BASE, {"gain": 1.0}), TypeError, r"an axis is a list of values: write gain=\[1.0\]"),
        ((BASE, {"activation": "tanh"}), TypeError, r"write activation=\['tanh'\]"),
        ((BASE, {"seed": {1, 2}}), TypeError, "an axis is a list of values"),
        (
            (BASE, {"gain": [1.0, -2.0]}),
            ValueError,
            r"sweep: gain=-2.0 can't be run: Config\(gain=-2.0\): gain must be > 0",
        ),
        ((BASE, {"gain": [1.0, "2"]}), TypeError, "sweep: gain='2' can't be run"),
        (
            (BASE, {"norm": [None, "batch"], "depth": [1, 3]}),
            ValueError,
            "sweep: norm='batch', depth=1 can't be run: .* needs a hidden layer",
        ),
        ((BASE, {"gain": [1.0], "memory": -1}), ValueError, "memory is a number of bytes > 0"),
        ((BASE, {"gain": [1.0], "memory": "1 GB"}), TypeError, "memory is a number of bytes, not str"),
    ],
)
def test_sweep_bad_use_is_refused_in_one_line(arguments, kind, said):
    with pytest.raises(kind, match=said) as caught:
        gc.sweep(arguments[0], **arguments[1])
    assert "\n" not in str(caught.value)


# --- memory


def test_sweep_memory_splits_stacks_and_changes_nothing(swept):
    records = sum(memory.bytes_of_records(config) for config in swept.configs.values())
    budget = records + 2.5 * memory.bytes_of_run(SHORT)
    tight = gc.sweep(SHORT, memory=budget, gain=[0.8, 1.2], seed=range(3))
    whole, split = (int(done.plan.removeprefix("6 of 6 runs stacked in ")) for done in (swept, tight))
    assert split > whole, "a stack for each processor, more where the memory is short"
    for key in swept:
        assert_equal_traces(tight[key], swept[key], 1e-12)


def test_sweep_too_many_records_are_refused_with_a_record_every_that_fits(monkeypatch):
    monkeypatch.setattr(stack.Stack, "train", None)  # refused before the start
    long, budget = replace(BASE, steps=10_000, record_every=1), 4e8
    with pytest.raises(
        MemoryError, match=r"the records of 200 runs take about .* GB, and 400 MB may be used"
    ) as caught:
        gc.sweep(long, memory=budget, seed=range(200))
    every = int(str(caught.value).partition("record_every=")[2].partition(" ")[0])
    plan.Plan([replace(long, record_every=every, seed=seed) for seed in range(200)], budget)


def test_sweep_run_that_does_not_fit_is_refused_with_a_size_that_does():
    with pytest.raises(MemoryError, match="one run of depth 4, width 16000 and batch_size 32 takes about") as caught:
        gc.sweep(replace(BASE, width=16_000), memory=1e9, seed=[0])
    width = int(str(caught.value).partition("width=")[2].partition(" ")[0])
    plan.Plan([replace(BASE, width=width)], 1e9)


def test_sweep_budget_is_a_share_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1e6)
    with pytest.raises(MemoryError, match="500 kB may be used"):
        gc.sweep(replace(BASE, width=1000), seed=[0])


@pytest.mark.parametrize("config", [BASE, replace(BASE, norm="batch", residual="rezero", optimizer="adam", width=48)])
def test_memory_estimate_covers_what_a_stack_keeps(config):
    runs = [replace(config, seed=seed, record_every=1000) for seed in range(16)]
    models = [sweeps.build_model(run) for run in runs]
    splits = [sweeps.load_data(run) for run in runs]
    trained = stack.Stack(runs, models, splits)
    trained._step(0)
    kept = _bytes_under([trained._parameters, trained._stepper, trained._network, splits, models], set())
    assert 0.3 < kept / sum(map(memory.bytes_of_run, runs)) < 1.0


def _bytes_under(thing, seen):
    """Add up all tensors that can be reached from an object."""
    if id(thing) in seen or isinstance(thing, (type, str, int, float, np.ndarray)):
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    inner = list(thing.values()) if isinstance(thing, dict) else list(thing) if isinstance(thing, (list, tuple)) else []
    inner += list(getattr(thing, "__dict__", {}).values())
    return sum(_bytes_under(part, seen) for part in inner)


# --- interrupts and progress


def test_sweep_interrupted_in_a_stack_keeps_the_stacks_that_were_done(monkeypatch):
    steps = iter(range(1000))
    step = stack.Stack._step

    def interrupted(self, number):
        if next(steps) == 6:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(stack.Stack, "_step", interrupted)
    swept = gc.sweep(SHORT, depth=[2, 3], seed=range(2))
    assert swept.interrupted
    assert list(swept) == [(3, 0), (3, 1)]  # the longest first
    assert repr(swept) == "<Sweep over depth (2) x seed (2): 2 of 4 traces, interrupted>"
    assert len(swept[3, 1].steps) == SHORT.steps
    with pytest.raises(KeyError, match=r"\(2, 0\) was not done: the sweep was interrupted after 2 of 4 runs"):
        swept[2, 0]
    np.testing.assert_array_equal(np.isnan(swept.array(lambda trace: trace.loss[-1])), [[True] * 2, [False] * 2])
    assert len(swept.select(depth=2)) == 0
    assert torch.get_num_threads() == 1


def test_sweep_interrupted_from_the_keyboard_stops_its_workers(monkeypatch):
    step = stack.Stack._step

    def slow(self, number):
        if number == 5:
            _thread.interrupt_main()
        time.sleep(0.01)
        return step(self, number)

    monkeypatch.setattr(stack.Stack, "_step", slow)
    before = threading.active_count()
    swept = gc.sweep(replace(SHORT, steps=10_000), seed=range(2))
    assert swept.interrupted
    assert len(swept) == 0
    assert threading.active_count() == before


def test_sweep_interrupted_one_by_one_keeps_what_was_done(monkeypatch):
    runs = iter(range(100))

    def interrupted(config):
        if next(runs) == 1:
            raise KeyboardInterrupt
        return gc.run(config)

    monkeypatch.setattr(sweeps, "run", interrupted)
    assert list(gc.sweep(replace(SHORT, dropout=0.1), seed=range(3))) == [(0,)]


class Bar:
    """Takes tqdm's place."""

    made = ()

    def __init__(self, **options):
        self.options, self.done, self.closed = options, 0, False
        Bar.made = [*Bar.made, self]

    def update(self, number):
        self.done += number

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr(Bar, "made", [])
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    return Bar


def test_sweep_is_silent_where_no_one_watches(bars, capfd):
    gc.sweep(SHORT, seed=range(2), dropout=[0.0, 0.1])
    assert capfd.readouterr() == ("", "")
    assert not bars.made


def test_sweep_bar_counts_every_step_and_says_the_plan(bars, monkeypatch):
    monkeypatch.setattr(progress, "someone_watches", lambda: True)
    swept = gc.sweep(replace(WILD, steps=30), gain=[0.5, 6.0], dropout=[0.0, 0.1])
    (bar,) = bars.made
    assert min(len(trace.steps) for trace in swept.values()) < 30
    assert bar.done == bar.options["total"] == 4 * 30
    assert bar.options["desc"] == swept.plan
    assert bar.closed


@pytest.mark.parametrize("answers", [False, True])
def test_someone_watches_a_notebook_that_can_answer(monkeypatch, answers):
    kernel = SimpleNamespace(_allow_stdin=answers)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=kernel)))
    assert progress.someone_watches() is answers


@pytest.mark.parametrize("terminal", [False, True])
def test_someone_watches_a_terminal(monkeypatch, terminal):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: terminal))
    assert progress.someone_watches() is terminal


def test_sweep_bar_in_a_notebook_leaves_a_line_without_height(monkeypatch, capfd):
    import IPython.display

    shown = []

    def display(bundle, **options):
        shown.append(bundle)
        return SimpleNamespace(update=display)

    monkeypatch.setattr(progress, "_kernel", lambda: SimpleNamespace(_allow_stdin=True))
    monkeypatch.setattr(IPython.display, "display", display)
    swept = gc.sweep(SHORT, seed=range(2))
    assert swept.plan in shown[0]["text/plain"]
    assert shown[0]["text/html"] == f"<pre>{escape(shown[0]['text/plain'])}</pre>"
    assert shown[-1] == {"text/plain": "", "text/html": ""}
    assert capfd.readouterr() == ("", "")


# --- workers


def test_workers_do_all_jobs_each_with_one_thread():
    torch.set_num_threads(2)
    told = list(workers.Workers([lambda tell, n=n: tell((n, torch.get_num_threads())) for n in range(9)], 3).results())
    assert sorted(told) == [(n, 1) for n in range(9)]
    assert torch.get_num_threads() == 2


def test_workers_hand_an_error_on_and_stop_the_others():
    def endless(tell):
        while True:
            tell("busy")
            time.sleep(0.001)

    def failing(tell):
        raise ZeroDivisionError("of a job")

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError, match="of a job"):
        list(workers.Workers([endless, failing], 2).results())
    assert threading.active_count() == before


def test_workers_stop_when_no_one_asks_for_more():
    def endless(tell):
        while True:
            tell("busy")

    before = threading.active_count()
    results = workers.Workers([endless, endless, endless], 2).results()
    assert next(results) == "busy"
    results.close()
    assert threading.active_count() == before


def test_sweep_error_of_a_stack_reaches_the_caller(monkeypatch):
    monkeypatch.setattr(stack.Stack, "_step", lambda self, number: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gc.sweep(SHORT, seed=range(2))


@pytest.mark.parametrize(("kinds", "stacks"), [([3], 2), ([3, 4], 4), ([2, 3, 4, 5], 4)])
def test_plan_keeps_all_workers_busy(kinds, stacks):
    configs = [replace(SHORT, depth=depth, seed=seed) for depth in kinds for seed in range(4)]
    made = plan.Plan(configs, 1e9, workers=2).stacks
    assert len(made) == stacks
    assert sorted(number for numbers in made for number in numbers) == list(range(len(configs)))
