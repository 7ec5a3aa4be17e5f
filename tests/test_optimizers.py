"""Optimizers against torch's own and against the rules of the papers; schedules against torch's schedulers."""

import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, MultiStepLR

import gradcourse as gc
from gradcourse.models import one_thread
from gradcourse.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    Lion,
    Together,
    make_optimizer,
    make_schedule,
    muon,
    optimizers_with,
    schedule_factor,
)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def leaves(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def loss_of(parameters):
    """A function that is not quadratic and whose gradient changes its sign on the way."""
    return sum((torch.cos(3 * p) + 0.3 * p**4 + p.sum() ** 2 / p.numel()).sum() for p in parameters)


def train(optimizer, parameters, steps=20, loss_of=loss_of):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(parameters).backward()
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def assert_equal(first, second, atol=1e-12):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=atol)


# --- Lion


def lion_of_the_paper(w, gradient, steps, lr, b1, b2, weight_decay):
    """Algorithm 2 of Chen et al. (2023), in NumPy."""
    m = np.zeros_like(w)
    for _ in range(steps):
        g = gradient(w)
        c = b1 * m + (1 - b1) * g
        w = w - lr * (np.sign(c) + weight_decay * w)
        m = b2 * m + (1 - b2) * g
    return w


def numpy_gradient(w):
    return -3 * np.sin(3 * w) + 1.2 * w**3 + 2 * w.sum()  # of loss_of, term by term


@pytest.mark.parametrize(
    "options",
    [{}, {"betas": (0.5, 0.7)}, {"betas": (0.0, 0.0)}, {"weight_decay": 0.3}, {"lr": 0.1}],
    ids=str,
)
def test_lion_follows_its_papers_rule(options):
    w = leaves((5, 3))
    start = w[0].detach().numpy().copy()
    settings = {"lr": 0.01, "betas": (0.9, 0.99), "weight_decay": 0.0} | options
    (result,) = train(Lion(w, **settings), w, steps=50)
    b1, b2 = settings["betas"]
    expected = lion_of_the_paper(start, numpy_gradient, 50, settings["lr"], b1, b2, settings["weight_decay"])
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-12)


def test_lion_moves_each_entry_by_the_learning_rate():
    w = leaves((7,))
    before = w[0].detach().clone()
    (after,) = train(Lion(w, lr=0.02), w, steps=1)
    torch.testing.assert_close((after - before).abs(), torch.full((7,), 0.02, dtype=torch.float64))


def test_lion_groups_have_their_own_settings_and_a_parameter_without_gradient_stays():
    slow, fast, unused = leaves((3,), (3,), (3,))
    before = [p.detach().clone() for p in (slow, fast, unused)]
    optimizer = Lion([{"params": [slow]}, {"params": [fast], "lr": 0.1}, {"params": [unused]}], lr=0.01)
    train(optimizer, [slow, fast], steps=1)
    moved = [float((p.detach() - b).abs().max()) for p, b in zip((slow, fast, unused), before, strict=True)]
    assert moved == pytest.approx([0.01, 0.1, 0.0], rel=1e-9)


@pytest.mark.parametrize("make", [Lion, muon])
def test_step_returns_the_loss_of_its_closure(make):
    parameters = leaves((2, 2), (2,))
    optimizer = make(parameters, lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(parameters)
        loss.backward()
        return loss

    expected = loss_of(parameters).item()
    assert optimizer.step(closure).item() == expected
    assert loss_of(parameters).item() != expected


def test_lion_state_comes_back_from_its_state_dict():
    through, broken = leaves((4,)), leaves((4,))
    train(Lion(through, lr=0.01), through, steps=10)
    first = Lion(broken, lr=0.01)
    train(first, broken, steps=5)
    second = Lion(broken, lr=0.01)
    second.load_state_dict(first.state_dict())
    train(second, broken, steps=5)
    assert_equal(through, broken, atol=0)


# --- Together and Muon


def test_together_does_what_its_optimizers_do_apart():
    apart, together = leaves((3,), (4,)), leaves((3,), (4,))
    train(torch.optim.SGD(apart[:1], lr=0.01), apart[:1])
    train(torch.optim.Adam(apart[1:], lr=0.02), apart[1:])
    optimizer = Together(torch.optim.SGD(together[:1], lr=0.01), torch.optim.Adam(together[1:], lr=0.02))
    train(optimizer, together)
    assert_equal(apart, together, atol=0)


def test_together_zero_grad_reaches_all_and_hooks_fire_once_a_step():
    parameters = leaves((3,), (4,))
    optimizer = Together(torch.optim.SGD(parameters[:1], lr=0.01), torch.optim.Adam(parameters[1:]))
    fired = []
    optimizer.register_step_pre_hook(lambda *_: fired.append("before"))
    optimizer.register_step_post_hook(lambda *_: fired.append("after"))
    train(optimizer, parameters, steps=2)
    assert fired == ["before", "after"] * 2
    assert all(p.grad is not None for p in parameters)
    optimizer.zero_grad()
    assert all(p.grad is None for p in parameters)


def test_together_scheduler_changes_every_learning_rate_by_its_factor():
    parameters = leaves((3,), (4,))
    inner = torch.optim.SGD(parameters[:1], lr=0.01), torch.optim.Adam(parameters[1:], lr=0.2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(Together(*inner), lambda step: 0.5**step)
    assert [optimizer.param_groups[0]["lr"] for optimizer in inner] == [0.01, 0.2]
    train(scheduler.optimizer, parameters, steps=1)
    scheduler.step()
    assert [optimizer.param_groups[0]["lr"] for optimizer in inner] == [0.005, 0.1]


def test_together_state_dict_holds_the_state_of_all():
    parameters = leaves((3,), (4,))
    optimizer = Together(torch.optim.SGD(parameters[:1], momentum=0.9, lr=0.1), torch.optim.Adam(parameters[1:]))
    train(optimizer, parameters, steps=1)
    state = optimizer.state_dict()["state"]
    assert set(state[0]) == {"momentum_buffer"}
    assert {"exp_avg", "exp_avg_sq"} <= set(state[1])


needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


@needs_muon
def test_muon_moves_matrices_by_torchs_muon_and_the_rest_by_adam():
    shapes = (4, 3), (4,), (2, 4), (2,), (1,)
    ours, theirs = leaves(*shapes), leaves(*shapes)
    train(muon(ours, lr=0.03, weight_decay=0.2), ours)
    train(torch.optim.Muon(theirs[0:3:2], lr=0.03, weight_decay=0.2), theirs[0:3:2])
    rest = [theirs[1], theirs[3], theirs[4]]
    train(torch.optim.Adam(rest, lr=1e-3), rest)
    assert_equal(ours, theirs, atol=0)


@pytest.mark.parametrize("name", [pytest.param("muon", marks=needs_muon), "lion"])
def test_recorder_sees_every_update_of_an_optimizer_that_is_not_torchs_own(name):
    config = gc.Config(depth=3, width=5, activation="tanh", optimizer=name, learning_rate=0.01, dtype="float64")
    model = gc.training.build_model(config)
    optimizer = make_optimizer(model.parameters(), config)
    x = torch.randn(6, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ratios = []
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(3):
            before = [layer.weight.detach().clone() for layer in (model.linear1, model.linear2, model.linear3)]
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            after = [model.linear1.weight, model.linear2.weight, model.linear3.weight]
            ratios.append([float((a.detach() - b).norm() / b.norm()) for a, b in zip(after, before, strict=True)])
    trace = recorder.trace
    assert trace.steps.tolist() == [0, 1, 2]
    np.testing.assert_allclose(trace.update_ratio[:, trace.has_weight], ratios, rtol=1e-9)


# --- by name

TORCHS = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
GIVEN = {  # options of a Config beside the learning rate, as torch's constructor takes them
    "sgd": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.1}],
    "adam": [{}, {"betas": (0.5, 0.6)}, {"eps": 1e-2}, {"weight_decay": 0.1}],
    "adamw": [{}, {"betas": (0.5, 0.6)}, {"eps": 1e-2}, {"weight_decay": 0.0}],
    "adagrad": [{}, {"eps": 1e-2}, {"weight_decay": 0.1}],
    "rmsprop": [{}, {"eps": 1e-2}, {"weight_decay": 0.1}],
}


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(name, options, id=f"{name}-{options}") for name, rows in GIVEN.items() for options in rows],
)
def test_make_optimizer_is_torchs_optimizer_with_the_options_of_the_config(name, options):
    ours, theirs = leaves((3, 2), (3,)), leaves((3, 2), (3,))
    config = gc.Config(optimizer=name, learning_rate=0.03, **options)
    train(make_optimizer(ours, config), ours)
    train(TORCHS[name](theirs, lr=0.03, **options), theirs)
    assert_equal(ours, theirs, atol=0)


def test_make_optimizer_knows_every_name_and_each_takes_its_options():
    for name in set(OPTIMIZERS) - ({"muon"} if not hasattr(torch.optim, "Muon") else set()):
        optimizer = make_optimizer(leaves((2, 2), (2,)), gc.Config(optimizer=name, weight_decay=0.25))
        assert optimizer.param_groups[0]["weight_decay"] == 0.25
        assert optimizer.param_groups[0]["lr"] == 0.1


def test_optimizers_with_an_option_are_those_that_take_it():
    assert optimizers_with("momentum") == optimizers_with("nesterov") == ("sgd",)
    assert set(optimizers_with("betas")) == {"adam", "adamw", "lion"}
    assert set(optimizers_with("eps")) == {"adam", "adamw", "adagrad", "rmsprop", "muon"}


# --- schedules


def torchs_schedule(name, optimizer, steps):
    if name == "step":
        return MultiStepLR(optimizer, [math.ceil(steps / 2), math.ceil(3 * steps / 4)], gamma=0.1)
    if name == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    rise = math.ceil(0.1 * steps)
    return LinearLR(optimizer, start_factor=1 / rise, total_iters=rise - 1)


@pytest.mark.parametrize("steps", [11, 60, 101, 440])
@pytest.mark.parametrize("name", ["step", "cosine", "warmup"])
def test_schedule_factor_is_torchs_scheduler(name, steps):
    optimizer = torch.optim.SGD(leaves((1,)), lr=1.0)
    scheduler = torchs_schedule(name, optimizer, steps)
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose([schedule_factor(name, step, steps) for step in range(steps)], expected, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_schedule_factor_is_between_0_and_1_and_1_at_its_height(name, steps):
    factors = [schedule_factor(name, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def test_make_schedule_multiplies_the_learning_rate_before_each_step():
    config = gc.Config(schedule="step", steps=8, learning_rate=0.4)
    optimizer = make_optimizer(leaves((1,)), config)
    schedule = make_schedule(optimizer, config)
    used = []
    for _ in range(8):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert used == pytest.approx([0.4] * 4 + [0.04] * 2 + [0.004] * 2)
