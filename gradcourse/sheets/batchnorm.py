"""Sheet 07: normalize, carry a gradient back through the statistics, and put wrong statistics right."""

import copy

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import skip_init

from gradcourse.sheets.question import Case, Mistake, Question, Symptom

_AUTOGRAD = ("torch.autograd:grad", "torch.autograd:backward", "torch.autograd.functional:vjp", "torch.func:vjp")
_TORCH_BATCHNORM = ("torch.nn.functional:batch_norm", "torch:batch_norm", "torch:native_batch_norm")


def _columns(rng, images, units):
    """Draw pre-activations in which each unit has a mean and a spread of its own."""
    return rng.normal(size=(images, units)) * rng.uniform(0.3, 2.0, size=units) + rng.normal(size=units)


# Question 1: batch normalization, one training step of it


def batchnorm_case(rng, images, units, share, eps):
    """Make a case of question 1."""
    gamma, beta, mean = rng.uniform(0.5, 2.0, size=units), rng.normal(size=units), rng.normal(size=units)
    arguments = (_columns(rng, images, units), gamma, beta, mean, rng.uniform(0.5, 2.0, size=units), share, eps)
    return Case("07-q1", arguments, f"{images} images, {units} units, share={share:.3g}, eps={eps:.3g}")


def _batchnorm_cases():
    rng = np.random.default_rng(7)
    return [
        batchnorm_case(rng, 6, 3, 0.1, 0.01),
        batchnorm_case(rng, 4, 4, 0.25, 0.1),
        batchnorm_case(rng, 2, 5, 0.01, 1e-5),
    ]


def _batchnorm(z, gamma, beta, running_mean, running_var, share, eps):
    """Ask torch."""
    z, gamma, beta, mean, var = map(torch.tensor, (z, gamma, beta, running_mean, running_var))
    out = functional.batch_norm(z, mean, var, gamma, beta, training=True, momentum=share, eps=eps)
    return out.numpy(), mean.numpy(), var.numpy()


def _batchnorm_with(
    center=lambda z: z.mean(axis=0),
    spread=lambda z: z.var(axis=0),
    kept=lambda z: z.var(axis=0, ddof=1),
    root=lambda var, eps: np.sqrt(var + eps),
    affine=lambda hat, gamma, beta: gamma * hat + beta,
    moved=lambda old, new, share: (1.0 - share) * old + share * new,
):
    """Return an answer to question 1 in which one thing is done differently."""

    def answer(z, gamma, beta, running_mean, running_var, share, eps):
        hat = (z - center(z)) / root(spread(z), eps)
        mean, var = moved(running_mean, z.mean(axis=0), share), moved(running_var, kept(z), share)
        return affine(hat, gamma, beta), mean, var

    return answer


def _batchnorm_by_running(z, gamma, beta, running_mean, running_var, share, eps):
    mean, var = _batchnorm(z, gamma, beta, running_mean, running_var, share, eps)[1:]
    return gamma * (z - running_mean) / np.sqrt(running_var + eps) + beta, mean, var


def _batchnorm_by_updated(z, gamma, beta, running_mean, running_var, share, eps):
    mean, var = _batchnorm(z, gamma, beta, running_mean, running_var, share, eps)[1:]
    return gamma * (z - mean) / np.sqrt(var + eps) + beta, mean, var


_BATCHNORM_MISTAKES = (
    Mistake(
        "You normalize with the variance that divides by B - 1. Batch normalization divides by B there, so that the "
        "normalized batch has variance 1; only the running variance takes B - 1.",
        _batchnorm_with(spread=lambda z: z.var(axis=0, ddof=1)),
    ),
    Mistake(
        "Your running variance averages the variance that divides by B. PyTorch averages the unbiased one there, "
        "B - 1: it is an estimate for all images, not for this batch.",
        _batchnorm_with(kept=lambda z: z.var(axis=0)),
    ),
    Mistake(
        "You take the two variances the wrong way round: B to normalize, B - 1 for the running variance.",
        _batchnorm_with(spread=lambda z: z.var(axis=0, ddof=1), kept=lambda z: z.var(axis=0)),
    ),
    Mistake(
        "eps belongs under the root, with the variance: sqrt(var + eps), not sqrt(var) + eps.",
        _batchnorm_with(root=lambda var, eps: np.sqrt(var) + eps),
    ),
    Mistake("You left out eps.", _batchnorm_with(root=lambda var, eps: np.sqrt(var))),
    Mistake(
        "You divide by the variance. Dividing by the standard deviation, its root, makes the variance 1.",
        _batchnorm_with(root=lambda var, eps: var + eps),
    ),
    Mistake(
        "You take mean and variance of each image over its units: that is layer normalization. Batch normalization "
        "takes them of each unit over the images, axis 0.",
        _batchnorm_with(center=lambda z: z.mean(axis=1, keepdims=True), spread=lambda z: z.var(axis=1, keepdims=True)),
    ),
    Mistake(
        "You take one mean and one variance over all units together. Each unit has its own: axis 0.",
        _batchnorm_with(center=np.mean, spread=np.var),
    ),
    Mistake("gamma and beta are missing: multiply by gamma, add beta.", _batchnorm_with(affine=lambda hat, *_: hat)),
    Mistake(
        "You have gamma and beta the wrong way round: gamma multiplies, beta is added.",
        _batchnorm_with(affine=lambda hat, gamma, beta: beta * hat + gamma),
    ),
    Mistake(
        "Your running statistics keep the share of the old ones that they should give up: the new batch counts "
        "`share`.",
        _batchnorm_with(moved=lambda old, new, share: share * old + (1.0 - share) * new),
    ),
    Mistake(
        "You return the batch's mean and variance. The running ones move towards them by `share` only.",
        _batchnorm_with(moved=lambda old, new, share: new),
    ),
    Mistake(
        "You normalize with the running statistics, as in evaluation mode. This is a training step: take the batch's.",
        _batchnorm_by_running,
    ),
    Mistake(
        "You normalize with the running statistics after they were moved. A training step takes the batch's own.",
        _batchnorm_by_updated,
    ),
)

# Question 2: its backward pass


def backward_case(rng, images, units, eps):
    """Make a case of question 2."""
    delta, gamma = rng.normal(size=(images, units)) + rng.normal(size=units), rng.uniform(0.5, 2.0, size=units)
    shown = f"{images} images, {units} units, eps={eps:.3g}"
    return Case("07-q2", (delta, _columns(rng, images, units), gamma, eps), shown)


def _backward_cases():
    rng = np.random.default_rng(7)
    return [backward_case(rng, 6, 3, 0.01), backward_case(rng, 4, 4, 0.2), backward_case(rng, 3, 5, 0.05)]


def _backward(delta, z, gamma, eps):
    """Ask autograd, through torch's own batch normalization."""
    z, gamma = (torch.tensor(array, requires_grad=True) for array in (z, gamma))
    beta = torch.zeros_like(gamma, requires_grad=True)
    out = functional.batch_norm(z, None, None, gamma, beta, training=True, eps=eps)
    gradients = torch.autograd.grad(out, (z, gamma, beta), torch.tensor(delta))
    return tuple(gradient.numpy() for gradient in gradients)


def _first_part(g, hat):
    return g.mean(axis=0)


def _second_part(g, hat):
    return hat * (g * hat).mean(axis=0)


def _backward_with(
    spread=lambda z: z.var(axis=0),
    root=lambda var, eps: np.sqrt(var + eps),
    scaled=lambda delta, gamma: delta * gamma,
    parts=(_first_part, _second_part),
    outside=lambda bracket, std: bracket / std,
    of_gamma=lambda delta, hat, z: (delta * hat).sum(axis=0),
    of_beta=lambda delta: delta.sum(axis=0),
):
    """Return an answer to question 2 in which one thing is done differently."""

    def answer(delta, z, gamma, eps):
        std = root(spread(z), eps)
        hat, g = (z - z.mean(axis=0)) / std, scaled(delta, gamma)
        bracket = g - sum(part(g, hat) for part in parts)
        return outside(bracket, std), of_gamma(delta, hat, z), of_beta(delta)

    return answer


def _swapped(delta, z, gamma, eps):
    dz, dgamma, dbeta = _backward(delta, z, gamma, eps)
    return dz, dbeta, dgamma


_BACKWARD_MISTAKES = (
    Mistake(
        "You treat mean and variance as constants. They are computed from the same z, and the gradient goes through "
        "them too: two sums over the batch are missing from dz.",
        _backward_with(parts=()),
    ),
    Mistake(
        "The mean depends on each z of the batch: subtract the batch mean of the gradient.",
        _backward_with(parts=(_second_part,)),
    ),
    Mistake(
        "The variance depends on each z of the batch: subtract z_hat times the batch mean of gradient * z_hat.",
        _backward_with(parts=(_first_part,)),
    ),
    Mistake(
        "What you subtract are sums over the batch; they must be means: divide by the number of images.",
        _backward_with(parts=(lambda g, hat: g.sum(axis=0), lambda g, hat: hat * (g * hat).sum(axis=0))),
    ),
    Mistake(
        "You subtract the mean of gradient * z_hat without z_hat itself: the part along z_hat is "
        "z_hat * mean(gradient * z_hat).",
        _backward_with(parts=(_first_part, lambda g, hat: (g * hat).mean(axis=0))),
    ),
    Mistake(
        "Take the means over the images, axis 0, not over the units.",
        _backward_with(
            parts=(
                lambda g, hat: g.mean(axis=1, keepdims=True),
                lambda g, hat: hat * (g * hat).mean(axis=1, keepdims=True),
            )
        ),
    ),
    Mistake(
        "gamma is missing from dz: the output is gamma * z_hat + beta, so the gradient of z_hat is delta * gamma.",
        _backward_with(scaled=lambda delta, gamma: delta),
    ),
    Mistake(
        "The factor 1 / sqrt(var + eps) is missing from dz.",
        _backward_with(outside=lambda bracket, std: bracket),
    ),
    Mistake(
        "You divide by the variance plus eps. The factor is one over its root.",
        _backward_with(outside=lambda bracket, std: bracket / std**2),
    ),
    Mistake(
        "Your variance divides by B - 1. Batch normalization normalizes with the one that divides by B.",
        _backward_with(spread=lambda z: z.var(axis=0, ddof=1)),
    ),
    Mistake("You left out eps.", _backward_with(root=lambda var, eps: np.sqrt(var))),
    Mistake(
        "eps belongs under the root, with the variance: sqrt(var + eps).",
        _backward_with(root=lambda var, eps: np.sqrt(var) + eps),
    ),
    Mistake(
        "dgamma multiplies delta by the normalized z_hat, not by z.",
        _backward_with(of_gamma=lambda delta, hat, z: (delta * z).sum(axis=0)),
    ),
    Mistake(
        "dgamma and dbeta are sums over the batch: delta is the gradient of the whole loss, and nothing is left to "
        "average.",
        _backward_with(
            of_gamma=lambda delta, hat, z: (delta * hat).mean(axis=0), of_beta=lambda delta: delta.mean(axis=0)
        ),
    ),
    Mistake("You return dgamma and dbeta in the wrong order: (dz, dgamma, dbeta).", _swapped),
)
_BACKWARD_SYMPTOMS = (
    Symptom(
        "Your dz, summed over the batch, is not 0 for each unit. Shifting all z of a unit changes no output, so it "
        "must be: the gradient through the mean is missing or wrong.",
        lambda value, expected, *arguments: not np.allclose(value[0].sum(axis=0), 0.0, atol=1e-8),
    ),
)

# Question 3: group normalization


def group_norm_case(rng, shape, groups, eps):
    """Make a case of question 3; each channel gets a mean and a size of its own."""
    ones = (1,) * (len(shape) - 2)
    size, mean = rng.uniform(0.3, 2.0, size=(1, shape[1], *ones)), rng.normal(size=(1, shape[1], *ones))
    shown = f"h of shape {shape}, groups={groups}, eps={eps:.3g}"
    return Case("07-q3", (rng.normal(size=shape) * size + mean, groups, eps), shown)


def _group_norm_cases():
    rng = np.random.default_rng(7)
    shapes = ((5, 6), 1), ((4, 8), 2), ((3, 6, 5), 1), ((3, 12, 2, 3), 3)
    return [group_norm_case(rng, *pair, eps) for pair, eps in zip(shapes, (0.01, 0.1, 1e-5, 0.05), strict=True)]


def _group_norm(h, groups, eps):
    """Ask torch."""
    return functional.group_norm(torch.from_numpy(h), groups, eps=eps).numpy()


def _group_norm_with(
    grouped=lambda h, groups: h.reshape(len(h), groups, -1),
    axes=2,
    ddof=0,
    root=lambda var, eps: np.sqrt(var + eps),
    back=lambda hat, h: hat.reshape(h.shape),
):
    """Return an answer to question 3 in which one thing is done differently."""

    def answer(h, groups, eps):
        parts = grouped(h, groups)
        var = parts.var(axis=axes, keepdims=True, ddof=ddof)
        return back((parts - parts.mean(axis=axes, keepdims=True)) / root(var, eps), h)

    return answer


def _interleaved(h, groups, eps):
    """Take every groups-th channel into a group."""
    parts = h.reshape(len(h), -1, groups, *h.shape[2:])
    axes = (1, *range(3, parts.ndim))
    centered = parts - parts.mean(axis=axes, keepdims=True)
    return (centered / np.sqrt(parts.var(axis=axes, keepdims=True) + eps)).reshape(h.shape)


_GROUP_NORM_MISTAKES = (
    Mistake(
        "You normalize over the batch: that is batch normalization. Here each image has its own mean and variance.",
        _group_norm_with(grouped=lambda h, groups: h, axes=0),
    ),
    Mistake(
        "You normalize over the batch and the places: that is batch normalization. Here each image has its own mean "
        "and variance.",
        lambda h, groups, eps: _group_norm_with(grouped=lambda h, _: h, axes=(0, *range(2, h.ndim)))(h, groups, eps),
    ),
    Mistake(
        "You take one mean and one variance over the whole batch. Each image has its own.",
        _group_norm_with(grouped=lambda h, groups: h, axes=None),
    ),
    Mistake(
        "You leave the groups out: this is layer normalization for any number of groups.",
        _group_norm_with(grouped=lambda h, groups: h.reshape(len(h), 1, -1)),
    ),
    Mistake(
        "`groups` is the number of groups, not the number of channels in one.",
        _group_norm_with(grouped=lambda h, groups: h.reshape(len(h), h.shape[1] // groups, -1)),
    ),
    Mistake(
        "A group is a run of neighbouring channels: the first C / groups of them, then the next. Yours takes every "
        "groups-th channel.",
        _interleaved,
    ),
    Mistake(
        "You normalize over the channels at each place by itself. A group's mean and variance go over its channels and "
        "all places together.",
        lambda h, groups, eps: _group_norm_with(
            grouped=lambda h, groups: h.reshape(len(h), groups, -1, *h.shape[2:]),
        )(h, groups, eps),
    ),
    Mistake(
        "You normalize over the last axis only. For layer normalization of pictures that is one row of one channel: "
        "mean and variance go over all that belongs to the group.",
        lambda h, groups, eps: _group_norm_with(
            grouped=lambda h, groups: h.reshape(len(h), groups, -1) if h.ndim == 2 else h, axes=-1
        )(h, groups, eps),
    ),
    Mistake(
        "Your variance divides by one less than the number of entries. The norms divide by the number.",
        _group_norm_with(ddof=1),
    ),
    Mistake("You left out eps.", _group_norm_with(root=lambda var, eps: np.sqrt(var))),
    Mistake(
        "eps belongs under the root, with the variance: sqrt(var + eps).",
        _group_norm_with(root=lambda var, eps: np.sqrt(var) + eps),
    ),
    Mistake("You divide by the variance, not by its root.", _group_norm_with(root=lambda var, eps: var + eps)),
)

# Question 4: weight normalization


def weight_norm_case(rng, units, inputs):
    """Make a case of question 4."""
    v, dw = rng.normal(size=(units, inputs)), rng.normal(size=(units, inputs))
    v *= rng.uniform(0.5, 3.0, size=(units, 1))
    return Case("07-q4", (v, rng.uniform(0.5, 3.0, size=units), dw), f"v of shape {(units, inputs)}")


def _weight_norm_cases():
    rng = np.random.default_rng(7)
    return [weight_norm_case(rng, *shape) for shape in ((3, 4), (4, 4), (1, 6))]


def _weight_norm(v, s, dw):
    """Ask autograd."""
    v, s = (torch.tensor(array, requires_grad=True) for array in (v, s))
    w = (s / torch.linalg.vector_norm(v, dim=1))[:, None] * v
    return tuple(gradient.numpy() for gradient in torch.autograd.grad(w, (v, s), torch.tensor(dw)))


def _lengths(v):
    return np.linalg.norm(v, axis=1, keepdims=True)


def _inner(a, b):
    return (a * b).sum(axis=1, keepdims=True)


def _weight_norm_with(
    length=_lengths,
    factor=lambda s, length: s[:, None] / length,
    along=lambda v, dw, length: _inner(dw, v) / length**2 * v,
    of_s=lambda v, dw, length: (_inner(dw, v) / length)[:, 0],
):
    """Return an answer to question 4 in which one thing is done differently."""

    def answer(v, s, dw):
        size = length(v)
        return factor(s, size) * (dw - along(v, dw, size)), of_s(v, dw, size)

    return answer


_WEIGHT_NORM_MISTAKES = (
    Mistake(
        "You treat |v| as a constant. It depends on v: take the part of dw along v away, and dv is perpendicular to v.",
        _weight_norm_with(along=lambda v, dw, length: 0.0),
    ),
    Mistake(
        "You treat |v| as a constant. It depends on v: take the part of dw along v away, and dv is perpendicular to v.",
        lambda v, s, dw: (s[:, None] * dw, _weight_norm(v, s, dw)[1]),
    ),
    Mistake(
        "The factor s / |v| is missing from dv: w is v times that.",
        _weight_norm_with(factor=lambda s, length: 1.0),
    ),
    Mistake(
        "The factor of dv is s / |v|: you left out the s.", _weight_norm_with(factor=lambda s, length: 1.0 / length)
    ),
    Mistake(
        "The factor of dv is s / |v|: you left out the length of v.",
        _weight_norm_with(factor=lambda s, length: s[:, None]),
    ),
    Mistake(
        "The part of dw along v is <dw, v> v / |v|^2: the square is missing.",
        _weight_norm_with(along=lambda v, dw, length: _inner(dw, v) / length * v),
    ),
    Mistake(
        "The part of dw along v is <dw, v> v / |v|^2: you left out the |v|^2.",
        _weight_norm_with(along=lambda v, dw, length: _inner(dw, v) * v),
    ),
    Mistake(
        "You take one length for the whole matrix. Each unit, a row of v, has its own.",
        _weight_norm_with(length=np.linalg.norm, of_s=lambda v, dw, length: (dw * v).sum(axis=1) / length),
    ),
    Mistake(
        "ds is <dw, v> / |v|: the derivative of w with respect to s is v / |v|, not v.",
        _weight_norm_with(of_s=lambda v, dw, length: _inner(dw, v)[:, 0]),
    ),
    Mistake(
        "ds is <dw, v> / |v|. The factor s belongs to dv.",
        lambda v, s, dw: (_weight_norm(v, s, dw)[0], s * _weight_norm(v, s, dw)[1]),
    ),
    Mistake(
        "You add the part along v where it must be taken away.",
        _weight_norm_with(along=lambda v, dw, length: -_inner(dw, v) / length**2 * v),
    ),
)
_LENGTHS = "Do the shapes fit? Each unit, a row of v, has a length of its own: axis=1, with keepdims=True."
_WEIGHT_NORM_SYMPTOMS = (
    Symptom(
        "Your dv is not perpendicular to v. The length of v does not change w, so for each unit <v, dv> must be 0.",
        lambda value, expected, v, s, dw: not np.allclose((v * value[0]).sum(axis=1), 0.0, atol=1e-8),
    ),
)


# Question 5: wrong running statistics


def draw(model, rng):
    """Set all parameters and statistics of a model from a NumPy rng, in float64; returns the model in training mode.

    The statistics are those of a layer that has seen 66 batches and believed little of them.
    """
    model = model.double()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                layer.weight.copy_(torch.from_numpy(rng.uniform(0.5, 1.5, size=layer.num_features)))
                layer.bias.copy_(torch.from_numpy(rng.normal(size=layer.num_features)))
                layer.running_mean.copy_(torch.from_numpy(0.1 * rng.normal(size=layer.num_features)))
                layer.running_var.copy_(torch.from_numpy(rng.uniform(1.0, 1.5, size=layer.num_features)))
                layer.num_batches_tracked.fill_(66)
                layer.momentum = 0.001
            elif isinstance(layer, (nn.Linear, nn.Conv2d)):
                scale = (2.0 / layer.weight[0].numel()) ** 0.5
                layer.weight.copy_(torch.from_numpy(scale * rng.normal(size=tuple(layer.weight.shape))))
                layer.bias.copy_(torch.from_numpy(rng.normal(size=layer.bias.shape[0])))
    return model.train()


def _linear(inputs, outputs):
    return skip_init(nn.Linear, inputs, outputs)


def dense_net(rng, inputs, width, outputs):
    """Make a network of three linear layers with batch normalization behind the first two."""
    layers = [_linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    layers += [_linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), _linear(width, outputs)]
    return draw(nn.Sequential(*layers), rng)


def nested_net(rng, inputs, width, outputs):
    """Make one whose normalized layers are blocks, in evaluation mode."""
    blocks = [nn.Sequential(_linear(i, width), nn.BatchNorm1d(width), nn.Tanh()) for i in (inputs, width)]
    return draw(nn.Sequential(*blocks, _linear(width, outputs)), rng).eval()


def conv_net(rng, channels, outputs):
    """Make a convolutional one for pictures of 4 x 4."""
    convolution = skip_init(nn.Conv2d, 1, channels, 3, padding=1)
    layers = [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), _linear(16 * channels, outputs)]
    return draw(nn.Sequential(*layers), rng)


def repair_case(rng, model, shape, batches, shown, hint=""):
    """Make a case of question 5: a model and batches of inputs of this shape, which have a mean and are not small."""
    made = [torch.from_numpy(rng.normal(1.0, 3.0, size=shape)) for _ in range(batches)]
    return Case("07-q5", (model, made), f"{shown}, {batches} batches of {shape[0]}", hint)


def _repair_cases():
    rng = np.random.default_rng(7)
    nested = "These norms are inside other modules: model.modules() finds them at any depth."
    return [
        repair_case(rng, dense_net(rng, 5, 6, 3), (8, 5), 4, "linear layers"),
        repair_case(rng, nested_net(rng, 4, 5, 2), (6, 4), 5, "blocks in evaluation mode", nested),
        repair_case(rng, conv_net(rng, 3, 2), (5, 1, 4, 4), 3, "a convolution"),
    ]


def _norms(model):
    return [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]


def _repaired_by(kept, batches_of=lambda batches: batches):
    """Return the answer that takes the mean of `kept(input)` over the batches as each norm's statistics.

    The inputs are seen by hooks: no running average is involved.
    """

    def answer(model, batches):
        with torch.no_grad():
            seen = _statistics(model, batches_of(batches), kept)
            for norm, found in seen.items():
                mean, var = (torch.stack(values).mean(dim=0) for values in zip(*found, strict=True))
                norm.running_mean.copy_(mean)
                norm.running_var.copy_(var)
            return model.eval()(batches[0])

    return answer


def _statistics(model, batches, kept):
    """Return what `kept` finds in each norm's inputs, in training mode: norm -> one pair per batch."""
    seen = {norm: [] for norm in _norms(model)}
    handles = [norm.register_forward_pre_hook(lambda norm, x: seen[norm].append(kept(x[0]))) for norm in seen]
    model.train()
    for batch in batches:
        model(batch)
    for handle in handles:
        handle.remove()
    return seen


def _mean_and_var(correction):
    def kept(x):
        channels = x.movedim(1, 0).flatten(1)
        return channels.mean(dim=1), channels.var(dim=1, correction=correction)

    return kept


def _after_passes(prepare, training=True, evaluated=True):
    """Return the answer that prepares each norm, passes the batches through, and evaluates the first."""

    def answer(model, batches):
        model = copy.deepcopy(model).train(training)
        with torch.no_grad():
            for norm in _norms(model):
                prepare(norm)
            for batch in batches:
                model(batch)
            return model.train(not evaluated)(batches[0])

    return answer


def _do_nothing(norm):
    pass


def _reset(norm):
    norm.reset_running_stats()


def _with_share(share, reset=False):
    def prepare(norm):
        norm.momentum = share
        if reset:
            norm.reset_running_stats()

    return prepare


_LITTLE_BELIEF = (
    "Forward passes move the running statistics by a share of `momentum` each: what they were at the start, {start}, "
    "still counts. momentum=None takes the plain mean over the batches since the last reset."
)
_REPAIR_MISTAKES = (
    Mistake(
        "The running statistics are as they were. Evaluation mode only reads them: forward passes in training mode "
        "collect new ones.",
        _after_passes(_do_nothing, training=False),
    ),
    Mistake(
        "These are the outputs of training mode. The question asks for evaluation mode, after the repair.",
        _after_passes(_do_nothing, evaluated=False),
    ),
    Mistake(
        "You reset the statistics to 0 and 1, and no forward pass in training mode has collected new ones.",
        _after_passes(_reset, training=False),
    ),
    Mistake(_LITTLE_BELIEF.format(start="far from the truth"), _after_passes(_do_nothing)),
    Mistake(_LITTLE_BELIEF.format(start="0 and 1 after the reset"), _after_passes(_reset)),
    Mistake(_LITTLE_BELIEF.format(start="far from the truth"), _after_passes(_with_share(0.1))),
    Mistake(_LITTLE_BELIEF.format(start="0 and 1 after the reset"), _after_passes(_with_share(0.1, reset=True))),
    Mistake(
        "With momentum=None PyTorch counts all batches since the last reset, 66 wrong ones among them: call "
        "reset_running_stats() first.",
        _after_passes(_with_share(None)),
    ),
    Mistake(
        "Your statistics are those of the last batch alone. Average over all batches: momentum=None.",
        _after_passes(_with_share(1.0)),
    ),
    Mistake(
        "Your running variance averages the variance that divides by the number of images, B. PyTorch keeps the "
        "unbiased one, B - 1.",
        _repaired_by(_mean_and_var(0)),
    ),
    Mistake(
        "You pass all images as one batch. Here that gives another variance than the mean over the batches, and data "
        "seldom fit into one batch: pass the batches one by one.",
        _repaired_by(_mean_and_var(1), lambda batches: [torch.cat(list(batches))]),
    ),
    Mistake(
        "You collect from the first batch only. Pass all of them.",
        _repaired_by(_mean_and_var(1), lambda batches: batches[:1]),
    ),
)

QUESTIONS = (
    Question(
        id="07-q1",
        signature="batchnorm(z, gamma, beta, running_mean, running_var, share, eps)",
        returns="the normalized output, and the running mean and variance after this batch",
        points=3,
        minutes=12,
        core=True,
        oracle=_batchnorm,
        cases=_batchnorm_cases,
        mistakes=_BATCHNORM_MISTAKES,
        problems=(
            ("broadcast", "Do the shapes fit? Mean and variance have one entry per unit: they go over axis 0."),
            (
                "must match the size",
                "Do the shapes fit? Mean and variance have one entry per unit: they go over axis 0.",
            ),
        ),
        refused=_TORCH_BATCHNORM,
    ),
    Question(
        id="07-q2",
        signature="batchnorm_backward(delta, z, gamma, eps)",
        returns="the gradients with respect to z, gamma and beta",
        points=4,
        minutes=18,
        core=True,
        oracle=_backward,
        cases=_backward_cases,
        mistakes=_BACKWARD_MISTAKES,
        symptoms=_BACKWARD_SYMPTOMS,
        refused=(*_AUTOGRAD, *_TORCH_BATCHNORM),
    ),
    Question(
        id="07-q3",
        signature="group_norm(h, groups, eps)",
        returns="h, normalized over each group of channels of each image",
        points=3,
        minutes=12,
        core=False,
        oracle=_group_norm,
        cases=_group_norm_cases,
        mistakes=_GROUP_NORM_MISTAKES,
        refused=(
            "torch.nn.functional:group_norm",
            "torch.nn.functional:layer_norm",
            "torch:group_norm",
            "torch:layer_norm",
        ),
    ),
    Question(
        id="07-q4",
        signature="weight_norm_backward(v, s, dw)",
        returns="the gradients with respect to v and s",
        points=3,
        minutes=15,
        core=False,
        oracle=_weight_norm,
        cases=_weight_norm_cases,
        mistakes=_WEIGHT_NORM_MISTAKES,
        symptoms=_WEIGHT_NORM_SYMPTOMS,
        problems=(
            ("broadcast", _LENGTHS),
            ("must match the size", _LENGTHS),
        ),
        refused=_AUTOGRAD,
    ),
    Question(
        id="07-q5",
        signature="repair(model, batches)",
        returns="the repaired model's outputs for the first batch, in evaluation mode",
        points=4,
        minutes=18,
        core=False,
        oracle=lambda model, batches: _repaired_by(_mean_and_var(1))(copy.deepcopy(model), batches).numpy(),
        cases=_repair_cases,
        mistakes=_REPAIR_MISTAKES,
        refused=("torch.optim.swa_utils:update_bn",),
        in_place=True,
    ),
)
