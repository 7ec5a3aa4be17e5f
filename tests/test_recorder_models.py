"""The Recorder on every kind of model and loop: each number against autograd, nothing left behind."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1} | options))


def data(*shape, classes=3, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=dtype, generator=generator), torch.randint(
        0, classes, shape[:1], generator=generator
    )


def build(make, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().to(dtype)


def rms(tensor):
    return float(tensor.detach().double().square().mean().sqrt())


class Probe:
    """The oracle: outputs of chosen modules and autograd's gradients with respect to them."""

    def __init__(self, model, names):
        self.outputs = {}
        for name in names:
            module = dict(model.named_modules())[name]
            module.register_forward_hook(self._keep(name))

    def _keep(self, name):
        def hook(module, inputs, output):
            self.outputs.setdefault(name, self._first(output))

        return hook

    @staticmethod
    def _first(output):
        return output[0] if isinstance(output, tuple) else output

    def deltas(self, loss):
        gradients = torch.autograd.grad(loss, list(self.outputs.values()), retain_graph=True)
        return dict(zip(self.outputs, map(rms, gradients), strict=True))


class Pooled(nn.Module):
    """A body that returns (B, T, width) or a tuple that starts with it, and a head on the mean over T."""

    def __init__(self, body, width):
        super().__init__()
        self.body, self.head = body, nn.Linear(width, 3)

    def forward(self, x):
        out = self.body(x)
        return self.head((out[0] if isinstance(out, tuple) else out).mean(dim=1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x)


def conv():
    first, second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
    return nn.Sequential(first, nn.BatchNorm2d(4), nn.ReLU(), second, nn.Tanh(), nn.Flatten(), nn.Linear(144, 3))


MODELS = {
    "conv": (conv, (6, 1, 8, 8)),
    "lstm": (lambda: Pooled(nn.LSTM(5, 8, batch_first=True), 8), (6, 4, 5)),
    "gru, two layers": (lambda: Pooled(nn.GRU(5, 8, 2, batch_first=True), 8), (6, 4, 5)),
    "attention": (lambda: Pooled(Attention(), 8), (6, 4, 8)),
    "transformer": (
        lambda: Pooled(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True), 8),
        (6, 4, 8),
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)),
        (6, 5),
    ),
    "outputs too large to be copied": (
        lambda: nn.Sequential(nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3)),
        (300, 300),
    ),
    "one layer": (lambda: nn.Linear(5, 3), (6, 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_recorder_equals_autograd_on(name):
    make, shape = MODELS[name]
    model, (x, y) = build(make), data(*shape)
    twin = copy.deepcopy(model)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    trace = recorder.trace
    twin_optimizer = sgd(twin)
    for step in range(3):
        probe = Probe(twin, trace.layers)
        before = {n: p.detach().clone() for n, p in twin.named_parameters()}
        twin_optimizer.zero_grad()
        loss = cross_entropy(twin(x), y)
        deltas = probe.deltas(loss)
        loss.backward()
        twin_optimizer.step()
        for column, layer in enumerate(trace.layers):
            assert trace.delta[step, column] == pytest.approx(deltas[layer], rel=1e-9), layer
            assert trace.activation_rms[step, column] == pytest.approx(rms(probe.outputs[layer]), rel=1e-9)
            own = [(n, p) for n, p in twin.named_parameters() if _belongs(n, layer, trace.layers) and "bias" not in n]
            if own:
                norm = np.sqrt(sum(float(p.grad.square().sum()) for _, p in own))
                moved = np.sqrt(sum(float((p.detach() - before[n]).square().sum()) for n, p in own))
                size = np.sqrt(sum(float(before[n].square().sum()) for n, _ in own))
                assert trace.weight_gradient[step, column] == pytest.approx(norm, rel=1e-9), layer
                assert trace.update_ratio[step, column] == pytest.approx(moved / size, rel=1e-9), layer
        for module in twin.modules():
            module._forward_hooks.clear()


def _belongs(parameter, layer, layers):
    """Whether a parameter is a layer's: the layer is the nearest recorded module around it."""
    around = [name for name in layers if name == "" or parameter.startswith(f"{name}.")]
    return max(around, key=len, default=None) == layer


def test_recorder_gives_attention_its_output_projection():
    make, shape = MODELS["attention"]
    model, (x, y) = build(make), data(*shape)
    trace = gc.measure(model, (x, y), cross_entropy)
    assert "body.attention" in trace.layers
    assert trace.has_weight[trace.layers.index("body.attention")]


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.RNNCell(3, 6), nn.Linear(6, 3)

    def forward(self, x):
        h = x.new_zeros(len(x), 6)
        states = []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            states.append(h)
        self.states = states
        return self.head(h)


def test_recorder_per_call_makes_time_the_layers():
    model, (x, y) = build(Cell), data(4, 7, 3)
    optimizer = sgd(model, lr=1e-12)
    with gc.Recorder(model, optimizer, per_call=True) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    loss = cross_entropy(model(x), y)
    expected = [rms(gradient) for gradient in torch.autograd.grad(loss, model.states)]
    trace = recorder.trace
    assert trace.layers == (*(f"cell[{t}]" for t in range(7)), "head[0]")
    for step in range(2):
        np.testing.assert_allclose(trace.delta[step, :7], expected, rtol=1e-6)


def test_recorder_counts_calls_of_a_shared_module_together():
    shared = build(lambda: nn.Linear(5, 5))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.shared, self.head = shared, build(lambda: nn.Linear(5, 3))

        def forward(self, x):
            self.first = self.shared(x)
            self.second = self.shared(torch.tanh(self.first))
            return self.head(self.second)

    model, (x, y) = Twice(), data(6, 5)
    trace = gc.measure(model, (x, y), cross_entropy)
    gradients = torch.autograd.grad(cross_entropy(model(x), y), [model.first, model.second])
    assert trace.layers == ("shared", "head")
    assert trace.delta[0, 0] == pytest.approx(rms(torch.cat(gradients)), rel=1e-12)


def test_recorder_takes_parameters_without_a_dimension():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.weight = nn.Linear(5, 3), nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return self.weight * self.linear(x)

    model, (x, y) = build(Scaled), data(6, 5)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        cross_entropy(model(x), y).backward()
        expected = float(model.weight.grad.abs())
        optimizer.step()
    trace = recorder.trace
    assert trace.weight_gradient[0, trace.layers.index("")] == pytest.approx(expected)


class Skipping(nn.Module):
    """Leaves its second layer out in every other pass."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.passes = 0

    def forward(self, x):
        self.passes += 1
        x = self.one(x)
        return self.three(self.two(x) if self.passes % 2 == 0 else x)


def test_recorder_leaves_a_gap_where_a_layer_was_skipped_and_keeps_the_order():
    model, (x, y) = build(Skipping), data(6, 5)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    trace = recorder.trace
    assert trace.layers == ("one", "two", "three")
    assert np.isnan(trace.delta[::2, 1]).all()
    assert np.isfinite(trace.delta[1::2]).all()
    assert trace.events == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorder_in_lower_precision_agrees_with_float64(dtype):
    make = lambda: nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))  # noqa: E731
    model = build(make, dtype)
    double = copy.deepcopy(model).double()
    x, y = data(32, 16)
    low = gc.measure(model, (x.to(dtype), y), cross_entropy)
    high = gc.measure(double, (x.to(dtype).double(), y), cross_entropy)
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for name in ("delta", "weight_gradient", "activation_rms"):
        np.testing.assert_allclose(getattr(low, name), getattr(high, name), rtol=tolerance)


def test_recorder_sees_gradients_whose_squares_underflow_in_float32():
    model, (x, y) = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), torch.float32), data(6, 5)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(2):
            optimizer.zero_grad()
            (1e-25 * cross_entropy(model(x.float()), y)).backward()
            optimizer.step()
    plain = gc.measure(model, (x.float(), y), cross_entropy)
    np.testing.assert_allclose(recorder.trace.delta[1], 1e-25 * plain.delta[0], rtol=1e-3)
    tiny, usual = (trace.at_weights("weight_gradient", step) for trace, step in ((recorder.trace, 1), (plain, 0)))
    np.testing.assert_allclose(tiny, 1e-25 * usual, rtol=1e-3)


@pytest.mark.parametrize("scaling", ["number", "scaler"])
def test_recorder_takes_loss_scaling_out(scaling):
    x, y = data(6, 5, dtype=torch.float32)
    make = lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))  # noqa: E731
    plain, scaled = build(make, torch.float32), build(make, torch.float32)
    plain_optimizer, optimizer = sgd(plain), sgd(scaled)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    with gc.Recorder(plain, plain_optimizer) as expected:
        for _ in range(4):
            plain_optimizer.zero_grad()
            cross_entropy(plain(x), y).backward()
            plain_optimizer.step()
    with gc.Recorder(scaled, optimizer, loss_scale=1024.0 if scaling == "number" else scaler) as recorder:
        for _ in range(4):
            optimizer.zero_grad()
            loss = cross_entropy(scaled(x), y)
            if scaling == "number":
                (1024.0 * loss).backward()
                for parameter in scaled.parameters():
                    parameter.grad /= 1024.0
                optimizer.step()
            else:
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
    assert recorder.trace.events == ()
    for name in ("delta", "weight_gradient", "update_ratio"):
        np.testing.assert_allclose(getattr(recorder.trace, name), getattr(expected.trace, name), rtol=1e-4)


def test_recorder_counts_a_step_that_the_scaler_left_out():
    x, y = data(6, 5, dtype=torch.float32)
    model = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)), torch.float32)
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1.0)
    with gc.Recorder(model, optimizer, loss_scale=scaler) as recorder:
        for step in range(3):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y) * (float("inf") if step == 1 else 1.0)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    trace = recorder.trace
    assert list(trace.steps) == [0, 1, 2]
    assert np.isfinite(trace.delta[[0, 2]]).all()
    assert [(event.kind, event.step, event.direction) for event in trace.events] == [("non-finite", 1, "backward")]


CLIPPERS = {
    "norm": lambda p: torch.nn.utils.clip_grad_norm_(p, 0.1),
    "value": lambda p: torch.nn.utils.clip_grad_value_(p, 0.01),
    "by hand, through .data": lambda p: [q.grad.data.clamp_(-0.01, 0.01) for q in p],
    "a new tensor": lambda p: [setattr(q, "grad", 0.5 * q.grad) for q in p],
}


@pytest.mark.parametrize("clip", CLIPPERS.values(), ids=CLIPPERS)
def test_recorder_sees_clipping_by_any_means(clip):
    model, (x, y) = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))), data(6, 5)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer) as recorder:
        cross_entropy(model(x), y).backward()
        raw = np.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        weight = float(model[0].weight.grad.norm())
        clip(list(model.parameters()))
        used = np.sqrt(sum(float(p.grad.square().sum()) for p in model.parameters()))
        optimizer.step()
    (event,) = recorder.trace.events
    assert (event.kind, event.raw, event.used) == ("clipped", pytest.approx(raw), pytest.approx(used))
    assert recorder.trace.weight_gradient[0, 0] == pytest.approx(weight)


def test_recorder_with_activation_checkpointing_gives_the_same():
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8)), nn.Linear(8, 3)

        def forward(self, x):
            return self.head(checkpoint(self.body, x, use_reentrant=False))

    model, (x, y) = build(Checkpointed), data(6, 5)
    expected = gc.measure(nn.Sequential(*model.body, model.head), (x, y), cross_entropy)
    trace = gc.measure(model, (x, y), cross_entropy)
    np.testing.assert_allclose(trace.delta, expected.delta, rtol=1e-12)
    np.testing.assert_allclose(trace.activation_rms, expected.activation_rms, rtol=1e-12)


def test_recorder_with_some_statistics_records_only_these():
    model, (x, y) = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))), data(6, 5)
    optimizer = sgd(model)
    with gc.Recorder(model, optimizer, statistics=("weight_gradient",)) as recorder:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        norm = float(model[0].weight.grad.norm())
        optimizer.step()
    trace = recorder.trace
    assert trace.weight_gradient[0, 0] == pytest.approx(norm)
    for name in ("delta", "activation_rms", "update_ratio", "saturation", "dead"):
        assert np.isnan(getattr(trace, name)).all()


def test_recorder_every_records_these_steps_as_a_full_recording_does():
    def train(every):
        model, (x, y) = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))), data(6, 5)
        optimizer = sgd(model)
        with gc.Recorder(model, optimizer, every=every) as recorder:
            for _ in range(10):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
        return recorder.trace

    some, all_of_them = train(3), train(1)
    assert list(some.steps) == [0, 3, 6, 9]
    for name in gc.recording.STATISTICS:
        np.testing.assert_array_equal(getattr(some, name), getattr(all_of_them, name)[::3])


def hooks_of(model, optimizer):
    held = [h for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)]
    held += [p._post_accumulate_grad_hooks or {} for p in model.parameters()] + [
        p._backward_hooks or {} for p in model.parameters()
    ]
    held += [optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks]
    return sum(len(hooks) for hooks in held)


def mlp_and_optimizer():
    model = build(lambda: nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)))
    return model, sgd(model)


MISUSE = {
    "no layers": (
        lambda model, optimizer: gc.Recorder(nn.Flatten()).__enter__(),
        ValueError,
        "no layer: no module with a weight",
    ),
    "another optimizer": (
        lambda model, optimizer: gc.Recorder(model, sgd(nn.Linear(2, 2))).__enter__(),
        ValueError,
        "the optimizer holds no parameter of this model",
    ),
    "unknown statistic": (
        lambda model, optimizer: gc.Recorder(model, statistics=("norm",)),
        ValueError,
        "statistics=\\['norm'\\]",
    ),
    "every 0": (lambda model, optimizer: gc.Recorder(model, every=0), ValueError, "every must be >= 1"),
}


@pytest.mark.parametrize(("misuse", "error", "words"), MISUSE.values(), ids=MISUSE)
def test_recorder_misuse_is_one_clear_message_and_leaves_no_hook(misuse, error, words):
    model, optimizer = mlp_and_optimizer()
    with pytest.raises(error, match=words):
        misuse(model, optimizer)
    assert hooks_of(model, optimizer) == 0


def test_two_recorders_on_one_model_are_refused_and_the_first_goes_on():
    model, optimizer = mlp_and_optimizer()
    x, y = data(6, 5)
    with gc.Recorder(model, optimizer) as first:
        with pytest.raises(ValueError, match="under a Recorder already"):
            gc.Recorder(model, optimizer).__enter__()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    assert len(first.trace.steps) == 1
    assert hooks_of(model, optimizer) == 0
    with gc.Recorder(model, optimizer):  # and afterwards another may come
        pass


def test_a_closed_recorder_says_so():
    model, optimizer = mlp_and_optimizer()
    with gc.Recorder(model, optimizer) as recorder:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        recorder.log_loss(1.0)
    with pytest.raises(RuntimeError, match="closed"):
        recorder.end_step()
    with pytest.raises(RuntimeError, match="used already"):
        recorder.__enter__()


def test_an_exception_in_the_loop_leaves_no_hook_and_keeps_the_steps_before():
    model, optimizer = mlp_and_optimizer()
    x, y = data(6, 5)
    recorder = gc.Recorder(model, optimizer)

    def interrupted():
        with recorder:
            for step in range(5):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                if step == 2:
                    raise KeyboardInterrupt
                optimizer.step()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(recorder.trace.steps) == [0, 1]
    assert hooks_of(model, optimizer) == 0


def test_recorder_changes_nothing_in_the_training():
    x, y = data(6, 5)
    losses = []
    for recording in (False, True):
        model, optimizer = mlp_and_optimizer()
        recorder = gc.Recorder(model, optimizer)
        if recording:
            recorder.__enter__()
        run = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            run.append(float(loss.detach()))
        losses.append(run)
    assert losses[0] == losses[1]
    recorder.__exit__()


def test_measure_twice_gives_the_same_with_dropout_and_batchnorm_and_leaves_the_model_alone():
    model = build(
        lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    )
    x, y = data(16, 5)
    kept = copy.deepcopy(model.state_dict())
    one, two = (gc.measure(model, (x, y), cross_entropy) for _ in range(2))
    for name in gc.recording.STATISTICS:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
