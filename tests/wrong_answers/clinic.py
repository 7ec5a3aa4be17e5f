"""Answers that learners give to sheet 10, wrong and right, written as a learner would write them."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse.training import Trained, build_model, load_data

# 10-q1 ---------------------------------------------------------------------------------------------------------------


def gradient_norm(trace):
    return np.sqrt(np.nansum(trace.weight_gradient[:, trace.has_weight] ** 2, axis=1))


def by_order(trace, profile="delta", chance=None, overflow=None, all_modes_alike=False):
    """Read in a fixed order; the arguments are ways of reading wrongly."""
    size, delta, step = (trace.at_weights(name) for name in ("activation_rms", profile, "update_ratio"))
    if overflow and np.isnan(trace.test_accuracy):
        return overflow
    if chance and trace.test_accuracy < 0.2:
        return chance
    if size[0] > 40:
        return "inputs not scaled"
    if np.nan_to_num(trace.dead[0]).max() > 0.99:
        return "dead units"
    if delta[-2] < 1e-5 * delta[-1]:
        return "equal weights"
    decades = np.log10(delta[0] / delta[-2])
    if decades < -1:
        return "small weights" if size[-2] < 0.05 * size[0] else "small slopes"
    if decades > 1:
        return "large weights" if size[-2] > 20 * size[0] else "BatchNorm without skips"
    if step.max() < 1e-3:
        return "tiny rate"
    if step.max() > 0.2:
        return "huge rate"
    norm = gradient_norm(trace)
    if norm.max() > 8 * norm[0]:
        return "no zero_grad"
    if not all_modes_alike and np.median(trace.loss[-10:]) < 0.5:
        return "stale statistics"
    return "softmax twice" if trace.train_accuracy > 0.4 else "shuffled labels"


def chance_is_vanishing(trace):
    return by_order(trace, chance="small slopes")


def looks_at_weight_gradients(trace):
    return by_order(trace, profile="weight_gradient")


def nan_is_large_weights(trace):
    return by_order(trace, overflow="large weights")


def forgets_evaluation_mode(trace):
    return by_order(trace, all_modes_alike=True)


def asks_the_diagnosis(trace):
    return gc.diagnose(trace).disease


def says_a_number(trace):
    return float(trace.factor_per_layer())


def forgets_to_return(trace):
    by_order(trace)


def knows_the_ward(trace):
    def told(of):
        return of.layers, np.round(of.loss[:3], 5).tolist()

    known = {str(told(patient.trace)): patient.cause for patient in gc.clinic.ward(5).values()}
    return known.get(str(told(trace)), "shuffled labels")


def by_scores(trace):
    """Another order, with logarithms, in torch."""
    names = ("delta", "activation_rms", "update_ratio")
    delta, size, step = (torch.tensor(trace.at_weights(name)).clamp_min(1e-30).log10() for name in names)
    if delta[:-1].max() < -29:
        return "dead units"
    if delta[-1] - delta[-2] > 4:
        return "equal weights"
    through, forward = delta[0] - delta[-2], size[-2] - size[0]
    if through.abs() > 1:
        names = ("BatchNorm without skips", "large weights") if through > 0 else ("small slopes", "small weights")
        return names[int(forward.abs() > 1)]
    if size[0] > 1.6:
        return "inputs not scaled"
    if not -4 < step.max() < -0.8:
        return "tiny rate" if step.max() < -4 else "huge rate"
    if gradient_norm(trace).max() > 7 * gradient_norm(trace)[0]:
        return "no zero_grad"
    learned = trace.train_accuracy > 0.25
    if not learned:
        return "shuffled labels"
    return "softmax twice" if trace.loss.min() > 1.46 else "stale statistics"


# 10-q2 ---------------------------------------------------------------------------------------------------------------

CHANGES = {
    "small slopes": {"activation": "relu", "init": "he"},
    "small weights": {"init": "xavier", "gain": 1.0},
    "large weights": {"gain": 1.0},
    "dead units": {"bias": 0.0},
    "equal weights": {"init": "xavier", "gain": 1.0},
    "BatchNorm without skips": {"residual": "scaled"},
    "shuffled labels": {"labels": "true"},
    "no zero_grad": {"zero_grad": True},
    "inputs not scaled": {"scaling": "standard"},
    "stale statistics": {"running_momentum": 0.1},
    "softmax twice": {"softmax": False},
    "tiny rate": {"learning_rate": 0.1},
    "huge rate": {"learning_rate": 0.1},
}


def by_table(cause):
    return CHANGES[cause]


def prescribing(name, **changes):
    def prescribe(cause):
        return changes if cause == name else CHANGES[cause]

    return prescribe


def named(function, name):
    function.__name__ = name
    return function


clips = named(prescribing("no zero_grad", clip_norm=1.0), "clips")
clips_pixels = named(prescribing("inputs not scaled", clip_norm=1.0), "clips_pixels")
raises_the_rate = named(prescribing("softmax twice", learning_rate=1.0), "raises_the_rate")
relu_without_he = named(prescribing("small weights", activation="relu"), "relu_without_he")
layernorm_for_sigmoid = named(prescribing("small slopes", norm="layer"), "layernorm_for_sigmoid")
he_for_sigmoid = named(prescribing("small slopes", init="he"), "he_for_sigmoid")
shallower = named(prescribing("small slopes", depth=3), "shallower")
norm_against_symmetry = named(prescribing("equal weights", norm="batch"), "norm_against_symmetry")
other_constant = named(prescribing("equal weights", gain=0.5), "other_constant")
without_batchnorm = named(prescribing("BatchNorm without skips", norm=None), "without_batchnorm")
leaky_for_dead = named(prescribing("dead units", activation="leaky_relu"), "leaky_for_dead")
does_nothing = named(prescribing("large weights"), "does_nothing")
as_it_is = named(prescribing("BatchNorm without skips", norm="batch"), "as_it_is")
unknown_field = named(prescribing("no zero_grad", zero_gradient=True), "unknown_field")
not_allowed = named(prescribing("small weights", init="glorot"), "not_allowed")


def returns_words(cause):
    return "draw the weights anew"


def knows_a_few(cause):
    if "rate" in cause:
        return {"learning_rate": 0.05}
    if cause in ("small slopes", "small weights", "dead units", "inputs not scaled"):
        return {"norm": "batch"}
    if cause in ("large weights", "BatchNorm without skips"):
        return {"residual": "preactivation"} if "Norm" in cause else {"init": "he", "gain": 1.0}
    return CHANGES[cause]


# 10-q3 ---------------------------------------------------------------------------------------------------------------


def by_the_sheet(patient):
    return patient.treat(**by_table(by_order(patient.trace))).trained


HEALTHY = {"activation": "relu", "init": "he", "gain": 1.0, "bias": 0.0, "scaling": "standard", "norm": None}


def trained_on(config, steps=300, rate=0.1):
    """A healthy network trained by a loop of one's own; returns model and Config."""
    config = replace(config, **HEALTHY, residual="scaled", momentum=0.0, learning_rate=rate)
    model, split = build_model(config), load_data(config)
    optimizer, generator = torch.optim.SGD(model.parameters(), lr=rate), torch.Generator().manual_seed(1)
    for _ in range(steps):
        batch = torch.randint(len(split.x_train), (64,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
        optimizer.step()
    return model, config


def by_own_loop(patient):
    return Trained.of(*trained_on(patient.script.config))


def not_trained(patient):
    config = replace(patient.script.config, **HEALTHY)
    return Trained.of(build_model(config), config)


def as_it_came(patient):
    return patient.treat().trained


def trains_a_shallow_one(patient):
    return Trained.of(*trained_on(replace(patient.script.config, depth=3)))


def trains_a_wide_one(patient):
    return Trained.of(*trained_on(replace(patient.script.config, width=128)))


def trains_on_another_split(patient):
    return Trained.of(*trained_on(replace(patient.script.config, seed=patient.script.config.seed + 1)))


def trains_to_nan(patient):
    model, config = trained_on(patient.script.config, steps=1)
    with torch.no_grad():
        model.linear1.weight[0, 0] = torch.nan
    return Trained.of(model, config)


def hands_over_other_weights(patient):
    trained = by_own_loop(patient)
    return Trained(replace(trained.config, residual=None, norm="batch"), trained.state)


def forgets_a_layer(patient):
    trained = by_own_loop(patient)
    return Trained(trained.config, {name: array for name, array in trained.state.items() if "linear1." not in name})


def hands_over_the_model(patient):
    return trained_on(patient.script.config, steps=1)[0]


def hands_over_the_treated(patient):
    return patient.treat(**by_table(by_order(patient.trace)))


def hands_over_no_arrays(patient):
    return Trained(patient.script.config, None)


def claims_in_words(patient):
    return {"accuracy": 0.99}


class Claim(Trained):
    """A Trained that says that it reads every image."""

    def accuracy(self, part="test"):
        return 1.0


def claims_an_accuracy(patient):
    trained = not_trained(patient)
    return Claim(trained.config, trained.state)


# 10-q4 ---------------------------------------------------------------------------------------------------------------


def impossible(trace):
    """How many times larger a weight gradient is than its step can make it, at most."""
    worst, columns = 0.0, np.flatnonzero(trace.has_weight)
    for column in columns[1:]:
        units = 10 if column == columns[-1] else 64
        delta, inputs = trace.delta[:, column], trace.activation_rms[:, column - 1]
        with np.errstate(all="ignore"):
            ratio = trace.weight_gradient[:, column] / (64 * (64 * units) ** 0.5 * delta * inputs)
        worst = max(worst, np.nanmax(ratio))
    return worst


def by_signs_after(before, after):
    if np.isnan(after.test_accuracy) or after.test_accuracy < 0.8:
        return "still ill"
    signs = impossible(after) > 1.05, after.at_weights("activation_rms")[0] > 100, np.nanmin(after.loss) > 1.46
    return "masked" if any(signs) else "cured"


def by_the_cause_before(before, after):
    """Ask the sign of the cause that was found before."""
    if not after.test_accuracy > 0.8:
        return "still ill"
    cause = by_order(before)
    still = {
        "inputs not scaled": after.activation_rms[0, 0] > 50,
        "softmax twice": after.loss.min() > 1.461,
        "no zero_grad": impossible(after) > 1.01,
    }
    return "masked" if still.get(cause) else "cured"


def accuracy_alone(before, after):
    return "cured" if after.test_accuracy > 0.8 else "still ill"


def better_is_cured(before, after):
    gained = np.nan_to_num(after.test_accuracy) > np.nan_to_num(before.test_accuracy) + 0.1
    return by_signs_after(before, after) if not gained or after.test_accuracy >= 0.8 else "cured"


def loss_alone(before, after):
    last = np.median(after.loss[-20:])
    return "cured" if last < 0.5 else "still ill"


def cause_before_is_enough(before, after):
    if not after.test_accuracy > 0.8:
        return "still ill"
    return "masked" if by_order(before) in ("no zero_grad", "softmax twice", "inputs not scaled") else "cured"


def first_profile_alone(before, after):
    return by_signs_after(before, after) if by_order(before) == "large weights" else "still ill"


def says_yes(before, after):
    return True


WRONG = {
    "10-q1": {
        chance_is_vanishing: "Accuracy at chance is not yet a vanishing gradient",
        looks_at_weight_gradients: "dL/dW is flat here",
        nan_is_large_weights: "NaN alone does not say large weights",
        forgets_evaluation_mode: "Do not forget evaluation mode",
        asks_the_diagnosis: "is none of the thirteen names",
        says_a_number: "a string, not a float",
        forgets_to_return: "does it end with return?",
    },
    "10-q2": {
        clips: "it is still the sum",
        clips_pixels: "the pixels are 0 to 255 still",
        raises_the_rate: "both softmaxes are still there",
        relu_without_he: "its weights are as small as before",
        layernorm_for_sigmoid: "LayerNorm gives each image",
        he_for_sigmoid: "Other weights leave the slopes",
        shallower: "Leave depth as it is",
        norm_against_symmetry: "norm does not act on 'equal weights'",
        other_constant: "are equal still",
        without_batchnorm: "Without BatchNorm the thirty layers",
        leaky_for_dead: "The biases stay",
        does_nothing: "An empty prescription",
        as_it_is: "changes nothing",
        unknown_field: "'zero_gradient' can't be changed",
        not_allowed: "init must be one of",
        returns_words: "returns a dict of changes",
    },
    "10-q3": {
        not_trained: "those that it was drawn with",
        as_it_came: "evaluated anew, reaches",
        trains_a_shallow_one: "This network has depth 3 and the patient",
        trains_a_wide_one: "This network has width 128 and the patient 64",
        trains_on_another_split: "Another seed",
        trains_to_nan: "NaN or inf",
        hands_over_other_weights: "these weights are not those of",
        forgets_a_layer: "has shape none and must have",
        hands_over_the_model: "Return a gradcourse.training.Trained",
        hands_over_the_treated: "Return a gradcourse.training.Trained",
        hands_over_no_arrays: "whose state is a NoneType",
        claims_in_words: "not a dict",
        claims_an_accuracy: "those that it was drawn with",
    },
    "10-q4": {
        accuracy_alone: "The accuracy is back, the cause is too: some steps have a weight gradient larger",
        better_is_cured: "Better than before, or finite, is not healthy",
        loss_alone: "The accuracy is back, the cause is too",
        cause_before_is_enough: "Look there, not in the first one",
        first_profile_alone: "It is masked",
        says_yes: "not a bool",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "10-q1": (by_order, by_scores),
    "10-q2": (by_table, knows_a_few),
    "10-q3": (by_the_sheet, by_own_loop),
    "10-q4": (by_signs_after, by_the_cause_before),
}

ONLY_VISIBLE = {"10-q1": knows_the_ward}
"""Answers that pass what is visible and must fail what is hidden."""
