"""The explorers of networks at initialization: what they draw, against the Recorder, autograd and gradcourse.theory."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse.explorer import networks
from gradcourse.explorer.picture import Panel
from gradcourse.recording import factor_per_layer

NAMES = ("gradients", "batchnorm", "residual")


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn last: (number of the panel, label) -> (x, y)."""
    lines, panels, line = {}, [], Panel.line

    def noted(panel, x, y, label="", **style):
        if not any(panel is known for known in panels):
            panels.append(panel)
        lines[panels.index(panel), label] = np.asarray(x, float), np.asarray(y, float)
        line(panel, x, y, label, **style)

    def of(explorer, **values):
        lines.clear()
        panels.clear()
        explorer.move(**values)
        return dict(lines)

    monkeypatch.setattr(Panel, "line", noted)
    return of


def numbers(words):
    """The numbers that a text says."""
    return [float(number) for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?", words)]


def recorded(depth, activation, init, gain=1.0, batch=64, **options):
    """A trace of the same network, built by gc.mlp and looked into by gc.measure."""
    generator = torch.Generator().manual_seed(0)
    config = {"init": init, "gain": gain, "dtype": torch.float64, "generator": generator}
    model = gc.mlp(depth, networks.WIDTH, activation, **config, **options)
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    with torch.no_grad():
        for number, layer in enumerate(layers, start=1):
            layer.weight.copy_(networks.weight(number, depth, init, gain))
    split = gc.digits()
    return gc.measure(model, (split.x_train[:batch], split.y_train[:batch]), cross_entropy)


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize(("activation", "depth", "gain"), [("sigmoid", 20, 1.0), ("relu", 5, 3.0), ("gelu", 33, 0.7)])
def test_sizes_are_those_that_the_recorder_finds(activation, depth, gain, norm):
    trace = recorded(depth, activation, "xavier", gain, norm=norm)
    signal, delta = networks.plain(depth, activation, init="xavier", gain=gain, norm=norm)
    np.testing.assert_allclose(delta, trace.at_weights("delta"), rtol=1e-9)
    np.testing.assert_allclose(signal, trace.at_weights("activation_rms"), rtol=1e-9)


@pytest.mark.parametrize("init", ["xavier", "he"])
def test_weights_have_the_variance_of_their_scheme(init):
    for layer, fan_in, fan_out in (
        (1, 64, networks.WIDTH),
        (2, networks.WIDTH, networks.WIDTH),
        (9, networks.WIDTH, 10),
    ):
        variance = float(networks.weight(layer, 9, init, gain=2.0).var())
        assert variance == pytest.approx(4.0 * (2 / (fan_in + fan_out) if init == "xavier" else 2 / fan_in), rel=0.1)


@pytest.mark.parametrize("gain", [0.1, 1.0, 4.0, 16.0])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "elu"])
def test_theory_is_that_of_gradcourse_theory(activation, gain):
    for depth in (3, 40):
        signal, share = networks.plain_in_theory(depth, activation, init="xavier", gain=gain)
        config = gc.Config(depth=depth, width=networks.WIDTH, activation=activation, init="xavier", gain=gain)
        np.testing.assert_allclose(share, gc.theory.gradient_profile(config), rtol=0.01)
        hidden = gc.theory.variance_map(activation, gain**2)
        assert signal[1] ** 2 == pytest.approx(hidden(signal[0] ** 2), rel=0.01)


# lesson 03 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "depth", "gain"), [("sigmoid", 20, 1.0), ("tanh", 40, 2.0), ("relu", 3, 0.5)])
def test_gradients_draws_and_says_what_is_measured(drawn, activation, depth, gain):
    explorer = gc.explorer.gradients()
    lines = drawn(explorer, activation=activation, depth=depth, gain=gain)
    trace = recorded(depth, activation, "xavier", gain)
    config = gc.Config(depth=depth, width=networks.WIDTH, activation=activation, init="xavier", gain=gain)
    delta, profile = trace.at_weights("delta"), gc.theory.gradient_profile(config)
    np.testing.assert_array_equal(lines[0, "measured"][0], np.arange(1, depth + 1))
    np.testing.assert_allclose(lines[0, "measured"][1], delta, rtol=1e-9)
    np.testing.assert_allclose(lines[0, "theory, wide layers"][1], profile * delta[-1], rtol=0.01)
    np.testing.assert_allclose(lines[1, "measured"][1], trace.at_weights("activation_rms"), rtol=1e-9)
    said = numbers(explorer.picture.words)
    expected = [depth, gain, trace.factor_per_layer("delta"), factor_per_layer(profile[:-1]), delta[0] / delta[-2]]
    np.testing.assert_allclose(said[:5], expected, rtol=0.05, atol=5e-4)


def test_theory_lies_beside_the_measurement():
    """Layers of 128 units are wide: the factor per layer is theory's to a few percent."""
    for activation, gain in itertools.product(("sigmoid", "tanh", "relu", "elu"), (0.3, 1.0, 3.0)):
        _, delta = networks.plain(20, activation, init="xavier", gain=gain)
        _, share = networks.plain_in_theory(20, activation, init="xavier", gain=gain)
        assert factor_per_layer(delta[:-1]) == pytest.approx(factor_per_layer(share[:-1]), rel=0.04)


# lesson 07 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["4", "64"])
@pytest.mark.parametrize(("norm", "activation", "depth"), [("batch", "relu", 20), ("layer", "sigmoid", 9)])
def test_batchnorm_draws_and_says_what_is_measured(drawn, norm, activation, depth, batch):
    explorer = gc.explorer.batchnorm()
    lines = drawn(explorer, norm=norm, activation=activation, depth=depth, batch=batch)
    found = {}
    for name, label in ((norm, f"{norm} norm, measured"), (None, "no norm")):
        delta = recorded(depth, activation, "he", batch=int(batch), norm=name).at_weights("delta")
        found[name] = delta[:-1] / delta[-2]
        np.testing.assert_allclose(lines[0, label][1], found[name], rtol=1e-6)
    factor = getattr(gc.theory, f"{norm}norm_gradient_factor")(activation) ** 0.5
    np.testing.assert_allclose(lines[0, "theory"][1], factor ** np.arange(depth - 3, -1, -1), rtol=1e-9)
    said = numbers(explorer.picture.words)
    expected = [depth, int(batch), factor_per_layer(found[norm][1:]), factor]
    np.testing.assert_allclose(said[:4], expected, rtol=0.006)
    np.testing.assert_allclose(said[6:], [2, found[norm][1], found[None][1]][-len(said[6:]) :], rtol=0.06)


def test_batchnorm_without_a_norm_draws_the_theory_of_plain_layers(drawn):
    lines = drawn(gc.explorer.batchnorm(), norm="none", activation="tanh", depth=30)
    profile = gc.theory.gradient_profile(gc.Config(depth=30, width=networks.WIDTH, activation="tanh", init="he"))
    np.testing.assert_allclose(lines[0, "theory"][1], profile[1:-1] / profile[-2], rtol=0.02)


def test_batchnorm_multiplies_the_gradient_as_its_theory_says():
    for activation in ("relu", "tanh", "sigmoid"):
        _, delta = networks.plain(20, activation, init="he", norm="batch")
        theory = gc.theory.batchnorm_gradient_factor(activation) ** 0.5
        assert factor_per_layer(delta[1:-1]) == pytest.approx(theory, rel=0.04)


# lesson 08 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "scale"), [(32, 1.0), (5, 0.3), (64, 0.125)])
def test_residual_draws_and_says_what_is_measured(drawn, blocks, scale):
    """The Recorder's delta of a block is that of the branch, alpha times the stream's behind the block."""
    explorer = gc.explorer.residual()
    lines = drawn(explorer, blocks=blocks, scale=scale)
    trace = recorded(blocks + 2, "relu", "he", batch=32, residual="add", residual_scale=scale)
    behind = trace.at_weights("delta")[1:-1] / scale  # behind each block
    delta = lines[0, "gradient dL/dx"][1]
    np.testing.assert_allclose(delta[1:], behind / behind[-1], rtol=1e-9)
    np.testing.assert_allclose(delta[0], trace.at_weights("delta")[0] / behind[-1], rtol=1e-9)
    np.testing.assert_allclose(lines[0, "theory"][1], (1 + scale**2) ** (np.arange(blocks + 1) / 2), rtol=1e-9)
    said = numbers(explorer.picture.words)
    theory = gc.theory.residual_gradient_factor("relu", scale)
    expected = [blocks, scale, factor_per_layer(delta) ** 2, theory, delta[0], theory ** (blocks / 2)]
    np.testing.assert_allclose(said[:6], expected, rtol=0.05)


@pytest.mark.parametrize("skip", [True, False])
def test_stream_is_that_of_a_loop(skip):
    """The signal, which the Recorder does not hold for a stream."""
    signal, delta = networks.stream(3, "relu", scale=0.7, skip=skip, batch=8)
    inputs, y = gc.digits().x_train[:8], gc.digits().y_train[:8]
    x = [(inputs @ networks.weight(1, 5, "he").T).requires_grad_()]
    for block in (2, 3, 4):
        x.append(skip * x[-1] + 0.7 * torch.relu(x[-1]) @ networks.weight(block, 5, "he").T)
    scores = x[-1] @ networks.weight(5, 5, "he").T
    gradient = torch.autograd.grad(-torch.log_softmax(scores, 1)[torch.arange(8), y].mean(), x)
    for measured, states in ((signal, x), (delta, gradient)):
        np.testing.assert_allclose(
            measured, [float(state.detach().square().mean().sqrt()) for state in states], rtol=1e-9
        )


def test_residual_multiplies_signal_and_gradient_as_its_theory_says():
    for skip, scale in itertools.product((True, False), (0.2, 0.5, 1.0)):
        signal, delta = networks.stream(20, "relu", scale=scale, skip=skip)
        assert factor_per_layer(delta) ** 2 == pytest.approx(skip + scale**2, rel=0.1)
        assert factor_per_layer(signal[::-1]) ** 2 == pytest.approx(skip + scale**2, rel=0.1)


def test_residual_at_scale_0_is_the_identity_with_skips_and_nothing_without(drawn):
    explorer = gc.explorer.residual()
    lines = drawn(explorer, scale=0.0)
    np.testing.assert_allclose(lines[0, "gradient dL/dx"][1], 1.0)
    explorer.move(skip=False)
    assert "neither signal nor gradient gets through" in explorer.picture.words


# all of them ----------------------------------------------------------------------------------------------------------


def ends(control):
    """The extreme places of a control."""
    if hasattr(control, "options"):
        return control.options
    return (control.low, control.high) if hasattr(control, "low") else (False, True)


def anywhere(control, rng):
    """A random place of a control, as its widget would give it."""
    if not hasattr(control, "low"):
        return ends(control)[rng.integers(len(ends(control)))]
    if control.log:
        return float(np.exp(rng.uniform(np.log(control.low), np.log(control.high))))
    low, high = control.low, control.high
    return int(rng.integers(low, high + 1)) if isinstance(control.value, int) else float(rng.uniform(low, high))


@pytest.mark.parametrize("name", NAMES)
def test_every_corner_and_many_places_have_a_picture_and_words(name):
    explorer, rng = getattr(gc.explorer, name)(), np.random.default_rng(0)
    corners = list(itertools.product(*map(ends, explorer.controls.values())))
    places = [[anywhere(control, rng) for control in explorer.controls.values()] for _ in range(200)]
    for place in corners + places:
        explorer.move(**dict(zip(explorer.controls, place, strict=True)))
        ElementTree.fromstring(explorer.picture.svg())
        assert "nan" not in explorer.picture.words, explorer.values


@pytest.mark.parametrize("name", NAMES)
def test_every_control_changes_the_picture_and_its_words(name):
    explorer = getattr(gc.explorer, name)()
    for key, control in explorer.controls.items():
        before, start = explorer.picture, explorer.values[key]
        explorer.move(**{key: next(place for place in ends(control) if place != start)})
        assert explorer.picture.svg() != before.svg(), key
        assert explorer.picture.words != before.words, key
        explorer.move(**{key: start})
        assert explorer.picture == before or explorer.picture.svg() == before.svg()


@pytest.mark.parametrize("name", NAMES)
def test_words_survive_a_change_of_the_weights_by_a_millionth(name, monkeypatch):
    before = repr(getattr(gc.explorer, name)())
    exact, noise = networks.weight, torch.Generator().manual_seed(1)

    def perturbed(*args, **options):
        weight = exact(*args, **options)
        return weight * (1.0 + 1e-6 * torch.randn(weight.shape, dtype=weight.dtype, generator=noise))

    monkeypatch.setattr(networks, "weight", perturbed)
    assert repr(getattr(gc.explorer, name)()) == before
