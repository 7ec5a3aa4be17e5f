"""Config refuses what makes no sense; run does what a plain loop does, and nothing else."""

import dataclasses
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse import training
from gradcourse.models import one_thread
from gradcourse.recording import STATISTICS

SMALL = gc.Config(depth=3, width=8, activation="tanh", steps=5, batch_size=64, dtype="float64")
DIVERGING = gc.Config(depth=6, width=16, activation="relu", init="he", gain=3.0, learning_rate=0.3, steps=40)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


WHOLE = "must be a whole number, not "
NUMBER = "must be a number, not "
WRONG = [
    ("depth", 0, ValueError, ">= 1"),
    ("depth", 2.5, TypeError, WHOLE + "float"),
    ("width", 0, ValueError, ">= 1"),
    ("width", "64", TypeError, WHOLE + "str"),
    ("activation", "rleu", ValueError, "take one of"),
    ("activation", 7, TypeError, "must be a name or a callable"),
    ("activation", nn.Tanh, TypeError, "must be a name or a callable"),
    ("init", "kaiming", ValueError, "must be one of 'xavier', 'he'"),
    ("init", None, ValueError, "must be one of 'xavier', 'he'"),
    ("gain", 0.0, ValueError, "> 0"),
    ("gain", math.nan, ValueError, "> 0"),
    ("gain", "1", TypeError, NUMBER + "str"),
    ("bias_std", -0.1, ValueError, ">= 0"),
    ("bias_std", None, TypeError, NUMBER + "NoneType"),
    ("optimizer", "SGD", ValueError, "must be one of 'sgd', 'adam'"),
    ("optimizer", torch.optim.SGD, ValueError, "must be one of 'sgd', 'adam'"),
    ("learning_rate", 0, ValueError, "> 0"),
    ("learning_rate", -1.0, ValueError, "> 0"),
    ("learning_rate", math.inf, ValueError, "> 0"),
    ("learning_rate", True, TypeError, NUMBER + "bool"),
    ("momentum", 1.0, ValueError, "in [0, 1)"),
    ("momentum", -0.1, ValueError, "in [0, 1)"),
    ("momentum", [0.9], TypeError, NUMBER + "list"),
    ("clip_norm", 0, ValueError, "> 0, or None"),
    ("clip_norm", "1", TypeError, NUMBER + "str"),
    ("steps", -1, ValueError, ">= 0"),
    ("steps", 10.0, TypeError, WHOLE + "float"),
    ("batch_size", 0, ValueError, ">= 1"),
    ("batch_size", 1438, ValueError, "<= 1437"),
    ("batch_size", None, TypeError, WHOLE + "NoneType"),
    ("record_every", 0, ValueError, ">= 1"),
    ("record_every", 0.5, TypeError, WHOLE + "float"),
    ("seed", -1, ValueError, ">= 0"),
    ("seed", True, TypeError, WHOLE + "bool"),
    ("bias", math.inf, ValueError, "finite"),
    ("bias", "0", TypeError, NUMBER + "str"),
    ("norm", "instance", ValueError, "must be one of None, 'batch'"),
    ("residual", "dense", ValueError, "must be one of None, 'add'"),
    ("residual_scale", -1.0, ValueError, ">= 0, or None"),
    ("residual_scale", "1", TypeError, NUMBER + "str"),
    ("dropout", 1.0, ValueError, "in [0, 1)"),
    ("dropout", "half", TypeError, NUMBER + "str"),
    ("model", "rnn", ValueError, "must be one of 'mlp', 'conv'"),
    ("data", "mnist", ValueError, "must be one of 'digits', 'synthetic'"),
    ("scaling", "std", ValueError, "must be one of 'standard', 'unit'"),
    ("loss", "hinge", ValueError, "must be one of 'cross_entropy', 'mse'"),
    ("nesterov", "yes", ValueError, "must be one of False, True"),
    ("betas", (0.9, 1.5), ValueError, "two numbers in [0, 1)"),
    ("betas", 0.9, TypeError, "two numbers in [0, 1)"),
    ("eps", -1e-8, ValueError, ">= 0, or None"),
    ("eps", "small", TypeError, NUMBER + "str"),
    ("weight_decay", -0.1, ValueError, ">= 0, or None"),
    ("weight_decay", [0.1], TypeError, NUMBER + "list"),
    ("schedule", "linear", ValueError, "must be one of 'constant', 'step'"),
    ("clip_value", 0, ValueError, "> 0, or None"),
    ("clip_value", "1", TypeError, NUMBER + "str"),
    ("clip_weights", -1, ValueError, "> 0, or None"),
    ("clip_weights", True, TypeError, NUMBER + "bool"),
    ("accumulate", 0, ValueError, ">= 1"),
    ("accumulate", 2.0, TypeError, WHOLE + "float"),
    ("dtype", torch.float32, ValueError, "must be one of 'float32', 'float64'"),
    ("dtype", "float16", ValueError, "must be one of 'float32', 'float64'"),
]


@pytest.mark.parametrize(("field", "value", "kind", "rule"), WRONG, ids=[f"{f}={v!r}" for f, v, *_ in WRONG])
def test_config_refuses_a_wrong_value_with_one_line_naming_field_value_and_rule(field, value, kind, rule):
    with pytest.raises(kind) as caught:
        gc.Config(**{field: value})
    message = str(caught.value)
    assert f"{field}={value!r}" in message
    assert rule in message
    assert "\n" not in message


def test_config_every_field_has_a_wrong_value_and_a_wrong_type_in_these_tests():
    fields = {field.name for field in dataclasses.fields(gc.Config)}
    assert {row[0] for row in WRONG} == fields
    choices = {"init", "optimizer", "dtype", "norm", "residual", "model", "data", "scaling", "loss", "schedule"}
    choices |= {"nesterov"}  # a wrong type is one more unknown choice
    assert {row[0] for row in WRONG if row[2] is TypeError} == fields - choices


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", 1),
        ("width", 1),
        ("gain", 1),
        ("bias_std", 0),
        ("momentum", 0.999),
        ("clip_norm", None),
        ("clip_norm", 1),
        ("steps", 0),
        ("batch_size", 1437),
        ("depth", np.int64(3)),
        ("learning_rate", np.float32(0.5)),
        ("seed", 2**63),
        ("activation", torch.relu),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_config_accepts_the_edge_of_the_allowed(field, value):
    assert getattr(gc.Config(**{field: value}), field) == value


def test_config_momentum_with_adam_is_refused():
    with pytest.raises(ValueError, match=r"Config\(momentum=0.9\): momentum goes with optimizer=.sgd., not 'adam'"):
        gc.Config(optimizer="adam", momentum=0.9)


def test_config_is_frozen_and_replace_checks_again():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL.depth = 4
    with pytest.raises(ValueError, match="depth must be >= 1"):
        replace(SMALL, depth=0)
    assert replace(SMALL, depth=4) == gc.Config(**{**vars(SMALL), "depth": 4})
    assert len({SMALL, replace(SMALL), replace(SMALL, depth=4)}) == 2


def test_config_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match="learning_rat"):
        gc.Config(learning_rat=0.1)


def test_config_summary_names_the_network():
    assert gc.Config(depth=5, width=7, activation=torch.tanh, gain=1.5).summary == (
        "tanh depth 5 width 7 xavier gain 1.5"
    )


def test_config_streams_differ_by_name_and_by_seed():
    seeds = {gc.Config(seed=seed).stream(name) for seed in range(50) for name in ("data", "weights", "batches")}
    assert len(seeds) == 150


def test_config_streams_do_not_depend_on_anything_but_the_seed():
    other = gc.Config(depth=2, width=3, activation="relu", optimizer="adam", steps=1, batch_size=7, dtype="float64")
    assert all(gc.Config().stream(name) == other.stream(name) for name in ("data", "weights", "batches"))


@pytest.mark.parametrize("config", [{"depth": 3}, None, gc.Config], ids=["dict", "None", "class"])
def test_run_refuses_anything_but_a_config(config):
    with pytest.raises(TypeError, match=r"run\(\) takes a Config, not"):
        gc.run(config)


@pytest.fixture
def inputs_of(monkeypatch):
    """Return a function that runs a Config and gives the inputs of the network at each step."""
    build = training.build_model

    def run(config):
        seen = []

        def watched(config):
            model = build(config)
            model.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
            return model

        monkeypatch.setattr(training, "build_model", watched)
        gc.run(config)
        return seen[:-2]  # the last two measure the accuracies

    return run


def numbers_of(images, config):
    """Which training images these are; no two digits are equal."""
    x = gc.digits(config.stream("data")).x_train.to(images.dtype)
    number = {row.numpy().tobytes(): i for i, row in enumerate(x)}
    return [number[row.numpy().tobytes()] for row in images]


@pytest.mark.parametrize(("batch_size", "per_epoch"), [(64, 22), (479, 3), (1000, 1), (1437, 1)])
def test_run_every_epoch_is_a_new_order_without_the_incomplete_batch(inputs_of, batch_size, per_epoch):
    config = replace(SMALL, depth=1, batch_size=batch_size, steps=2 * per_epoch + 1)
    batches = inputs_of(config)
    assert [len(batch) for batch in batches] == [batch_size] * config.steps
    epochs = [numbers_of(torch.cat(batches[start : start + per_epoch]), config) for start in (0, per_epoch)]
    for numbers in epochs:
        assert len(set(numbers)) == len(numbers) == per_epoch * batch_size
    assert epochs[0] != epochs[1]
    if batch_size == 1437:
        assert sorted(epochs[0]) == list(range(1437))


@pytest.mark.parametrize(
    "change", [{"depth": 6}, {"width": 3}, {"activation": "relu"}, {"init": "orthogonal"}], ids=str
)
def test_run_another_network_sees_the_same_images_in_the_same_order(inputs_of, change):
    pairs = zip(inputs_of(SMALL), inputs_of(replace(SMALL, **change)), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_run_another_seed_sees_other_images(inputs_of):
    assert not torch.equal(inputs_of(SMALL)[0], inputs_of(replace(SMALL, seed=1))[0])


def plain_loop(config):
    """Train with nothing but matrices, by formulas from the optimizers' papers; return losses and accuracies."""
    split = gc.digits(config.stream("data"))
    dtype = getattr(torch, config.dtype)
    x_train, x_test = split.x_train.to(dtype), split.x_test.to(dtype)
    parameters = [p.detach().clone() for p in training.build_model(config).parameters()]
    phi = {"tanh": torch.tanh, "relu": lambda u: u.clamp(min=0)}[config.activation]

    def scores(x, parameters):
        for number, (w, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            x = (phi(x) if number else x) @ w.T + b
        return x

    generator = config.generator("batches")
    order, losses = torch.tensor([], dtype=torch.int64), []
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for step in range(1, config.steps + 1):
        if len(order) < config.batch_size:
            order = torch.randperm(1437, generator=generator)
        batch, order = order[: config.batch_size], order[config.batch_size :]
        leaves = [p.clone().requires_grad_() for p in parameters]
        z = scores(x_train[batch], leaves)
        loss = (torch.logsumexp(z, 1) - z[torch.arange(len(z)), split.y_train[batch]]).mean()
        gradients = torch.autograd.grad(loss, leaves)
        losses.append(loss.item())
        if config.clip_norm:
            norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
            gradients = [g * min(1.0, config.clip_norm / (norm + 1e-6)) for g in gradients]  # torch's own 1e-6
        for i, g in enumerate(gradients):
            if config.optimizer == "adam":
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g**2
                g = first[i] / (1 - 0.9**step) / ((second[i] / (1 - 0.999**step)).sqrt() + 1e-8)
            elif config.momentum:
                first[i] = g = config.momentum * first[i] + g
            parameters[i] = parameters[i] - config.learning_rate * g
        if not math.isfinite(losses[-1]):
            break
    accuracies = [
        sum(int(z.argmax()) == int(y) for z, y in zip(scores(x, parameters), labels, strict=True)) / len(labels)
        for x, labels in ((x_train, split.y_train), (x_test, split.y_test))
    ]
    return losses, accuracies


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"momentum": 0.9},
        {"optimizer": "adam", "learning_rate": 0.01},
        {"clip_norm": 0.05},
        {"activation": "relu", "init": "he", "bias_std": 0.1},
        {"depth": 1},
        {"width": 1},
        {"batch_size": 1437, "steps": 3},
    ],
    ids=["sgd", "momentum", "adam", "clip_norm", "relu", "depth_1", "width_1", "whole_set"],
)
def test_run_equals_a_plain_loop(change):
    config = replace(SMALL, steps=30, learning_rate=0.3)  # 30 steps of 64 run over the end of an epoch
    config = replace(config, **change)
    losses, (train_accuracy, test_accuracy) = plain_loop(config)
    trace = gc.run(config)
    np.testing.assert_allclose(trace.loss, losses, rtol=0, atol=1e-12)
    assert trace.train_accuracy == train_accuracy
    assert trace.test_accuracy == test_accuracy


def test_run_clips_the_whole_gradient_and_says_so():
    trace = gc.run(replace(SMALL, clip_norm=0.05))
    clipped = [event for event in trace.events if event.kind == "clipped"]
    assert [event.step for event in clipped] == list(range(5))
    assert all(event.used == pytest.approx(0.05, rel=1e-4) and event.raw > 0.05 for event in clipped)
    assert not gc.run(replace(SMALL, clip_norm=1e6)).events


def test_run_learns_the_digits():
    trace = gc.run(gc.Config(depth=2, width=32, activation="relu", init="he", steps=200, record_every=200))
    assert trace.train_accuracy > 0.9
    assert trace.test_accuracy > 0.85


def test_run_trace_holds_its_config_steps_and_layers():
    trace = gc.run(SMALL)
    assert trace.config is SMALL
    assert trace.steps.tolist() == [0, 1, 2, 3, 4]
    assert trace.layers == ("linear1", "tanh1", "linear2", "tanh2", "linear3")
    assert trace.has_weight.tolist() == [True, False, True, False, True]
    for statistic in STATISTICS:
        assert getattr(trace, statistic).shape == (5, 5)


def test_run_depth_1_is_a_linear_classifier():
    trace = gc.run(replace(SMALL, depth=1))
    assert trace.layers == ("linear1",)
    assert math.isnan(trace.factor_per_layer())


def test_run_steps_0_is_a_snapshot_at_initialization_without_a_step():
    snapshot, first = gc.run(replace(SMALL, steps=0)), gc.run(replace(SMALL, steps=1))
    assert snapshot.steps.tolist() == [0]
    assert snapshot.loss == first.loss
    np.testing.assert_array_equal(snapshot.delta, first.delta)
    np.testing.assert_array_equal(snapshot.weight_gradient, first.weight_gradient)
    assert np.isnan(snapshot.update_ratio).all()
    assert not snapshot.events
    split, model = gc.digits(SMALL.stream("data")), training.build_model(SMALL)
    with torch.no_grad():
        untrained = (model(split.x_train).argmax(1) == split.y_train).double().mean().item()
    assert snapshot.train_accuracy == untrained


@pytest.mark.parametrize("every", [2, 3, 7])
def test_run_record_every_keeps_those_rows_of_the_full_trace(every):
    full, thinned = gc.run(replace(SMALL, steps=7)), gc.run(replace(SMALL, steps=7, record_every=every))
    assert thinned.steps.tolist() == list(range(0, 7, every))
    for name in ("loss", *STATISTICS):
        np.testing.assert_array_equal(getattr(thinned, name), getattr(full, name)[::every])
    assert thinned.train_accuracy == full.train_accuracy


def bits(trace):
    return [getattr(trace, name).tobytes() for name in ("loss", *STATISTICS)]


@pytest.fixture
def threads():
    """Return torch.set_num_threads; the number from before comes back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_run_gives_the_same_bits_with_one_and_two_threads(threads):
    config = gc.Config(depth=4, width=128, activation="tanh", steps=20, batch_size=512)
    traces = []
    for number in (1, 2):
        threads(number)
        traces.append(gc.run(config))
        assert torch.get_num_threads() == number
    assert bits(traces[0]) == bits(traces[1])
    assert traces[0].train_accuracy == traces[1].train_accuracy


def test_run_twice_gives_the_same_bits():
    assert bits(gc.run(SMALL)) == bits(gc.run(SMALL))


def raises(u):
    raise ArithmeticError("in the activation")


@pytest.mark.parametrize("activation", ["tanh", raises], ids=["finishes", "raises"])
def test_run_touches_no_global_state(threads, activation):
    threads(2)
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    try:
        gc.run(replace(SMALL, activation=activation))
    except ArithmeticError:
        assert activation is raises
    else:
        assert activation is not raises
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_run_prints_nothing_and_writes_nothing(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gc.run(SMALL)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_run_ends_at_the_step_where_the_loss_stops_being_finite():
    losses, _ = plain_loop(DIVERGING)
    assert 1 < len(losses) < DIVERGING.steps  # it does diverge, and not at once
    trace = gc.run(DIVERGING)
    assert len(trace.steps) == len(losses)
    assert np.isfinite(trace.loss).tolist() == [True] * (len(losses) - 1) + [False]


def test_run_divergence_event_names_step_layer_and_direction_and_accuracy_is_nan():
    trace = gc.run(DIVERGING)
    (event,) = [event for event in trace.events if event.kind == "non-finite"]
    # independent: where does the first non-finite number stand in the arrays, forwards then backwards?
    for row, step in enumerate(trace.steps):
        forward = [trace.layers[i] for i in np.flatnonzero(~np.isfinite(trace.activation_rms[row]))]
        backward = [trace.layers[i] for i in np.flatnonzero(~np.isfinite(trace.delta[row]))[::-1]]
        found = [(step, name, "forward") for name in forward] + [(step, name, "backward") for name in backward]
        if found:
            break
    assert (event.step, event.layer, event.direction) == found[0]
    assert math.isnan(trace.train_accuracy)
    assert math.isnan(trace.test_accuracy)


def test_run_divergence_between_recorded_steps_is_not_lost():
    full, thinned = gc.run(DIVERGING), gc.run(replace(DIVERGING, record_every=DIVERGING.steps))
    last = int(full.steps[-1])
    assert thinned.steps.tolist() == [0]
    (event,) = [event for event in thinned.events if event.kind == "non-finite"]
    assert (event.step, event.layer) == (last, "loss")
    assert math.isnan(thinned.train_accuracy)


def test_run_float32_is_close_to_float64():
    single, double = gc.run(replace(SMALL, dtype="float32")), gc.run(SMALL)
    np.testing.assert_allclose(single.loss, double.loss, rtol=1e-5)
    np.testing.assert_allclose(single.delta, double.delta, rtol=1e-3)
    assert (single.loss != double.loss).any()


def test_run_initial_loss_does_not_depend_on_the_optimizer():
    losses = [gc.run(replace(SMALL, steps=1, **c)).loss for c in ({}, {"momentum": 0.5}, {"optimizer": "adam"})]
    assert all(a == b for a, b in pairwise(losses))


def test_build_model_has_the_parameters_that_the_config_names():
    model = training.build_model(replace(SMALL, bias_std=0.1))
    direct = gc.mlp(
        3, 8, "tanh", generator=SMALL.generator("weights"), init="xavier", bias_std=0.1, dtype=torch.float64
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), direct.parameters(), strict=True))
    assert cross_entropy(model(torch.zeros(1, 64, dtype=torch.float64)), torch.tensor([0])).isfinite()
