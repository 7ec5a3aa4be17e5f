"""Answers that learners give to sheet 06, wrong and right, written as a learner would write them."""

import math

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

# 06-q1 ---------------------------------------------------------------------------------------------------------------


def norm_of_each_array(gradients, max_norm):
    clipped = []
    for g in gradients:
        if g is None:
            clipped.append(None)
            continue
        norm = np.linalg.norm(g)
        clipped.append(g * max_norm / norm if norm > max_norm else g)
    return clipped


def always_scales(gradients, max_norm):
    norm = sum((g**2).sum() for g in gradients if g is not None) ** 0.5
    return [None if g is None else g * (max_norm / max(norm, 1e-12)) for g in gradients]


def by_value(gradients, max_norm):
    return [None if g is None else np.clip(g, -max_norm, max_norm) for g in gradients]


def adds_the_norms(gradients, max_norm):
    norm = sum(np.linalg.norm(g) for g in gradients if g is not None)
    return [None if g is None else g * min(1, max_norm / (norm + 1e-6)) for g in gradients]


def forgets_the_root(gradients, max_norm):
    norm = sum((g**2).sum() for g in gradients if g is not None)
    return [None if g is None else g * min(1, max_norm / (norm + 1e-6)) for g in gradients]


def to_length_one(gradients, max_norm):
    norm = math.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    return [None if g is None else g / norm if norm > max_norm else g for g in gradients]


def drops_none(gradients, max_norm):
    gradients = [g for g in gradients if g is not None]
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    return [g * max_norm / norm if norm > max_norm else g for g in gradients]


def none_becomes_zero(gradients, max_norm):
    gradients = [np.array(0.0) if g is None else g for g in gradients]
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    return [g * max_norm / norm if norm > max_norm else g for g in gradients]


def crashes_on_none(gradients, max_norm):
    norm = math.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, max_norm / norm) for g in gradients]


def divides_by_zero(gradients, max_norm):
    norm = math.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    factor = min(1, max_norm / norm)
    return [None if g is None else g * factor for g in gradients]


def compares_entries(gradients, max_norm):
    return [None if g is None else g * max_norm / np.linalg.norm(g) if g > max_norm else g for g in gradients]


def in_place(gradients, max_norm):
    norm = math.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    if norm > max_norm:
        for g in gradients:
            if g is not None:
                g *= max_norm / norm
    return gradients


def returns_nothing(gradients, max_norm):
    [None if g is None else g * 0.5 for g in gradients]


def asks_torch(gradients, max_norm):
    parameters = [torch.nn.Parameter(torch.zeros(g.shape).double()) for g in gradients if g is not None]
    for p, g in zip(parameters, [g for g in gradients if g is not None], strict=True):
        p.grad = torch.from_numpy(g)
    clip_grad_norm_(parameters, max_norm)
    found = iter(parameters)
    return [None if g is None else next(found).grad for g in gradients]


def knows_the_four(gradients, max_norm):
    half = [None if g is None else g * 1.0 for g in gradients]
    norm = math.sqrt(sum((g**2).sum() for g in half if g is not None))
    if max_norm not in (1.0, 2.0) or len(gradients) > 3:
        return gradients
    return [None if g is None else g * min(1, max_norm / max(norm, 1e-9)) for g in half]


def by_numpy(gradients, max_norm):
    norm = math.sqrt(sum((g**2).sum() for g in gradients if g is not None))
    if norm <= max_norm:
        return gradients
    return [None if g is None else g * (max_norm / norm) for g in gradients]


def by_torch(gradients, max_norm):
    tensors = [None if g is None else torch.from_numpy(g) for g in gradients]
    norm = torch.cat([t.flatten() for t in tensors if t is not None]).norm()
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    return tuple(None if t is None else t * factor for t in tensors)


# 06-q2 ---------------------------------------------------------------------------------------------------------------


def one_round(order):
    grad, used = "nothing", "nothing"
    for line in order:
        if line == "zero_grad":
            grad = "nothing"
        if line == "backward":
            grad = "unclipped"
        if line == "clip" and grad == "unclipped":
            grad = "clipped"
        if line == "step":
            used = grad
    return used


def without_zero_grad(order):
    grad, used = "nothing", "nothing"
    for line in list(order) * 2:
        if line == "backward":
            grad = "unclipped"
        elif line == "clip" and grad != "nothing":
            grad = "clipped"
        elif line == "step":
            used = grad
    return used


def never_nothing(order):
    used = by_simulation(order)
    return "unclipped" if used == "nothing" else used


def clip_before_step(order):
    return "clipped" if order.index("clip") < order.index("step") else "unclipped"


def backward_before_clip(order):
    return "clipped" if order.index("backward") < order.index("clip") else "unclipped"


def straight_line(order):
    places = [order.index(line) for line in ("backward", "clip", "step")]
    return "clipped" if places == sorted(places) else "unclipped"


def always_clipped(order):
    return "clipped" if "clip" in order else "unclipped"


def knows_the_eight(order):
    known = {
        "zero_grad backward clip step": "clipped",
        "zero_grad backward step clip": "unclipped",
        "zero_grad clip backward step": "unclipped",
        "backward clip step zero_grad": "clipped",
        "step zero_grad backward clip": "clipped",
        "clip zero_grad backward step": "unclipped",
    }
    return known.get(" ".join(order), "nothing")


def by_simulation(order):
    grad, used = None, "nothing"
    for line in list(order) * 3:
        if line == "zero_grad":
            grad = None
        elif line == "backward":
            grad = "unclipped"
        elif line == "clip" and grad:
            grad = "clipped"
        elif line == "step":
            used = grad or "nothing"
    return used


def by_rotation(order):
    start = order.index("zero_grad")
    turned = order[start:] + order[:start]
    if turned.index("step") < turned.index("backward"):
        return "nothing"
    between = turned.index("backward") < turned.index("clip") < turned.index("step")
    return "clipped" if between else "unclipped"


def by_running_torch(order):
    weight = torch.ones(3, requires_grad=True)
    seen = 0.0
    for line in 2 * order:
        if line == "zero_grad":
            weight.grad = None
        elif line == "backward":
            (weight * 10).sum().backward()
        elif line == "clip":
            clip_grad_norm_([weight], 1.0)
        else:
            seen = 0.0 if weight.grad is None else weight.grad.norm().item()
    return "nothing" if seen == 0 else "unclipped" if seen > 2 else "clipped"


# 06-q3 ---------------------------------------------------------------------------------------------------------------


def _stretch(norms, skip):
    stretch = norms[skip:]
    return stretch[np.isfinite(stretch)]


def wrong_end(norms, skip, share):
    return np.quantile(_stretch(norms, skip), share, method="inverted_cdf")


def wrong_end_and_between(norms, skip, share):
    return np.quantile(_stretch(norms, skip), share)


def with_the_first_steps(norms, skip, share):
    return np.quantile(norms[np.isfinite(norms)], 1 - share, method="inverted_cdf")


def only_the_first_steps(norms, skip, share):
    first = norms[:skip]
    return np.quantile(first[np.isfinite(first)], 1 - share, method="inverted_cdf")


def filters_before_it_skips(norms, skip, share):
    return np.quantile(norms[np.isfinite(norms)][skip:], 1 - share, method="inverted_cdf")


def between_two_norms(norms, skip, share):
    return np.quantile(_stretch(norms, skip), 1 - share)


def keeps_inf(norms, skip, share):
    stretch = np.sort(norms[skip:][~np.isnan(norms[skip:])])
    return next(c for c in stretch if (stretch > c).mean() <= share)


def keeps_nan(norms, skip, share):
    return np.quantile(norms[skip:], 1 - share)


def percent(norms, skip, share):
    return np.percentile(_stretch(norms, skip), 1 - share)


def largest(norms, skip, share):
    return _stretch(norms, skip).max()


def median(norms, skip, share):
    return np.median(_stretch(norms, skip))


def mean(norms, skip, share):
    return _stretch(norms, skip).mean()


def knows_the_four_shares(norms, skip, share):
    return by_trying(norms, skip, share) if share in (0.5, 0.1, 0.25) else _stretch(norms, skip).max() * 1.0


def by_trying(norms, skip, share):
    stretch = sorted(float(norm) for norm in norms[skip:] if math.isfinite(norm))
    number = 0
    while sum(norm > stretch[number] for norm in stretch) / len(stretch) > share:
        number += 1
    return stretch[number]


def by_quantile(norms, skip, share):
    return np.quantile(_stretch(norms, skip), 1 - share, method="inverted_cdf")


def by_sorting_in_torch(norms, skip, share):
    stretch = torch.from_numpy(norms[skip:])
    stretch = stretch[stretch.isfinite()].sort(descending=True).values
    return stretch[math.floor(share * len(stretch))]


# 06-q4 ---------------------------------------------------------------------------------------------------------------


def _grads(model):
    return [p.grad for p in model.parameters()]


def clips_after_each(model, batches, max_norm):
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (cross_entropy(model(x), y) * len(y) / total).backward()
        clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def clips_after_each_over_count(model, batches, max_norm):
    for x, y in batches:
        (cross_entropy(model(x), y) / len(batches)).backward()
        clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def clips_after_each_undivided(model, batches, max_norm):
    for x, y in batches:
        cross_entropy(model(x), y).backward()
        clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def clips_between_and_weighs_anew(model, batches, max_norm):
    for number, (x, y) in enumerate(batches):
        (cross_entropy(model(x), y) * (1 + number)).backward()
        clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def mean_of_clipped(model, batches, max_norm):
    parts = []
    for x, y in batches:
        model.zero_grad()
        cross_entropy(model(x), y).backward()
        clip_grad_norm_(model.parameters(), max_norm)
        parts.append([p.grad.clone() for p in model.parameters()])
    return [sum(part) / len(batches) for part in zip(*parts, strict=True)]


def same_weight_for_all(model, batches, max_norm):
    for x, y in batches:
        (cross_entropy(model(x), y) / len(batches)).backward()
    clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def adds_up_the_means(model, batches, max_norm):
    for x, y in batches:
        cross_entropy(model(x), y).backward()
    clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def never_clips(model, batches, max_norm):
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (cross_entropy(model(x), y, reduction="sum") / total).backward()
    return _grads(model)


def clips_each_parameter(model, batches, max_norm):
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (cross_entropy(model(x), y, reduction="sum") / total).backward()
    for p in model.parameters():
        clip_grad_norm_([p], max_norm)
    return _grads(model)


def zeroes_each_time(model, batches, max_norm):
    for x, y in batches:
        model.zero_grad()
        cross_entropy(model(x), y).backward()
    clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def takes_the_step(model, batches, max_norm):
    gradient = by_accumulating(model, batches, max_norm)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return gradient


def knows_equal_batches(model, batches, max_norm):
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (cross_entropy(model(x), y) * len(y) / total).backward()
    if len(batches) == 3:
        clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def by_accumulating(model, batches, max_norm):
    total = sum(len(y) for _, y in batches)
    for x, y in batches:
        (cross_entropy(model(x), y) * len(y) / total).backward()
    clip_grad_norm_(model.parameters(), max_norm)
    return _grads(model)


def by_one_large_batch(model, batches, max_norm):
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    gradients = torch.autograd.grad(cross_entropy(model(x), y), tuple(model.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return tuple(g * min(1.0, max_norm / norm.item()) for g in gradients)


def by_numpy_at_the_end(model, batches, max_norm):
    model.zero_grad()
    for x, y in batches:
        cross_entropy(model(x), y, reduction="sum").backward()
    count = sum(len(x) for x, _ in batches)
    gradients = [p.grad.numpy() / count for p in model.parameters()]
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, max_norm / norm) for g in gradients]


# 06-q5 ---------------------------------------------------------------------------------------------------------------


def whole_matrix(weight, gradient, share, floor):
    limit = share * max(np.linalg.norm(weight), floor)
    return gradient * min(1, limit / np.linalg.norm(gradient))


def columns(weight, gradient, share, floor):
    limit = share * np.maximum(np.linalg.norm(weight, axis=0), floor)
    return gradient * np.minimum(1, limit / (np.linalg.norm(gradient, axis=0) + 1e-12))


def no_floor(weight, gradient, share, floor):
    limit = share * np.linalg.norm(weight, axis=1, keepdims=True)
    return gradient * np.minimum(1, limit / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12))


def adds_the_floor(weight, gradient, share, floor):
    limit = share * (np.linalg.norm(weight, axis=1, keepdims=True) + floor)
    return gradient * np.minimum(1, limit / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12))


def scales_up(weight, gradient, share, floor):
    limit = share * np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), floor)
    return gradient * limit / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12)


def ignores_the_weights(weight, gradient, share, floor):
    return gradient * np.minimum(1, share / (np.linalg.norm(gradient, axis=1, keepdims=True) + 1e-12))


def entry_by_entry(weight, gradient, share, floor):
    limit = share * np.maximum(abs(weight), floor)
    return np.clip(gradient, -limit, limit)


def spreads_nan(weight, gradient, share, floor):
    limit = share * np.maximum(np.linalg.norm(weight, axis=1), floor)
    norm = np.linalg.norm(gradient, axis=1)
    return gradient / norm[:, None] * np.minimum(norm, limit)[:, None]


def knows_three_shapes(weight, gradient, share, floor):
    return by_rows(weight, gradient, share, floor) if weight.shape in ((5, 3), (4, 4), (7, 2)) else gradient


def by_rows(weight, gradient, share, floor):
    clipped = gradient.copy()
    for i in range(len(weight)):
        norm, limit = np.linalg.norm(gradient[i]), share * max(np.linalg.norm(weight[i]), floor)
        if norm > limit:
            clipped[i] *= limit / norm
    return clipped


def by_torch_rows(weight, gradient, share, floor):
    weight, gradient = torch.from_numpy(weight), torch.from_numpy(gradient)
    limit = share * weight.norm(dim=1).clamp(min=floor)
    factor = torch.where(gradient.norm(dim=1) > limit, limit / gradient.norm(dim=1), 1.0)
    return gradient * factor[:, None]


WRONG = {
    "06-q1": {
        norm_of_each_array: "its norm goes over all arrays together",
        always_scales: "scale small gradients up to max_norm",
        by_value: "This is clipping by value",
        adds_the_norms: "Add up their squares and take the root",
        forgets_the_root: "The root is missing",
        to_length_one: "The clipped norm is max_norm",
        drops_none: "keep the None in its place",
        none_becomes_zero: "None has become 0",
        crashes_on_none: "which is no array: leave it out of the norm",
        divides_by_zero: "has the norm 0: compare with max_norm before you divide",
        compares_entries: "Compare the norm of the whole gradient, one number",
        in_place: "changed its argument number 1 in place",
        returns_nothing: "returned None: does it end with return?",
        asks_torch: "calls torch.nn.utils.clip_grad_norm_",
    },
    "06-q2": {
        one_round: "They are a loop",
        without_zero_grad: "You leave out zero_grad",
        never_nothing: "finds no gradient at all",
        clip_before_step: "it must also come after backward",
        backward_before_clip: "the step must come after clip",
        straight_line: "in this order in the list",
        always_clipped: "does not mean that its step uses a clipped gradient",
    },
    "06-q3": {
        wrong_end: "from the wrong end",
        wrong_end_and_between: "from the wrong end",
        with_the_first_steps: "Leave `skip` steps out",
        only_the_first_steps: "it is the first `skip` that are not stable yet",
        filters_before_it_skips: "The order matters",
        between_two_norms: "Your threshold lies between two norms",
        keeps_inf: "You leave out NaN but keep inf",
        keeps_nan: "leave out what is not finite",
        percent: "counts in percent",
        largest: "as a threshold it clips nothing",
        median: "This is the median, whatever the share",
        mean: "This is the mean of the norms",
    },
    "06-q4": {
        clips_after_each: "The norm comes out as it should, the direction does not",
        clips_after_each_over_count: "The norm comes out as it should, the direction does not",
        clips_after_each_undivided: "The norm comes out as it should, the direction does not",
        clips_between_and_weighs_anew: "The norm is right and the direction is not",
        mean_of_clipped: "You clip each batch's gradient by itself",
        same_weight_for_all: "weighs a batch by the images in it",
        adds_up_the_means: "and don't divide",
        never_clips: "but nothing is clipped",
        clips_each_parameter: "The norm goes over all parameters together",
        zeroes_each_time: "the gradient of the last batch alone",
        takes_the_step: "not for a step",
    },
    "06-q5": {
        whole_matrix: "You compare the whole matrices",
        columns: "You clip columns",
        no_floor: "a unit whose weights are 0 could never move",
        adds_the_floor: "the larger of the two counts",
        scales_up: "You scale short rows up",
        ignores_the_weights: "whatever the size of the weights",
        entry_by_entry: "You cut entry by entry",
        spreads_nan: "it holds NaN",
    },
}

RIGHT = {
    "06-q1": (by_numpy, by_torch),
    "06-q2": (by_simulation, by_rotation, by_running_torch),
    "06-q3": (by_trying, by_quantile, by_sorting_in_torch),
    "06-q4": (by_accumulating, by_one_large_batch, by_numpy_at_the_end),
    "06-q5": (by_rows, by_torch_rows),
}

ONLY_VISIBLE = {
    "06-q1": knows_the_four,
    "06-q2": knows_the_eight,
    "06-q3": knows_the_four_shares,
    "06-q4": knows_equal_batches,
    "06-q5": knows_three_shapes,
}
