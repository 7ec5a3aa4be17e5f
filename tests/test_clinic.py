"""The clinic: its networks fail by their own cause, training is run's, and a trained network is believed only anew."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from wrong_answers.clinic import CHANGES

import gradcourse as gc
from gradcourse.clinic import CAUSES, CURES, DISEASES, Script, admit, matrix, ward
from gradcourse.clinic.script import train
from gradcourse.training import Trained, build_model, load_data

TINY = gc.Config(depth=3, width=16, activation="relu", init="he", batch_size=32, steps=6, learning_rate=0.1)


def test_train_without_faults_is_run():
    ours, theirs = train(Script(TINY)).trace, gc.run(TINY)
    np.testing.assert_array_equal(ours.loss, theirs.loss)
    np.testing.assert_array_equal(ours.delta, theirs.delta)
    assert (ours.train_accuracy, ours.test_accuracy) == (theirs.train_accuracy, theirs.test_accuracy)
    assert ours.config is None


def test_forgotten_zero_grad_adds_gradients_up():
    """With a rate of almost 0 the weights stand still, so the gradient of step s is the sum of s + 1 of them."""
    slow = replace(TINY, learning_rate=1e-12, steps=3, dtype="float64")
    once, summed = (train(Script(slow, zero_grad=keep)) for keep in (True, False))
    model, split = build_model(slow), load_data(slow)
    batches = gc.training.batches_of(slow)
    for _ in range(3):
        batch = next(batches)
        cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
    expected = [model.get_submodule(f"linear{layer}").weight.grad.norm().item() for layer in (1, 2, 3)]
    np.testing.assert_allclose(summed.trace.at_weights("weight_gradient", -1), expected, rtol=1e-8)
    assert not np.allclose(once.trace.at_weights("weight_gradient", -1), expected, rtol=0.1)


def test_softmax_twice_has_the_loss_of_a_softmax_of_probabilities():
    model, split = build_model(TINY), load_data(TINY)
    batch = next(gc.training.batches_of(TINY))
    scores = model(split.x_train[batch]).softmax(dim=1).softmax(dim=1)
    expected = -scores.log()[torch.arange(len(batch)), split.y_train[batch]].mean().item()
    assert train(Script(TINY, softmax=True)).trace.loss[0] == pytest.approx(expected, rel=1e-5)


def test_shuffled_labels_are_the_same_classes_in_another_order():
    script = Script(replace(TINY, learning_rate=1e-12, steps=1, batch_size=1437), labels="shuffled")
    true = train(replace(script, labels="true")).trace.loss[0]
    assert train(script).trace.loss[0] != pytest.approx(true, rel=1e-3)
    from gradcourse.clinic.script import _labels

    split = load_data(script.config)
    shuffled = _labels(script, split)
    assert torch.equal(shuffled.bincount(), split.y_train.bincount())
    assert 0.05 < (shuffled == split.y_train).double().mean() < 0.15  # a tenth by chance


def test_running_momentum_is_the_share_of_each_batch():
    config = replace(TINY, norm="batch", steps=1)
    state = train(Script(config, running_momentum=0.25)).trained.state
    model, split = build_model(config), load_data(config)
    mean = model.linear1(split.x_train[next(gc.training.batches_of(config))]).mean(dim=0)
    name = next(name for name in state if name.endswith("running_mean"))
    np.testing.assert_allclose(state[name], 0.25 * mean.detach().numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"rate": 1.0}, ValueError, "'rate' can't be changed: there is labels, zero_grad, softmax, running_momentum"),
        ({"labels": "right"}, ValueError, "labels must be 'true' or 'shuffled'"),
        ({"running_momentum": 2}, ValueError, r"running_momentum must be in \(0, 1\]"),
        ({"gain": -1.0}, ValueError, r"Config\(gain=-1.0\): gain must be > 0"),
        ({"zero_grad": "yes"}, TypeError, "zero_grad='yes': zero_grad must be True or False"),
        ({"softmax": 1.5}, TypeError, "softmax must be True or False"),
        ({"running_momentum": "a"}, TypeError, "running_momentum must be a number"),
        ({"labels": []}, ValueError, "labels must be"),
    ],
)
def test_a_treatment_that_makes_no_sense_is_refused_in_one_line(changes, kind, said):
    with pytest.raises(kind, match=said) as caught:
        admit("tiny rate").treat(**changes)
    assert "\n" not in str(caught.value)


def test_ward_has_eight_patients_five_of_the_gradient_and_the_seed_decides():
    for seed in range(20):
        causes = [patient.cause for patient in ward(seed).values()]
        assert len(set(causes)) == len(causes) == 8
        assert sum(CAUSES[cause].of_gradient for cause in causes) == 5
    assert ward(3) == ward(3)
    assert len({tuple(patient.cause for patient in ward(seed).values()) for seed in range(20)}) == 20
    assert set().union(*({patient.cause for patient in ward(seed).values()} for seed in range(20))) == set(CAUSES)


def test_a_patient_does_not_tell_its_cause():
    for name, patient in ward(1).items():
        assert patient.name == name
        assert repr(patient) == f"Patient(name='{name}')"
    assert admit("small slopes", 1).trace.config is None
    with pytest.raises(ValueError, match="a cause is one of small slopes, "):
        admit("bad luck")


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_failure_and_ends_with_what_acts_on_it(cause):
    """One way to cure each, in the fields that are said to act on it; over seeds: test_claims_clinic."""
    cure = CHANGES[cause]
    patient = admit(cause, 0)
    assert set(cure) <= set(CAUSES[cause].acted_on_by)
    assert not patient.trace.test_accuracy > 0.85  # softmax twice is a slow failure
    treated = patient.treat(**cure)
    assert treated.trace.test_accuracy > 0.85
    assert treated.trained.accuracy() == treated.trace.test_accuracy


# --- Trained


@pytest.fixture(scope="module")
def trained():
    return train(Script(replace(TINY, norm="batch"))).trained


def test_trained_is_evaluated_anew_as_torch_does(trained):
    model, split = trained.model().eval(), load_data(trained.config)
    with torch.no_grad():
        expected = (model(split.x_test).argmax(dim=1) == split.y_test).double().mean().item()
    assert trained.accuracy() == expected
    assert trained.accuracy("train") != trained.accuracy("test")
    again = Trained.of(model, trained.config)
    assert all(np.array_equal(again.state[name], value) for name, value in trained.state.items())


def test_trained_keeps_its_numbers_when_the_model_goes_on(trained):
    model = trained.model()
    kept = Trained.of(model, trained.config)
    with torch.no_grad():
        model.linear1.weight.zero_()
    assert kept.state["linear1.weight"].any()


def test_trained_refuses_what_is_not_a_network_of_its_config(trained):
    wider = Trained(replace(trained.config, width=17), trained.state)
    with pytest.raises(ValueError, match=r"linear1.weight has shape \(16, 64\) and must have \(17, 64\)"):
        wider.accuracy()
    less = copy.copy(trained.state)
    del less["linear3.bias"]
    with pytest.raises(ValueError, match=r"linear3.bias has shape none and must have \(10,\)"):
        Trained(trained.config, less).model()
    with pytest.raises(ValueError, match="extra has shape"):
        Trained(trained.config, trained.state | {"extra": np.zeros(3)}).model()
    with pytest.raises(TypeError, match="it takes a model and the Config"):
        Trained.of(trained.config, trained.model())


def test_trained_with_numbers_that_are_not_finite_has_no_accuracy(trained):
    broken = {name: value * np.nan if value.dtype.kind == "f" else value for name, value in trained.state.items()}
    assert np.isnan(Trained(trained.config, broken).accuracy())


# --- the matrix


def test_matrix_treats_each_disease_with_each_cure():
    swept = matrix(
        [0], diseases={"dead": DISEASES["dead ReLU"]}, cures={n: CURES[n] for n in ("none", "Adam")}, steps=[2]
    )
    assert swept.axes == {"disease": ("dead",), "cure": ("none", "Adam"), "seed": (0,), "steps": (2,)}
    assert swept["dead", "Adam", 0, 2].config.optimizer == "adam"
    assert swept["dead", "none", 0, 2].config.bias == -5.0


def test_every_pair_of_disease_and_cure_can_be_run():
    for disease in DISEASES.values():
        config = replace(TINY, **disease)
        for cure in CURES.values():
            replace(config, **(cure(config) if callable(cure) else cure))


class Accuracies:
    """A sweep of which only accuracies are known: (disease, cure) -> one for each seed."""

    def __init__(self, cells):
        diseases, cures = (tuple(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
        seeds = tuple(range(len(next(iter(cells.values())))))
        self.axes = {"disease": diseases, "cure": cures, "seed": seeds}
        trace = gc.run(replace(TINY, steps=0))
        self._traces = {
            (*key, seed): replace(trace, train_accuracy=value)
            for key, row in cells.items()
            for seed, value in enumerate(row)
        }

    def items(self):
        return self._traces.items()


NAN = float("nan")


@pytest.mark.parametrize(
    ("untreated", "treated", "verdict"),
    [
        ((0.1, 0.1), (0.71, 1.0), "cures"),
        ((0.1, 0.1), (0.69, 1.0), "helps in part"),
        ((0.1, 0.1), (0.15, 1.0), "no help"),  # one seed alone
        ((0.1, 0.1), (0.1, NAN), "no help"),
        ((NAN, NAN), (0.5, 0.4), "helps in part"),
        ((NAN, NAN), (0.11, 0.1), "no help"),  # from NaN to chance
        ((NAN, NAN), (NAN, NAN), "no help"),
        ((0.5, 0.6), (0.1, 0.2), "harms"),
        ((0.5, 0.6), (NAN, NAN), "harms"),
        ((0.5, 0.6), (0.45, 0.2), "no help"),
        ((0.75, 0.8), (0.9, 0.95), "cures"),
    ],
)
def test_a_cure_is_judged_by_all_seeds(untreated, treated, verdict):
    sweep = Accuracies({("a", "none"): untreated, ("a", "x"): treated})
    assert gc.plots.cure_verdicts(sweep) == {("a", "x"): verdict}


def test_plot_cures_says_and_writes_what_it_shows():
    cells = {
        ("a", "none"): (0.1, 0.2, 0.1),
        ("a", "x"): (0.9, 0.8, 1.0),
        ("b", "none"): (0.5,) * 3,
        ("b", "x"): (NAN,) * 3,
    }
    ax = gc.plot_cures(Accuracies(cells))
    assert [text.get_text() for text in ax.texts] == [".10", ".90", ".50", "NaN"]
    assert gc.describe(ax) == "Which cure helps which disease. a: cures: x. b: harms: x."
    assert [label.get_text() for label in ax.get_yticklabels()] == ["none", "x"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    colours = [patch.get_facecolor() for patch in ax.patches]
    assert len(set(colours)) == 3  # untreated, cures, harms


def test_plot_cures_refuses_a_sweep_without_its_axes():
    swept = gc.sweep(replace(TINY, steps=1), gain=[1.0])
    with pytest.raises(ValueError, match="this sweep has no axis 'disease'"):
        gc.plot_cures(swept)
    with pytest.raises(ValueError, match="no cure 'none' to compare with; there is x"):
        gc.plot_cures(Accuracies({("a", "x"): (1.0,)}))
