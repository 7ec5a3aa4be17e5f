"""How much the gradient of a network of finite width differs from one draw of the weights to the next."""

import numpy as np
import torch

from gradcourse.models import activation_name, make_activation

_PANELS = 100  # of 20 Gauss-Legendre nodes each


def width_fluctuation(activation, widths, *, asymptotic=False):
    """Return the variance, over draws of Gaussian weights, of the logarithm of the squared gradient norm.

    For a network without biases whose activation is two straight pieces through 0 (linear, ReLU, leaky ReLU): each
    layer of width n multiplies the squared norm by (s_1**2 chi2_K + s_0**2 chi2_{n-K}) times a constant, independently
    of the other layers, with K ~ Binomial(n, 1/2) active units, slopes s_1 and s_0, and chi2_k a sum of k squared
    normals: a Gaussian weight matrix turns any vector into independent normals, and the signs that choose the slopes
    are fair coins, independent of their squares. So the variances of the logarithms add. They are exact at any width:
    trigamma(n / 2) for a linear layer; for ReLU Var[ln chi2_K] given that a unit is active. For large n they become
    (6 (s_1**4 + s_0**4) / (s_1**2 + s_0**2)**2 - 1) / n: 5 / n for ReLU (hanin2020), 2 / n for a linear layer. The
    weights' variance does not matter. The mean of the logarithm lies about half this variance below the logarithm of
    the mean: means of logarithms show a decay that the mean-square theory doesn't have.

    Args:
        activation: a name or a callable on tensors.
        widths: units of each layer that the gradient passes.
        asymptotic: the leading term in 1 / n instead of the exact value.

    Returns:
        Var ln |gradient|**2, in squared natural logarithms. Its square root is the spread of one network.

    Raises:
        ValueError: for an activation that is not two straight pieces through 0: the forward signal of others also
            fluctuates, and that is not in this law; for no width or one below 1.

    References:
        hanin2020
    """
    above, below = _two_slopes(activation)
    widths = np.atleast_1d(widths)
    if widths.size == 0 or (widths < 1).any() or (widths != np.round(widths)).any():
        raise ValueError(f"widths={widths.tolist()}: give the units of each layer, whole numbers >= 1")
    of_width = _asymptotic if asymptotic else _exact
    distinct, counts = np.unique(widths.astype(int), return_counts=True)
    return float(sum(count * of_width(int(n), above, below) for n, count in zip(distinct, counts, strict=True)))


def _two_slopes(activation):
    """Return phi' above and below 0, of a phi that is straight on both sides."""
    phi = make_activation(activation)
    u = torch.logspace(-3, 3, 13, dtype=torch.float64)
    with torch.no_grad():
        above, below = phi(u) / u, phi(-u) / -u
    straight = all(torch.allclose(side, side[:1], rtol=1e-9, atol=1e-12) for side in (above, below))
    if not straight or above[0] == below[0] == 0:
        raise ValueError(
            f"width_fluctuation({activation_name(activation)}): the law holds for activations made of two straight "
            "pieces through 0, such as identity, relu and leaky_relu"
        )
    return float(above[0]), float(below[0])


def _asymptotic(n, above, below):
    return (6.0 * (above**4 + below**4) / (above**2 + below**2) ** 2 - 1.0) / n


def _exact(n, above, below):
    """Return Var ln(above**2 chi2_K + below**2 chi2_{n-K}).

    chi2_K = R B and chi2_{n-K} = R (1 - B), where R ~ chi2_n and B ~ Beta(K / 2, (n - K) / 2) are independent.
    """
    whole = _polygamma(1, n / 2)
    if abs(above) == abs(below):
        return whole
    if above == 0.0 or below == 0.0:  # given K > 0: with no active unit there is no gradient
        active = np.arange(1, n + 1)
        chance = _binomial(n)[1:] / _binomial(n)[1:].sum()
        centre = _polygamma(0, active / 2)
        return float(chance @ _polygamma(1, active / 2) + chance @ centre**2 - (chance @ centre) ** 2)
    share, chance = _share_of_active(n)
    logarithm = np.log(above**2 * share + below**2 * (1.0 - share))
    return float(whole + chance @ logarithm**2 - (chance @ logarithm) ** 2)


def _share_of_active(n):
    """Return values of B = sin(t)**2 and their probabilities, K included."""
    angle, weights = _quadrature()
    active = np.arange(1, n)[:, None]
    log_beta = _log_gamma(active / 2) + _log_gamma((n - active) / 2) - _log_gamma(np.array(n / 2))
    log_density = (active - 1) * np.log(np.sin(angle)) + (n - active - 1) * np.log(np.cos(angle)) - log_beta
    mixed = _binomial(n)[1:-1] @ (2.0 * np.exp(log_density))
    share = np.concatenate([[0.0], np.sin(angle) ** 2, [1.0]])
    chance = np.concatenate([_binomial(n)[:1], weights * mixed, _binomial(n)[-1:]])
    return share, chance / chance.sum()


def _quadrature():
    """Return nodes in (0, pi / 2) and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.pi / 4 / _PANELS
    centres = half * np.arange(1, 2 * _PANELS, 2)
    return (centres[:, None] + half * nodes).ravel(), np.tile(half * weights, _PANELS)


def _binomial(n):
    k = np.arange(n + 1)
    return np.exp(_log_gamma(np.array(n + 1.0)) - _log_gamma(k + 1.0) - _log_gamma(n - k + 1.0) - n * np.log(2.0))


def _log_gamma(values):
    return torch.lgamma(torch.as_tensor(values, dtype=torch.float64)).numpy()


def _polygamma(order, values):
    return torch.special.polygamma(order, torch.as_tensor(values, dtype=torch.float64)).numpy()
