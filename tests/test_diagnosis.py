"""The diagnosis of networks whose disease is known by construction."""

import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse.diagnosis import rules
from gradcourse.diagnosis.cures import cures_for
from gradcourse.diagnosis.signals import Profile, signals

DEEP = gc.Config(depth=16, width=64, steps=0)
KNOWN = {
    "sigmoid, Xavier": ({"activation": "sigmoid"}, "vanishing"),
    "tanh, tiny weights": ({"activation": "tanh", "init": "normal", "gain": 0.01}, "vanishing"),
    "ReLU, Xavier": ({"activation": "relu"}, "vanishing"),
    "ReLU, He": ({"activation": "relu", "init": "he"}, "healthy"),
    "tanh, Xavier": ({"activation": "tanh"}, "healthy"),
    "linear, orthogonal": ({"activation": "identity", "init": "orthogonal"}, "healthy"),
    "tanh, critical with biases": (
        {"activation": "tanh", "init": "lecun", "gain": 1.76095**0.5, "bias_std": 0.05**0.5, "width": 128, "depth": 40},
        "healthy",
    ),
    "ReZero": ({"activation": "relu", "init": "he", "residual": "rezero"}, "healthy"),
    "scaled branches": ({"activation": "relu", "init": "he", "residual": "scaled", "depth": 40}, "healthy"),
    "branches after a BatchNorm": (
        {"activation": "relu", "init": "he", "residual": "preactivation", "norm": "batch", "depth": 32},
        "healthy",
    ),
    "convolutions, He": ({"model": "conv", "activation": "relu", "init": "he", "width": 8, "depth": 10}, "healthy"),
    "convolutions, sigmoid": ({"model": "conv", "activation": "sigmoid", "width": 8, "depth": 8}, "vanishing"),
    "unscaled branches": ({"activation": "relu", "init": "he", "residual": "add", "depth": 20}, "exploding"),
    "BatchNorm": ({"activation": "relu", "init": "he", "norm": "batch", "depth": 30}, "exploding"),
    "tanh, weights x 10": ({"activation": "tanh", "init": "lecun", "gain": 10.0, "depth": 6}, "saturated"),
    "one layer saturated by its inputs": ({"activation": "tanh", "scaling": "255", "depth": 10}, "saturated"),
    "ReLU, bias -8": ({"activation": "relu", "init": "he", "bias": -8.0, "depth": 5}, "dead units"),
    "clip norm 1e-3": (
        {"activation": "relu", "init": "he", "clip_norm": 1e-3, "steps": 10, "depth": 6},
        "over-clipped",
    ),
    "learning rate 1e-9": (
        {"activation": "relu", "init": "he", "learning_rate": 1e-9, "steps": 10, "depth": 6},
        "update below precision",
    ),
    "learning rate 1e-9 in float64": (
        {"activation": "relu", "init": "he", "learning_rate": 1e-9, "steps": 10, "depth": 6, "dtype": "float64"},
        "healthy",
    ),
    "ReLU, He x 2": ({"activation": "relu", "init": "he", "gain": 2.0}, "exploding"),
    "linear, N(0, 1)": ({"activation": "identity", "init": "normal"}, "exploding"),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("change", "disease"), KNOWN.values(), ids=KNOWN)
def test_diagnose_names_the_disease_built_into_a_network(change, disease, seed):
    diagnosis = gc.diagnose(gc.run(replace(DEEP, seed=seed, **change)))
    assert diagnosis.disease == disease
    assert bool(diagnosis.cures) == (disease != "healthy")
    assert 0.0 <= diagnosis.confidence <= 1.0


def test_evidence_holds_the_numbers_of_the_trace():
    trace = gc.run(DEEP)
    diagnosis = gc.diagnose(trace)
    delta = trace.at_weights("delta")
    for number in (f"{delta[0]:.1e}", f"{delta[-2]:.1e}", f"{trace.factor_per_layer():.3f}"):
        assert number in diagnosis.evidence
    assert diagnosis.layer == "linear1"
    assert diagnosis.step == 0


def test_prediction_is_near_the_measurement_for_a_wide_network():
    trace = gc.run(replace(DEEP, width=256))
    assert gc.diagnose(trace).prediction == pytest.approx(trace.factor_per_layer(), rel=0.02)


def test_prediction_is_missing_without_a_config():
    diagnosis = gc.diagnose(replace(gc.run(DEEP), config=None))
    assert diagnosis.prediction is None
    assert "Theory" not in str(diagnosis)


def test_diverged_run_names_step_and_layer_of_the_first_value_that_is_not_finite():
    config = gc.Config(depth=10, activation="relu", init="he", gain=1.5, learning_rate=0.05, batch_size=64)
    trace = gc.run(config)
    event = next(event for event in trace.events if event.kind == "non-finite")
    diagnosis = gc.diagnose(trace)
    assert diagnosis.disease == "diverged"
    assert (diagnosis.step, diagnosis.layer) == (event.step, event.layer)
    assert trace.steps[-1] == event.step
    assert np.isfinite(trace.loss[:-1]).all()


def test_diagnosis_prints_as_one_short_paragraph():
    text = str(gc.diagnose(gc.run(DEEP)))
    assert text.startswith("Diagnosis: vanishing at linear1, step 0")
    assert "\n" not in text
    assert len(text) < 450


def test_a_gradient_that_is_zero_is_vanishing():
    trace = gc.run(DEEP)
    delta = trace.delta.copy()
    delta[0, 0] = 0.0
    assert gc.diagnose(replace(trace, delta=delta)).disease == "vanishing"


def test_a_gradient_that_is_zero_everywhere_needs_a_second_step():
    nothing_yet = gc.diagnose(replace(DEEP, init="zero"))
    assert nothing_yet.disease == "unsure"
    assert "exactly 0 at every hidden layer" in nothing_yet.evidence
    assert gc.diagnose(replace(DEEP, init="zero", activation="tanh", steps=3)).disease == "vanishing"


def test_too_few_layers_raise_one_clear_line():
    with pytest.raises(ValueError, match="three layers with weights"):
        gc.diagnose(gc.run(gc.Config(depth=2, steps=0)))


# ---- the shape of a profile


def profile_of(delta):
    delta = np.asarray(delta, dtype=float)
    return Profile(np.arange(len(delta)), delta, 0, 1, np.array([], dtype=int))


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.2])
@pytest.mark.parametrize("layers", [2, 3, 9, 40])
def test_an_exponential_is_as_steady_as_it_is_large(factor, layers):
    profile = profile_of(factor ** np.arange(layers)[::-1])
    expected = (layers - 1) * math.log10(factor)
    assert profile.total == pytest.approx(expected)
    assert profile.steady == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.5, 1.0])
@pytest.mark.parametrize("from_input", [False, True])
def test_a_power_of_the_depth_is_healthy(power, from_input):
    number = np.arange(1.0, 101.0)
    profile = profile_of((number if from_input else number[::-1]) ** power)
    assert abs(profile.total) == pytest.approx(2 * abs(power))
    assert rules.by_depth(profile) in (("healthy",) if abs(power) == 0.5 else ("healthy", "unsure"))


def test_one_odd_layer_does_not_hide_an_exponential():
    delta = 0.7 ** np.arange(30)[::-1]
    delta[[4, 22]] *= [30.0, 0.03]
    assert rules.by_depth(profile_of(delta)) == "vanishing"


def test_all_of_the_loss_between_two_layers_is_not_an_exponential():
    profile = profile_of(np.where(np.arange(20) < 10, 1e-6, 1.0))
    assert rules.by_depth(profile) == "unsure"


def test_layers_of_different_kinds_are_compared_with_their_own():
    """Two maps a block whose gradients differ a thousandfold, each the same in every block."""
    trace = gc.run(replace(DEEP, activation="relu", init="he", depth=9))
    weighted = np.flatnonzero(trace.has_weight)
    names, delta = list(trace.layers), trace.delta.copy()
    for number, column in enumerate(weighted[:-1]):
        names[column] = f"blocks.{number // 2}.{('up', 'down')[number % 2]}"
        delta[0, column] = (1e-3, 1.0)[number % 2] * 0.5 ** (3 - number // 2)
    diagnosis = gc.diagnose(replace(trace, layers=tuple(names), delta=delta, config=None))
    assert "a factor of 0.500 per layer over 4 layers" in diagnosis.evidence


def test_time_steps_of_a_cell_are_one_profile():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.RNNCell(8, 32), nn.Linear(32, 10)

        def forward(self, x):
            state = None
            for step in range(x.shape[1]):
                state = self.cell(x[:, step], state)
            return self.head(state)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, x, y = Recurrent(), torch.randn(16, 25, 8), torch.randint(0, 10, (16,))
    with gc.Recorder(model, per_call=True) as recorder:
        cross_entropy(model(x), y).backward()
        recorder.end_step()
    diagnosis = gc.diagnose(recorder.trace)
    assert (diagnosis.disease, diagnosis.layer) == ("vanishing", "cell[0]")
    assert "over 25 layers" in diagnosis.evidence


# ---- runs that fall ill on the way


def test_units_that_die_in_training_are_found_with_their_step():
    config = gc.Config(
        depth=3,
        width=128,
        activation="relu",
        init="torch",
        scaling="unit",
        learning_rate=3.0,
        batch_size=64,
    )
    trace = gc.run(config)
    diagnosis = gc.diagnose(trace)
    assert diagnosis.disease == "dead units"
    share = trace.dead[:, trace.layers.index(diagnosis.layer)]
    assert share[0] < 0.2
    assert share[diagnosis.step] >= rules.LIMITS.dead
    assert np.nanmax(trace.dead[: diagnosis.step, :][-1]) < 1.0
    assert np.median(np.nanmax(trace.dead[diagnosis.step :], axis=1)) >= rules.LIMITS.dead


def test_a_loss_that_rises_and_stays_is_diverged_at_the_step_where_it_rose():
    trace = gc.run(replace(DEEP, activation="relu", init="he", depth=6, steps=12, learning_rate=1e-3))
    loss = np.array([2.3, 2.2, 40.0, 2.0, 2.1, 2.0, 30.0, 50.0, 45.0, 60.0, 50.0, 70.0])
    diagnosis = gc.diagnose(replace(trace, loss=loss))
    assert (diagnosis.disease, diagnosis.step) == ("diverged", 6)
    spike = np.where(np.arange(12) == 6, 50.0, 2.0)
    assert gc.diagnose(replace(trace, loss=spike)).disease == "healthy"


def test_precision_is_that_of_the_weights():
    """Steps of 1e-3 of the weights and less: float32 would take them, bfloat16 does not."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [part for _ in range(4) for part in (nn.Linear(32, 32), nn.ReLU())]
        for layer in layers[::2]:
            nn.init.orthogonal_(layer.weight, 2.0**0.5)
        model = nn.Sequential(*layers, nn.Linear(32, 10)).to(torch.bfloat16)
        x, y = torch.randn(64, 32, dtype=torch.bfloat16), torch.randint(0, 10, (64,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gc.Recorder(model, optimizer) as recorder:
        for _ in range(5):
            optimizer.zero_grad()
            cross_entropy(model(x).float(), y).backward()
            optimizer.step()
    in_bfloat16 = gc.diagnose(recorder.trace, dtype=torch.bfloat16)
    assert in_bfloat16.disease == "update below precision"
    assert f"{torch.finfo(torch.bfloat16).eps:.1e}" in in_bfloat16.evidence


def test_over_clipped_is_told_by_the_share_that_is_left():
    trace = gc.run(gc.Config(activation="relu", init="he", clip_norm=1e-3, steps=8, depth=6))
    raw = np.median([event.raw for event in trace.events if event.kind == "clipped"])
    diagnosis = gc.diagnose(trace)
    assert f"8 of 8 steps, from {raw:.1e} to 1.0e-03" in diagnosis.evidence
    assert diagnosis.cures[0].config.clip_norm == pytest.approx(raw, rel=0.05)


# ---- what may be diagnosed


def test_a_model_with_batch_and_loss_is_measured_and_left_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(*[part for _ in range(8) for part in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 3))
        batch = torch.randn(32, 16), torch.randint(0, 3, (32,))
    diagnosis = gc.diagnose(model, batch, cross_entropy)
    assert diagnosis.disease == "vanishing"
    assert diagnosis.evidence == gc.diagnose(gc.measure(model, batch, cross_entropy)).evidence
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_config_is_run():
    assert str(gc.diagnose(DEEP)) == str(gc.diagnose(gc.run(DEEP)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "takes a Trace, a Config or a module"),
        ((nn.Linear(2, 2),), r"call diagnose\(model, \(x, y\), loss_fn\)"),
    ],
)
def test_anything_else_is_refused(arguments, message):
    with pytest.raises(TypeError, match=message):
        gc.diagnose(*arguments)


def test_prediction_of_a_residual_network_is_for_its_blocks():
    config = gc.Config(depth=20, width=256, activation="relu", init="he", residual="add", steps=0)
    diagnosis = gc.diagnose(config)
    assert diagnosis.prediction == pytest.approx(math.sqrt(2.0), rel=1e-3)  # 1 + alpha**2 for the squares
    assert diagnosis.layer == "block2.linear"


def test_prediction_is_missing_where_theory_has_no_law():
    config = replace(DEEP, activation="relu", init="he", norm="group")
    assert gc.diagnose(config).prediction is None


# ---- cures


@pytest.mark.parametrize(
    ("change", "disease"),
    [pair for pair in KNOWN.values() if pair[1] != "healthy"],
    ids=[k for k in KNOWN if KNOWN[k][1] != "healthy"],
)
def test_the_first_cure_helps(change, disease):
    trial = gc.diagnose(replace(DEEP, **change)).try_cure()
    assert trial.before.disease == disease
    assert trial.helped
    assert trial.after.disease == "healthy"
    assert trial.after.trace.config == trial.cure.config != trial.before.trace.config
    lines = str(trial).splitlines()
    assert [line.split()[0] for line in lines] == ["Before:", "After"]
    assert lines[1].endswith("It helped.")


def test_a_cure_that_does_not_help_says_so():
    def nothing(cure):
        return gc.run(DEEP)

    trial = gc.diagnose(DEEP).try_cure(run=nothing)
    assert not trial.helped
    assert str(trial).endswith("It did not help.")


def test_without_a_config_the_cure_is_run_by_the_caller():
    trace = replace(gc.run(DEEP), config=None)
    diagnosis = gc.diagnose(trace)
    with pytest.raises(ValueError, match=r"call try_cure\(run=...\) with a function that takes the cure"):
        diagnosis.try_cure()
    seen = []

    def train(cure):
        seen.append(cure)
        return replace(gc.run(replace(DEEP, activation="relu", init="he")), config=None)

    trial = diagnosis.try_cure(run=train)
    assert seen == [diagnosis.cures[0]]
    assert "ReLU" in seen[0].name
    assert trial.helped


def test_try_cure_refuses_what_it_cannot_do():
    healthy = gc.diagnose(replace(DEEP, activation="relu", init="he"))
    with pytest.raises(ValueError, match="no cure to try for a diagnosis of 'healthy'"):
        healthy.try_cure()
    with pytest.raises(TypeError, match="must return a Trace, not NoneType"):
        gc.diagnose(DEEP).try_cure(run=lambda cure: None)


DISEASES = ["vanishing", "exploding", "saturated", "dead units", "update below precision", "diverged"]


@pytest.mark.parametrize("disease", DISEASES)
@pytest.mark.parametrize(
    "change",
    [
        {"init": "lsuv"},
        {"depth": 3, "residual": "add"},
        {"norm": "group"},
        {"norm": "batch", "activation": torch.tanh},
        {"model": "conv", "width": 4},
        {"data": "synthetic"},
        {"clip_value": 0.1},
        {"optimizer": "lion", "learning_rate": 1e-4},
        {"residual": "rezero", "residual_scale": 0.5},
    ],
    ids=lambda change: "-".join(change),  # not the values: a function's repr is another in each worker
)
def test_every_cure_is_a_config_that_its_rules_allow_and_that_differs(disease, change):
    config = replace(DEEP, **{"depth": 5, "width": 16, **change})
    trace = gc.run(config)
    cures = cures_for(disease, trace, signals(trace, 1e-7))
    assert cures
    assert all(cure.config != config for cure in cures)


# ---- the limits


@pytest.mark.slow
def test_limits_are_those_that_the_benchmark_fits(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import diagnosis as benchmark

    fitted = benchmark.fit(benchmark.cases("fit"))
    assert asdict(fitted) == pytest.approx(asdict(rules.LIMITS), rel=0.1)  # other machines round other ways
    del sys.modules["diagnosis"]


@pytest.mark.slow
def test_diagnoses_of_the_held_out_half_are_right(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import diagnosis as benchmark

    found = benchmark.cases("held out")
    right, alarms, _, count, healthy = benchmark.scores(found)
    assert count >= 240
    assert healthy >= count / 3
    assert right >= 0.95
    assert alarms <= 0.02
