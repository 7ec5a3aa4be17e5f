"""What lesson 08 says, over five seeds where the lesson runs three or one, and on its plain statements.

Bounds stand where every seed that was tried has room; the numbers behind them are printed with ``pytest -s``.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, cross_entropy, normalize

import gradcourse as gc
from gradcourse.models import one_thread
from gradcourse.training import build_model, load_data

pytestmark = pytest.mark.slow

BASE = gc.Config(width=32, activation="relu", init="he", learning_rate=0.01, momentum=0.9, batch_size=64, steps=110)
STACK = gc.Config(depth=34, width=256, activation="relu", init="he", residual="add", steps=0)
CONV = gc.Config(model="conv", depth=33, width=8, activation="relu", init="he", learning_rate=0.05, momentum=0.9)
CONV = replace(CONV, batch_size=64, steps=44)
DENSE = gc.Config(depth=2, width=128, activation="relu", init="torch", dropout=0.5, optimizer="adam")
DENSE = replace(DENSE, learning_rate=1e-3, batch_size=64, steps=330)
FIVE = range(5)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def he(width, generator):
    return (2 / width) ** 0.5 * torch.randn(width, width, generator=generator, dtype=torch.float64)


def kappa(c):
    t = np.arccos(c)
    return (np.sin(t) + (np.pi - t) * np.cos(t)) / np.pi


def cosine(rows):
    unit = normalize(rows.detach(), dim=1)
    return (float((unit @ unit.T).sum()) - len(unit)) / (len(unit) * (len(unit) - 1))


def last_losses(**change):
    runs = [[gc.run(replace(BASE, depth=depth, seed=seed, **change)) for seed in FIVE] for depth in (8, 48)]
    losses = np.array([[trace.loss[-22:].mean() for trace in of_depth] for of_depth in runs])
    print(change, np.round(losses, 3), np.round(losses.mean(axis=1), 3), np.round(losses.std(axis=1), 3))
    return losses


# degradation ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain():
    return last_losses()


def test_plain_network_degrades(plain):
    assert (plain[0] < 0.5).all()
    assert (plain[1] > 1.5).all()


@pytest.mark.parametrize(
    "change",
    [{"residual": "scaled"}, {"residual": "rezero"}, {"residual": "preactivation", "norm": "batch"}],
    ids=lambda change: change["residual"],
)
def test_residual_networks_do_not_degrade(plain, change):
    losses = last_losses(**change)
    assert (losses[1] < plain[0]).all()
    assert losses[1].mean() < 1.3 * losses[0].mean()


def test_gradient_of_the_degraded_network_is_of_healthy_size():
    delta = np.array([gc.run(replace(BASE, depth=48, steps=0, seed=seed)).at_weights("delta") for seed in FIVE])
    ratio = delta[:, 0] / delta[:, 46]
    print("layer 1 over 47", np.round(ratio, 2))
    assert ((ratio > 0.05) & (ratio < 5)).all()


@pytest.mark.parametrize("depth", [8, 48])
def test_images_align_in_plain_networks_and_not_in_scaled_blocks(depth):
    plain, residual, square = 0.0, 0.0, 1 / (depth - 2)
    for _ in range(depth - 1):
        plain = kappa(plain)
    for _ in range(depth - 2):
        residual = (residual + square * kappa(residual)) / (1 + square)
    for form, theory in ((None, plain), ("scaled", residual)):
        configs = [replace(BASE, depth=depth, width=256, residual=form, seed=seed) for seed in FIVE]
        seen = [cosine(build_model(config)[:-1](load_data(config).x_train[:64])) for config in configs]
        print(form, depth, np.round(seen, 3), "theory", round(theory, 3))
        assert np.mean(seen) == pytest.approx(theory, abs=0.03)


# factors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 0.5, 32**-0.5])
def test_block_multiplies_signal_and_gradient_by_one_plus_alpha_squared(alpha):
    """Measured on the stream itself by autograd, where the lesson reads the branches' gradients from a trace."""
    forwards, backwards = [], []
    for seed in FIVE:
        config = replace(STACK, residual_scale=alpha, seed=seed, dtype="float64")
        split, layers = load_data(config), build_model(config)
        start = layers[0](split.x_train[:128]).detach().requires_grad_()
        end = layers[1:-1](start)
        end.retain_grad()
        cross_entropy(layers[-1](end), split.y_train[:128]).backward()
        forwards.append(float(end.detach().square().mean() / start.detach().square().mean()) ** (1 / 32))
        backwards.append(float(start.grad.square().mean() / end.grad.square().mean()) ** (1 / 32))
    print("alpha", round(alpha, 3), "forward", np.round(forwards, 4), "backward", np.round(backwards, 4), 1 + alpha**2)
    assert np.mean(forwards) == pytest.approx(1 + alpha**2, rel=0.02)
    assert np.mean(backwards) == pytest.approx(1 + alpha**2, rel=0.02)


def test_fifty_unscaled_layers_overflow():
    runs = [gc.run(replace(BASE, depth=50, residual="add", seed=seed)) for seed in FIVE]
    print("steps", [len(run.steps) for run in runs], "first loss", [f"{run.loss[0]:.0e}" for run in runs])
    assert np.isnan([run.train_accuracy for run in runs]).all()
    assert all(run.loss[0] > 1e5 for run in runs)


def test_mean_piles_up_where_the_branch_ends_with_the_activation():
    alpha, m, v, inside, behind = 32**-0.5, 0.0, 1.0, [], []
    for _ in range(32):
        m, v = m + alpha * (v / np.pi) ** 0.5, v + 2 * alpha * m * (v / np.pi) ** 0.5 + alpha**2 * v
    for seed in FIVE:
        generator = seeded(seed)
        x = h = g = torch.randn(64, 256, generator=generator, dtype=torch.float64)
        for _ in range(32):
            W = he(256, generator)
            h, g = h + alpha * torch.relu(h) @ W.T, g + alpha * torch.relu(g @ W.T)
        inside.append(float(h.square().mean() / x.square().mean()))
        behind.append(float(g.square().mean() / x.square().mean()))
    print("W relu(x)", np.round(inside, 2), (1 + 1 / 32) ** 32, "relu(W x)", np.round(behind, 1), v)
    assert inside == pytest.approx([(1 + 1 / 32) ** 32] * 5, rel=0.1)
    assert behind == pytest.approx([v] * 5, rel=0.15)


# identity at first ---------------------------------------------------------------------------------------------------


def test_rezero_is_exactly_the_identity_at_first_and_learns():
    config = replace(BASE, depth=48, residual="rezero")
    blocks = build_model(config)[1:-1]
    x = torch.randn(64, 32, generator=seeded(0)).requires_grad_()
    g = torch.randn(64, 32, generator=seeded(1))
    blocks(x).backward(g)
    assert torch.equal(blocks(x), x)
    assert torch.equal(x.grad, g)
    assert any(block.scale.grad != 0 for block in blocks)


@pytest.mark.parametrize(("first", "second", "learns"), [(0, 1, False), (1, 0, True), (0, 0, False)])
def test_only_zeros_at_the_end_of_a_branch_leave_it_able_to_learn(first, second, learns):
    """The oracle is autograd over ten steps of plain SGD on one block, in place of the lesson's 24."""
    for seed in FIVE:
        generator = seeded(seed)
        w1, w2 = first * he(8, generator), second * he(8, generator)
        x, y = (torch.randn(30, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        b1, b2 = torch.zeros(2, 8, dtype=torch.float64)
        start = [w1.clone(), w2.clone()]
        parameters = [parameter.requires_grad_() for parameter in (w1, b1.clone(), w2, b2.clone())]
        for _ in range(10):
            w1, b1, w2, b2 = parameters
            loss = ((x + torch.relu(x @ w1.T + b1) @ w2.T + b2 - y) ** 2).mean()
            gradients = torch.autograd.grad(loss, parameters)
            pairs = zip(parameters, gradients, strict=True)
            parameters = [(p - 0.1 * g).detach().requires_grad_() for p, g in pairs]
        moved = [not torch.equal(old, new) for old, new in zip(start, (parameters[0], parameters[2]), strict=True)]
        assert moved == [learns, learns]


def test_norm_in_the_branch_does_not_explode():
    normed = replace(STACK, residual="preactivation", norm="batch", batch_size=256)
    for config, low, high in ((replace(normed, residual=None), 200, 500), (normed, 3.5, 7)):
        delta = np.array([gc.run(replace(config, seed=seed)).at_weights("delta") for seed in FIVE])
        ratio, profile = delta[:, 1] / delta[:, 32], gc.theory.gradient_profile(config)
        print(config.residual, np.round(ratio, 2), "theory", round(profile[1] / profile[32], 2))
        assert ((ratio > low) & (ratio < high)).all()
        assert np.mean(ratio) == pytest.approx(profile[1] / profile[32], rel=0.2)


# shattering ----------------------------------------------------------------------------------------------------------


def standardized(h):
    return (h - h.mean(dim=0).detach()) / h.std(dim=0, correction=0).detach()


FORMS = {
    "plain, norm": lambda h, W, alpha: torch.relu(standardized(h @ W.T)),
    "plain, no norm": lambda h, W, alpha: torch.relu(h @ W.T),
    "blocks, norm": lambda h, W, alpha: h + torch.relu(standardized(h)) @ W.T,
    "blocks, scaled": lambda h, W, alpha: h + alpha * torch.relu(h) @ W.T,
}


def output(h, form, depth, generator):
    for _ in range(depth):
        h = FORMS[form](h, he(h.shape[1], generator), depth**-0.5)
    return (h @ torch.randn(h.shape[1], generator=generator, dtype=h.dtype)).sum()


def predicted(form, depth):
    """Each form's law by itself, where the lesson has one function for the four."""
    if form == "plain, norm":
        return 0.5**depth
    if form == "blocks, norm":
        s = 1 + np.arange(depth) * (1 - 1 / np.pi)
        return np.prod((1 + 0.5 / s) / (1 + 1 / s))
    product, c, square = 1.0, 0.0, 1 / depth
    for _ in range(depth):
        half = 1 - np.arccos(c) / np.pi
        product *= half if form == "plain, no norm" else (1 + square * half) / (1 + square)
        c = kappa(c) if form == "plain, no norm" else (c + square * kappa(c)) / (1 + square)
    return product


@pytest.mark.parametrize("form", FORMS)
def test_cosine_of_gradients_follows_its_law(form):
    for depth in (1, 2, 4, 8):
        seen = []
        for seed in FIVE:
            generator = seeded(100 + seed)
            x = torch.randn(128, 256, generator=generator, dtype=torch.float64).requires_grad_()
            seen.append(cosine(torch.autograd.grad(output(x, form, depth, generator), x)[0]))
        print(form, depth, np.round(seen, 4), "theory", round(predicted(form, depth), 4))
        assert np.mean(seen) == pytest.approx(predicted(form, depth), abs=0.03, rel=0.05)


def test_real_batch_norm_hides_shattering():
    for depth in (2, 16):
        for seed in FIVE:
            generator = seeded(seed)
            h = x = torch.randn(128, 256, generator=generator, dtype=torch.float64).requires_grad_()
            for _ in range(depth):
                h = torch.relu(batch_norm(h @ he(256, generator).T, None, None, training=True))
            (gradient,) = torch.autograd.grad((h @ torch.ones(256, dtype=h.dtype)).sum(), x)
            assert gradient.sum(dim=0).abs().max() < 1e-6 * gradient.abs().max() * 128
            assert cosine(gradient) == pytest.approx(-1 / 127, abs=0.002)


@pytest.mark.parametrize(
    ("form", "depth", "low", "high"),
    [
        ("plain, no norm", 1, 0.95, 1),
        ("plain, norm", 24, -0.3, 0.3),
        ("plain, no norm", 24, 0.6, 1),
        ("blocks, norm", 24, 0.6, 0.95),
        ("blocks, scaled", 24, 0.9, 1),
    ],
)
def test_autocorrelation_along_a_line(form, depth, low, high):
    seen = []
    for seed in FIVE:
        generator = seeded(seed)
        w, b = torch.randn(2, 200, generator=generator, dtype=torch.float64)
        x = torch.linspace(-2, 2, 256, dtype=torch.float64).requires_grad_()
        (curve,) = torch.autograd.grad(output(x[:, None] * w + b, form, depth, generator), x)
        seen.append(np.corrcoef(curve[1:], curve[:-1])[0, 1])
    print(form, depth, np.round(seen, 2))
    assert all(low < value < high for value in seen)


# images --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({"depth": 5}, True),
        ({}, False),
        ({"norm": "batch"}, False),
        ({"residual": "add"}, None),
        ({"residual": "scaled"}, True),
        ({"residual": "preactivation", "norm": "batch"}, True),
    ],
    ids=str,
)
def test_convolutional_networks(change, fits):
    traces = [gc.run(replace(CONV, seed=seed, **change)) for seed in FIVE]
    losses = np.array([trace.loss[-10:].mean() for trace in traces])
    print(change, np.round(losses, 3), "test", np.round([trace.test_accuracy for trace in traces], 3))
    if fits is None:
        assert np.isnan([trace.train_accuracy for trace in traces]).all()
    else:
        assert (losses < 0.7).all() if fits else (losses > 1).all()
    if change == {}:
        assert (losses > 2.2).all()


@pytest.mark.parametrize(("activation", "low", "high"), [("relu", 0.4, 2.0), ("sigmoid", 0.08, 0.6)])
def test_nothing_vanishes_in_the_dense_classifier(activation, low, high):
    for seed in FIVE:
        trace = gc.run(replace(DENSE, activation=activation, seed=seed))
        norms = trace.weight_gradient[:, trace.has_weight]
        ratio = norms[:, 0] / norms[:, 1]
        print(activation, seed, np.round([ratio[0], ratio.min(), ratio.max(), trace.test_accuracy], 3))
        assert low < ratio.min() <= ratio.max() < high
        assert np.hypot(*norms.T).max() < 4
        assert activation == "sigmoid" or trace.test_accuracy > 0.95


def test_plain_sgd_trains_the_two_layers_as_well():
    for seed in FIVE:
        trace = gc.run(replace(DENSE, optimizer="sgd", learning_rate=0.1, dropout=0.0, seed=seed))
        print("SGD", seed, round(trace.test_accuracy, 3))
        assert trace.test_accuracy > 0.94


def test_linear_classifier_fits_the_digits_nearly():
    """Why the lesson does not say that depth helps: without any hidden layer the training loss is low already."""
    losses = []
    for seed in FIVE:
        split = load_data(replace(BASE, seed=seed))
        model = nn.Sequential(*build_model(replace(BASE, depth=2, activation="identity", seed=seed)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        for step in range(110):
            batch = slice(step % 22 * 64, step % 22 * 64 + 64)
            optimizer.zero_grad()
            cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
            optimizer.step()
        losses.append(cross_entropy(model(split.x_train), split.y_train).item())
    print("linear classifier", np.round(losses, 3))
    assert max(losses) < 0.25
