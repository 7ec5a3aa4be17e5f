"""What the lessons say about training, over five seeds where the lessons run three or one.

Bounds stand where every seed that was tried has room; the numbers behind them are printed with ``pytest -s``.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import gradcourse as gc
from gradcourse.models import draw_weight, one_thread

pytestmark = pytest.mark.slow

SIX = gc.Config(depth=6, activation="sigmoid", init="xavier", batch_size=64, steps=440, record_every=440)
LONGER = replace(SIX, learning_rate=3.0, steps=2200, record_every=2200)
ADAM = replace(SIX, optimizer="adam", learning_rate=3e-3)
FIRST = gc.Config(depth=20, activation="sigmoid", learning_rate=0.01, steps=220, record_every=220)
WIDE = gc.Config(depth=20, width=256, activation="sigmoid", steps=0)
FIVE = range(5)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def accuracies(config, seeds=FIVE):
    values = [gc.run(replace(config, seed=seed)).train_accuracy for seed in seeds]
    print(config.summary, config.optimizer, config.learning_rate, config.steps, [round(value, 4) for value in values])
    return np.array(values)


@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0])
def test_six_sigmoid_layers_do_not_learn_in_20_epochs_at_any_rate(rate):
    assert (accuracies(replace(SIX, learning_rate=rate)) < 0.2).all()


def test_six_sigmoid_layers_learn_with_adam_in_20_epochs():
    assert (accuracies(ADAM) > 0.8).all()


def test_ten_sigmoid_layers_do_not_learn_with_adam_in_20_epochs():
    assert (accuracies(replace(ADAM, depth=10)) < 0.9).all()


def test_six_sigmoid_layers_leave_chance_with_sgd_in_100_epochs():
    assert (accuracies(LONGER) > 0.7).all()  # most seeds are above .99; over 15 the worst got .795


def test_six_sigmoid_layers_learn_with_sgd_in_150_epochs():
    assert (accuracies(replace(LONGER, steps=3300)) > 0.95).all()


@pytest.mark.parametrize("steps", [2200, 3300], ids=["100_epochs", "150_epochs"])
def test_ten_sigmoid_layers_do_not_learn_with_sgd_in_the_same_time(steps):
    assert (accuracies(replace(LONGER, depth=10, steps=steps), range(3)) < 0.2).all()


def test_twenty_sigmoid_layers_stay_at_chance_and_relu_learns():
    assert (accuracies(FIRST) < 0.15).all()
    assert (accuracies(replace(FIRST, activation="relu", init="he")) > 0.5).all()


def test_twenty_sigmoid_layers_first_layer_gradient_is_below_float32():
    trace = gc.run(replace(FIRST, steps=1, record_every=1))
    ratio = trace.at_weights("delta")[0] / trace.at_weights("delta")[18]
    assert 1e-12 < ratio < 1e-10  # .2361**18 = 5e-12
    assert ("zero update", "linear1") in {(event.kind, event.layer) for event in trace.events}


@pytest.mark.parametrize(
    ("init", "gain", "weight_variance"), [("xavier", 1.0, 1.0), ("torch", 1.0, 1.0 / 3.0), ("xavier", 4.0, 16.0)]
)
def test_sigmoid_factor_per_layer_is_that_of_theory_at_three_initializations(init, gain, weight_variance):
    config = replace(WIDE, init=init, gain=gain)
    factors = [gc.run(replace(config, seed=seed)).factor_per_layer() for seed in FIVE]
    theory = gc.theory.gradient_factor("sigmoid", weight_variance) ** 0.5
    print(init, gain, np.round(factors, 4), "mean", round(np.mean(factors), 4), "theory", round(theory, 4))
    assert np.mean(factors) == pytest.approx(theory, rel=0.02)
    assert factors == pytest.approx([theory] * 5, rel=0.06)


def test_tanh_with_small_weights_shrinks_the_gradient_by_s_sqrt_n_without_saturation():
    small = gc.Config(depth=6, width=128, activation="tanh", init="normal", gain=0.01, steps=0)
    traces = [gc.run(replace(small, seed=seed)) for seed in FIVE]
    expected = 0.01 * math.sqrt(128)
    backward = [trace.factor_per_layer() for trace in traces]
    rms = np.array([trace.at_weights("activation_rms") for trace in traces])
    forward = (rms[:, 4] / rms[:, 1]) ** (1 / 3)
    print("backward", np.round(backward, 4), "forward", np.round(forward, 4), "s sqrt(N)", round(expected, 4))
    assert np.mean(backward) == pytest.approx(expected, rel=0.02)
    assert np.mean(forward) == pytest.approx(expected, rel=0.02)
    assert max(np.nanmax(trace.saturation) for trace in traces) == 0


def tanh_variances(width, layers, seed):
    """Variance of the pre-activations of tanh layers with Xavier weights; one matrix at a time, to spare memory."""
    config = gc.Config(seed=seed)
    generator = config.generator("weights")
    h = gc.digits(config.stream("data")).x_train[:64].float()
    variances = []
    for _ in range(layers):
        z = h @ draw_weight("xavier", 1.0, h.shape[1], width, generator=generator).float().T
        variances.append(z.square().mean().item())
        h = torch.tanh(z)
    return variances


def iterated_map(layers, q):
    """The infinitely wide network: q -> E[tanh(sqrt(q) z)^2] by a plain sum over a grid."""
    z = np.linspace(-9, 9, 4001)
    density = np.exp(-z * z / 2) / np.exp(-z * z / 2).sum()
    variances = [q]
    for _ in range(layers - 1):
        variances.append(float((np.tanh(np.sqrt(variances[-1]) * z) ** 2 * density).sum()))
    return np.array(variances)


def test_tanh_xavier_variance_decays_like_the_map_and_does_not_settle():
    layers = 200
    measured = np.array([tanh_variances(1000, layers, seed) for seed in range(3)])
    first = 2 * 64 / (64 + 1000)  # fan_in times Xavier's variance, times the inputs' mean square of 1
    mean, expected = measured.mean(axis=0), iterated_map(layers, first)
    for layer in (50, 100, 200):
        seeds = np.round(measured[:, layer - 1], 5)
        print(f"layer {layer}: mean {mean[layer - 1]:.5f} seeds {seeds} map {expected[layer - 1]:.5f}")
    # one network scatters by 6, 7 and 12 % at these layers, and the last lies 13 % low: finite width adds up
    for layer, tolerance in ((50, 0.15), (100, 0.15), (200, 0.25)):
        assert mean[layer - 1] == pytest.approx(expected[layer - 1], rel=tolerance)
    assert mean[49] > mean[99] > mean[199]
