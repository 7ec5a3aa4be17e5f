"""What Recorder notes of a training loop, against autograd and the definitions; what it must not disturb."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse.models import one_thread
from gradcourse.recording import STATISTICS, Trace, factor_per_layer


@pytest.fixture(autouse=True)
def _same_initial_weights():
    """nn.Linear and nn.Conv2d draw theirs from the global generator."""
    with torch.random.fork_rng(devices=[]), one_thread():  # small tensors: a second thread only waits
        torch.manual_seed(0)
        yield


def batch(size=6, inputs=5, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, inputs, dtype=torch.float64, generator=generator).to(dtype)
    return x, torch.randint(classes, (size,), generator=generator)


def network(*activations, inputs=5, width=4, classes=3, seed=1):
    """Linear layers with the given activation modules between them, float64."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [inputs, *[width] * len(activations), classes]
    layers = []
    for number, activation in enumerate([*activations, None]):
        linear = nn.Linear(sizes[number], sizes[number + 1], dtype=torch.float64)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
        layers += [linear, activation]
    return nn.Sequential(*layers[:-1])


def sgd(model, rate=0.1):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate)


def train(model, optimizer, steps=1, recorder=None, data=None, loss_fn=cross_entropy):
    for step in range(steps):
        x, y = data or batch(seed=step)
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        if recorder:
            recorder.log_loss(loss)
        optimizer.step()


def recorded(model, rate=0.1, **arguments):
    optimizer = sgd(model, rate)
    with gc.Recorder(model, optimizer) as recorder:
        train(model, optimizer, recorder=recorder, **arguments)
    return recorder.trace


def outputs_of(model, x):
    """Each layer's output, in order, computed without hooks."""
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x)
    return outputs


def rms(tensor):
    return math.sqrt(float((tensor.detach() ** 2).sum()) / tensor.numel())


def whole_norm(model):
    return math.sqrt(sum(float(parameter.grad.double().square().sum()) for parameter in model.parameters()))


def hooks(model):
    """Count the hooks that are on a model and its parameters."""
    modules = [m for module in model.modules() for m in (module._forward_hooks, module._backward_hooks)]
    parameters = [p._post_accumulate_grad_hooks or () for p in model.parameters()]
    return sum(len(some) for some in [*modules, *parameters])


# Statistics against their definitions


def test_recorder_delta_equals_autograd_at_each_layers_output():
    model, (x, y) = network(nn.Tanh(), nn.Sigmoid()), batch()
    outputs = outputs_of(model, x)
    expected = [rms(g) for g in torch.autograd.grad(cross_entropy(outputs[-1], y), outputs)]
    np.testing.assert_allclose(recorded(model, data=(x, y)).delta[0], expected, rtol=1e-13)


def test_recorder_weight_gradient_equals_autograd():
    model, (x, y) = network(nn.Tanh(), nn.Sigmoid()), batch()
    weights = [model[i].weight for i in (0, 2, 4)]
    expected = [g.norm().item() for g in torch.autograd.grad(cross_entropy(model(x), y), weights)]
    trace = recorded(model, data=(x, y))
    np.testing.assert_allclose(trace.at_weights("weight_gradient"), expected, rtol=1e-13)
    assert np.isnan(trace.weight_gradient[0, [1, 3]]).all()


def test_recorder_activation_rms_is_that_of_each_layers_output():
    model, (x, y) = network(nn.Tanh(), nn.ReLU()), batch()
    expected = [rms(h) for h in outputs_of(model, x)]
    np.testing.assert_allclose(recorded(model, data=(x, y)).activation_rms[0], expected, rtol=1e-13)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam], ids=["sgd", "adam"])
def test_recorder_update_ratio_is_the_step_over_the_weight_before_it(kind):
    model = network(nn.Tanh(), nn.Tanh())
    optimizer = kind(model.parameters(), lr=0.05)
    expected = []
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(3):
            before = [model[i].weight.detach().clone() for i in (0, 2, 4)]
            train(model, optimizer)
            after = [model[i].weight.detach() for i in (0, 2, 4)]
            expected.append([((a - b).norm() / b.norm()).item() for a, b in zip(after, before, strict=True)])
    np.testing.assert_allclose(recorder.trace.update_ratio[:, [0, 2, 4]], expected, rtol=1e-12)
    assert np.isnan(recorder.trace.update_ratio[:, [1, 3]]).all()


def test_recorder_loss_is_what_was_logged_and_nan_otherwise():
    model = network(nn.Tanh())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        train(model, optimizer)
        recorder.log_loss(2.5)
        train(model, optimizer)
        recorder.log_loss(torch.tensor([1.25], requires_grad=True))
        train(model, optimizer)
    np.testing.assert_array_equal(recorder.trace.loss, [np.nan, 2.5, 1.25])


def test_recorder_dead_is_the_share_of_units_that_no_image_wakes():
    model, x = network(nn.ReLU(), width=3), torch.ones(4, 5, dtype=torch.float64)
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.copy_(torch.tensor([-1.0, 0.0, 2.0]))  # dead, dead (0 is not awake), awake
        model[0].weight[0, 0], x[0, 0] = 0.6, 3.0  # the first unit wakes for one image
    trace = recorded(model, data=(x, torch.zeros(4, dtype=torch.int64)))
    np.testing.assert_allclose(trace.dead[0], [np.nan, 1 / 3, np.nan])


def test_recorder_dead_equals_its_definition_on_a_random_network():
    model, (x, y) = network(nn.ReLU(), width=50), batch(size=3)
    hidden = outputs_of(model, x)[1].detach().numpy()
    expected = np.mean([not hidden[:, unit].any() for unit in range(50)])
    assert 0 < expected < 1
    assert recorded(model, data=(x, y)).dead[0, 1] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("activation", "steepest"), [(nn.Sigmoid(), 0.25), (nn.Tanh(), 1.0)], ids=["sigmoid", "tanh"])
def test_recorder_saturation_is_the_share_of_outputs_on_the_flat_part(activation, steepest):
    model, (x, y) = network(activation, width=50), batch(size=20)
    pre = (3 * model[0](x)).detach().requires_grad_()
    with torch.no_grad():
        model[0].weight.mul_(3)
        model[0].bias.mul_(3)
    (slope,) = torch.autograd.grad(activation(pre).sum(), pre)
    expected = (slope < 0.02 * steepest).double().mean().item()
    assert 0.1 < expected < 0.9
    trace = recorded(model, data=(x, y))
    assert trace.saturation[0, 1] == pytest.approx(expected, rel=1e-14)
    assert np.isnan(trace.saturation[0, [0, 2]]).all()
    assert np.isnan(trace.dead[0]).all()


def test_recorder_float32_statistics_do_not_underflow():
    model, (x, y) = network(nn.Identity()).float(), batch(dtype=torch.float32)
    trace = recorded(model, data=(x, y), loss_fn=lambda z, y: 1e-30 * cross_entropy(z, y))
    assert (trace.delta > 0).all()
    assert (trace.at_weights("weight_gradient") > 0).all()
    plain = recorded(network(nn.Identity()), data=batch())
    np.testing.assert_allclose(trace.delta, 1e-30 * plain.delta, rtol=1e-4)


# Kinds of models


def test_recorder_in_place_relu_gives_the_numbers_of_the_usual_one():
    traces = [recorded(network(nn.ReLU(inplace), nn.ReLU(inplace)), steps=3) for inplace in (False, True)]
    for statistic in ("delta", "weight_gradient", "update_ratio", "dead"):
        values = [getattr(trace, statistic) for trace in traces]
        np.testing.assert_allclose(values[1], values[0], rtol=1e-13)
    np.testing.assert_allclose(traces[1].activation_rms, traces[0].activation_rms, rtol=1e-13)


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, dtype=torch.float64), nn.ReLU())
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4 * 6 * 6, 10, dtype=torch.float64)

    def forward(self, x):
        return self.head(self.features(x.view(-1, 1, 8, 8)).flatten(1))


def test_recorder_works_on_a_convolutional_model():
    model = Convolutional()
    split = gc.digits()
    data = split.x_train[:16], split.y_train[:16]
    maps = model.features(data[0].view(-1, 1, 8, 8))
    (gradient,) = torch.autograd.grad(cross_entropy(model.head(maps.flatten(1)), data[1]), maps)
    trace = recorded(model, data=data)
    assert trace.layers == ("features.0", "features.1", "head")
    assert trace.has_weight.tolist() == [True, False, True]
    assert trace.delta[0, 1] == pytest.approx(rms(gradient), rel=1e-13)
    assert trace.activation_rms[0, 1] == pytest.approx(rms(maps), rel=1e-13)
    units = maps.detach().flatten(1)
    assert trace.dead[0, 1] == pytest.approx((units == 0).all(dim=0).double().mean().item(), rel=1e-14)


class Late(nn.Module):
    """Calls its layers against the order in which they were defined."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3, dtype=torch.float64)
        self.first = nn.Linear(5, 4, dtype=torch.float64)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


def test_recorder_layers_stand_in_call_order():
    assert recorded(Late()).layers == ("first", "last")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Linear(4, 4, bias=False, dtype=torch.float64) for _ in range(2))
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


def test_recorder_shared_weight_shows_its_whole_gradient_in_each_layer():
    model, (x, y) = Tied(), batch(inputs=4)
    (gradient,) = torch.autograd.grad(cross_entropy(model(x), y), model.a.weight)
    trace = recorded(model, data=(x, y))
    assert trace.layers == ("a", "b")
    np.testing.assert_allclose(trace.weight_gradient[0], [gradient.norm().item()] * 2, rtol=1e-13)
    before = model.a.weight.detach() + 0.1 * gradient
    np.testing.assert_allclose(trace.update_ratio[0], [0.1 * (gradient.norm() / before.norm()).item()] * 2, rtol=1e-12)
    assert not trace.events


def test_recorder_frozen_first_layers_have_no_gradient_and_make_no_event():
    model = network(nn.Tanh(), nn.Tanh())
    model[0].requires_grad_(False)
    trace = recorded(model, steps=2)
    assert np.isnan(trace.delta[:, :2]).all()
    assert np.isnan(trace.weight_gradient[:, 0]).all()
    assert np.isnan(trace.update_ratio[:, 0]).all()
    assert (trace.delta[:, 2:] > 0).all()
    assert (trace.activation_rms > 0).all()
    assert trace.events == ()


def test_recorder_layer_that_joins_later_is_nan_before():
    model = nn.ModuleList([nn.Linear(5, 3, dtype=torch.float64), nn.Linear(3, 3, dtype=torch.float64)])
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        train(model[0], optimizer)
        train(nn.Sequential(*model), optimizer)
    assert np.isnan(recorder.trace.activation_rms[0, 1])
    assert (recorder.trace.activation_rms[1] > 0).all()


# Kinds of loops


def test_recorder_changes_no_number_of_the_training():
    with_recorder, without = network(nn.Tanh(), nn.ReLU(inplace=True)), network(nn.Tanh(), nn.ReLU(inplace=True))
    recorded(with_recorder, steps=5)
    train(without, sgd(without), steps=5)
    assert all(torch.equal(a, b) for a, b in zip(with_recorder.parameters(), without.parameters(), strict=True))


def test_recorder_gradient_accumulation_shows_the_gradient_of_the_sum():
    model, halves = network(nn.Tanh()), (batch(seed=1), batch(seed=2))
    weights = [model[0].weight, model[2].weight]
    total = sum(0.5 * cross_entropy(model(x), y) for x, y in halves)
    expected = [g.norm().item() for g in torch.autograd.grad(total, weights)]
    hidden = [model[0](x) for x, _ in halves]
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        optimizer.zero_grad()
        for x, y in halves:
            (0.5 * cross_entropy(model(x), y)).backward()
        optimizer.step()
    trace = recorder.trace
    assert trace.steps.tolist() == [0]
    np.testing.assert_allclose(trace.at_weights("weight_gradient"), expected, rtol=1e-13)
    assert trace.activation_rms[0, 0] == pytest.approx(rms(torch.cat(hidden)), rel=1e-13)
    assert trace.events == ()


def test_recorder_closure_makes_no_false_event():
    model, (x, y) = network(nn.Tanh()), batch()
    optimizer = sgd(model)

    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        return loss

    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(2):
            optimizer.step(closure)
    assert recorder.trace.events == ()
    assert (recorder.trace.at_weights("weight_gradient", step=1) > 0).all()


def test_recorder_passes_under_no_grad_are_not_recorded():
    model, other = network(nn.ReLU()), network(nn.ReLU())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        for context in (torch.no_grad, torch.inference_mode):
            train(model, optimizer)
            with context():
                model(100 * batch(seed=9)[0])
    expected = recorded(other, data=batch(seed=0), steps=2)
    for statistic in STATISTICS:
        np.testing.assert_array_equal(getattr(recorder.trace, statistic), getattr(expected, statistic))


def test_recorder_every_keeps_each_nth_step():
    model, same = network(nn.Tanh()), network(nn.Tanh())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer, every=3) as recorder:
        train(model, optimizer, steps=7)
    full = recorded(same, steps=7)
    assert recorder.trace.steps.tolist() == [0, 3, 6]
    np.testing.assert_array_equal(recorder.trace.delta, full.delta[::3])
    np.testing.assert_array_equal(recorder.trace.update_ratio, full.update_ratio[::3])


@pytest.mark.parametrize("every", [0, -2])
def test_recorder_refuses_an_every_below_1(every):
    with pytest.raises(ValueError, match=rf"Recorder\(every={every}\): every must be >= 1"):
        gc.Recorder(network(), every=every)


def test_recorder_trace_can_be_read_inside_the_loop():
    model = network(nn.Tanh())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        assert recorder.trace.steps.shape == (0,)
        assert recorder.trace.delta.shape == (0, 0)
        seen = []
        for _ in range(3):
            train(model, optimizer)
            seen.append(recorder.trace)
    assert [len(trace.steps) for trace in seen] == [1, 2, 3]
    np.testing.assert_array_equal(seen[2].delta, recorder.trace.delta)
    np.testing.assert_array_equal(seen[0].delta[0], recorder.trace.delta[0])


def test_recorder_removes_its_hooks_when_the_block_ends():
    model = network(nn.Tanh())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        assert hooks(model) > 0
        train(model, optimizer)
    assert hooks(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    train(model, optimizer)
    assert recorder.trace.steps.tolist() == [0]


def test_recorder_removes_its_hooks_after_an_exception_and_keeps_what_it_has():
    model = network(nn.Tanh())
    optimizer = sgd(model)
    recorder = gc.Recorder(model, optimizer)

    def interrupted():
        with recorder:
            train(model, optimizer)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        interrupted()
    assert hooks(model) == 0
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert recorder.trace.steps.tolist() == [0]


# Events


def test_recorder_clipping_event_holds_the_raw_and_the_used_norm():
    model, (x, y) = network(nn.Tanh()), batch()
    gradients = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
    whole = torch.cat([g.flatten() for g in gradients]).norm().item()
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        cross_entropy(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), whole / 4)
        optimizer.step()
    (event,) = recorder.trace.events
    assert (event.kind, event.step, event.layer) == ("clipped", 0, "")
    assert event.raw == pytest.approx(whole, rel=1e-13)
    assert event.used == pytest.approx(whole / 4, rel=1e-5)
    assert recorder.trace.at_weights("weight_gradient")[0] == pytest.approx(gradients[0].norm().item(), rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_recorder_clipping_that_changes_nothing_is_no_event(dtype):
    model = network(nn.Tanh()).to(dtype)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        for step in range(20):
            optimizer.zero_grad()
            x, y = batch(seed=step, dtype=dtype)
            cross_entropy(model(x), y).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1e6)
            optimizer.step()
    assert recorder.trace.events == ()


def test_recorder_gradient_that_is_scaled_and_unscaled_is_no_clipping():
    model = network(nn.Tanh()).float()
    optimizer = sgd(model)
    rounded_down = 0
    with gc.Recorder(model, optimizer) as recorder:
        for step in range(20):
            optimizer.zero_grad()
            x, y = batch(seed=step, dtype=torch.float32)
            cross_entropy(model(x), y).backward()
            before = whole_norm(model)
            for parameter in model.parameters():
                parameter.grad.mul_(3000.0).div_(3000.0)
            rounded_down += int(whole_norm(model) < before)
            optimizer.step()
    assert rounded_down > 0
    assert recorder.trace.events == ()


def test_recorder_zero_update_event_where_float32_rounds_the_step_away():
    model = network(nn.Identity()).float()
    data = batch(dtype=torch.float32)
    trace = recorded(model, rate=1e-12, data=data, steps=3)
    found = [(event.kind, event.step, event.layer) for event in trace.events]
    assert found == [("zero update", 0, "0"), ("zero update", 0, "2")]
    assert (trace.at_weights("weight_gradient") > 0).all()


def test_recorder_no_zero_update_event_where_the_gradient_is_0():
    model = network(nn.ReLU())
    with torch.no_grad():
        model[0].bias.fill_(-1e3)  # dead: the first layer's gradient is exactly 0
    trace = recorded(model)
    assert trace.at_weights("weight_gradient")[0] == 0
    assert trace.at_weights("update_ratio")[0] == 0
    assert trace.events == ()


class Break(torch.autograd.Function):
    """Passes its input on; puts inf into the value or into the gradient."""

    @staticmethod
    def forward(context, x, direction):
        context.direction = direction
        return x * math.inf if direction == "forward" else x.clone()

    @staticmethod
    def backward(context, gradient):
        return (gradient * math.inf if context.direction == "backward" else gradient), None


class Breaking(nn.Tanh):
    """Tanh that breaks from its n-th call on."""

    def __init__(self, direction, call):
        super().__init__()
        self.direction, self.call, self.calls = direction, call, 0

    def forward(self, x):
        self.calls += 1
        h = super().forward(x)
        return Break.apply(h, self.direction) if self.calls > self.call else h


@pytest.mark.parametrize(
    ("direction", "layer"),
    [("forward", "2.breaks"), ("backward", "2.before")],
)
def test_recorder_non_finite_event_names_the_first_layer_in_the_order_of_computing(direction, layer):
    middle = nn.Sequential()
    middle.add_module("before", nn.Linear(4, 4, dtype=torch.float64))
    middle.add_module("breaks", Breaking(direction, call=2))
    model = nn.Sequential(nn.Linear(5, 4, dtype=torch.float64), nn.Tanh(), middle, nn.Linear(4, 3, dtype=torch.float64))
    trace = recorded(model, steps=4)
    events = [event for event in trace.events if event.kind == "non-finite"]
    assert [(event.step, event.layer, event.direction) for event in events] == [(2, layer, direction)]


def test_recorder_non_finite_loss_alone_is_named_loss():
    trace = recorded(network(nn.Tanh()), steps=2, loss_fn=lambda z, y: cross_entropy(z, y) / 0.0)
    (event,) = [event for event in trace.events if event.kind == "non-finite"]
    assert (event.step, event.layer, event.direction) == (0, "loss", "forward")
    assert math.isinf(trace.loss[0])


def test_recorder_non_finite_loss_at_a_step_that_is_not_recorded_is_noticed():
    model = network(nn.Tanh())
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer, every=10) as recorder:
        for step in range(12):
            train(model, optimizer)
            if step == 3:  # train() has stepped, so this is the loss of step 4; from there on all is NaN
                recorder.log_loss(math.nan)
                nn.init.constant_(model[0].weight, math.nan)
    assert np.isnan(recorder.trace.activation_rms[1]).any()
    (event,) = [event for event in recorder.trace.events if event.kind == "non-finite"]
    assert (event.step, event.layer, event.direction) == (4, "loss", "forward")


def test_recorder_overflow_of_a_weight_gradient_alone_is_noticed():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(1e-30)
    optimizer = sgd(model)
    with gc.Recorder(nn.Sequential(model), optimizer) as recorder:
        (1e30 * recorder.model(torch.tensor([[1e30]]))).sum().backward()  # dL/dh = 1e30, dL/dW = 1e60
        optimizer.step()
    (event,) = recorder.trace.events
    assert (event.kind, event.step, event.layer, event.direction) == ("non-finite", 0, "0", "backward")


def test_recorder_healthy_training_has_no_event():
    assert recorded(network(nn.Tanh(), nn.Sigmoid()), steps=20).events == ()


# measure


def test_measure_equals_autograd():
    model, (x, y) = network(nn.Tanh(), nn.Sigmoid()), batch()
    outputs = outputs_of(model, x)
    loss = cross_entropy(outputs[-1], y)
    expected = [rms(g) for g in torch.autograd.grad(loss, outputs, retain_graph=True)]
    trace = gc.measure(model, (x, y), cross_entropy)
    np.testing.assert_allclose(trace.delta, [expected], rtol=1e-13)
    assert trace.loss == pytest.approx([loss.item()], rel=1e-14)
    weights = [model[i].weight for i in (0, 2, 4)]
    expected = [g.norm().item() for g in torch.autograd.grad(loss, weights)]
    np.testing.assert_allclose(trace.at_weights("weight_gradient"), expected, rtol=1e-13)
    assert np.isnan(trace.update_ratio).all()


class Regularized(nn.Module):
    """Has what a careless measurement would change: running statistics and a random mask."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(5, 4, dtype=torch.float64)
        self.norm = nn.BatchNorm1d(4, dtype=torch.float64)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3, dtype=torch.float64)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.linear(x))))


@pytest.mark.parametrize("gradients", [False, True], ids=["no_gradients_yet", "gradients_of_a_pending_step"])
def test_measure_leaves_the_model_and_the_generator_as_they_were_and_repeats(gradients):
    model, data = Regularized(), batch()
    if gradients:
        cross_entropy(model(data[0]), data[1]).backward()
    kept = [parameter.grad for parameter in model.parameters()]
    copies = [grad if grad is None else grad.clone() for grad in kept]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    first, second = (gc.measure(model, data, cross_entropy) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for parameter, before, copy in zip(model.parameters(), kept, copies, strict=True):
        assert parameter.grad is before
        assert copy is None or torch.equal(parameter.grad, copy)
    assert hooks(model) == 0
    for statistic in ("loss", *STATISTICS):
        np.testing.assert_array_equal(getattr(first, statistic), getattr(second, statistic))


def test_measure_leaves_the_model_alone_when_the_loss_fails():
    model, (x, y) = network(nn.Tanh()), batch()
    cross_entropy(model(x), y).backward()
    kept = [parameter.grad for parameter in model.parameters()]

    def failing(scores, y):
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        gc.measure(model, (x, y), failing)
    assert all(p.grad is grad for p, grad in zip(model.parameters(), kept, strict=True))
    assert hooks(model) == 0


# Trace


def a_trace(**change):
    trace = gc.measure(network(nn.Tanh(), nn.Tanh()), batch(), cross_entropy)
    return dataclasses.replace(trace, **change)


def test_trace_repr_is_one_stable_line():
    assert repr(a_trace()) == "<Trace: 1 steps x 5 layers, 3 with weights>"
    config = gc.Config(depth=3, width=4, steps=2)
    assert repr(gc.run(config)) == (
        "<Trace of sigmoid depth 3 width 4 xavier gain 1: 2 steps x 5 layers, 3 with weights>"
    )


def test_trace_is_frozen_and_comparing_it_is_no_error():
    trace = a_trace()
    with pytest.raises(dataclasses.FrozenInstanceError):
        trace.loss = None
    assert trace == trace
    assert trace != a_trace()


def test_trace_at_weights_takes_the_layers_with_weights_at_a_recorded_step():
    trace = recorded(network(nn.Tanh()), steps=3)
    np.testing.assert_array_equal(trace.at_weights("delta"), trace.delta[0, [0, 2]])
    np.testing.assert_array_equal(trace.at_weights("delta", step=-1), trace.delta[2, [0, 2]])
    np.testing.assert_array_equal(trace.at_weights("activation_rms", 1), trace.activation_rms[1, [0, 2]])


def test_trace_at_weights_refuses_an_unknown_statistic_with_the_names_it_has():
    with pytest.raises(ValueError, match="delta, weight_gradient, update_ratio") as caught:
        a_trace().at_weights("gradient")
    assert "at_weights('gradient')" in str(caught.value)


@pytest.mark.parametrize("step", [1, -2, 100])
def test_trace_at_weights_refuses_a_step_that_was_not_recorded(step):
    with pytest.raises(IndexError, match=rf"step={step}: this trace holds 1 recorded steps"):
        a_trace().at_weights("delta", step=step)


@pytest.mark.parametrize("factor", [0.236, 1.0, 3.0])
def test_factor_per_layer_of_a_geometric_sequence_is_its_ratio_towards_the_input(factor):
    towards_the_input = 7.0 * factor ** np.arange(20)
    assert factor_per_layer(towards_the_input[::-1]) == pytest.approx(factor, rel=1e-12)


def test_factor_per_layer_leaves_out_what_has_no_logarithm():
    values = 0.5 ** np.arange(8.0)[::-1]
    values[[0, 3, 5, 6]] = 0.0, np.nan, np.inf, -1.0
    assert factor_per_layer(values) == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 1.0], [np.nan, np.nan, 2.0]], ids=str)
def test_factor_per_layer_of_fewer_than_two_usable_values_is_nan(values):
    assert math.isnan(factor_per_layer(values))


def test_trace_factor_per_layer_leaves_the_output_layer_out():
    layers = ("a", "phi", "b", "phi", "c", "out")
    delta = np.array([[0.25, 9.0, 0.5, 9.0, 1.0, 1e6]])
    empty = np.full((1, 6), np.nan)
    trace = Trace(layers, np.array([1, 0, 1, 0, 1, 1], dtype=bool), np.array([0]), np.array([1.0]), delta, *[empty] * 5)
    assert trace.factor_per_layer() == pytest.approx(0.5, rel=1e-12)
    assert trace.factor_per_layer("delta", step=-1) == pytest.approx(0.5, rel=1e-12)
    assert math.isnan(trace.factor_per_layer("weight_gradient"))
