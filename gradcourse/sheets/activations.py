"""Sheet 04: activations and their slopes, the gain that fits, and units that die."""

import math
from functools import cache

import numpy as np
import torch
from torch.nn import functional

from gradcourse.sheets.question import Case, Mistake, Question, Symptom
from gradcourse.theory import gaussian_mean

# Question 1: dead or alive, by experiment

_EXACT_SLOPE = {}  # of the functions that cases hold; kept apart from them, so that an answer can't ask


def _known(function, slope):
    _EXACT_SLOPE[function] = slope
    return function


@cache
def leaky(negative_slope):
    """Return max(u, a u) on NumPy arrays; a = 0 makes it ReLU, a = -1 the absolute value."""
    return _known(
        lambda u: np.where(u > 0, u, negative_slope * u),
        lambda u: np.where(u > 0, 1.0, negative_slope),
    )


@cache
def clamped(low, high):
    """Return u cut off at both ends, on NumPy arrays."""
    return _known(lambda u: np.clip(u, low, high), lambda u: np.where((u > low) & (u < high), 1.0, 0.0))


@cache
def exponential(size):
    """Return ELU with -size as its limit for negative inputs, on NumPy arrays."""
    return _known(
        lambda u: np.where(u > 0, u, size * np.expm1(np.minimum(u, 0.0))),
        lambda u: np.where(u > 0, 1.0, size * np.exp(np.minimum(u, 0.0))),
    )


def _slopes(phi, u):
    return _EXACT_SLOPE[phi](u)


def _state(largest):
    return float(largest), "dead" if largest == 0 else "alive"


def _unit_state(phi, u):
    return _state(np.abs(_slopes(phi, u)).max())


def _unit_state_cases():
    silent, mixed = np.array([-2.5, -4.0, -0.7, -3.2]), np.array([-2.5, -4.0, 0.7, -3.2])
    return [
        Case("04-q1", (leaky(0.0), silent), "relu, [-2.5, -4, -0.7, -3.2]"),
        Case("04-q1", (leaky(0.0), mixed), "relu, [-2.5, -4, 0.7, -3.2]"),
        Case("04-q1", (leaky(0.01), silent), "leaky_relu, [-2.5, -4, -0.7, -3.2]"),
        Case("04-q1", (leaky(-1.0), silent), "absolute value, [-2.5, -4, -0.7, -3.2]"),
        Case("04-q1", (exponential(1.0), silent), "elu, [-2.5, -4, -0.7, -3.2]"),
        Case("04-q1", (clamped(0.0, 6.0), 4.0 - 2 * silent), "min(max(u, 0), 6), [9, 12, 5.4, 10.4]"),
        Case("04-q1", (clamped(0.0, 6.0), 8.0 - silent), "min(max(u, 0), 6), [10.5, 12, 8.7, 11.2]"),
    ]


def _judged_by_output(phi, u):
    largest = np.abs(_slopes(phi, u)).max()
    return float(largest), "alive" if (phi(u) != 0).any() else "dead"


_UNIT_STATE_MISTAKES = (
    Mistake(
        "A unit is dead when no gradient passes it. An output of 0 is not the sign of that: a unit that is stuck at 6 "
        "is as dead as one that is stuck at 0. Judge by the slope.",
        _judged_by_output,
    ),
    Mistake(
        "You return the largest output. Asked for is the largest slope: how much the output changes when the input "
        "changes a little.",
        lambda phi, u: _state(np.abs(phi(u)).max()),
    ),
    Mistake(
        "phi(u) / u is the slope of the line from 0 to that point, not of phi at that point: change u a little and see "
        "by how much phi changes.",
        lambda phi, u: _state(np.abs(phi(u) / u).max()),
    ),
    Mistake(
        "A slope of -1 passes the gradient on as well as one of 1: take absolute values before the maximum.",
        lambda phi, u: _state(_slopes(phi, u).max()),
    ),
    Mistake(
        "A slope of -1 passes the gradient on as well as one of 1: take absolute values before the maximum.",
        lambda phi, u: (_slopes(phi, u).max(), "alive" if _slopes(phi, u).max() > 0 else "dead"),
    ),
    Mistake(
        "You average over the images. One image with a slope is enough to keep a unit alive: take the largest.",
        lambda phi, u: _state(np.abs(_slopes(phi, u)).mean()),
    ),
    Mistake(
        "You take the smallest slope. One image with a slope is enough to keep a unit alive: take the largest.",
        lambda phi, u: _state(np.abs(_slopes(phi, u)).min()),
    ),
    Mistake(
        "You look at the first image only: the unit may be active for another one.",
        lambda phi, u: _state(abs(_slopes(phi, u)[0])),
    ),
    Mistake(
        "You say slope 1 whatever the activation and its inputs. ReLU's slope for negative inputs is 0: measure it.",
        lambda phi, u: (1.0, "alive"),
    ),
)

# Question 2: six activations and their slopes

_TORCH = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "silu": functional.silu,
}
NAMES = tuple(_TORCH)
"""The six activations of question 2."""


def _activation(name, u):
    with torch.enable_grad():
        at = torch.tensor(u, requires_grad=True)
        value = _TORCH[name](at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach().numpy(), slope.numpy()


def _activation_cases():
    u = np.array([-1000.0, -3.0, -0.4, 0.6, 2.0, 1000.0])
    return [Case("04-q2", (name, u), f"{name!r}, [-1000, -3, -0.4, 0.6, 2, 1000]") for name in NAMES]


def _overflows(value, expected, name, u):
    return not all(np.isfinite(part).all() for part in value)


def _swapped(value, expected, name, u):
    return _close(value[0], expected[1]) and _close(value[1], expected[0])


def _slope_is(name, wrong):
    """Return a Symptom's `shows`: that the value is right and the slope of one activation is this wrong one."""

    def shows(value, expected, asked, u):
        return asked == name and _close(value[0], expected[0]) and _close(value[1], wrong(u, *expected))

    return shows


def _close(left, right):
    return np.allclose(left, right, rtol=1e-6, atol=1e-300)


def _sigma(u):
    return _activation("sigmoid", np.asarray(u))[0]


_ACTIVATION_SYMPTOMS = (
    Symptom(
        "exp overflows: np.exp(1000) is inf, and inf / inf, inf - inf and 0 * inf are NaN, also in the branch that "
        "np.where throws away afterwards. Rewrite it so that exp only sees arguments <= 0, as np.exp(-np.abs(u)) or "
        "np.exp(np.minimum(u, 0)).",
        _overflows,
    ),
    Symptom("You return the slope first: the value comes first, then the slope.", _swapped),
    Symptom(
        "ReLU's slope for negative inputs is 0, not 1: the output does not change when the input does.",
        _slope_is("relu", lambda u, value, slope: np.ones_like(u)),
    ),
    Symptom(
        "You give ReLU's values as its slope: for positive inputs the slope is 1, whatever their size.",
        _slope_is("relu", lambda u, value, slope: value),
    ),
    Symptom(
        "Leaky ReLU's slope for negative inputs is 0.01: that is what makes it leak.",
        _slope_is("leaky_relu", lambda u, value, slope: np.where(u > 0, 1.0, 0.0)),
    ),
    Symptom(
        "ELU's slope for negative inputs is exp(u), the derivative of exp(u) - 1; you left the 1 subtracted.",
        _slope_is("elu", lambda u, value, slope: np.where(u > 0, 1.0, np.expm1(np.minimum(u, 0.0)))),
    ),
    Symptom(
        "ELU bends: its slope for negative inputs is exp(u), not 0.",
        _slope_is("elu", lambda u, value, slope: np.where(u > 0, 1.0, 0.0)),
    ),
    Symptom(
        "SiLU is a product, u times sigmoid(u), and its slope has two terms: sigmoid(u) + u sigmoid'(u). You have the "
        "first one.",
        _slope_is("silu", lambda u, value, slope: _sigma(u)),
    ),
    Symptom(
        "SiLU is a product, u times sigmoid(u), and its slope has two terms: sigmoid(u) + u sigmoid'(u). You have the "
        "second one.",
        _slope_is("silu", lambda u, value, slope: u * _sigma(u) * _sigma(-u)),
    ),
    Symptom(
        "SiLU is a product, u times sigmoid(u): s (1 - s) with s = SiLU(u) is not its slope. Use the product rule.",
        _slope_is("silu", lambda u, value, slope: value * (1.0 - value)),
    ),
    Symptom(
        "sigmoid' = s (1 - s) holds for s = sigmoid(u), the output: you put u itself into it.",
        _slope_is("sigmoid", lambda u, value, slope: u * (1.0 - u)),
    ),
    Symptom(
        "You take sigmoid' at the output: where s = sigmoid(u) is known, the slope is s (1 - s), without another "
        "sigmoid.",
        _slope_is("sigmoid", lambda u, value, slope: _sigma(value) * _sigma(-value)),
    ),
    Symptom(
        "tanh' is 1 - tanh(u)**2: you forgot the square.",
        _slope_is("tanh", lambda u, value, slope: 1.0 - value),
    ),
)

# Question 3: the gain that fits


def _mean(function):
    """Return E[f(z)] of a NumPy function, by adaptive quadrature."""
    return gaussian_mean(lambda u: torch.from_numpy(function(u.numpy())))


def _mean_square(phi):
    return _mean(lambda u: phi(u) ** 2)


def _gain(phi):
    return 1.0 / math.sqrt(_mean_square(phi))


def _mean_square_difference(phi):
    return _mean(lambda u: ((phi(u + 1e-5) - phi(u - 1e-5)) / 2e-5) ** 2)


def relu(u):
    """Return max(u, 0), on NumPy arrays."""
    return np.maximum(u, 0.0)


def sigmoid(u):
    """Return the sigmoid, on NumPy arrays."""
    return 0.5 * (1.0 + np.tanh(0.5 * u))


def silu(u):
    """Return u sigmoid(u), on NumPy arrays."""
    return u * sigmoid(u)


def _gain_cases():
    return [
        Case("04-q3", (relu,), "relu"),
        Case("04-q3", (np.tanh,), "np.tanh"),
        Case("04-q3", (sigmoid,), "sigmoid"),
        Case("04-q3", (silu,), "silu"),
    ]


_GAIN_MISTAKES = (
    Mistake(
        "This is the variance that the weights need, in units of 1/N. The gain is a factor on the weights: its root.",
        lambda phi: 1.0 / _mean_square(phi),
    ),
    Mistake(
        "The other way round: this is by how much phi shrinks the signal. The weights have to make up for it.",
        lambda phi: math.sqrt(_mean_square(phi)),
    ),
    Mistake(
        "You return E[phi^2]: the gain is one over its root.",
        _mean_square,
    ),
    Mistake(
        "You use the mean squared slope. That gain would keep the gradient; asked for is the one that keeps the "
        "forward signal.",
        lambda phi: 1.0 / math.sqrt(_mean_square_difference(phi)),
    ),
    Mistake(
        "The square root of 2 is ReLU's gain, and that of no other activation here: compute it from phi.",
        lambda phi: math.sqrt(2.0),
    ),
    Mistake(
        "The weights of hermegauss sum to sqrt(2 pi): divide by it to get a mean.",
        lambda phi: _gain(phi) / (2.0 * math.pi) ** 0.25,
    ),
    Mistake(
        "You evaluate at the nodes of np.polynomial.hermite.hermgauss, which belong to the weight exp(-x^2): "
        "put z = sqrt(2) x, or take hermite_e.hermegauss.",
        lambda phi: 1.0 / math.sqrt(_mean(lambda u: phi(u / math.sqrt(2.0)) ** 2)),
    ),
)


def _near(wrong):
    """Return a Symptom's `shows`: within 2 %, since Gauss-Hermite misses the mean of a kinked function by about 1 %."""

    def shows(value, expected, phi):
        candidate = wrong(phi)
        return abs(value - candidate) <= 0.02 * candidate

    return shows


_GAIN_SYMPTOMS = (
    Symptom(
        "You use the variance of phi, E[phi^2] - E[phi]^2. The next layer adds up squares of outputs, and the mean is "
        "part of them: its weights have mean 0, so nothing takes it away. Use E[phi^2].",
        _near(lambda phi: (_mean_square(phi) - _mean(phi) ** 2) ** -0.5),
    ),
    Symptom(
        "You average first and square afterwards. Square first: E[phi^2] is not E[phi]^2.",
        _near(lambda phi: 1.0 / abs(_mean(phi))),
    ),
)

# Question 4: revive dead units


def _pre_activations(x, weight, bias):
    return x @ weight.T + bias  # (images, units)


def _dead(x, weight, bias):
    return (_pre_activations(x, weight, bias) <= 0).all(axis=0)


def _revive(x, weight, bias):
    """Sort: half of an odd number of images lie above the middle one."""
    stimulus = torch.from_numpy(_pre_activations(x, weight, np.zeros(len(bias))))
    middle = stimulus.sort(dim=0).values[len(x) // 2].numpy()
    return np.where(_dead(x, weight, bias), -middle, bias)


def revive_case(rng, units, inputs, images):
    """Make a layer of which a third of the units are dead; the number of images is odd."""
    weight = rng.normal(size=(units, inputs))
    x = np.abs(rng.normal(size=(images, inputs)))
    reach = np.sort(x @ weight.T, axis=0)
    bias = -0.5 * (reach[-1] + reach[-2])  # most units are active for one image only
    bias[: units // 4] = -reach[0, : units // 4] + 0.1  # these for every image
    dead = rng.permutation(units)[: max(units // 3, 2)]
    bias[dead] = -reach[-1, dead] - rng.uniform(0.1, 2.0, size=len(dead))
    return Case("04-q4", (x, weight, bias), f"{images} images, {units} units of which {len(dead)} dead")


def _revive_cases():
    rng = np.random.default_rng(4)
    return [revive_case(rng, 9, 5, 21), revive_case(rng, 12, 8, 31)]


def _where_dead(new_bias):
    """Return an answer that gives dead units this bias, (z, bias) -> bias for the pre-activations without bias."""

    def answer(x, weight, bias):
        return np.where(_dead(x, weight, bias), new_bias(x @ weight.T, bias), bias)

    return answer


_REVIVE_MISTAKES = (
    Mistake(
        "You changed the bias of units that live. They work: leave them as they are.",
        lambda x, weight, bias: -np.median(x @ weight.T, axis=0),
    ),
    Mistake(
        "You set the dead units' biases to 0. Where the weights themselves drive the unit below 0 for most images it "
        "stays (nearly) dead: the bias must be the one for which the median pre-activation is 0.",
        _where_dead(lambda z, bias: np.zeros_like(bias)),
    ),
    Mistake(
        "You set all biases to 0, those of living units too: leave them as they are.",
        lambda x, weight, bias: np.zeros_like(bias),
    ),
    Mistake(
        "You use the mean pre-activation. With the mean at 0 the unit is active for more or fewer than half of the "
        "images: use the median.",
        _where_dead(lambda z, bias: -z.mean(axis=0)),
    ),
    Mistake(
        "Your median contains the old bias. Either take the median of x W^T alone, or subtract the median from the "
        "old bias.",
        _where_dead(lambda z, bias: -np.median(z + bias, axis=0)),
    ),
    Mistake(
        "A sign is wrong: to bring the median pre-activation to 0, add the negative of the median.",
        _where_dead(lambda z, bias: np.median(z, axis=0)),
    ),
    Mistake(
        "You lift the largest pre-activation to 0. There ReLU's slope is still 0, and the unit is as dead as before.",
        _where_dead(lambda z, bias: -z.max(axis=0)),
    ),
    Mistake(
        "You count a unit as dead whose pre-activation is negative on average or for most images. It is dead when it "
        "is not positive for ANY image.",
        lambda x, weight, bias: np.where(
            np.median(_pre_activations(x, weight, bias), axis=0) <= 0, -np.median(x @ weight.T, axis=0), bias
        ),
    ),
    Mistake(
        "You count a unit as dead whose pre-activation is negative on average or for most images. It is dead when it "
        "is not positive for ANY image.",
        lambda x, weight, bias: np.where(
            _pre_activations(x, weight, bias).mean(axis=0) <= 0, -np.median(x @ weight.T, axis=0), bias
        ),
    ),
    Mistake(
        "You count a unit as dead when its bias is negative. It is dead when its pre-activation, weights and inputs "
        "included, is positive for no image.",
        lambda x, weight, bias: np.where(bias < 0, -np.median(x @ weight.T, axis=0), bias),
    ),
    Mistake(
        "You return the biases as they were: the dead units are still dead.",
        lambda x, weight, bias: bias,
    ),
)

QUESTIONS = (
    Question(
        id="04-q1",
        signature="unit_state(phi, u)",
        returns="the largest slope in size over the images, and a verdict",
        points=2,
        minutes=10,
        core=True,
        oracle=_unit_state,
        cases=_unit_state_cases,
        mistakes=_UNIT_STATE_MISTAKES,
        rtol=1e-3,
    ),
    Question(
        id="04-q2",
        signature="activation(name, u)",
        returns="the values of the activation and its slopes",
        points=4,
        minutes=20,
        core=True,
        oracle=_activation,
        cases=_activation_cases,
        mistakes=(),
        symptoms=_ACTIVATION_SYMPTOMS,
        refused=(
            "torch:sigmoid",
            "torch.nn.functional:leaky_relu",
            "torch.nn.functional:elu",
            "torch.nn.functional:silu",
            "torch.autograd:grad",
            "torch.autograd:backward",
            "gradcourse.theory:slope",
        ),
    ),
    Question(
        id="04-q3",
        signature="gain(phi)",
        returns="the factor on weights of variance 1/N that keeps the size of the signal",
        points=3,
        minutes=15,
        core=False,
        oracle=_gain,
        cases=_gain_cases,
        mistakes=_GAIN_MISTAKES,
        symptoms=_GAIN_SYMPTOMS,
        refused=(
            "gradcourse.theory:gaussian_mean",
            "gradcourse.theory:mean_square",
            "gradcourse.theory:variance_map",
            "torch.nn.init:calculate_gain",
        ),
        rtol=1e-4,
    ),
    Question(
        id="04-q4",
        signature="revive(x, weight, bias)",
        returns="the biases after the dead units were brought back",
        points=3,
        minutes=15,
        core=False,
        oracle=_revive,
        cases=_revive_cases,
        mistakes=_REVIVE_MISTAKES,
    ),
)
