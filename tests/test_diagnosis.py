"""The diagnosis of networks whose disease is known by construction."""

from dataclasses import replace

import numpy as np
import pytest

import gradcourse as gc

DEEP = gc.Config(depth=16, width=64, steps=0)
KNOWN = {
    "sigmoid, Xavier": ({"activation": "sigmoid"}, "vanishing"),
    "tanh, tiny weights": ({"activation": "tanh", "init": "normal", "gain": 0.01}, "vanishing"),
    "ReLU, Xavier": ({"activation": "relu"}, "vanishing"),
    "ReLU, He": ({"activation": "relu", "init": "he"}, "healthy"),
    "tanh, Xavier": ({"activation": "tanh"}, "healthy"),
    "linear, orthogonal": ({"activation": "identity", "init": "orthogonal"}, "healthy"),
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


def test_too_few_layers_raise_one_clear_line():
    with pytest.raises(ValueError, match="three layers with weights"):
        gc.diagnose(gc.run(gc.Config(depth=2, steps=0)))
