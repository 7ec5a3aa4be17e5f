"""Sheet 06: clip a gradient, put the line in its place, choose the threshold."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, skip_init

from gradcourse.sheets.question import Case, Mistake, Question, Symptom

# Question 1: clipping by norm


def _clipped_by_torch(gradients, max_norm):
    parameters = [nn.Parameter(torch.zeros(() if g is None else g.shape, dtype=torch.float64)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.from_numpy(gradient).clone()
    clip_grad_norm_(parameters, max_norm)
    return tuple(None if parameter.grad is None else parameter.grad.numpy() for parameter in parameters)


def gradients_case(shapes, max_norm, rng, scale=1.0):
    """Make a case of question 1: Gaussian gradients of these shapes; a shape None stands for no gradient."""
    gradients = [None if shape is None else scale * rng.normal(size=shape) for shape in shapes]
    told = ", ".join("None" if shape is None else f"{shape} array" for shape in shapes)
    return Case("06-q1", (gradients, max_norm), f"[{told}] of norm {_total(gradients):.3g}, max_norm={max_norm:g}")


def _clip_cases():
    rng = np.random.default_rng(6)
    return [
        gradients_case([(3, 4), (3,), (2, 3)], 1.0, rng),
        gradients_case([(3, 4), None, (2, 3)], 2.0, rng, 10.0),
        gradients_case([(5,), (2, 2)], 1.0, rng, 0.01),
        gradients_case([(4,), None], 1.0, rng, 0.0),
    ]


def _arrays(gradients):
    return [gradient for gradient in gradients if gradient is not None]


def _total(gradients):
    return float(np.sqrt(sum((gradient**2).sum() for gradient in _arrays(gradients))))


def _each(change):
    """Return the answer that changes every gradient; change(gradient, all gradients, max_norm)."""
    return lambda gradients, max_norm: [None if g is None else change(g, gradients, max_norm) for g in gradients]


def _by(size):
    """Return the answer that clips by another size of the whole gradient than its norm."""
    return _each(lambda g, gradients, c: g * min(1.0, c / max(size(_arrays(gradients)), 1e-300)))


def _without_none(gradients, max_norm):
    return list(_clipped_by_torch(_arrays(gradients), max_norm))


def _zeros_for_none(gradients, max_norm):
    return [np.zeros(()) if g is None else g for g in _clipped_by_torch(gradients, max_norm)]


_CLIP_MISTAKES = (
    Mistake(
        "You give each array a norm of its own. The gradient is one vector: its norm goes over all arrays together, "
        "and all are multiplied by the same number, else the direction changes.",
        _each(lambda g, gradients, c: g * min(1.0, c / max(np.linalg.norm(g), 1e-300))),
    ),
    Mistake(
        "You scale small gradients up to max_norm. Clipping only shortens: the factor is at most 1.",
        _each(lambda g, gradients, c: g * (c / max(_total(gradients), 1e-300))),
    ),
    Mistake(
        "This is clipping by value: each entry is cut by itself, which turns the gradient. Clipping by norm multiplies "
        "all entries by one number.",
        _each(lambda g, gradients, c: np.clip(g, -c, c)),
    ),
    Mistake(
        "You add up the norms of the arrays. Add up their squares and take the root: that is the norm of all entries.",
        _by(lambda arrays: sum(np.linalg.norm(g) for g in arrays)),
    ),
    Mistake(
        "The root is missing: you divide by the squared norm.",
        _by(lambda arrays: sum((g**2).sum() for g in arrays)),
    ),
    Mistake(
        "You take the largest norm of an array. The norm of the whole gradient counts all of them.",
        _by(lambda arrays: max(np.linalg.norm(g) for g in arrays)),
    ),
    Mistake(
        "You take the root mean square. The norm is the root of the sum of the squares, not of their mean.",
        _by(lambda arrays: np.sqrt(np.mean(np.concatenate([g.ravel() for g in arrays]) ** 2))),
    ),
    Mistake(
        "You give every gradient the norm 1. The clipped norm is max_norm.",
        _each(lambda g, gradients, c: g / _total(gradients) if _total(gradients) > c else g),
    ),
    Mistake(
        "The list is shorter than the one given. Where a parameter has no gradient keep the None in its place.",
        _without_none,
    ),
    Mistake(
        "None has become 0. A parameter without a gradient stays without: an optimizer skips None, but moves a "
        "parameter whose gradient is 0 if it has momentum.",
        _zeros_for_none,
    ),
    Mistake(
        "Nothing is clipped.",
        _each(lambda g, gradients, c: g),
    ),
)
_CLIP_PROBLEMS = (
    ("NoneType", "A parameter without a gradient has None, which is no array: leave it out of the norm."),
    ("ambiguous", "Compare the norm of the whole gradient, one number, with max_norm, not an array."),
    ("ZeroDivisionError", "A gradient of zeros has the norm 0: compare with max_norm before you divide."),
)

# Question 2: the place in the loop

_LINES = ("zero_grad", "backward", "clip", "step")


def _used_by_torch(order):
    """Run the loop's lines in this order on a loss whose gradient is (3, 4), and look at what the third step uses."""
    weight = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    used = []
    do = {
        "zero_grad": optimizer.zero_grad,
        "backward": lambda: (weight * torch.tensor([3.0, 4.0])).sum().backward(),
        "clip": lambda: clip_grad_norm_([weight], 1.0),
        "step": lambda: used.append(0.0 if weight.grad is None else weight.grad.norm().item()),
    }
    for line in 3 * tuple(order):
        do[line]()
    return "nothing" if used[-1] == 0.0 else "clipped" if used[-1] < 1.001 else "unclipped"


def order_case(words):
    """Make a case of question 2 from the four lines in an order, "zero_grad backward clip step"."""
    return Case("06-q2", (words.split(),))


def _used_cases():
    orders = (
        "zero_grad backward clip step",
        "zero_grad backward step clip",
        "zero_grad clip backward step",
        "zero_grad step backward clip",
        "backward zero_grad clip step",
        "backward clip step zero_grad",
        "step zero_grad backward clip",
        "clip zero_grad backward step",
    )
    return [order_case(order) for order in orders]


def _simulated(order, rounds=1, zero=True, erases=True):
    """Follow what .grad holds, line by line, and return what the last step used."""
    holds, used = "nothing", "nothing"
    for line in rounds * tuple(order):
        if line == "zero_grad" and erases:
            holds = "nothing"
        elif line == "backward":
            holds = "unclipped"
        elif line == "clip" and holds == "unclipped":
            holds = "clipped"
        elif line == "step":
            used = holds
    return used if zero or used != "nothing" else "unclipped"


def _comes_before(first, second, order):
    return list(order).index(first) < list(order).index(second)


_USED_MISTAKES = (
    Mistake(
        "You go through the lines once. They are a loop: what stands at the end of one round acts at the beginning of "
        "the next.",
        _simulated,
    ),
    Mistake(
        "You leave out zero_grad. Where it stands between backward and step it erases the gradient, clipped or not.",
        lambda order: _simulated(order, rounds=3, erases=False),
    ),
    Mistake(
        "A step between zero_grad and backward finds no gradient at all: that is nothing, not an unclipped gradient.",
        lambda order: _simulated(order, rounds=3, zero=False),
    ),
    Mistake(
        "It is not enough that clip comes before step: it must also come after backward, which makes a new gradient.",
        lambda order: "clipped" if _comes_before("clip", "step", order) else "unclipped",
    ),
    Mistake(
        "It is not enough that clip comes after backward: the step must come after clip, and nothing may erase the "
        "gradient in between.",
        lambda order: "clipped" if _comes_before("backward", "clip", order) else "unclipped",
    ),
    Mistake(
        "You look for backward, clip and step in this order in the list. The list is a loop, and zero_grad counts too.",
        lambda order: (
            "clipped"
            if _comes_before("backward", "clip", order) and _comes_before("clip", "step", order)
            else "unclipped"
        ),
    ),
    Mistake(
        "That the loop holds a clip does not mean that its step uses a clipped gradient.",
        lambda order: "clipped",
    ),
)

# Question 3: a threshold from the norms of a run


def _threshold(norms, skip, share):
    """Try every norm of the stretch, smallest first."""
    stretch = [norm for norm in norms[skip:] if np.isfinite(norm)]
    return next(c for c in sorted(stretch) if sum(norm > c for norm in stretch) <= share * len(stretch))


def norms_case(steps, skip, share, rng):
    """Make a case of question 3: norms that fall from large ones, with a few steps that overflowed."""
    norms = np.exp(rng.normal(1.0, 0.8, size=steps) + 5.0 * np.exp(-np.arange(steps) / (0.4 * skip + 1.0)))
    lost = rng.permutation(steps - 1)[:4] + 1  # one of them early, in what is skipped
    norms[lost[:2]], norms[lost[2:]] = np.nan, np.inf
    norms[1] = np.inf
    return Case("06-q3", (norms.round(3), skip, share), f"{steps} norms, skip={skip}, share={share:g}")


def _threshold_cases():
    rng = np.random.default_rng(6)
    sizes = ((60, 20, 0.5), (47, 10, 0.1), (90, 30, 0.25), (40, 10, 0.0))
    return [norms_case(*size, rng) for size in sizes]


def _quantile(norms, skip, level, method="inverted_cdf"):
    """Return the quantile of the finite norms after the first ones."""
    stretch = norms[skip:][np.isfinite(norms[skip:])]
    return float(np.quantile(stretch, level, method=method))


_THRESHOLD_MISTAKES = (
    Mistake(
        "You take the quantile from the wrong end: share is what lies above the threshold and is clipped.",
        lambda norms, skip, share: _quantile(norms, skip, share),
    ),
    Mistake(
        "You take the quantile from the wrong end: share is what lies above the threshold and is clipped.",
        lambda norms, skip, share: _quantile(norms, skip, share, "linear"),
    ),
    Mistake(
        "You count the first steps too, in which the norms are still those of the start. Leave `skip` steps out.",
        lambda norms, skip, share: _quantile(norms, 0, 1 - share),
    ),
    Mistake(
        "You count the first steps too, in which the norms are still those of the start. Leave `skip` steps out.",
        lambda norms, skip, share: _quantile(norms, 0, 1 - share, "linear"),
    ),
    Mistake(
        "You keep the first steps and leave out the others: it is the first `skip` that are not stable yet.",
        lambda norms, skip, share: _quantile(norms[:skip], 0, 1 - share),
    ),
    Mistake(
        "The order matters: leave out the first `skip` steps of the run, then what is not finite. You do it the other "
        "way round and skip later steps as well.",
        lambda norms, skip, share: _quantile(norms[np.isfinite(norms)], skip, 1 - share),
    ),
    Mistake(
        "Your threshold lies between two norms. The question asks for the smallest norm of the history itself; NumPy's "
        'quantile interpolates unless told method="inverted_cdf".',
        lambda norms, skip, share: _quantile(norms, skip, 1 - share, "linear"),
    ),
    Mistake(
        "You leave out NaN but keep inf. A step whose gradient overflowed says nothing about the others.",
        lambda norms, skip, share: float(
            np.quantile(norms[skip:][~np.isnan(norms[skip:])], 1 - share, method="inverted_cdf")
        ),
    ),
    Mistake(
        "NaN is in the history and spreads: leave out what is not finite.",
        lambda norms, skip, share: float(np.quantile(norms[skip:], 1 - share)),
    ),
    Mistake(
        "np.percentile counts in percent: 100 * (1 - share).",
        lambda norms, skip, share: float(np.percentile(norms[skip:][np.isfinite(norms[skip:])], 1 - share)),
    ),
    Mistake(
        "This is the largest norm: as a threshold it clips nothing.",
        lambda norms, skip, share: _quantile(norms, skip, 1.0),
    ),
    Mistake(
        "This is the median, whatever the share. It is the answer for share = 0.5.",
        lambda norms, skip, share: _quantile(norms, skip, 0.5, "linear"),
    ),
    Mistake(
        "This is the mean of the norms: a few large ones pull it up, and it knows nothing of the share.",
        lambda norms, skip, share: float(np.mean(norms[skip:][np.isfinite(norms[skip:])])),
    ),
)

# Question 4: clipping under accumulation


def _whole_batch_clipped(model, batches, max_norm):
    """Take the gradient of all images at once by autograd, then shorten it."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    gradients = torch.autograd.grad(cross_entropy(model(x), y), list(model.parameters()))
    return tuple(_shortened([gradient.numpy() for gradient in gradients], max_norm))


def _shortened(gradients, max_norm):
    """Clip as torch does, whose small number below the line keeps it from dividing by 0."""
    return [gradient * min(1.0, max_norm / (_total(gradients) + 1e-6)) for gradient in gradients]


def accumulation_case(sizes, max_norm, rng):
    """Make a case of question 4: a small network and batches of these sizes, in float64."""
    inputs, hidden, classes = (int(n) for n in rng.integers((4, 4, 3), (7, 8, 5)))
    model = nn.Sequential(_linear(inputs, hidden, rng), nn.Tanh(), _linear(hidden, classes, rng))
    batches = [
        (torch.from_numpy(rng.normal(size=(size, inputs)) * 2.0), torch.from_numpy(rng.integers(0, classes, size)))
        for size in sizes
    ]
    told = f"network {inputs} -> {hidden} -> {classes}, batches of {', '.join(map(str, sizes))}, max_norm={max_norm:g}"
    return Case("06-q4", (model, batches, max_norm), told)


def _linear(inputs, outputs, rng):
    layer = skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.normal(size=(outputs, inputs))))
        layer.bias.copy_(torch.from_numpy(rng.normal(size=outputs)))
    return layer


def _accumulation_cases():
    rng = np.random.default_rng(6)
    return [
        accumulation_case((8, 8, 8), 0.1, rng),
        accumulation_case((8, 8, 3), 0.1, rng),
        accumulation_case((4, 4, 2), 100.0, rng),
    ]


def _micro_gradients(model, batches):
    parameters = list(model.parameters())
    return [
        [gradient.numpy() for gradient in torch.autograd.grad(cross_entropy(model(x), y), parameters)]
        for x, y in batches
    ]


def _shares(batches, by_size):
    sizes = [len(y) if by_size else 1 for _, y in batches]
    return [size / sum(sizes) for size in sizes]


def _sum(gradients, factors):
    return [
        sum(factor * part for factor, part in zip(factors, parts, strict=True))
        for parts in zip(*gradients, strict=True)
    ]


def _clip_after_each(factors_of):
    """Return the answer that clips what has been added up so far after every batch."""

    def answer(model, batches, max_norm):
        total = [0.0 for _ in model.parameters()]
        for gradient, factor in zip(_micro_gradients(model, batches), factors_of(batches), strict=True):
            total = _shortened([old + factor * new for old, new in zip(total, gradient, strict=True)], max_norm)
        return total

    return answer


def _mean_of_clipped(by_size):
    return lambda model, batches, max_norm: _sum(
        [_shortened(gradient, max_norm) for gradient in _micro_gradients(model, batches)], _shares(batches, by_size)
    )


def _clip_once(factors_of, clip=_shortened):
    """Return the answer that adds up the batches' gradients with these factors and clips at the end."""
    return lambda model, batches, max_norm: clip(_sum(_micro_gradients(model, batches), factors_of(batches)), max_norm)


def _by_size(batches):
    return _shares(batches, by_size=True)


def _alike(batches):
    return _shares(batches, by_size=False)


def _ones(batches):
    return [1.0 for _ in batches]


def _only_the_norm_is_right(value, expected, model, batches, max_norm):
    return np.isclose(_total(value), _total(expected), rtol=1e-3)


_AFTER_EACH = (
    "You clip after each backward pass what has been added up so far. The norm comes out as it should, the direction "
    "does not: each clipping shrinks the earlier batches once more, and the last ones weigh too much. Clip once, after "
    "the last batch."
)
_EACH_CLIPPED = (
    "You clip each batch's gradient by itself. Their mean is shorter than max_norm and points elsewhere: add up first, "
    "then clip once."
)
_ACCUMULATION_MISTAKES = (
    *(Mistake(_AFTER_EACH, _clip_after_each(factors)) for factors in (_ones, _alike, _by_size)),
    *(Mistake(_EACH_CLIPPED, _mean_of_clipped(by_size)) for by_size in (False, True)),
    Mistake(
        _EACH_CLIPPED,
        lambda model, batches, max_norm: _sum(
            [_shortened(gradient, max_norm) for gradient in _micro_gradients(model, batches)], _ones(batches)
        ),
    ),
    Mistake(
        "You give each batch the same weight. The mean over all images weighs a batch by the images in it.",
        _clip_once(_alike),
    ),
    Mistake(
        "You add up the batches' mean gradients and don't divide: with three batches the gradient is three times as "
        "long, before it is clipped.",
        _clip_once(_ones),
    ),
    Mistake(
        "The gradient is right, but nothing is clipped.",
        _clip_once(_by_size, lambda gradients, max_norm: gradients),
    ),
    Mistake(
        "You clip each parameter's gradient by its own norm. The norm goes over all parameters together.",
        _clip_once(_by_size, lambda gradients, max_norm: [_shortened([g], max_norm)[0] for g in gradients]),
    ),
    Mistake(
        "You scale a short gradient up to max_norm. Clipping only shortens.",
        _clip_once(_by_size, lambda gradients, max_norm: [g * max_norm / _total(gradients) for g in gradients]),
    ),
    Mistake(
        "This is the gradient of the last batch alone: zero_grad belongs before the first batch, not before each.",
        _clip_once(lambda batches: [0.0] * (len(batches) - 1) + [1.0]),
    ),
    Mistake(
        "You clip the sum and divide afterwards, which makes the step shorter than max_norm.",
        lambda model, batches, max_norm: [g / len(batches) for g in _clip_once(_ones)(model, batches, max_norm)],
    ),
)
_ACCUMULATION_SYMPTOMS = (
    Symptom(
        "The norm is right and the direction is not: did you clip before the last batch was added, or weigh the "
        "batches otherwise than by the images in them?",
        _only_the_norm_is_right,
    ),
)
_ACCUMULATION_PROBLEMS = (
    ("in place", "The question asks for the gradient, not for a step: leave the parameters as they are."),
)

# Question 5: relative clipping


def _renormed(weight, gradient, share, floor):
    """Let torch.renorm shorten the rows that are longer than 1, in units of what each row may be."""
    limit = torch.from_numpy(share * np.maximum(np.linalg.norm(weight, axis=1), floor))[:, None]
    return (torch.renorm(torch.from_numpy(gradient) / limit, p=2, dim=0, maxnorm=1.0) * limit).numpy()


def relative_case(units, inputs, share, floor, rng):
    """Make a case of question 5: units of very different sizes, one of zeros, and one without gradient."""
    weight = rng.normal(size=(units, inputs)) * 10.0 ** rng.uniform(-2, 1, size=(units, 1))
    gradient = rng.normal(size=(units, inputs)) * 10.0 ** rng.uniform(-3, 1, size=(units, 1))
    weight[0], gradient[-1] = 0.0, 0.0
    told = f"weight and gradient of shape ({units}, {inputs}), share={share:g}, floor={floor:g}"
    return Case("06-q5", (weight, gradient, share, floor), told)


def _relative_cases():
    rng = np.random.default_rng(6)
    return [
        relative_case(5, 3, 0.1, 1e-3, rng),
        relative_case(4, 4, 0.01, 1e-2, rng),
        relative_case(7, 2, 1.0, 0.1, rng),
    ]


def _lengths(array, axis=1):
    return np.linalg.norm(array, axis=axis, keepdims=True)


def _relative(limit, axis=1, up=False):
    """Return the answer that shortens along an axis to limit(weight, share, floor)."""

    def answer(weight, gradient, share, floor):
        factor = limit(weight, share, floor) / np.maximum(_lengths(gradient, axis), 1e-300)
        return gradient * (factor if up else np.minimum(1.0, factor))

    return answer


_RELATIVE_MISTAKES = (
    Mistake(
        "You compare the whole matrices. Each unit, a row, is clipped by itself.",
        _relative(lambda w, share, floor: share * max(np.linalg.norm(w), floor), axis=None),
    ),
    Mistake(
        "You clip columns. A unit's weights are a row.",
        _relative(lambda w, share, floor: share * np.maximum(_lengths(w, 0), floor), axis=0),
    ),
    Mistake(
        "The floor is missing: a unit whose weights are 0 could never move.",
        _relative(lambda w, share, floor: share * _lengths(w)),
    ),
    Mistake(
        "You add the floor to the size of the weights. It is a lower bound: the larger of the two counts.",
        _relative(lambda w, share, floor: share * (_lengths(w) + floor)),
    ),
    Mistake(
        "The floor is one for the size of the weights, before share is multiplied.",
        _relative(lambda w, share, floor: np.maximum(share * _lengths(w), floor)),
    ),
    Mistake(
        "You scale short rows up. Clipping only shortens.",
        _relative(lambda w, share, floor: share * np.maximum(_lengths(w), floor), up=True),
    ),
    Mistake(
        "You clip to share itself, whatever the size of the weights.",
        _relative(lambda w, share, floor: share),
    ),
    Mistake(
        "You cut entry by entry, which turns a row. Multiply a whole row by one number.",
        lambda weight, gradient, share, floor: np.clip(
            gradient, -share * np.maximum(np.abs(weight), floor), share * np.maximum(np.abs(weight), floor)
        ),
    ),
    Mistake(
        "Nothing is clipped.",
        lambda weight, gradient, share, floor: gradient,
    ),
)

_TORCH_CLIPS = (
    "torch.nn.utils:clip_grad_norm_",
    "torch.nn.utils:get_total_norm",
    "torch.nn.utils:clip_grads_with_norm_",
)

QUESTIONS = (
    Question(
        id="06-q1",
        signature="clip_by_norm(gradients, max_norm)",
        returns="the gradients, shortened together",
        points=3,
        minutes=15,
        core=True,
        oracle=_clipped_by_torch,
        cases=_clip_cases,
        mistakes=_CLIP_MISTAKES,
        problems=_CLIP_PROBLEMS,
        refused=_TORCH_CLIPS,
        rtol=1e-4,
    ),
    Question(
        id="06-q2",
        signature="used_gradient(order)",
        returns="what the optimizer's step uses",
        points=3,
        minutes=15,
        core=True,
        oracle=_used_by_torch,
        cases=_used_cases,
        mistakes=_USED_MISTAKES,
    ),
    Question(
        id="06-q3",
        signature="threshold(norms, skip, share)",
        returns="the threshold that clips this share of the stable steps",
        points=3,
        minutes=10,
        core=False,
        oracle=_threshold,
        cases=_threshold_cases,
        mistakes=_THRESHOLD_MISTAKES,
    ),
    Question(
        id="06-q4",
        signature="accumulated_gradient(model, batches, max_norm)",
        returns="the gradient that the step should use",
        points=4,
        minutes=20,
        core=False,
        oracle=_whole_batch_clipped,
        cases=_accumulation_cases,
        mistakes=_ACCUMULATION_MISTAKES,
        symptoms=_ACCUMULATION_SYMPTOMS,
        problems=_ACCUMULATION_PROBLEMS,
        rtol=1e-4,
    ),
    Question(
        id="06-q5",
        signature="clip_by_unit(weight, gradient, share, floor)",
        returns="the gradient, each unit's row shortened by itself",
        points=3,
        minutes=15,
        core=False,
        oracle=_renormed,
        cases=_relative_cases,
        mistakes=_RELATIVE_MISTAKES,
        refused=("torch:renorm",),
        rtol=1e-4,
    ),
)
