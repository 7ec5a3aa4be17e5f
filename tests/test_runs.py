"""Every knob of a Config: the networks by formula, the runs by a plain loop, the refusals by their reasons."""

import copy
import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad

import gradcourse as gc
from gradcourse import training
from gradcourse.config import Config as ConfigOfItsModule
from gradcourse.data import digits, synthetic
from gradcourse.layers import Dropout
from gradcourse.models import (
    INITS,
    NORMS,
    OTHER_INITS,
    RESIDUALS,
    branch_scale,
    convnet,
    draw_weight,
    lsuv,
    mlp,
    one_thread,
    weight_variance,
)

SMALL = gc.Config(depth=4, width=16, activation="tanh", learning_rate=0.1, steps=6, batch_size=64, dtype="float64")


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(make, depth=4, width=16, activation="tanh", **options):
    options = {"generator": seeded(), "mask_generator": seeded(1), "dtype": torch.float64} | options
    return make(depth, width, activation, **options)


def inputs(count=5):
    return torch.randn(count, 64, dtype=torch.float64, generator=seeded(2))


def names(model):
    return [name for name, module in model.named_modules() if name]


def shuffle(model):
    """Give every parameter another value, so that gains, shifts and scales of 1 and 0 don't hide."""
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, dtype=parameter.dtype, generator=seeded(number))
            parameter.add_(0.3 * noise)


# --- the networks, by formula


def linear_map(x, w, b):
    if w.ndim == 2:
        return x @ w.T + b
    x = pad(x, (1, 1, 1, 1))  # a 3x3 convolution as a sum over its nine shifts
    shifts = [(i, j) for i in range(3) for j in range(3)]
    z = sum(torch.einsum("oc,bchw->bohw", w[:, :, i, j], x[:, :, i : i + 8, j : j + 8]) for i, j in shifts)
    return z + b[:, None, None]


def normalize(h, kind, gain, shift):
    shape = h.shape
    if kind == "batch":
        axes = [axis for axis in range(h.ndim) if axis != 1]
    elif kind == "layer":
        axes = list(range(1, h.ndim))
    else:
        h, axes = h.reshape(shape[0], 8, -1), [2]
    mean = h.mean(axes, keepdim=True)
    h = ((h - mean) / (((h - mean) ** 2).mean(axes, keepdim=True) + 1e-5).sqrt()).reshape(shape)
    columns = [-1] + [1] * (len(shape) - 2)
    return gain.reshape(columns) * h + shift.reshape(columns)


def by_hand(model, kind, residual, norm, x, depth=4):
    """What the network should compute with its own parameters, written from the formulas of its docstring."""
    p = dict(model.named_parameters())

    def affine(name, x):
        w = p[f"{name}.weight"]
        if f"{name}.scale" in p:
            per_output = p[f"{name}.scale"] / w.flatten(1).square().sum(1).sqrt()
            w = per_output.reshape([-1] + [1] * (w.ndim - 1)) * w
        return linear_map(x, w, p[f"{name}.bias"])

    def normed(name, x):
        return normalize(x, norm, p[f"{name}.weight"], p[f"{name}.bias"]) if f"{name}.weight" in p else x

    word = {"mlp": "linear", "conv": "conv"}[kind]
    layer = f"{norm}norm"
    x = x.reshape(len(x), 1, 8, 8) if kind == "conv" else x
    if residual is None:
        for number in range(1, depth):
            x = torch.tanh(normed(f"{layer}{number}", affine(f"{word}{number}", x)))
    else:
        x = affine(f"{word}1", x)
        for number in range(2, depth):
            block = f"block{number}"
            scale = {"add": 1, "preactivation": 1, "scaled": 1 / math.sqrt(2)}.get(residual, p.get(f"{block}.scale"))
            if residual == "preactivation":
                branch = affine(f"{block}.{word}", torch.tanh(normed(f"{block}.{layer}", x)))
            else:
                branch = normed(f"{block}.{layer}", affine(f"{block}.{word}", torch.tanh(x)))
            x = x + scale * branch
        if kind == "conv" and residual == "preactivation":
            x = torch.tanh(normed(f"{layer}{depth}", x))
    if kind == "conv":
        x = x.reshape(len(x), -1, 4, 2, 4, 2).mean((3, 5)).flatten(1)
    return affine(f"linear{depth}", x)


@pytest.mark.parametrize("norm", [None, *NORMS], ids=str)
@pytest.mark.parametrize("residual", [None, *RESIDUALS], ids=str)
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_network_computes_its_formula(kind, residual, norm):
    model = build({"mlp": mlp, "conv": convnet}[kind], residual=residual, norm=norm)
    shuffle(model)
    x = inputs()
    torch.testing.assert_close(model(x), by_hand(model, kind, residual, norm, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "options", "layers"),
    [
        (mlp, {"norm": "batch"}, "linear1 batchnorm1 tanh1 linear2 batchnorm2 tanh2 linear3"),
        (
            mlp,
            {"norm": "layer", "dropout": 0.5},
            "linear1 layernorm1 tanh1 dropout1 linear2 layernorm2 tanh2 dropout2 linear3",
        ),
        (mlp, {"norm": "weight"}, "linear1 tanh1 linear2 tanh2 linear3"),
        (mlp, {"residual": "add"}, "linear1 block2 block2.tanh block2.linear linear3"),
        (
            mlp,
            {"residual": "scaled", "norm": "group", "dropout": 0.5},
            "linear1 block2 block2.tanh block2.dropout block2.linear block2.groupnorm linear3",
        ),
        (
            mlp,
            {"residual": "preactivation", "norm": "batch", "dropout": 0.5},
            "linear1 block2 block2.batchnorm block2.tanh block2.dropout block2.linear linear3",
        ),
        (convnet, {"norm": "batch"}, "image conv1 batchnorm1 tanh1 conv2 batchnorm2 tanh2 pool flatten linear3"),
        (
            convnet,
            {"residual": "preactivation", "norm": "layer"},
            "image conv1 block2 block2.layernorm block2.tanh block2.conv layernorm3 tanh3 pool flatten linear3",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_network_layers_are_named_in_call_order(make, options, layers):
    model = build(make, depth=3, **options)
    called = []
    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
    model(inputs())
    assert names(model) == called[1:] == layers.split()


@pytest.mark.parametrize("name", ["batchnorm", "conv", "forward", "scale", "dropout_of_mine", "linearity"])
def test_network_an_activations_name_takes_no_other_layers_place(name):
    def phi(u):
        return torch.tanh(u)

    phi.__name__ = name
    for residual in (None, "add"):
        model = build(mlp, activation=phi, norm="batch", residual=residual)
        reference = build(mlp, activation="tanh", norm="batch", residual=residual)
        assert sum(".activation" in f".{layer}" for layer in names(model)) == (3 if residual is None else 2)
        torch.testing.assert_close(model(inputs()), reference(inputs()), rtol=0, atol=0)


@pytest.mark.parametrize("options", [{"norm": norm} for norm in NORMS] + [{"residual": r} for r in RESIDUALS], ids=str)
def test_network_weights_at_first_do_not_depend_on_norm_dropout_and_residual(options):
    def weights(**options):
        return [p for p in build(mlp, **options).parameters() if p.ndim == 2]

    for some in (options, options | {"dropout": 0.5}):
        assert all(torch.equal(a, b) for a, b in zip(weights(), weights(**some), strict=True))


@pytest.mark.parametrize("make", [mlp, convnet])
def test_weight_norm_changes_nothing_at_first_and_then_forgets_the_length_of_its_weights(make):
    plain, normed = build(make), build(make, norm="weight")
    torch.testing.assert_close(plain(inputs()), normed(inputs()), rtol=0, atol=1e-12)
    with torch.no_grad():
        [module.weight.mul_(7.0) for module in normed.modules() if hasattr(module, "scale")]
    torch.testing.assert_close(plain(inputs()), normed(inputs()), rtol=0, atol=1e-12)


def test_rezero_is_the_linear_map_of_its_ends_and_learns_its_scales():
    model = build(mlp, residual="rezero")
    x = inputs()
    expected = (x @ model.linear1.weight.T) @ model.linear4.weight.T  # biases are 0
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)
    cross_entropy(model(x), torch.arange(5)).backward()
    assert model.block2.scale.grad != 0
    assert not model.block2.linear.weight.grad.any()


@pytest.mark.parametrize(
    ("residual", "scale", "depth", "expected"),
    [
        ("add", None, 10, 1.0),
        ("preactivation", None, 10, 1.0),
        ("scaled", None, 18, 0.25),
        ("scaled", 0.5, 18, 0.5),
        ("rezero", None, 10, 0.0),
        ("rezero", 0.1, 10, 0.1),
    ],
)
def test_branch_scale_is_that_of_the_form_or_your_own(residual, scale, depth, expected):
    assert branch_scale(residual, scale, depth) == expected
    model = build(mlp, depth=depth, residual=residual, residual_scale=scale)
    assert torch.as_tensor(model.block2.scale).item() == expected


def test_bias_shifts_every_hidden_bias_and_leaves_the_output_alone():
    for options in ({}, {"residual": "scaled"}, {"init": "torch"}):
        model, shifted = (build(mlp, bias=bias, **options) for bias in (0.0, -5.0))
        for (name, a), (_, b) in zip(model.named_parameters(), shifted.named_parameters(), strict=True):
            moved = name.endswith("bias") and not name.startswith("linear4")
            torch.testing.assert_close(a - 5.0 if moved else a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [mlp, convnet])
@pytest.mark.parametrize(
    "options", [{"norm": norm} for norm in NORMS] + [{"residual": "rezero"}, {"dropout": 0.2}], ids=str
)
def test_network_has_one_dtype_and_touches_no_global_generator(make, options):
    before = torch.get_rng_state()
    for dtype in (torch.float32, torch.float64):
        model = build(make, dtype=dtype, **options)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        assert model(inputs().to(dtype)).dtype == dtype
    assert torch.equal(torch.get_rng_state(), before)


def test_network_takes_its_generator_by_keyword_only():
    with pytest.raises(TypeError):
        convnet(3, 8, "tanh", seeded())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"norm": "instance"}, ["norm='instance'", *NORMS]),
        ({"residual": "dense"}, ["residual='dense'", *RESIDUALS]),
        ({"dropout": 0.5, "mask_generator": None}, ["dropout=0.5", "mask_generator"]),
        ({"depth": 0}, ["depth=0", ">= 1"]),
        ({"init": "kaiming"}, ["init='kaiming'", *INITS, *OTHER_INITS]),
    ],
    ids=["norm", "residual", "dropout", "depth", "init"],
)
@pytest.mark.parametrize("make", [mlp, convnet])
def test_network_refuses_with_one_line_that_says_what_is_allowed(make, options, words):
    with pytest.raises(ValueError, match=words[0]) as caught:
        build(make, **options)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


# --- dropout


def test_dropout_sets_its_share_to_0_and_keeps_the_mean():
    layer = Dropout(0.3, seeded())
    h = layer(torch.ones(400, 500, dtype=torch.float64))
    error = math.sqrt(0.3 * 0.7 / h.numel())
    assert abs(float((h == 0).double().mean()) - 0.3) < 5 * error
    torch.testing.assert_close(h[h != 0], torch.full_like(h[h != 0], 1 / 0.7), rtol=1e-14, atol=0)


def test_dropout_does_nothing_in_evaluation():
    layer = Dropout(0.3, seeded()).eval()
    h = inputs()
    assert layer(h) is h
    assert int(layer.masks) == 0


def test_dropout_masks_differ_from_step_to_step_and_layer_to_layer_and_repeat_in_a_copy():
    generator = seeded()
    first, second = Dropout(0.5, generator), Dropout(0.5, generator)
    again = copy.deepcopy(first)
    ones = torch.ones(1000)
    masks = [layer(ones) for layer in (first, first, second)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert 0.4 < float((masks[a] == masks[b]).double().mean()) < 0.6  # independent: half of them agree
    assert torch.equal(again(ones), masks[0])


def test_dropout_a_model_put_back_drops_the_same_units_again():
    model = build(mlp, dropout=0.5)
    state = copy.deepcopy(model.state_dict())
    first = model(inputs())
    assert not torch.equal(model(inputs()), first)
    model.load_state_dict(state)
    assert torch.equal(model(inputs()), first)


def test_dropout_measure_twice_gives_the_same_numbers():
    model = build(mlp, dropout=0.5)
    first, second = (gc.measure(model, (inputs(), torch.arange(5)), cross_entropy) for _ in range(2))
    np.testing.assert_array_equal(first.delta, second.delta)


def test_dropout_a_run_depends_on_its_seed_and_on_no_global_generator():
    losses = []
    for global_seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)
            losses.append(gc.run(replace(SMALL, dropout=0.5)).loss)
    np.testing.assert_array_equal(*losses)
    assert (gc.run(replace(SMALL, dropout=0.5)).loss != gc.run(replace(SMALL, dropout=0.4)).loss).all()


# --- initial weights


@pytest.mark.parametrize(("init", "value"), [("constant", 2.5), ("zero", 0.0)])
def test_init_that_is_not_random_makes_all_weights_the_same(init, value):
    weight = draw_weight(init, 2.5, 7, 3, generator=seeded())
    assert torch.equal(weight, torch.full((3, 7), value, dtype=torch.float64))


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("he", 2 / (9 * 40)),
        ("lecun", 1 / (9 * 40)),
        ("xavier", 2 / (9 * 40 + 9 * 40)),
        ("torch", 1 / (3 * 9 * 40)),
        ("normal", 1.0),
        ("orthogonal", 1 / (9 * 40)),
    ],
)
def test_convolutions_fan_counts_its_nine_taps(init, variance):
    model = build(convnet, depth=12, width=40, init=init, gain=3.0)
    sample = torch.cat([getattr(model, f"conv{number}").weight.flatten() for number in range(2, 12)])
    assert sample.square().mean().item() == pytest.approx(9 * variance, rel=5 * math.sqrt(2 / sample.numel()))


def test_convolutions_orthogonal_rows_are_orthonormal():
    rows = build(convnet, init="orthogonal").conv2.weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(16, dtype=torch.float64), rtol=0, atol=1e-12)


def test_convolutions_torch_init_has_the_bound_of_nn_conv2d():
    conv = build(convnet, depth=4, width=64, init="torch").conv2
    reference = torch.nn.utils.skip_init(nn.Conv2d, 64, 64, 3)
    with torch.random.fork_rng(devices=[]):
        reference.reset_parameters()
    for name, tolerance in (("weight", 1e-3), ("bias", 0.1)):
        ours, theirs = (getattr(layer, name).abs().max().item() for layer in (conv, reference))
        assert ours == pytest.approx(theirs, rel=tolerance)


@pytest.mark.parametrize("init", OTHER_INITS)
def test_weight_variance_refuses_what_has_no_formula(init):
    with pytest.raises(ValueError, match=f"init='{init}' has no formula"):
        weight_variance(init, 1.0, 8, 8)


def pre_activations(model, x):
    """Standard deviation of what each linear layer or convolution puts out, in call order."""
    seen = []
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.register_forward_hook(lambda *args: seen.append(float(args[2].std(correction=0))))
    with torch.no_grad():
        model(x)
    return seen


@pytest.mark.parametrize("model", ["mlp", "conv"])
@pytest.mark.parametrize("gain", [1.0, 0.3])
@pytest.mark.parametrize("residual", [None, "scaled"], ids=str)
def test_lsuv_gives_every_layer_the_standard_deviation_gain_on_its_256_images(model, gain, residual):
    config = replace(SMALL, depth=8, init="lsuv", gain=gain, model=model, residual=residual)
    x = digits(config.stream("data")).x_train[:256]
    np.testing.assert_allclose(pre_activations(training.build_model(config), x), gain, rtol=1e-12)


@pytest.mark.parametrize(("activation", "width"), [("relu", 128), ("relu", 64), ("tanh", 128)])
@pytest.mark.parametrize("seed", range(3))
def test_lsuv_in_one_pass_on_256_images_holds_on_512(activation, width, seed):
    config = gc.Config(depth=20, width=width, activation=activation, init="lsuv", seed=seed)
    x = training.load_data(config).x_train[:512]
    hidden = pre_activations(training.build_model(config), x)[:-1]
    assert np.abs(np.array(hidden) - 1).max() < 0.1


def test_lsuv_keeps_directions_the_mode_and_a_layer_that_is_silent():
    model = build(mlp, dropout=0.5)
    before = copy.deepcopy(model)
    with torch.no_grad():
        model.linear2.weight.zero_()
    lsuv(model, inputs(100))
    assert model.training
    assert int(model.dropout1.masks) == 0
    assert not model.linear2.weight.any()
    ratio = model.linear1.weight / before.linear1.weight
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio), rtol=1e-12, atol=0)
    assert not any(module._forward_hooks for module in model.modules())


# --- data


def test_synthetic_points_have_the_shapes_of_the_digits():
    ours, theirs = synthetic(), digits()
    for name in ("x_train", "y_train", "x_test", "y_test", "scores_train"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype


def test_synthetic_labels_are_those_of_one_linear_map():
    split = synthetic(3)
    teacher = torch.linalg.lstsq(split.x_train, split.scores_train).solution
    torch.testing.assert_close(split.x_train @ teacher, split.scores_train, rtol=0, atol=1e-10)
    assert torch.equal((split.x_train @ teacher).argmax(1), split.y_train)
    assert torch.equal((split.x_test @ teacher).argmax(1), split.y_test)
    assert teacher.square().mean().item() == pytest.approx(1 / 64, rel=5 * math.sqrt(2 / 640))


def test_synthetic_inputs_are_standard_normal_and_every_class_occurs():
    split = synthetic(1)
    x = torch.cat([split.x_train, split.x_test])
    assert abs(x.mean().item()) < 5 / math.sqrt(x.numel())
    assert x.square().mean().item() == pytest.approx(1, rel=5 * math.sqrt(2 / x.numel()))
    assert abs(float((x.abs() > 1.959964).double().mean()) - 0.05) < 5 * math.sqrt(0.05 * 0.95 / x.numel())
    assert set(split.y_train.tolist()) == set(range(10))


def test_synthetic_follows_its_seed_and_touches_no_global_generator():
    before = torch.get_rng_state()
    assert torch.equal(synthetic(1).x_train, synthetic(1).x_train)
    assert not torch.equal(synthetic(1).x_train, synthetic(2).x_train)
    assert torch.equal(torch.get_rng_state(), before)


def test_digits_scores_are_1_at_the_class_and_scaling_255_fills_0_to_255():
    split = digits(2, scaling="255")
    assert torch.equal(split.scores_train.argmax(1), split.y_train)
    assert torch.equal(split.scores_train.sum(1), torch.ones(1437, dtype=torch.float64))
    assert (split.x_train.min(), split.x_train.max()) == (0, 255)
    torch.testing.assert_close(split.x_train * 16 / 255, digits(2, scaling="raw").x_train, rtol=1e-14, atol=0)


# --- runs, by a plain loop


def plain_loop(config, make_optimizer, *, factor=lambda step: 1.0, clip=None, after=None, loss=None, split=None):
    """Train a plain network of linear maps and tanh; what the Config changes is handed in, written out below."""
    split = split or digits(config.stream("data"))
    parameters = [p.detach().clone().requires_grad_() for p in training.build_model(config).parameters()]

    def scores(x):
        for number, (w, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
            x = (torch.tanh(x) if number else x) @ w.T + b
        return x

    optimizers = make_optimizer(parameters)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    order, losses = [], []
    generator = config.generator("batches")
    for step in range(config.steps):
        if len(order) < config.batch_size:
            order = torch.randperm(1437, generator=generator).tolist()
        batch, order = order[: config.batch_size], order[config.batch_size :]
        value = (loss or (lambda z, split, batch: cross_entropy(z, split.y_train[batch])))(
            scores(split.x_train[batch]), split, batch
        )
        losses.append(value.item())
        for p, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
            p.grad = clip(gradient) if clip else gradient
        for optimizer, lrs in zip(optimizers, rates, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * factor(step)
            optimizer.step()
        if after:
            with torch.no_grad():
                after(parameters)
    with torch.no_grad():
        return losses, float((scores(split.x_test).argmax(1) == split.y_test).double().mean())


def with_torch(make, **options):
    return lambda parameters: [make(parameters, **options)]


def lion_by_hand(parameters, lr, b1=0.9, b2=0.99):
    class Rule(torch.optim.Optimizer):
        momenta = None

        @torch.no_grad()
        def step(self):
            self.momenta = self.momenta or [np.zeros(tuple(p.shape)) for p in parameters]
            for i, p in enumerate(parameters):
                g = p.grad.numpy()
                p -= torch.from_numpy(self.param_groups[0]["lr"] * np.sign(b1 * self.momenta[i] + (1 - b1) * g))
                self.momenta[i] = b2 * self.momenta[i] + (1 - b2) * g

    return [Rule(parameters, {"lr": lr})]


def muon_by_hand(parameters):
    return [torch.optim.Muon(parameters[::2], lr=0.03), torch.optim.Adam(parameters[1::2], lr=1e-3)]


def clamp_weights(limit):
    return lambda parameters: [p.clamp_(-limit, limit) for p in parameters[::2]]


SGD = with_torch(torch.optim.SGD, lr=0.1)
RUNS = {
    "nesterov": (
        {"momentum": 0.9, "nesterov": True},
        with_torch(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        {},
    ),
    "weight_decay": ({"weight_decay": 0.05}, with_torch(torch.optim.SGD, lr=0.1, weight_decay=0.05), {}),
    "adagrad": ({"optimizer": "adagrad"}, with_torch(torch.optim.Adagrad, lr=0.1), {}),
    "rmsprop": ({"optimizer": "rmsprop", "learning_rate": 0.01}, with_torch(torch.optim.RMSprop, lr=0.01), {}),
    "adam": (
        {"optimizer": "adam", "learning_rate": 0.01, "betas": (0.5, 0.9), "eps": 1e-3},
        with_torch(torch.optim.Adam, lr=0.01, betas=(0.5, 0.9), eps=1e-3),
        {},
    ),
    "adamw": (
        {"optimizer": "adamw", "learning_rate": 0.01},
        with_torch(torch.optim.AdamW, lr=0.01, weight_decay=0.01),
        {},
    ),
    "lion": ({"optimizer": "lion", "learning_rate": 0.003}, lambda parameters: lion_by_hand(parameters, 0.003), {}),
    "muon": ({"optimizer": "muon", "learning_rate": 0.03}, muon_by_hand, {}),
    "muon, cosine": (
        {"optimizer": "muon", "learning_rate": 0.03, "schedule": "cosine"},
        muon_by_hand,
        {"factor": lambda step: (1 + math.cos(math.pi * step / 30)) / 2},
    ),
    "step": ({"schedule": "step"}, SGD, {"factor": lambda step: 1 if step < 15 else 0.1 if step < 23 else 0.01}),
    "cosine": ({"schedule": "cosine"}, SGD, {"factor": lambda step: (1 + math.cos(math.pi * step / 30)) / 2}),
    "warmup": ({"schedule": "warmup"}, SGD, {"factor": lambda step: [1 / 3, 2 / 3, 1][min(step, 2)]}),
    "clip_value": ({"clip_value": 0.003}, SGD, {"clip": lambda g: g.clamp(-0.003, 0.003)}),
    "clip_weights": ({"clip_weights": 0.1}, SGD, {"after": clamp_weights(0.1)}),
    "mse": (
        {"loss": "mse"},
        SGD,
        {"loss": lambda z, split, batch: (z - torch.eye(10, dtype=z.dtype)[split.y_train[batch]]).square().mean()},
    ),
    "synthetic": ({"data": "synthetic"}, SGD, {"split": synthetic(SMALL.stream("data"))}),
    "synthetic, mse": (
        {"data": "synthetic", "loss": "mse"},
        SGD,
        {
            "split": synthetic(SMALL.stream("data")),
            "loss": lambda z, split, batch: (z - split.scores_train[batch]).square().mean(),
        },
    ),
    "unit": ({"scaling": "unit"}, SGD, {"split": digits(SMALL.stream("data"), scaling="unit")}),
    "255": (  # a large step would be chaotic
        {"scaling": "255", "learning_rate": 1e-4},
        with_torch(torch.optim.SGD, lr=1e-4),
        {"split": digits(SMALL.stream("data"), scaling="255")},
    ),
    "bias": ({"bias": -1.0, "bias_std": 0.1}, SGD, {}),
    "constant": ({"init": "constant", "gain": 0.1}, SGD, {}),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon"))
        if "muon" in name
        else name
        for name in RUNS
    ],
)
def test_run_equals_a_plain_loop_with_the_knob_written_out(name):
    change, make_optimizer, options = RUNS[name]
    config = replace(SMALL, steps=30, **change)  # more than the 22 batches of an epoch
    losses, test_accuracy = plain_loop(config, make_optimizer, **options)
    trace = gc.run(config)
    np.testing.assert_allclose(trace.loss, losses, rtol=0, atol=1e-12)
    assert trace.test_accuracy == test_accuracy


def test_run_the_knobs_above_do_change_the_losses():
    base = gc.run(replace(SMALL, steps=30)).loss
    for change, *_ in RUNS.values():
        if change.get("optimizer") == "muon" and not hasattr(torch.optim, "Muon"):
            continue
        assert np.abs(gc.run(replace(SMALL, steps=30, **change)).loss - base).max() > 1e-4, change


def test_run_accumulation_equals_the_larger_batch():
    large = gc.run(replace(SMALL, batch_size=128, steps=13))
    small = gc.run(replace(SMALL, batch_size=32, accumulate=4, steps=13))  # 1408 images an epoch, either way
    np.testing.assert_allclose(small.loss, large.loss, rtol=0, atol=1e-12)
    np.testing.assert_allclose(small.weight_gradient, large.weight_gradient, rtol=1e-10, equal_nan=True)
    assert small.train_accuracy == large.train_accuracy


def test_run_accumulation_sees_one_step_per_group_of_batches():
    trace = gc.run(replace(SMALL, accumulate=3, steps=5))
    assert trace.steps.tolist() == [0, 1, 2, 3, 4]
    assert gc.run(replace(SMALL, accumulate=3, steps=0)).loss == pytest.approx(trace.loss[0], abs=1e-14)


def test_run_clipping_by_value_is_an_event():
    events = gc.run(replace(SMALL, clip_value=1e-3)).events
    assert [event.step for event in events if event.kind == "clipped"] == list(range(6))


def test_run_weights_stay_within_clip_weights_and_biases_and_norms_do_not(monkeypatch):
    models = []
    build_model = training.build_model
    monkeypatch.setattr(training, "build_model", lambda config: models.append(build_model(config)) or models[-1])
    gc.run(replace(SMALL, clip_weights=0.05, norm="batch", bias=1.0))
    gc.run(replace(SMALL, clip_weights=0.05, model="conv", width=8))
    for model in models:
        assert all(p.abs().max() <= 0.05 for p in model.parameters() if p.ndim > 1)
    assert models[0].batchnorm1.weight.abs().max() > 0.5
    assert models[0].linear1.bias.abs().max() > 0.5


@pytest.mark.parametrize("change", [{"norm": "batch"}, {"dropout": 0.5}], ids=str)
def test_run_accuracy_is_taken_in_evaluation_mode(change, monkeypatch):
    models = []
    build_model = training.build_model
    monkeypatch.setattr(training, "build_model", lambda config: models.append(build_model(config)) or models[-1])
    config = replace(SMALL, steps=20, **change)
    trace = gc.run(config)
    split = digits(config.stream("data"))
    with torch.no_grad():
        expected = (models[0].eval()(split.x_test).argmax(1) == split.y_test).double().mean().item()
        other = (models[0].train()(split.x_test).argmax(1) == split.y_test).double().mean().item()
    assert trace.test_accuracy == expected != other


@pytest.mark.parametrize(
    "change",
    [{"norm": norm} for norm in NORMS]
    + [{"residual": residual, "norm": norm} for residual in RESIDUALS for norm in (None, "batch")]
    + [{"dropout": 0.5}, {"init": "lsuv"}, {"loss": "mse"}, {"accumulate": 2}],
    ids=str,
)
@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_run_of_every_form_learns_repeats_itself_and_touches_no_global_generator(model, change):
    config = replace(SMALL, model=model, activation="relu", **{"init": "he"} | change, steps=30, batch_size=32)
    config = replace(config, width=16 if model == "mlp" else 8)
    before = torch.get_rng_state()
    trace, again = gc.run(config), gc.run(replace(config, steps=3))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(trace.loss[:3], again.loss)
    assert trace.loss[-5:].mean() < 0.9 * trace.loss[:5].mean()


@pytest.mark.parametrize("residual", RESIDUALS)
def test_run_trace_holds_the_layers_of_the_blocks(residual):
    trace = gc.run(replace(SMALL, depth=3, residual=residual))
    assert trace.layers == ("linear1", "block2.tanh", "block2.linear", "linear3")
    assert trace.has_weight.tolist() == [True, False, True, True]


# --- what a Config refuses

TINY = {"depth": 3, "width": 16}
REFUSED = [
    ({"norm": "instance"}, "norm must be one of None, 'batch', 'layer', 'group', 'weight'"),
    ({"residual": "dense"}, "residual must be one of None, 'add', 'scaled', 'rezero', 'preactivation'"),
    ({"model": "rnn"}, "model must be one of 'mlp', 'conv'"),
    ({"data": "mnist"}, "data must be one of 'digits', 'synthetic'"),
    ({"scaling": 255}, "scaling must be one of 'standard', 'unit', 'raw', '255'"),
    ({"loss": "hinge"}, "loss must be one of 'cross_entropy', 'mse'"),
    ({"schedule": "linear"}, "schedule must be one of 'constant', 'step', 'cosine', 'warmup'"),
    ({"optimizer": "adamax"}, "optimizer must be one of 'sgd', 'adam', 'adamw', 'adagrad', 'rmsprop', 'lion', 'muon'"),
    ({"nesterov": "yes"}, "nesterov must be one of False, True"),
    ({"dropout": 1.0}, "dropout must be in [0, 1)"),
    ({"dropout": -0.1}, "dropout must be in [0, 1)"),
    ({"bias": math.inf}, "bias must be finite"),
    ({"residual": "add", "residual_scale": -1.0}, "residual_scale must be >= 0, or None"),
    ({"weight_decay": -1}, "weight_decay must be >= 0, or None for the optimizer's own"),
    ({"optimizer": "adam", "eps": -1e-8}, "eps must be >= 0, or None for the optimizer's own"),
    ({"clip_value": 0}, "clip_value must be > 0, or None for no clipping"),
    ({"clip_weights": -1}, "clip_weights must be > 0, or None for no clipping"),
    ({"accumulate": 0}, "accumulate must be >= 1"),
    ({"optimizer": "adam", "betas": (0.9, 1.0)}, "betas must be two numbers in [0, 1)"),
    ({"momentum": 0.9, "optimizer": "adam"}, """momentum goes with optimizer="sgd", not 'adam': set one of the two"""),
    ({"nesterov": True, "optimizer": "rmsprop"}, """nesterov goes with optimizer="sgd", not 'rmsprop'"""),
    ({"nesterov": True}, "nesterov looks ahead along the momentum, which is 0: set momentum"),
    ({"betas": (0.9, 0.99)}, """betas goes with optimizer="adam" or "adamw" or "lion", not 'sgd'"""),
    ({"eps": 1e-8}, """eps goes with optimizer="adam" or "adamw" or "adagrad" or "rmsprop" or "muon", not 'sgd'"""),
    ({"eps": 1e-8, "optimizer": "lion"}, "not 'lion'"),
    ({"batch_size": 1, "norm": "batch"}, 'must be >= 2 with norm="batch"'),
    ({"norm": "layer", "depth": 1}, "norm needs a hidden layer: set depth >= 2"),
    ({"dropout": 0.5, "depth": 1}, "dropout needs a hidden layer: set depth >= 2"),
    ({"residual": "add", "depth": 2}, "set depth >= 3"),
    ({"residual_scale": 0.5}, "scales the branches of a residual network: set residual"),
    ({"residual_scale": 0.0, "residual": "add"}, "a branch times 0 learns nothing"),
    ({"norm": "group", "width": 20}, "width must be a multiple of 8"),
    ({"norm": "group", "width": 8}, "width leaves one unit to each group"),
    ({"norm": "layer", "width": 1}, "width leaves one unit to each group"),
    *[({"init": "lsuv", "norm": norm}, "norm takes that scale away again") for norm in NORMS],
    ({"init": "zero", "norm": "weight"}, 'init has no direction for norm="weight" to keep'),
    ({"init": "zero", "gain": 2.0}, 'gain does nothing to init="zero"'),
    ({"init": "torch", "bias_std": 0.1}, 'bias_std does nothing with init="torch"'),
    ({"data": "synthetic", "scaling": "raw"}, 'scaling is for the pixels of data="digits"'),
    ({"model": "conv", "data": "synthetic"}, 'model needs pictures: set data="digits"'),
    ({"model": "conv", "optimizer": "muon"}, "convolutions have none"),
    ({"clip_norm": 1.0, "clip_value": 1.0}, "clip_value and clip_norm both cut the gradient: set one of the two"),
    ({"clip_weights": 0.1, "norm": "weight"}, "clip_weights does not bound the weights"),
]


@pytest.mark.parametrize(("change", "reason"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_config_refuses_with_one_line_that_gives_the_reason(change, reason):
    with pytest.raises(ValueError, match=r"^Config\(") as caught:
        gc.Config(**TINY | change)
    message = str(caught.value)
    assert reason in message
    assert "\n" not in message
    named = message.removeprefix("Config(").split("=")[0]
    assert named in change | TINY
    assert f"{named}={({**TINY, **change})[named]!r}" in message


WRONG_KINDS = [
    ("bias", None, "a number, not NoneType"),
    ("dropout", "half", "a number, not str"),
    ("residual_scale", "1", "a number, not str"),
    ("weight_decay", [0.1], "a number, not list"),
    ("eps", True, "a number, not bool"),
    ("clip_value", "1", "a number, not str"),
    ("clip_weights", (1,), "a number, not tuple"),
    ("accumulate", 2.0, "a whole number, not float"),
    ("betas", 0.9, "two numbers in [0, 1)"),
    ("betas", (0.9,), "two numbers in [0, 1)"),
    ("betas", (0.9, "0.99"), "a number, not str"),
]


@pytest.mark.parametrize(("field", "value", "kind"), WRONG_KINDS)
def test_config_refuses_a_value_of_the_wrong_kind(field, value, kind):
    with pytest.raises(TypeError) as caught:
        gc.Config(**{field: value})
    assert f"Config({field}={value!r}): {field} must be {kind}" in str(caught.value)


def test_config_every_field_of_later_has_a_refusal_and_a_wrong_kind_in_these_tests():
    first = {"depth", "width", "activation", "init", "gain", "bias_std", "optimizer", "learning_rate", "momentum"}
    first |= {"clip_norm", "steps", "batch_size", "record_every", "seed", "dtype"}  # in test_training.py
    later = {field.name for field in fields(gc.Config)} - first
    refused = {reason.split()[0] for _, reason in REFUSED} | {name for change, _ in REFUSED for name in change}
    choices = {
        "norm",
        "residual",
        "model",
        "data",
        "scaling",
        "loss",
        "nesterov",
        "schedule",
    }  # a kind is one more choice
    assert later <= refused
    assert later - choices == {field for field, *_ in WRONG_KINDS}


def test_config_without_muon_in_torch_says_so(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"needs a torch that has torch\.optim\.Muon, and this is .*: update torch"):
        gc.Config(optimizer="muon")


@pytest.mark.parametrize(
    "change",
    [
        {"residual": "preactivation"},
        {"residual": "scaled", "activation": "tanh"},
        {"residual": "rezero", "residual_scale": 0.0},
        {"residual": "add", "init": "lsuv"},
        {"init": "zero"},
        {"init": "constant", "norm": "weight"},
        {"model": "conv", "norm": "batch", "batch_size": 1},
        {"model": "conv", "norm": "group", "width": 8},
        {"clip_norm": 1.0, "clip_weights": 0.3},
        {"optimizer": "lion", "betas": [0.9, 0.99], "weight_decay": 0.0},
        {"schedule": "warmup", "steps": 0},
        {"norm": "batch", "batch_size": 2},
    ],
    ids=str,
)
def test_config_accepts_and_run_survives_the_edge_of_the_allowed(change):
    config = gc.Config(**TINY | {"steps": 2, "batch_size": 4} | change)
    assert len({config, replace(config)}) == 1
    assert np.isfinite(gc.run(config).loss).all()


def test_config_is_one_class_under_all_its_names():
    assert gc.Config is training.Config is ConfigOfItsModule


def test_config_summary_names_what_is_not_plain():
    assert replace(SMALL, model="conv", norm="batch", residual="scaled").summary == (
        "conv tanh depth 4 width 16 xavier gain 1 norm batch residual scaled"
    )


# --- what the lessons show, at tolerances that held for every seed tried


def train_accuracies(seeds=3, **change):
    change = {"batch_size": 64, "record_every": 10**6} | change
    return [gc.run(gc.Config(seed=seed, **change)).train_accuracy for seed in range(seeds)]


def last_epochs_losses(seeds=3, **change):
    traces = [gc.run(gc.Config(seed=seed, batch_size=64, **change)) for seed in range(seeds)]
    return [trace.loss[-22:].mean() for trace in traces]


DEEP = {
    "depth": 48,
    "width": 32,
    "activation": "relu",
    "init": "he",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "steps": 110,
}


@pytest.mark.slow
def test_phenomenon_scaled_residual_trains_at_depth_48_and_plain_does_not():
    assert min(last_epochs_losses(**DEEP)) > 1.5
    assert max(last_epochs_losses(**DEEP | {"depth": 8})) < 0.6
    assert min(last_epochs_losses(**DEEP, norm="batch")) > 1.5
    for residual, norm in (("scaled", None), ("rezero", None), ("preactivation", "batch")):
        assert max(last_epochs_losses(**DEEP, residual=residual, norm=norm)) < 0.2
    assert all(math.isnan(loss) for loss in last_epochs_losses(**DEEP, residual="add"))


@pytest.mark.slow
def test_phenomenon_batchnorm_trains_the_sigmoid_net_of_depth_8():
    sigmoid = {"depth": 8, "learning_rate": 0.3, "steps": 110}
    assert max(train_accuracies(**sigmoid)) < 0.15
    assert min(train_accuracies(**sigmoid, norm="batch")) > 0.9


@pytest.mark.slow
def test_phenomenon_weight_clipping_trains_in_a_window_only():
    exploding = {"depth": 10, "activation": "relu", "init": "he", "gain": 1.5, "learning_rate": 0.05, "steps": 600}
    assert all(map(math.isnan, train_accuracies(5, **exploding)))
    assert min(train_accuracies(5, **exploding, clip_weights=0.3)) > 0.95
    assert max(train_accuracies(5, **exploding, clip_weights=0.05)) < 0.15
    assert min(train_accuracies(5, **exploding, clip_value=0.1)) > 0.95


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_phenomenon_muon_trains_the_sigmoid_net_of_depth_10_and_the_others_do_not():
    vanishing = {"depth": 10, "steps": 440}
    assert min(train_accuracies(5, **vanishing, optimizer="muon", learning_rate=0.03)) > 0.95
    for optimizer, rate in (("sgd", 0.1), ("adam", 0.01), ("lion", 0.003)):
        assert max(train_accuracies(**vanishing, optimizer=optimizer, learning_rate=rate)) < 0.3


@pytest.mark.slow
def test_phenomenon_at_depth_6_what_rescales_each_entry_trains_and_no_schedule_does():
    vanishing = {"depth": 6, "steps": 440}
    assert min(train_accuracies(**vanishing, optimizer="adam", learning_rate=0.01)) > 0.9
    assert min(train_accuracies(**vanishing, optimizer="lion", learning_rate=0.003)) > 0.6
    for schedule in ("constant", "step", "cosine", "warmup"):
        assert max(train_accuracies(**vanishing, learning_rate=1.0, schedule=schedule)) < 0.2


@pytest.mark.slow
def test_phenomenon_lsuv_trains_where_torchs_default_does_not():
    stalled = {"depth": 20, "width": 128, "activation": "relu", "learning_rate": 0.003, "momentum": 0.9, "steps": 220}
    assert max(train_accuracies(**stalled, init="torch")) < 0.2
    assert min(train_accuracies(**stalled, init="lsuv")) > 0.9


@pytest.mark.slow
def test_phenomenon_pixels_0_to_255_break_the_relu_net():
    relu = {"depth": 3, "activation": "relu", "init": "he", "learning_rate": 0.1, "steps": 110}
    assert max(train_accuracies(**relu, scaling="255")) < 0.15
    assert min(train_accuracies(**relu, scaling="standard")) > 0.95


@pytest.mark.slow
def test_phenomenon_batchnorm_needs_a_batch_and_layernorm_does_not():
    net = {"depth": 4, "activation": "relu", "init": "he", "learning_rate": 0.01, "momentum": 0.9, "steps": 400}
    assert max(train_accuracies(**net, norm="batch", batch_size=2)) < 0.55
    assert min(train_accuracies(**net, norm="layer", batch_size=2)) > 0.8
    assert min(train_accuracies(**net, norm="batch", batch_size=32)) > 0.95


@pytest.mark.slow
def test_phenomenon_deep_convolutions_need_residual_connections():
    net = {"model": "conv", "width": 8, "activation": "relu", "init": "he", "learning_rate": 0.05, "momentum": 0.9}
    net |= {"depth": 33, "steps": 66}
    assert min(last_epochs_losses(**net)) > 2.2
    assert max(last_epochs_losses(**net, residual="preactivation", norm="batch")) < 0.6
    assert max(last_epochs_losses(**net, residual="scaled")) < 0.7
