"""Gaussian means of functions with kinks and jumps, in one dimension and for a pair of correlated variables."""

import math

import numpy as np
import torch

from gradcourse.models import make_activation, one_thread

_REACH = 12.0  # standard deviations: what lies beyond has probability 4e-33
_SETTLED = 1e-12  # a panel whose two estimates agree to this is done
_SMALLEST_PANEL = 1e-13
_EDGES = torch.linspace(-_REACH, _REACH, 49, dtype=torch.float64)  # 0, where most kinks lie, is one of them
_NEAR = 0.125 ** torch.arange(1, 6, dtype=torch.float64)
_PAIR_EDGES = (
    torch.cat([torch.linspace(-_REACH, _REACH, 9, dtype=torch.float64) + 0.04, -0.8 * _NEAR, _NEAR]).sort().values
)
# Near 0, where under a large variance all of a sigmoid's slope lies, but not on it: a kink inside a panel has it split,
# which finds what the correlation smears over the kink. Not symmetric: a jump in the middle of a panel would look the
# same to it and to its halves.
_GRID = torch.linspace(-9.0, 9.0, 11, dtype=torch.float64)  # resolves a normal density; beyond it lie 2e-19


def _lobatto(count):
    """Return nodes and weights of Gauss-Lobatto quadrature on [-1, 1]: it looks at both ends, so no jump hides there.

    The ends are taken 1e-12 inside: the first value behind a kink counts to its own side, and 0/0 at 0 is not asked.
    """
    legendre = np.polynomial.Legendre.basis(count - 1)
    nodes = np.array([-1.0, *legendre.deriv().roots(), 1.0])
    weights = 2.0 / (count * (count - 1) * legendre(nodes) ** 2)
    return torch.from_numpy((1.0 - 1e-12) * nodes), torch.from_numpy(weights)


_NODES, _WEIGHTS = _lobatto(12)


def gaussian_mean(function, variance=1.0):
    """Return E[f(sqrt(variance) z)] for a standard normal z.

    Gauss-Lobatto on panels that are split where they disagree with their two parts, so that kinks and jumps
    (ReLU and its slope) are found wherever they are; Gauss-Hermite is biased by a node on the kink.

    Args:
        function: elementwise, on a float64 tensor of any shape.
        variance: of the argument, >= 0.
    """
    return _integrate(function, math.sqrt(variance), _EDGES)[0]


@one_thread()
def _integrate(function, scale, edges):
    """Return E[f(scale z)] between the first and the last edge, and the left edges of the panels that were used."""
    left, right = edges[:-1], edges[1:]
    total, used = 0.0, []
    while len(left):
        middle = 0.5 * (left + right)
        whole = _panel_integrals(function, scale, left, right)
        parts = _panel_integrals(function, scale, left, middle) + _panel_integrals(function, scale, middle, right)
        error = (whole - parts).abs()
        done = (error <= _SETTLED * (1.0 + parts.abs())) | (right - left < _SMALLEST_PANEL)
        done |= ~torch.isfinite(error)  # splitting does not cure NaN and inf: they stay visible in the total
        total += float(parts[done].sum())
        used.append(left[done])
        left, right = torch.cat([left[~done], middle[~done]]), torch.cat([middle[~done], right[~done]])
    return total, torch.cat(used).sort().values


def _panel_integrals(function, scale, left, right):
    half = 0.5 * (right - left)
    z = 0.5 * (left + right)[:, None] + half[:, None] * _NODES  # (panels, nodes)
    return half * ((function(scale * z) * _density(z)) @ _WEIGHTS)


def _density(z):
    return torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def gaussian_pair_mean(function, variance=1.0):
    """Return the map from a correlation c to E[f(u1) f(u2)], u1 and u2 Gaussian with one variance and correlation c.

    The inner mean, over u2 given u1, runs over panels between which f is smooth, wherever u1 has moved them; the outer
    mean splits its panels where it has to. For ReLU it agrees with the arc-cosine kernel (cho2009) to 1e-11.

    Args:
        function: elementwise, on a float64 tensor of any shape.
        variance: of both arguments, >= 0.

    References:
        cho2009
    """
    scale = math.sqrt(variance)
    square = gaussian_mean(lambda u: function(u) ** 2, variance)
    if square == 0.0 or not math.isfinite(square):
        return lambda correlation: square
    size = math.sqrt(square)  # panels settle to an absolute error: f is brought to size 1 first
    _, panels = _integrate(lambda u: function(u) / size, scale, _PAIR_EDGES)
    edges = torch.cat([panels, _PAIR_EDGES[-1:]])  # between them f is smooth

    def pair_mean(correlation):
        if abs(correlation) > 1.0:
            raise ValueError(f"correlation={correlation!r}: a correlation lies in [-1, 1]")
        spread = math.sqrt((1.0 - correlation) * (1.0 + correlation))

        def product(u):
            return function(u) / size * _conditional_mean(function, correlation * u, spread, scale, edges) / size

        return square * _integrate(product, scale, edges)[0]

    return pair_mean


def _conditional_mean(function, mean, spread, scale, edges):
    """Return E[f(scale (mean/scale + spread z))], an entry for each entry of `mean`, on panels cut at the edges."""
    if spread == 0.0:
        return function(mean)
    mean = mean[..., None]
    moved = (scale * edges - mean) / (scale * spread)  # (..., edges): where they lie for this mean
    cuts = torch.cat([_GRID.expand(*mean.shape[:-1], -1), moved.clamp(_GRID[0], _GRID[-1])], dim=-1).sort().values
    left, half = cuts[..., :-1, None], 0.5 * cuts.diff()[..., None]
    z = left + half * (1.0 + _NODES)  # (..., panels, nodes)
    values = function(mean[..., None] + scale * spread * z) * _density(z)
    return ((values @ _WEIGHTS) * half[..., 0]).sum(dim=-1)


def slope(activation):
    """Return phi', as a function on float64 tensors, for an activation given by name or as a callable.

    It is what autograd sees: 0 where phi jumps, and 0 everywhere for a phi that autograd cannot follow.
    """
    phi = make_activation(activation)

    def derivative(u):
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            total = phi(u).sum()
            return torch.autograd.grad(total, u)[0] if total.requires_grad else torch.zeros_like(u)

    return derivative


def mean_square(activation, variance):
    """Return E[phi(u)**2] for a Gaussian pre-activation u of the given variance."""
    phi = make_activation(activation)
    with torch.no_grad():
        return gaussian_mean(lambda u: phi(u) ** 2, variance)


def activation_variance(activation, variance):
    """Return Var[phi(u)] for a Gaussian pre-activation u of the given variance."""
    phi = make_activation(activation)
    with torch.no_grad():
        centre = gaussian_mean(phi, variance)
        return gaussian_mean(lambda u: (phi(u) - centre) ** 2, variance)


def mean_square_slope(activation, variance):
    """Return E[phi'(u)**2] for a Gaussian pre-activation u of the given variance, in its limit for 0 and inf."""
    derivative = slope(activation)
    return gaussian_mean(lambda u: derivative(u) ** 2, min(max(variance, 1e-24), 1e24))
