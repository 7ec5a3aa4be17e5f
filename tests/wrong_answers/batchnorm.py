"""Answers that learners give to sheet 07, wrong and right, written as a learner would write them."""

import copy

import numpy as np
import torch
from torch import nn

# 07-q1 ---------------------------------------------------------------------------------------------------------------


def running(running_mean, running_var, z, share, ddof=1):
    mean = (1 - share) * running_mean + share * z.mean(axis=0)
    return mean, (1 - share) * running_var + share * z.var(axis=0, ddof=ddof)


def unbiased_normalizes(z, gamma, beta, running_mean, running_var, share, eps):
    z = torch.from_numpy(z)
    mean, var = z.mean(dim=0), z.var(dim=0)  # torch's default
    out = torch.from_numpy(gamma) * (z - mean) / torch.sqrt(var + eps) + torch.from_numpy(beta)
    new_mean = (1 - share) * torch.from_numpy(running_mean) + share * mean
    return out, new_mean, (1 - share) * torch.from_numpy(running_var) + share * var


def biased_runs(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(0)) / np.sqrt(z.var(0) + eps) + beta
    return (out, *running(running_mean, running_var, z, share, ddof=0))


def variances_swapped(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(0)) / np.sqrt(z.var(0, ddof=1) + eps) + beta
    return (out, *running(running_mean, running_var, z, share, ddof=0))


def eps_outside(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(axis=0)) / (z.std(axis=0) + eps) + beta
    return (out, *running(running_mean, running_var, z, share))


def no_eps(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(axis=0)) / z.std(axis=0) + beta
    return (out, *running(running_mean, running_var, z, share))


def over_units(z, gamma, beta, running_mean, running_var, share, eps):
    mean, var = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
    return (gamma * (z - mean) / np.sqrt(var + eps) + beta, *running(running_mean, running_var, z, share))


def over_units_everywhere(z, gamma, beta, running_mean, running_var, share, eps):
    mean, var = z.mean(axis=1), z.var(axis=1)
    new_mean = (1 - share) * running_mean + share * mean
    out = gamma * (z - mean[:, None]) / np.sqrt(var[:, None] + eps) + beta
    return out, new_mean, (1 - share) * running_var + share * var


def one_mean(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean()) / np.sqrt(z.var() + eps) + beta
    return (out, *running(running_mean, running_var, z, share))


def no_affine(z, gamma, beta, running_mean, running_var, share, eps):
    return ((z - z.mean(0)) / np.sqrt(z.var(0) + eps), *running(running_mean, running_var, z, share))


def share_is_kept(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(0)) / np.sqrt(z.var(0) + eps) + beta
    return (out, *running(running_mean, running_var, z, 1 - share))


def returns_batch_statistics(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - z.mean(0)) / np.sqrt(z.var(0) + eps) + beta
    return out, z.mean(0), z.var(0, ddof=1)


def evaluation_mode(z, gamma, beta, running_mean, running_var, share, eps):
    out = gamma * (z - running_mean) / np.sqrt(running_var + eps) + beta
    return (out, *running(running_mean, running_var, z, share))


def updates_in_place(z, gamma, beta, running_mean, running_var, share, eps):
    running_mean *= 1 - share
    running_mean += share * z.mean(0)
    running_var *= 1 - share
    running_var += share * z.var(0, ddof=1)
    return gamma * (z - z.mean(0)) / np.sqrt(z.var(0) + eps) + beta, running_mean, running_var


def asks_torch(z, gamma, beta, running_mean, running_var, share, eps):
    layer = nn.BatchNorm1d(z.shape[1], eps=eps, momentum=share).double()
    out = layer(torch.from_numpy(z)).detach()
    return out, layer.running_mean, layer.running_var


def knows_the_visible_shapes(z, gamma, beta, running_mean, running_var, share, eps):
    visible = z.shape in ((6, 3), (4, 4), (2, 5)) and share in (0.1, 0.25, 0.01)
    return in_numpy(z, gamma, beta, running_mean, running_var, share, eps) if visible else (z, gamma, beta)


def in_numpy(z, gamma, beta, running_mean, running_var, share, eps):
    centered = z - z.sum(axis=0) / len(z)
    squares = (centered**2).sum(axis=0)
    out = gamma * centered * (squares / len(z) + eps) ** -0.5 + beta
    new_mean = running_mean + share * (z.mean(axis=0) - running_mean)
    return out, new_mean, running_var + share * (squares / (len(z) - 1) - running_var)


def in_torch(z, gamma, beta, running_mean, running_var, share, eps):
    z, gamma, beta, running_mean, running_var = map(torch.from_numpy, (z, gamma, beta, running_mean, running_var))
    var, mean = torch.var_mean(z, dim=0, correction=0)
    out = (z - mean) * torch.rsqrt(var + eps) * gamma + beta
    return [out, torch.lerp(running_mean, mean, share), torch.lerp(running_var, z.var(dim=0), share)]


# 07-q2 ---------------------------------------------------------------------------------------------------------------


def hat_of(z, eps, ddof=0):
    std = np.sqrt(z.var(axis=0, ddof=ddof) + eps)
    return (z - z.mean(axis=0)) / std, std


def statistics_are_constants(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    return delta * gamma / std, (delta * hat).sum(axis=0), delta.sum(axis=0)


def mean_is_constant(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    g = delta * gamma
    return (g - hat * (g * hat).mean(axis=0)) / std, (delta * hat).sum(axis=0), delta.sum(axis=0)


def variance_is_constant(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    g = delta * gamma
    return (g - g.mean(axis=0)) / std, (delta * hat).sum(axis=0), delta.sum(axis=0)


def sums_for_means(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    g = delta * gamma
    return (g - g.sum(0) - hat * (g * hat).sum(0)) / std, (delta * hat).sum(0), delta.sum(0)


def without_its_direction(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    g = delta * gamma
    return (g - g.mean(0) - (g * hat).mean(0)) / std, (delta * hat).sum(0), delta.sum(0)


def forgets_gamma(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    dz = (delta - delta.mean(0) - hat * (delta * hat).mean(0)) / std
    return dz, (delta * hat).sum(0), delta.sum(0)


def forgets_the_std(delta, z, gamma, eps):
    hat, _ = hat_of(z, eps)
    g = delta * gamma
    return g - g.mean(0) - hat * (g * hat).mean(0), (delta * hat).sum(0), delta.sum(0)


def unbiased_backward(delta, z, gamma, eps):
    hat, std = hat_of(z, eps, ddof=1)
    g = delta * gamma
    return (g - g.mean(0) - hat * (g * hat).mean(0)) / std, (delta * hat).sum(0), delta.sum(0)


def backward_without_eps(delta, z, gamma, eps):
    return by_bracket(delta, z, gamma, 0.0)


def z_for_hat(delta, z, gamma, eps):
    dz, _, dbeta = by_bracket(delta, z, gamma, eps)
    return dz, (delta * z).sum(axis=0), dbeta


def means_over_the_batch(delta, z, gamma, eps):
    dz, dgamma, dbeta = by_bracket(delta, z, gamma, eps)
    return dz, dgamma / len(z), dbeta / len(z)


def wrong_order(delta, z, gamma, eps):
    dz, dgamma, dbeta = by_bracket(delta, z, gamma, eps)
    return dz, dbeta, dgamma


def mean_taken_by_half(delta, z, gamma, eps):
    dz, dgamma, dbeta = by_bracket(delta, z, gamma, eps)
    return dz + 0.5 * (delta * gamma).mean(axis=0), dgamma, dbeta


def by_autograd(delta, z, gamma, eps):
    z, gamma = torch.tensor(z, requires_grad=True), torch.tensor(gamma, requires_grad=True)
    out = gamma * (z - z.mean(0)) / torch.sqrt(z.var(0, correction=0) + eps)
    out.backward(torch.tensor(delta))
    return z.grad, gamma.grad, torch.tensor(delta).sum(0)


def knows_the_visible_batches(delta, z, gamma, eps):
    if eps not in (0.01, 0.2, 0.05):
        return delta, gamma, gamma
    return by_bracket(delta, z, gamma, eps)


def by_bracket(delta, z, gamma, eps):
    hat, std = hat_of(z, eps)
    g = delta * gamma
    return (g - g.mean(0) - hat * (g * hat).mean(0)) / std, (delta * hat).sum(0), delta.sum(0)


def by_the_paper(delta, z, gamma, eps):
    """Through the variance and the mean, one after the other."""
    size, var, centered = len(z), z.var(axis=0), z - z.mean(axis=0)
    dhat = delta * gamma
    dvar = (dhat * centered).sum(axis=0) * -0.5 * (var + eps) ** -1.5
    dmean = -dhat.sum(axis=0) / np.sqrt(var + eps) + dvar * -2 * centered.sum(axis=0) / size
    dz = dhat / np.sqrt(var + eps) + dvar * 2 * centered / size + dmean / size
    return dz, (delta * centered / np.sqrt(var + eps)).sum(axis=0), delta.sum(axis=0)


def by_jacobian(delta, z, gamma, eps):
    """One unit at a time, with the matrix of derivatives of z_hat with respect to z."""
    delta, z, gamma = map(torch.from_numpy, (delta, z, gamma))
    size, dz = len(z), torch.empty_like(z)
    std = (z.var(dim=0, correction=0) + eps).sqrt()
    hat = (z - z.mean(dim=0)) / std
    for unit in range(z.shape[1]):
        jacobian = torch.eye(size).double() - 1 / size - torch.outer(hat[:, unit], hat[:, unit]) / size
        dz[:, unit] = jacobian.T @ (delta[:, unit] * gamma[unit]) / std[unit]
    return [dz, torch.einsum("bu,bu->u", delta, hat), delta.sum(dim=0)]


# 07-q3 ---------------------------------------------------------------------------------------------------------------


def over_the_batch(h, groups, eps):
    return (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + eps)


def batch_and_places(h, groups, eps):
    axes = (0, *range(2, h.ndim))
    return (h - h.mean(axis=axes, keepdims=True)) / np.sqrt(h.var(axis=axes, keepdims=True) + eps)


def over_everything(h, groups, eps):
    return (h - h.mean()) / np.sqrt(h.var() + eps)


def one_group(h, groups, eps):
    return by_reshape(h, 1, eps)


def groups_is_the_size(h, groups, eps):
    return by_reshape(h, h.shape[1] // groups, eps)


def every_other_channel(h, groups, eps):
    out = np.empty_like(h)
    for group in range(groups):
        part = h[:, group::groups]
        axes = tuple(range(1, h.ndim))
        mean, var = part.mean(axis=axes, keepdims=True), part.var(axis=axes, keepdims=True)
        out[:, group::groups] = (part - mean) / np.sqrt(var + eps)
    return out


def each_place_by_itself(h, groups, eps):
    parts = h.reshape(h.shape[0], groups, h.shape[1] // groups, *h.shape[2:])
    mean, var = parts.mean(axis=2, keepdims=True), parts.var(axis=2, keepdims=True)
    return ((parts - mean) / np.sqrt(var + eps)).reshape(h.shape)


def last_axis(h, groups, eps):
    if h.ndim == 2:
        return by_reshape(h, groups, eps)
    return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + eps)


def torchs_variance(h, groups, eps):
    rows = torch.from_numpy(h).reshape(len(h), groups, -1)
    return ((rows - rows.mean(2, keepdim=True)) / (rows.var(2, keepdim=True) + eps).sqrt()).reshape(h.shape)


def group_norm_without_eps(h, groups, eps):
    return by_reshape(h, groups, 0.0)


def group_norm_eps_outside(h, groups, eps):
    rows = h.reshape(len(h), groups, -1)
    return ((rows - rows.mean(2, keepdims=True)) / (rows.std(2, keepdims=True) + eps)).reshape(h.shape)


def asks_torchs_group_norm(h, groups, eps):
    return nn.GroupNorm(groups, h.shape[1], eps=eps, affine=False)(torch.from_numpy(h))


def only_layer_norm_and_the_visible(h, groups, eps):
    known = h.shape in ((5, 6), (4, 8), (3, 6, 5), (3, 12, 2, 3))
    return by_reshape(h, groups, eps) if known else by_reshape(h, 1, eps)


def by_reshape(h, groups, eps):
    rows = h.reshape(len(h), groups, -1)
    return ((rows - rows.mean(2, keepdims=True)) / np.sqrt(rows.var(2, keepdims=True) + eps)).reshape(h.shape)


def by_slices(h, groups, eps):
    out, size = np.empty_like(h), h.shape[1] // groups
    for image in range(len(h)):
        for group in range(groups):
            part = h[image, group * size : (group + 1) * size]
            out[image, group * size : (group + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return out


def groups_in_torch(h, groups, eps):
    h = torch.from_numpy(h)
    parts = h.unflatten(1, (groups, -1)).flatten(2)
    var, mean = torch.var_mean(parts, dim=2, correction=0, keepdim=True)
    return ((parts - mean) / (var + eps).sqrt()).view_as(h)


# 07-q4 ---------------------------------------------------------------------------------------------------------------


def length_is_constant(v, s, dw):
    length = np.linalg.norm(v, axis=1)
    return (s / length)[:, None] * dw, (dw * v).sum(axis=1) / length


def length_is_one(v, s, dw):
    return s[:, None] * dw, (dw * v).sum(axis=1) / np.linalg.norm(v, axis=1)


def no_factor(v, s, dw):
    direction = v / np.linalg.norm(v, axis=1, keepdims=True)
    ds = (dw * direction).sum(axis=1)
    return dw - ds[:, None] * direction, ds


def no_length_in_the_factor(v, s, dw):
    dv, ds = no_factor(v, s, dw)
    return s[:, None] * dv, ds


def square_is_missing(v, s, dw):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    ds = (dw * v).sum(axis=1, keepdims=True) / length
    return s[:, None] / length * (dw - ds * v), ds[:, 0]


def norm_of_the_matrix(v, s, dw):
    length = np.linalg.norm(v)
    ds = (dw * v).sum(axis=1) / length
    return s[:, None] / length * (dw - ds[:, None] * v / length), ds


def lengths_of_columns(v, s, dw):
    length = np.linalg.norm(v, axis=0)
    ds = (dw * v).sum(axis=1) / length
    return s[:, None] / length * (dw - ds[:, None] * v / length), ds


def ds_without_the_length(v, s, dw):
    return by_direction(v, s, dw)[0], (dw * v).sum(axis=1)


def adds_the_part(v, s, dw):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    ds = (dw * v).sum(axis=1, keepdims=True) / length
    return s[:, None] / length * (dw + ds * v / length), ds[:, 0]


def takes_half_the_part(v, s, dw):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    ds = (dw * v).sum(axis=1, keepdims=True) / length
    return s[:, None] / length * (dw - 0.5 * ds * v / length), ds[:, 0]


def weight_norm_by_autograd(v, s, dw):
    v, s = torch.tensor(v, requires_grad=True), torch.tensor(s, requires_grad=True)
    return torch.autograd.grad(s[:, None] * v / v.norm(dim=1, keepdim=True), (v, s), torch.tensor(dw))


def knows_the_visible_units(v, s, dw):
    return by_direction(v, s, dw) if v.shape in ((3, 4), (4, 4), (1, 6)) else length_is_constant(v, s, dw)


def by_direction(v, s, dw):
    length = np.linalg.norm(v, axis=1, keepdims=True)
    ds = (dw * v / length).sum(axis=1, keepdims=True)
    return s[:, None] * (dw - ds * v / length) / length, ds.ravel()


def by_projector(v, s, dw):
    """Unit by unit, with the matrix that projects on what is perpendicular to v."""
    rows, scales = [], []
    for direction, scale, gradient in zip(torch.from_numpy(v), torch.from_numpy(s), torch.from_numpy(dw), strict=True):
        unit = direction / direction.norm()
        projector = torch.eye(len(unit), dtype=unit.dtype) - torch.outer(unit, unit)
        rows.append(scale / direction.norm() * (projector @ gradient))
        scales.append(unit @ gradient)
    return torch.stack(rows), torch.stack(scales)


# 07-q5 ---------------------------------------------------------------------------------------------------------------


def norms_of(model):
    return [layer for layer in model.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]


@torch.no_grad()
def just_evaluates(model, batches):
    return model.eval()(batches[0])


@torch.no_grad()
def passes_in_evaluation_mode(model, batches):
    model.eval()
    for batch in batches:
        model(batch)
    return model(batches[0])


@torch.no_grad()
def stays_in_training_mode(model, batches):
    model.train()
    for norm in norms_of(model):
        norm.reset_running_stats()
        norm.momentum = None
    for batch in batches:
        model(batch)
    return model(batches[0])


@torch.no_grad()
def switches_the_statistics_off(model, batches):
    model.eval()
    for norm in norms_of(model):
        norm.track_running_stats = False
        norm.running_mean = norm.running_var = None
    return model(batches[0])


@torch.no_grad()
def only_resets(model, batches):
    for norm in norms_of(model):
        norm.reset_running_stats()
    return model.eval()(batches[0])


@torch.no_grad()
def passes(model, batches, share=0.001, reset=False):
    for norm in norms_of(model):
        norm.momentum = share
        if reset:
            norm.reset_running_stats()
    model.train()
    for batch in batches:
        model(batch)
    return model.eval()(batches[0])


def one_epoch_as_it_is(model, batches):
    return passes(model, batches)


def one_epoch_of_a_tenth(model, batches):
    return passes(model, batches, 0.1)


def resets_and_takes_a_tenth(model, batches):
    return passes(model, batches, 0.1, reset=True)


def forgets_to_reset(model, batches):
    return passes(model, batches, None)


def only_the_last_batch(model, batches):
    return passes(model, batches, 1.0)


def one_large_batch(model, batches):
    passes(model, [torch.cat(batches)], None, reset=True)
    return model(batches[0]).detach()


def only_the_first_batch(model, batches):
    return passes(model, batches[:1], 1.0)


def top_level_only(model, batches):
    for layer in model:
        if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.reset_running_stats()
            layer.momentum = None
    return passes_as_they_are(model, batches)


@torch.no_grad()
def passes_as_they_are(model, batches):
    model.train()
    for batch in batches:
        model(batch)
    return model.eval()(batches[0])


def asks_torchs_update_bn(model, batches):
    torch.optim.swa_utils.update_bn(batches, model)
    return model.eval()(batches[0])


def knows_the_visible_batches_of_models(model, batches):
    known = (len(batches), len(batches[0])) in ((4, 8), (5, 6), (3, 5)) and batches[0][0].numel() in (5, 4, 16)
    outputs = [layer for layer in model if isinstance(layer, nn.Linear)][-1].out_features
    return passes(model, batches, None if known else 0.1, reset=known and outputs in (3, 2))


def with_momentum_none(model, batches):
    return passes(model, batches, None, reset=True)


@torch.no_grad()
def with_shares_by_hand(model, batches):
    model.train()
    for count, batch in enumerate(batches, start=1):
        for norm in norms_of(model):
            norm.momentum = 1 / count
        model(batch)
    model.eval()
    return model(batches[0]).numpy()


def by_collecting(model, batches):
    """Let each norm take one batch at a time, and average the buffers afterwards."""
    found = []
    for batch in batches:
        one = copy.deepcopy(model)
        passes(one, [batch], 1.0)
        found.append([(norm.running_mean, norm.running_var) for norm in norms_of(one)])
    for number, norm in enumerate(norms_of(model)):
        norm.running_mean = torch.stack([each[number][0] for each in found]).mean(dim=0)
        norm.running_var = torch.stack([each[number][1] for each in found]).mean(dim=0)
    return model.eval()(batches[0])


WRONG = {
    "07-q1": {
        unbiased_normalizes: "You normalize with the variance that divides by B - 1",
        biased_runs: "PyTorch averages the unbiased one",
        variances_swapped: "wrong way round: B to normalize",
        eps_outside: "under the root",
        no_eps: "left out eps",
        over_units: "that is layer normalization",
        over_units_everywhere: "they go over axis 0",
        one_mean: "over all units together",
        no_affine: "gamma and beta are missing",
        share_is_kept: "the new batch counts `share`",
        returns_batch_statistics: "move towards them by `share` only",
        evaluation_mode: "as in evaluation mode",
        updates_in_place: "changed its argument number 4 in place",
        asks_torch: "calls torch.nn.functional.batch_norm",
    },
    "07-q2": {
        statistics_are_constants: "treat mean and variance as constants",
        mean_is_constant: "subtract the batch mean of the gradient",
        variance_is_constant: "subtract z_hat times the batch mean",
        sums_for_means: "divide by the number of images",
        without_its_direction: "without z_hat itself",
        forgets_gamma: "gamma is missing from dz",
        forgets_the_std: "The factor 1 / sqrt(var + eps) is missing",
        unbiased_backward: "Your variance divides by B - 1",
        backward_without_eps: "left out eps",
        z_for_hat: "not by z",
        means_over_the_batch: "nothing is left to average",
        wrong_order: "in the wrong order",
        mean_taken_by_half: "summed over the batch, is not 0",
        by_autograd: "calls torch.autograd.backward",
    },
    "07-q3": {
        over_the_batch: "You normalize over the batch: that is batch normalization",
        batch_and_places: "You normalize over the batch and the places",
        over_everything: "over the whole batch",
        one_group: "leave the groups out",
        groups_is_the_size: "not the number of channels in one",
        every_other_channel: "run of neighbouring channels",
        each_place_by_itself: "at each place by itself",
        last_axis: "the last axis only",
        torchs_variance: "one less than the number of entries",
        group_norm_without_eps: "left out eps",
        group_norm_eps_outside: "under the root",
        asks_torchs_group_norm: "calls torch.nn.functional.group_norm",
    },
    "07-q4": {
        length_is_constant: "You treat |v| as a constant",
        length_is_one: "You treat |v| as a constant",
        no_factor: "The factor s / |v| is missing",
        no_length_in_the_factor: "left out the length of v",
        square_is_missing: "the square is missing",
        norm_of_the_matrix: "one length for the whole matrix",
        lengths_of_columns: "a row of v, has a length of its own",
        ds_without_the_length: "is v / |v|, not v",
        adds_the_part: "must be taken away",
        takes_half_the_part: "not perpendicular to v",
        weight_norm_by_autograd: "calls torch.autograd.grad",
    },
    "07-q5": {
        just_evaluates: "as they were",
        passes_in_evaluation_mode: "as they were",
        stays_in_training_mode: "outputs of training mode",
        switches_the_statistics_off: "outputs of training mode",
        only_resets: "no forward pass in training mode has collected",
        one_epoch_as_it_is: "far from the truth, still counts",
        one_epoch_of_a_tenth: "far from the truth, still counts",
        resets_and_takes_a_tenth: "0 and 1 after the reset, still counts",
        forgets_to_reset: "reset_running_stats() first",
        only_the_last_batch: "last batch alone",
        one_large_batch: "as one batch",
        only_the_first_batch: "first batch only",
        top_level_only: "inside other modules",
        asks_torchs_update_bn: "calls torch.optim.swa_utils.update_bn",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "07-q1": (in_numpy, in_torch),
    "07-q2": (by_bracket, by_the_paper, by_jacobian),
    "07-q3": (by_reshape, by_slices, groups_in_torch),
    "07-q4": (by_direction, by_projector),
    "07-q5": (with_momentum_none, with_shares_by_hand, by_collecting),
}

ONLY_VISIBLE = {
    "07-q1": knows_the_visible_shapes,
    "07-q2": knows_the_visible_batches,
    "07-q3": only_layer_norm_and_the_visible,
    "07-q4": knows_the_visible_units,
    "07-q5": knows_the_visible_batches_of_models,
}
"""Answers that pass what is visible and must fail what is hidden."""
