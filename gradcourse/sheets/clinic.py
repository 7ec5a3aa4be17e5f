"""Sheet 10: public cases, what is wrong with an answer, and what the checks train and evaluate anew."""

import numpy as np

from gradcourse.clinic import CAUSES, Patient, admit, ward
from gradcourse.sheets.question import Case, Question
from gradcourse.training import Config, Trained, build_model

WARD = 5
"""The ward whose patients the visible checks show; hidden ones come from others."""

CURED = 0.8
"""What a treated network has to read of the test images: cures of the cause reach 0.84 and more, failures 0.65."""

_FRESH = 500  # seed of the patients that a prescription is tried on

# Question 1: the cause

_SIGNS = {
    "small slopes": "delta falls by orders of magnitude from the last hidden layer to the first, while the forward "
    "signal keeps its size: it is not the weights that are small",
    "small weights": "delta falls from the last hidden layer to the first, and the forward signal falls with it",
    "large weights": "delta grows by orders of magnitude towards the input, and the forward signal grows with depth",
    "dead units": "a whole layer has `dead` 1 at the first step, and delta below it is exactly 0",
    "equal weights": "from the output layer to the last hidden one delta drops to rounding error at once: equal "
    "output weights add up the errors of the ten classes, which is 0",
    "BatchNorm without skips": "delta grows by orders of magnitude towards the input, while the forward signal keeps "
    "its size in all layers",
    "shuffled labels": "the gradient is healthy and the training loss falls below ln 10 for good, yet the accuracy on "
    "the true labels stays near chance: it learns something else",
    "no zero_grad": "delta is healthy at the first step, and the norm of the weight gradient then grows ten times and "
    "more over its first value",
    "inputs not scaled": "the signal is over 100 at layer 1 already, before depth can have done anything",
    "stale statistics": "the training loss falls near 0, so that the network has learned, in training mode; the "
    "accuracy is that of evaluation mode",
    "softmax twice": "the gradient is healthy, the accuracy is far above chance, and yet the loss never falls below "
    "1.4612",
    "tiny rate": "the gradient is healthy, and one step moves every layer by about a millionth of its size",
    "huge rate": "delta has the same size in all layers, and the first step moves the weights by half their size or "
    "more",
}
_VANISHING = ("small slopes", "small weights")
_AT_CHANCE = ("dead units", "equal weights", "shuffled labels", "no zero_grad", "tiny rate")
_OVERFLOW = ("inputs not scaled", "huge rate")


def _judge_cause(value, trace, patient):
    if not isinstance(value, str):
        return f"name_cause returns one of the thirteen names, a string, not {_kind(value)}."
    said = value.strip()
    if said not in CAUSES:
        return f"{said!r} is none of the thirteen names: {', '.join(CAUSES)}."
    if said == patient.cause:
        return ""
    return f"Patient {patient.name} does not suffer from {said!r}. {_misread(said, patient.cause)}{_told(patient)}."


def _told(patient):
    return f"What to see in this trace: {_SIGNS[patient.cause]}"


def _misread(said, cause):
    """Name the way of reading that leads from a cause to this other name; empty if there is none."""
    if said in _VANISHING and cause in _AT_CHANCE:
        return "Accuracy at chance is not yet a vanishing gradient. "
    if said == "large weights" and cause in _OVERFLOW:
        return "NaN alone does not say large weights: delta has the same size in all layers here. "
    if cause == "small weights" and said != "small slopes":
        return "Look at delta: dL/dW is flat here, as it is made of a large delta times a small input or the reverse. "
    if cause == "stale statistics":
        return "Do not forget evaluation mode: loss and accuracy are not of the same network. "
    return ""


def cause_case(patient, place):
    """Make a case of question 1: the trace of a patient."""
    return Case("10-q1", (patient.trace,), f"the trace of patient {patient.name} of {place}", known=(patient,))


def _cause_cases():
    return [cause_case(patient, f"ward {WARD}") for patient in ward(WARD).values()]


# Question 2: the prescription

_NO_USE = (  # (cause, what the prescription changes, why that is not enough)
    ("small slopes", "init", "Other weights leave the slopes: the sigmoid's are 1/4 at most, whatever you multiply."),
    ("small slopes", "norm", "LayerNorm gives each image pre-activations of size 1, where the slope is 1/4 at most."),
    ("small weights", "activation", "ReLU has slope 1, but its weights are as small as before: draw them anew too."),
    ("dead units", "activation", "The biases stay, and with them all units on the side where the slope is small."),
    ("equal weights", "gain", "All weights of another size are equal still: units stay copies of each other."),
    ("BatchNorm without skips", "norm", "Without BatchNorm the thirty layers have nothing that keeps them in range."),
)
_MASKS = {
    ("no zero_grad", "clip_norm"): "Clipping cuts the sum of all gradients to a size that trains; it is still the sum.",
    ("no zero_grad", "norm"): "BatchNorm makes the network bear steps that are too large; they are too large still.",
    ("inputs not scaled", "clip_norm"): "Clipping makes steps bearable; the pixels are 0 to 255 still.",
    (
        "softmax twice",
        "learning_rate",
    ): "A larger rate makes up for the small gradient; both softmaxes are still there.",
    (
        "large weights",
        "clip_norm",
    ): "Clipping keeps the steps finite; the gradient grows from layer to layer as before.",
    ("BatchNorm without skips", "learning_rate"): "The rate multiplies the steps of all layers alike.",
}
_NOT_TO_TOUCH = ("depth", "width", "seed", "data", "model")


def _judge_prescription(value, cause, patient):
    if not isinstance(value, dict):
        return f"prescribe returns a dict of changes, such as {{'gain': 1.0}}, not {_kind(value)}."
    if not value:
        return f"An empty prescription changes nothing about {cause!r}."
    if (touched := [name for name in value if name in _NOT_TO_TOUCH]) != []:
        return f"Leave {touched[0]} as it is: with another one it is another patient, not a cured one."
    try:
        changed = patient.script.changed(**value)
    except (ValueError, TypeError) as error:
        return f"This can't be prescribed: {' '.join(str(error).split())}."
    return _beside_the_cause(value, cause) or _without_effect(changed, value, cause, patient)


def _beside_the_cause(value, cause):
    """Say which change acts on something else than the cause; empty if none does."""
    for name in value:
        if name not in CAUSES[cause].acted_on_by:
            masked = f"At best it hides the cause: {_lower(CAUSES[cause].meaning)}"
            return f"{name} does not act on {cause!r}. {_MASKS.get((cause, name), masked)}"
    return ""


def _without_effect(changed, value, cause, patient):
    """Treat the patient and evaluate the trained network anew; say what is missing, empty if it is cured."""
    if changed == patient.script:
        return f"{_shown(value)} changes nothing: this patient has that already."
    accuracy = patient.treat(**value).trained.accuracy("test")
    if accuracy >= CURED:
        return ""
    why = next((text for of, name, text in _NO_USE if of == cause and name in value), "")
    return f"Treated with {_shown(value)}, a patient with {cause!r} {_reaches(accuracy)}. {why}".rstrip()


def _reaches(accuracy):
    if np.isnan(accuracy):
        return f"ends with scores that are NaN or inf, and should reach {CURED:g} on the test images"
    return f"reaches {accuracy:.2f} on the test images and should reach {CURED:g}"


def prescription_case(cause, seed):
    """Make a case of question 2: a cause, and a patient that the check tries the prescription on."""
    return Case("10-q2", (cause,), repr(cause), known=(admit(cause, seed, str(seed)),))


def _prescription_cases():
    return [prescription_case(cause, _FRESH + number) for number, cause in enumerate(CAUSES)]


# Question 3: the trained network

_SAME = ("depth", "width", "model", "data", "seed", "dtype")


def _judge_network(value, patient):
    if not isinstance(value, Trained) or type(value.config) is not Config:
        return f"heal returns a Trained: a Config and the network's arrays, not {_kind(value)}."
    ill, well = patient.script.config, value.config
    for name in _SAME:
        if getattr(ill, name) != getattr(well, name):
            return _other_network(name, getattr(ill, name), getattr(well, name))
    accuracy = value.accuracy("test")  # refuses weights of another shape
    if accuracy >= CURED:
        return ""
    return f"Patient {patient.name}, rebuilt and evaluated anew, {_reaches(accuracy)}.{_untrained(value)}"


def _other_network(name, wanted, found):
    if name in ("seed", "data"):
        return (
            f"Another {name}: {found!r} instead of {wanted!r}. The seed chooses which images are for training, so that "
            "with another one the test images are not those that the patient is judged on."
        )
    return f"This network has {name} {found!r} and the patient {wanted!r}: it is another network, not a healed one."


def _untrained(value):
    """Say so where weights are those at initialization."""
    first = Trained.of(build_model(value.config), value.config).state
    if all(np.array_equal(first[name], array) for name, array in value.state.items() if name.endswith("weight")):
        return " Its weights are those that it was drawn with: train before you take them."
    return " It is evaluated in evaluation mode, and what a message or an attribute says of it counts nothing."


def network_case(patient, place):
    """Make a case of question 3: a patient whose card is empty."""
    anonymous = Patient(patient.name, "", patient.script)
    return Case("10-q3", (anonymous,), f"patient {patient.name} of {place}")


def _network_cases():
    return [network_case(ward(WARD)[name], f"ward {WARD}") for name in "BDFG"]


# Question 4: cured or masked

_ADAM = {"optimizer": "adam", "learning_rate": 1e-3}
TREATMENTS = (  # cause, what is changed, what comes of it
    ("no zero_grad", {"clip_norm": 1.0}, "masked"),
    ("no zero_grad", {"zero_grad": True}, "cured"),
    ("softmax twice", {"learning_rate": 1.0}, "masked"),
    ("large weights", {"clip_norm": 1.0}, "still ill"),
    ("inputs not scaled", {"clip_norm": 1.0}, "masked"),
    ("small slopes", {"activation": "relu", "init": "he"}, "cured"),
    ("small slopes", {"learning_rate": 1.0}, "still ill"),
    ("no zero_grad", {"norm": "batch"}, "masked"),
    ("softmax twice", _ADAM, "masked"),
    ("softmax twice", {"softmax": False}, "cured"),
    ("inputs not scaled", {"scaling": "standard"}, "cured"),
    ("stale statistics", {"running_momentum": 0.1}, "cured"),
    ("huge rate", {"clip_norm": 1.0}, "still ill"),
    ("equal weights", {"norm": "batch"}, "still ill"),
)
"""Treatments whose outcome is known by what they change; the first six are the visible cases."""

_STILL_THERE = {
    "no zero_grad": "some steps have a weight gradient larger than that step's own delta and inputs can make, so that "
    "gradients of earlier steps are in it",
    "softmax twice": "the loss of a network that reads the digits still never falls below 1.4612",
    "inputs not scaled": "the signal at layer 1 is over 100 as before",
}
_VERDICTS = ("cured", "masked", "still ill")


def _judge_verdict(value, before, after, cause, truth):
    said = value.strip().lower() if isinstance(value, str) else value
    if said not in _VERDICTS:
        return f"verdict returns one of {', '.join(map(repr, _VERDICTS))}, not {_kind(value)}."
    if said == truth:
        return ""
    if truth == "still ill":
        found = f"{after.test_accuracy:.2f} on the test images, and {CURED:g} is asked"
        return f"It is still ill, not {said}: {found}. Better than before, or finite, is not healthy."
    if truth == "masked":
        wrong = "It reads the digits now" if said == "still ill" else "The accuracy is back, the cause is too"
        return f"{wrong}: {_STILL_THERE[cause]}. It is masked."
    return _not_seen_as_cured(said, after)


def _not_seen_as_cured(said, after):
    if said == "masked":
        return "It is cured: the sign of its cause is gone from the second trace. Look there, not in the first one."
    return (
        f"It is cured: it reads {after.test_accuracy:.2f} of the test images. A loss curve that looks alike, or the "
        "profile at the first step alone, does not tell."
    )


def verdict_case(number, seed):
    """Make a case of question 4: the traces of one of TREATMENTS, tried on a patient of some seed."""
    cause, changes, truth = TREATMENTS[number]
    patient = admit(cause, seed)
    shown = f"patient {seed} before, after"
    return Case("10-q4", (patient.trace, patient.treat(**changes).trace), shown, known=(cause, truth))


def _verdict_cases():
    return [verdict_case(number, WARD) for number in range(6)]


def _kind(value):
    return f"a {type(value).__name__}" if value is not None else "None: does it end with return?"


def _lower(text):
    return text[0].lower() + text[1:]


def _shown(value):
    return ", ".join(f"{name}={part!r}" for name, part in value.items())


QUESTIONS = (
    Question(
        id="10-q1",
        signature="name_cause(trace)",
        returns="the name of what the network suffers from",
        points=4,
        minutes=20,
        core=True,
        oracle=None,
        judge=_judge_cause,
        cases=_cause_cases,
    ),
    Question(
        id="10-q2",
        signature="prescribe(cause)",
        returns="what to change, as a dict",
        points=3,
        minutes=10,
        core=True,
        oracle=None,
        judge=_judge_prescription,
        cases=_prescription_cases,
    ),
    Question(
        id="10-q3",
        signature="heal(patient)",
        returns="the trained network, a Trained",
        points=3,
        minutes=20,
        core=False,
        oracle=None,
        judge=_judge_network,
        cases=_network_cases,
        problems=(("which is not a number", "Return a gradcourse.training.Trained: nothing else is evaluated."),),
    ),
    Question(
        id="10-q4",
        signature="verdict(before, after)",
        returns='"cured", "masked" or "still ill"',
        points=3,
        minutes=20,
        core=False,
        oracle=None,
        judge=_judge_verdict,
        cases=_verdict_cases,
    ),
)
