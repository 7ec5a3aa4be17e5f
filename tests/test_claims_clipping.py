"""What lesson 06 says, over five seeds where the lesson runs three or one.

Bounds stand where every seed that was tried has room; the numbers behind them are printed with ``pytest -s``.
"""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, clip_grad_value_, parameters_to_vector

import gradcourse as gc
from gradcourse.models import one_thread
from gradcourse.training import batches_of, build_model, load_data

pytestmark = pytest.mark.slow

TEN = gc.Config(
    depth=10, activation="relu", init="he", gain=1.5, learning_rate=0.05, batch_size=64, steps=600, record_every=599
)
HEALTHY = replace(TEN, gain=1.0)
FIVE = range(5)
STRETCH = range(200, 400)  # steps that are stable
SPLIT = load_data(TEN)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def accuracies(config):
    values = gc.sweep(config, seed=FIVE).array(lambda trace: trace.train_accuracy)
    clips = {name: getattr(config, name) for name in ("clip_norm", "clip_value", "clip_weights")}
    print(config.summary, "rate", config.learning_rate, clips, np.round(values, 3))
    return values


def train(model, clip, rate=0.05, steps=600):
    """The loop of the lesson."""
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=rate)
    for step in range(steps):
        batch = slice(step % 22 * 64, step % 22 * 64 + 64)
        optimizer.zero_grad()
        cross_entropy(model(SPLIT.x_train[batch]), SPLIT.y_train[batch]).backward()
        clip(parameters)
        optimizer.step()
    return (model(SPLIT.x_train).argmax(dim=1) == SPLIT.y_train).double().mean().item()


def trained(name, clip_of, steps=600):
    values = np.array([train(build_model(replace(TEN, seed=seed)), clip_of(), steps=steps) for seed in FIVE])
    print(name, np.round(values, 3))
    return values


def gradient_norm(parameters):
    return torch.cat([parameter.grad.flatten() for parameter in parameters]).norm()


# the hook, mild and severe -------------------------------------------------------------------------------------------


def test_without_clipping_the_loss_is_nan_within_ten_steps():
    for depth in (10, 20, 30):
        traces = gc.sweep(replace(TEN, depth=depth, record_every=1), seed=FIVE)
        last = traces.array(lambda trace: trace.steps[-1])
        print("depth", depth, "last step", last)
        assert (last < 10).all()
        assert np.isnan(traces.array(lambda trace: trace.train_accuracy)).all()


def test_clipping_keeps_all_depths_finite_and_rescues_the_mild_one():
    ten, twenty, thirty = (accuracies(replace(TEN, depth=depth, clip_norm=1.0)) for depth in (10, 20, 30))
    assert (ten > 0.9).all()
    assert ((twenty > 0.2) & (twenty < 0.9)).all()
    assert (thirty < 0.2).all()


def test_thirty_clipped_layers_end_with_a_factor_above_one_and_learn_with_he():
    traces = gc.sweep(replace(TEN, depth=30, clip_norm=1.0), seed=FIVE)
    factors = traces.array(lambda trace: trace.factor_per_layer("delta", step=-1))
    losses = traces.array(lambda trace: trace.loss[-1])
    print("factors", np.round(factors, 2), "losses", np.round(losses, 1))
    assert (factors > 1.1).all()
    assert (losses > 2.3).all()
    assert (accuracies(replace(HEALTHY, depth=30, clip_norm=1.0)) > 0.7).all()


def test_clipping_shortens_the_step_of_every_layer_by_the_same_number():
    for seed in FIVE:
        config = replace(TEN, depth=30, steps=1, record_every=1, seed=seed)
        plain, clipped = gc.run(config), gc.run(replace(config, clip_norm=1.0))
        model = build_model(config)
        batch, split = next(batches_of(config)), load_data(config)
        cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
        ratio = clipped.at_weights("update_ratio") / plain.at_weights("update_ratio")
        assert ratio == pytest.approx(np.full(30, 1.0 / gradient_norm(model.parameters()).item()), rel=1e-2)
        assert clipped.factor_per_layer() == pytest.approx(1.5, rel=0.06)


@pytest.mark.parametrize(("depth", "reached"), [(10, True), (20, True), (30, False)])
def test_he_weights_are_a_third_of_the_length_away(depth, reached):
    for seed in FIVE:
        ends = [
            parameters_to_vector(build_model(replace(TEN, depth=depth, gain=gain, seed=seed)).parameters())
            for gain in (1.0, 1.5)
        ]
        away = (ends[1] - ends[0]).norm().item()
        assert away == pytest.approx(ends[1].norm().item() / 3, rel=1e-4)
        assert (away < 30.0) == reached


# the place -----------------------------------------------------------------------------------------------------------


def test_clipping_before_backward_changes_not_a_bit():
    def after(*order):
        model = build_model(HEALTHY)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        do = {"zero": optimizer.zero_grad, "step": optimizer.step}
        do["backward"] = lambda: cross_entropy(model(SPLIT.x_train[:64]), SPLIT.y_train[:64]).backward()
        do["clip"] = lambda: clip_grad_norm_(model.parameters(), 0.1)
        for name in 3 * ("zero", *order):
            do[name]()
        return parameters_to_vector(model.parameters()).detach()

    start, unclipped = after(), after("backward", "step")
    for order in (("clip", "backward", "step"), ("backward", "step", "clip")):
        assert torch.equal(after(*order), unclipped)
    for order in (("clip", "step", "backward"), ("step", "backward", "clip"), ("step", "clip", "backward")):
        assert torch.equal(after(*order), start)
    moved = (after("backward", "clip", "step") - start).norm().item()
    assert 0.014 < moved <= 3 * 0.05 * 0.1 + 1e-6


# by value ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.05, 0.3, 1.0, 3.0])
def test_cosine_of_a_clipped_gaussian_gradient(threshold):
    """The law by quadrature on a grid, against a sample."""
    u = np.linspace(-12.0, 12.0, 200_001)
    density = np.exp(-(u**2) / 2.0) * (u[1] - u[0]) / math.sqrt(2.0 * math.pi)
    cut = np.clip(u, -threshold, threshold)
    law = (density * u * cut).sum() / math.sqrt((density * cut**2).sum())
    assert math.erf(threshold / 2**0.5) == pytest.approx((density * u * cut).sum(), rel=1e-3)
    g = torch.randn(100_000, generator=torch.Generator().manual_seed(1))
    assert torch.cosine_similarity(g, g.clamp(-threshold, threshold), dim=0).item() == pytest.approx(law, abs=0.005)


def test_a_network_turns_further_than_a_gaussian_gradient():
    for seed in FIVE:
        model = build_model(replace(TEN, seed=seed))
        cross_entropy(model(SPLIT.x_train[:64]), SPLIT.y_train[:64]).backward()
        g = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        g = g / g.square().mean().sqrt()
        cosines = [torch.cosine_similarity(g, g.clamp(-v, v), dim=0).item() for v in (0.05, 0.1, 0.3, 1.0, 3.0)]
        print("seed", seed, "cosines", np.round(cosines, 3), "zeros", round((g == 0).double().mean().item(), 2))
        assert all(a < b for a, b in pairwise(cosines))
        assert cosines[0] < 0.7
        assert cosines[-1] < 0.97


def test_by_value_trains_as_well_as_by_norm_at_equal_length():
    def by_norm(parameters):
        clip_grad_norm_(parameters, 1.0)

    def by_value(parameters):
        length = gradient_norm(parameters).clamp(max=1.0)
        clip_grad_value_(parameters, 0.01)
        scale = length / gradient_norm(parameters)
        for parameter in parameters:
            parameter.grad.mul_(scale)

    assert (trained("by norm", lambda: by_norm) > 0.9).all()
    assert (trained("by value", lambda: by_value) > 0.9).all()


# the threshold -------------------------------------------------------------------------------------------------------


def test_a_threshold_below_all_norms_is_a_smaller_rate():
    small = gc.sweep(replace(HEALTHY, clip_norm=0.001, record_every=1), seed=FIVE)
    raw = [np.median([event.raw for event in trace.events if event.kind == "clipped"]) for trace in small.values()]
    print("median norms", np.round(raw, 2), small.array(lambda trace: trace.train_accuracy).round(3))
    assert (small.array(lambda trace: trace.train_accuracy) < 0.3).all()
    assert {gc.diagnose(trace).disease for trace in small.values()} == {"over-clipped"}
    assert (accuracies(replace(HEALTHY, learning_rate=0.05 * 0.001 / raw[0])) < 0.3).all()
    assert (accuracies(replace(HEALTHY, clip_norm=10.0)) > 0.95).all()
    assert (accuracies(replace(TEN, learning_rate=0.005)) > 0.9).all()


def test_the_way_is_no_longer_than_rate_times_threshold_times_steps():
    for seed in FIVE:
        model = build_model(replace(HEALTHY, seed=seed))
        start = parameters_to_vector(model.parameters()).detach()
        train(model, lambda parameters: clip_grad_norm_(parameters, 0.001))
        moved = (parameters_to_vector(model.parameters()).detach() - start).norm().item()
        print("seed", seed, "moved", round(moved, 4))
        assert 0.015 < moved < 0.05 * 0.001 * 600


def test_steps_on_cosh_are_those_of_the_flow_and_of_clipped_steps():
    def steps(x, rate, clip):
        count = 0
        while abs(math.sinh(x)) >= 1e-3:
            x -= rate * max(-clip, min(clip, math.sinh(x)))
            count += 1
        return count

    for start, fixed, clipped in ((3, 71, 14), (5, 558, 18), (8, 11321, 24)):
        assert steps(start, 1 / math.cosh(start), math.inf) == fixed
        assert steps(start, 0.5, 1.0) == clipped
        flow = math.cosh(start) * math.log(math.tanh(start / 2) / math.tanh(0.0005))
        assert fixed == pytest.approx(flow, rel=0.07)


@pytest.fixture(scope="module")
def stretches():
    """Norms before clipping of the stable steps, by seed."""
    traces = gc.sweep(replace(TEN, clip_norm=1.0, record_every=1), seed=FIVE)
    raws = [{e.step: e.raw for e in trace.events if e.kind == "clipped"} for trace in traces.values()]
    return [[raw[step] for step in STRETCH if step in raw] for raw in raws]


def test_the_median_of_a_stable_stretch_acts_seldom_and_beats_one(stretches):
    for seed in FIVE:
        threshold = float(np.median(stretches[seed]))
        assert 5 < threshold < 50
        runs = gc.sweep(replace(TEN, record_every=1), clip_norm=[1.0, threshold], seed=FIVE)
        loss = runs.array(lambda trace: np.median(trace.loss[-100:]))
        acts = runs.array(lambda trace: sum(event.kind == "clipped" for event in trace.events))[1]
        print("threshold", round(threshold, 1), "loss", loss.round(3).tolist(), "acts in", acts)
        assert (loss[1] < loss[0]).all()
        assert (acts < 150).all()


def by_history(before):
    history = list(before)

    def clip(parameters):
        history.append(gradient_norm(parameters).item())
        clip_grad_norm_(parameters, np.nanquantile(history, 0.9))

    return clip


def by_unit(parameters):
    for parameter in parameters:
        size, length = (values.view(len(values), -1).norm(dim=1) for values in (parameter.detach(), parameter.grad))
        scale = (0.2 * size.clamp(min=1e-3) / length).clamp(max=1.0)
        parameter.grad.mul_(scale.view(-1, *[1] * (parameter.ndim - 1)))


def test_a_percentile_of_the_history_needs_a_stable_run(stretches):
    assert not (trained("history", lambda: by_history([]), 300) > 0.9).any()
    assert (trained("history after a stable run", lambda: by_history(stretches[0]), 300) > 0.9).all()


def test_relative_clipping_trains_and_bounds_each_unit():
    assert (trained("relative", lambda: by_unit, 300) > 0.9).all()
    model = build_model(TEN)
    cross_entropy(model(SPLIT.x_train[:64]), SPLIT.y_train[:64]).backward()
    by_unit(list(model.parameters()))
    shares = [p.grad.norm(dim=1) / p.detach().norm(dim=1) for p in model.parameters() if p.ndim > 1]
    assert torch.cat(shares).max().item() == pytest.approx(0.2, rel=1e-5)


# the weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bound", "learns"), [(0.05, False), (0.1, False), (0.2, True), (0.25, True), (1.0, False)])
def test_weight_clipping_has_a_window(bound, learns):
    accuracy = accuracies(replace(TEN, clip_weights=bound))
    assert (accuracy > 0.9).all() if learns else (np.nan_to_num(accuracy) < 0.3).all()


@pytest.mark.parametrize("bound", [0.05, 0.1, 0.25, 0.5, 1.0])
def test_weight_clipping_sets_the_factor_of_the_clipped_normal(bound):
    still = replace(TEN, clip_weights=bound, learning_rate=1e-12, steps=2, record_every=1)
    factors = [gc.run(replace(still, seed=seed)).factor_per_layer("delta", step=1) for seed in FIVE]
    sample = np.random.default_rng(0).normal(0.0, 1.5 * (2 / 64) ** 0.5, size=1_000_000)
    theory = (32 * np.mean(np.clip(sample, -bound, bound) ** 2)) ** 0.5
    print("bound", bound, "factors", np.round(factors, 3), "theory", round(theory, 3))
    assert np.mean(factors) == pytest.approx(theory, rel=0.03)


def test_weight_clipping_of_thirty_layers_needs_a_bounded_step_too():
    deep = replace(TEN, depth=30, clip_weights=0.25)
    assert (accuracies(deep) < 0.2).all()
    assert (accuracies(replace(deep, clip_norm=1.0)) > 0.5).all()
    for seed in FIVE:
        model = build_model(replace(TEN, depth=30, seed=seed))
        cross_entropy(model(SPLIT.x_train[:64]), SPLIT.y_train[:64]).backward()
        weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
        share = np.mean([((w - 0.05 * w.grad).abs() >= 0.25).double().mean().item() for w in weights])
        print("seed", seed, "share of weights at the bound after one step", round(share, 2))
        assert share > 0.6


def test_weight_normalization_sets_the_factor_and_trains():
    def with_length(seed, length):
        model = build_model(replace(TEN, norm="weight", seed=seed))
        for name, parameter in model.named_parameters():
            if name.endswith("scale") and length:
                parameter.data.fill_(length)
        return model

    for length, theory in ((2**0.5, 1.0), (None, 1.5)):
        factors = [signal_factor(with_length(seed, length)) for seed in FIVE]
        print("length", length, "signal per layer", np.round(factors, 3))
        assert np.mean(factors) == pytest.approx(theory, rel=0.08)
    accuracy = np.array([train(with_length(seed, 2**0.5), lambda parameters: None, steps=300) for seed in FIVE])
    print("weight normalization", accuracy.round(3))
    assert (accuracy > 0.9).all()


def signal_factor(model):
    size = gc.measure(model, (SPLIT.x_train, SPLIT.y_train), cross_entropy).at_weights("activation_rms")
    return (size[8] / size[1]) ** (1 / 7)


def to_unit_interval(parameters):
    with torch.no_grad():
        for weight in (parameter for parameter in parameters if parameter.ndim > 1):
            weight.sub_(weight.min()).div_(weight.max())


@pytest.mark.parametrize("rate", [0.05, 1e-3, 1e-6])
def test_weights_in_the_unit_interval_explode_and_do_not_train(rate):
    factors, accuracy = [], []
    for seed in FIVE:
        model = build_model(replace(TEN, seed=seed))
        to_unit_interval(model.parameters())
        factors.append(signal_factor(model))
        accuracy.append(train(model, to_unit_interval, rate, steps=300))
    print("rate", rate, "signal per layer", np.round(factors, 1), "accuracy", np.round(accuracy, 3))
    assert factors == pytest.approx([32] * 5, rel=0.08)
    assert (np.array(accuracy) < 0.2).all()
