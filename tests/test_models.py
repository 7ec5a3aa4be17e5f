"""Networks: their layers, names and initial weights."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn

import gradcourse as gc
from gradcourse.models import (
    ACTIVATIONS,
    INITS,
    activation_name,
    draw_weight,
    make_activation,
    one_thread,
    weight_variance,
)

FORMULAS = {  # written from the papers, for 80 inputs and 50 outputs
    "xavier": 2 / (80 + 50),
    "he": 2 / 80,
    "lecun": 1 / 80,
    "torch": 1 / (3 * 80),
    "normal": 1.0,
    "orthogonal": 1 / 80,
}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(model):
    return [parameter.detach() for name, parameter in model.named_parameters() if name.endswith("weight")]


def draws(init, gain=1.0, fan_in=80, fan_out=50, count=100):
    generator = seeded()
    return torch.stack([draw_weight(init, gain, fan_in, fan_out, generator=generator) for _ in range(count)])


def test_mlp_layers_are_named_and_shaped_from_input_to_output():
    model = gc.mlp(4, 32, "sigmoid", generator=seeded(), inputs=5, outputs=3)
    names = [name for name, _ in model.named_children()]
    assert names == ["linear1", "sigmoid1", "linear2", "sigmoid2", "linear3", "sigmoid3", "linear4"]
    assert [tuple(w.shape) for w in weights(model)] == [(32, 5), (32, 32), (32, 32), (3, 32)]
    assert model(torch.zeros(7, 5)).shape == (7, 3)


@pytest.mark.parametrize(("depth", "width"), [(1, 1), (1, 9), (2, 1), (30, 3)])
def test_mlp_has_depth_linear_layers_of_the_given_width(depth, width):
    model = gc.mlp(depth, width, "tanh", generator=seeded())
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert len(linear) == depth
    assert len(model) == 2 * depth - 1
    assert {layer.out_features for layer in linear[:-1]} <= {width}
    assert (linear[0].in_features, linear[-1].out_features) == (64, 10)


def test_mlp_computes_the_composition_of_its_layers():
    model = gc.mlp(3, 6, "tanh", generator=seeded(), bias_std=0.5, inputs=4, outputs=2, dtype=torch.float64)
    h = x = torch.randn(5, 4, dtype=torch.float64, generator=seeded(1))
    for number in (1, 2, 3):
        z = h @ model.get_submodule(f"linear{number}").weight.T + model.get_submodule(f"linear{number}").bias
        h = (z.exp() - (-z).exp()) / (z.exp() + (-z).exp())
    torch.testing.assert_close(model(x), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("init", INITS)
def test_draw_weight_variance_follows_its_formula(init):
    sample = draws(init)
    tolerance = 5 * math.sqrt(2 / sample.numel())  # five standard errors of a Gaussian's variance
    assert sample.square().mean().item() == pytest.approx(FORMULAS[init], rel=tolerance)
    assert abs(sample.mean().item()) < 5 * math.sqrt(FORMULAS[init] / sample.numel())


@pytest.mark.parametrize("init", INITS)
def test_weight_variance_is_the_formula_times_gain_squared(init):
    assert weight_variance(init, 1.0, 80, 50) == pytest.approx(FORMULAS[init], rel=1e-14)
    assert weight_variance(init, 3.0, 80, 50) == pytest.approx(9 * FORMULAS[init], rel=1e-14)


@pytest.mark.parametrize("init", INITS)
def test_draw_weight_scales_with_the_gain(init):
    torch.testing.assert_close(draws(init, gain=2.5, count=1), 2.5 * draws(init, count=1), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(7, 7), (9, 4), (4, 9), (1, 5)])
def test_draw_weight_orthogonal_has_orthonormal_rows_or_columns(fan_in, fan_out):
    w = draw_weight("orthogonal", 3.0, fan_in, fan_out, generator=seeded())
    gram = w @ w.T if fan_out <= fan_in else w.T @ w
    torch.testing.assert_close(gram, 9 * torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-13)


def test_draw_weight_orthogonal_prefers_no_direction():
    diagonal = torch.diagonal(draws("orthogonal", fan_in=4, fan_out=4, count=1000), dim1=1, dim2=2)
    # Haar: mean 0, variance 1/4; a QR factor without its signs put right has mean -.4
    assert abs(diagonal.mean().item()) < 5 * 0.5 / math.sqrt(diagonal.numel())


def test_draw_weight_torch_is_uniform_within_its_bound():
    sample, bound = draws("torch"), 1 / math.sqrt(80)
    assert 0.999 * bound < sample.max() <= bound
    assert -bound <= sample.min() < -0.999 * bound


@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_mlp_torch_init_draws_from_the_distribution_of_nn_linear(parameter):
    generator = seeded()
    ours, theirs = [], []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for _ in range(300):
            ours.append(getattr(gc.mlp(1, 1, "tanh", generator=generator, init="torch").linear1, parameter))
            theirs.append(getattr(nn.Linear(64, 10), parameter))
    ours, theirs = (torch.cat([p.detach().flatten() for p in some]).double().numpy() for some in (ours, theirs))
    assert ks_2samp(ours, theirs).pvalue > 0.01
    assert ks_2samp(1.1 * ours, theirs).pvalue < 0.01  # the test tells 10 % apart


@pytest.mark.parametrize("init", INITS)
def test_mlp_initial_weights_are_float64_draws_cast_to_the_dtype(init):
    build = partial(gc.mlp, 3, 16, "relu", init=init, bias_std=0.1)
    single, double = build(generator=seeded(4)), build(generator=seeded(4), dtype=torch.float64)
    pairs = list(zip(single.parameters(), double.parameters(), strict=True))
    assert all(s.dtype == torch.float32 and d.dtype == torch.float64 for s, d in pairs)
    assert all(torch.equal(s, d.float()) for s, d in pairs)
    assert not torch.equal(double.linear1.weight, double.linear1.weight.float().double())  # drawn in float64


def test_mlp_bias_has_the_given_spread_and_is_0_by_default():
    bias = gc.mlp(2, 20000, "tanh", generator=seeded(), bias_std=0.3, inputs=1, outputs=1).linear1.bias
    assert bias.std().item() == pytest.approx(0.3, rel=5 / math.sqrt(2 * 20000))
    default = gc.mlp(2, 8, "tanh", generator=seeded())
    assert torch.count_nonzero(default.linear1.bias) == torch.count_nonzero(default.linear2.bias) == 0


@pytest.mark.parametrize("init", INITS)
def test_mlp_leaves_the_global_generators_alone(init):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    gc.mlp(3, 8, "tanh", generator=seeded(), init=init, bias_std=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_mlp_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (gc.mlp(2, 8, "tanh", generator=seeded(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(again), strict=True))
    assert not torch.equal(first.linear1.weight, other.linear1.weight)


def test_mlp_takes_its_generator_by_keyword_only():
    with pytest.raises(TypeError):
        gc.mlp(2, 8, "tanh", seeded())
    with pytest.raises(TypeError):
        gc.mlp(2, 8, "tanh")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_make_activation_name_is_torchs_function_of_that_name(name):
    functions = {"identity": lambda u: u, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    reference = functions.get(name) or getattr(nn.functional, name)
    u = torch.linspace(-4, 4, 41, dtype=torch.float64)
    torch.testing.assert_close(make_activation(name)(u), reference(u), rtol=0, atol=0)


def cube(u):
    return u**3


@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        (cube, "cube1"),
        (lambda u: u**3, "lambda1"),
        (partial(torch.pow, exponent=3), "partial1"),
        (torch.tanh, "tanh1"),
        (nn.Tanh(), "Tanh1"),
        (nn.PReLU(), "PReLU1"),
    ],
    ids=["function", "lambda", "partial", "torch_function", "module", "module_with_a_weight"],
)
def test_mlp_takes_any_callable_as_activation_under_its_name(activation, layer):
    model = gc.mlp(2, 8, activation, generator=seeded(), dtype=torch.float64)
    assert [name for name, _ in model.named_children()] == ["linear1", layer, "linear2"]
    u = torch.linspace(-2, 2, 9, dtype=torch.float64)
    hidden = model.get_submodule(layer)(u)
    expected = activation(u.float()).double() if isinstance(activation, nn.PReLU) else activation(u)
    torch.testing.assert_close(hidden, expected, rtol=1e-6, atol=1e-6)


def test_mlp_gives_each_layer_its_own_copy_of_a_module():
    model = gc.mlp(3, 8, nn.PReLU(), generator=seeded())
    assert model.PReLU1 is not model.PReLU2
    assert model.PReLU1.weight is not model.PReLU2.weight


def test_mlp_activation_called_linear_takes_no_layers_place():
    def linear(u):
        return u

    model = gc.mlp(3, 8, linear, generator=seeded())
    assert [type(layer).__name__ for layer in model].count("Linear") == 3
    assert model(torch.zeros(2, 64)).shape == (2, 10)


def test_mlp_with_a_callable_has_the_weights_of_the_named_activation():
    named, handed = (gc.mlp(3, 8, a, generator=seeded(), init="he") for a in ("tanh", torch.tanh))
    x = torch.randn(4, 64, generator=seeded(1))
    assert torch.equal(named(x), handed(x))


@pytest.mark.parametrize(
    ("activation", "name"), [("relu", "relu"), (cube, "cube"), (lambda u: u, "lambda"), (nn.ELU(), "ELU")]
)
def test_activation_name_is_short_and_readable(activation, name):
    assert activation_name(activation) == name


def test_activation_module_shows_its_function_in_the_models_repr():
    assert "Activation(cube)" in repr(gc.mlp(2, 8, cube, generator=seeded()))


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"depth": 0}, ValueError, ["depth=0", ">= 1"]),
        ({"width": 0}, ValueError, ["width=0", ">= 1"]),
        ({"activation": "rleu"}, ValueError, ["activation='rleu'", "relu", "callable"]),
        ({"activation": 3}, TypeError, ["activation=3", "name or a callable", "int"]),
        ({"activation": nn.Tanh}, TypeError, ["activation=<class", "name or a callable"]),
        ({"init": "kaiming"}, ValueError, ["init='kaiming'", *INITS]),
    ],
    ids=["depth", "width", "unknown_activation", "number_as_activation", "class_as_activation", "init"],
)
def test_mlp_refuses_with_one_line_that_says_what_is_allowed(arguments, kind, words):
    arguments = {"depth": 2, "width": 4, "activation": "tanh"} | arguments
    with pytest.raises(kind) as caught:
        gc.mlp(**arguments, generator=seeded())
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message
