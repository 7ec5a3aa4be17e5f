"""How fast gradient descent with and without momentum converges on a quadratic bowl.

The bowl has curvatures (eigenvalues of its Hessian) between ``smallest_curvature`` and ``largest_curvature``. Along an
eigenvector of curvature h each method is a linear recurrence, and its error shrinks per step by the largest root of
that recurrence in magnitude. Each root is largest at an end of the interval, so that the two ends decide.
"""

import cmath
import math
from typing import NamedTuple


class Rate(NamedTuple):
    """How fast a method converges, with the parameters that this takes.

    Attributes:
        rate: the factor per step by which the error shrinks in the long run, for the worst quadratic with these
            curvatures; 1 or more: it does not converge.
        learning_rate: the step size.
        momentum: torch.optim.SGD's momentum.
    """

    rate: float
    learning_rate: float
    momentum: float


def gd_rate(smallest_curvature, largest_curvature, learning_rate=None):
    """Return the rate of gradient descent: max |1 - lr h| over the curvatures h.

    Without a learning rate the best one is taken, at which both ends shrink equally: lr = 2 / (mu + L), with the rate
    (kappa - 1) / (kappa + 1) for kappa = L / mu.

    Args:
        smallest_curvature: mu > 0.
        largest_curvature: L >= mu.
        learning_rate: None: the best one.

    Returns:
        A Rate.

    Raises:
        ValueError: for curvatures or parameters out of range.

    References:
        lessard2016 (worst-case rates on quadratics)
    """
    ends = _curvatures(smallest_curvature, largest_curvature)
    if learning_rate is None:
        learning_rate = 2.0 / sum(ends)
    _check_parameters(learning_rate, 0.0)
    return Rate(max(abs(1.0 - learning_rate * h) for h in ends), learning_rate, 0.0)


def momentum_rate(smallest_curvature, largest_curvature, learning_rate=None, momentum=None):
    """Return the rate of gradient descent with momentum beta, the heavy ball, as torch.optim.SGD does it.

    The recurrence x_next = x - lr h x + beta (x - x_before) has the roots of r**2 - (1 + beta - lr h) r + beta. They
    are complex, of size sqrt(beta), where (1 - sqrt(beta))**2 <= lr h <= (1 + sqrt(beta))**2. The best parameters put
    both ends on the border: lr = (2 / (sqrt(mu) + sqrt(L)))**2, beta = ((sqrt(kappa) - 1) / (sqrt(kappa) + 1))**2, with
    the rate sqrt(beta). There the root is double, and the error goes like k rate**k.

    Args:
        smallest_curvature: mu > 0.
        largest_curvature: L >= mu.
        learning_rate: give it with `momentum`, or neither for the best.
        momentum: beta, in [0, 1).

    Returns:
        A Rate.

    Raises:
        ValueError: for curvatures or parameters out of range, or one parameter without the other.

    References:
        lessard2016 (worst-case rates on quadratics)
    """
    ends = _curvatures(smallest_curvature, largest_curvature)
    if _both_missing(learning_rate, momentum):
        low, high = map(math.sqrt, ends)
        learning_rate, momentum = 4.0 / (low + high) ** 2, ((high - low) / (high + low)) ** 2
    _check_parameters(learning_rate, momentum)
    rate = max(_largest_root(1.0 + momentum - learning_rate * h, momentum) for h in ends)
    return Rate(rate, learning_rate, momentum)


def nesterov_rate(smallest_curvature, largest_curvature, learning_rate=None, momentum=None):
    """Return the rate of Nesterov's method with constant momentum beta, as torch.optim.SGD(nesterov=True) does it.

    With s = 1 - lr h the recurrence has the roots of r**2 - (1 + beta) s r + beta s. The best parameters make the root
    double at mu, s = 4 beta / (1 + beta)**2 there, and of the same size at L: lr = 4 / (mu + 3 L) and
    beta = (sqrt(3 kappa + 1) - 2) / (sqrt(3 kappa + 1) + 2), with the rate 1 - 2 / sqrt(3 kappa + 1). The textbook's
    lr = 1 / L and beta = (sqrt(kappa) - 1) / (sqrt(kappa) + 1) give 1 - 1 / sqrt(kappa).

    Args:
        smallest_curvature: mu > 0.
        largest_curvature: L >= mu.
        learning_rate: give it with `momentum`, or neither for the best.
        momentum: beta, in [0, 1).

    Returns:
        A Rate.

    Raises:
        ValueError: for curvatures or parameters out of range, or one parameter without the other.

    References:
        lessard2016 (worst-case rates on quadratics)
    """
    ends = _curvatures(smallest_curvature, largest_curvature)
    if _both_missing(learning_rate, momentum):
        root = math.sqrt(3.0 * ends[1] / ends[0] + 1.0)
        learning_rate, momentum = 4.0 / (ends[0] + 3.0 * ends[1]), (root - 2.0) / (root + 2.0)
    _check_parameters(learning_rate, momentum)
    shrunk = [1.0 - learning_rate * h for h in ends]
    return Rate(max(_largest_root((1.0 + momentum) * s, momentum * s) for s in shrunk), learning_rate, momentum)


def _largest_root(trace, determinant):
    """Return the larger magnitude of the roots of r**2 - trace r + determinant."""
    discriminant = trace * trace - 4.0 * determinant
    if abs(discriminant) < 2e-15 * trace * trace:  # a double root, but for rounding, which the root would magnify
        return abs(trace) / 2.0
    root = cmath.sqrt(discriminant)
    return max(abs(trace + root), abs(trace - root)) / 2.0


def _curvatures(smallest, largest):
    if not (0 < smallest <= largest < math.inf):
        raise ValueError(
            f"smallest_curvature={smallest!r}, largest_curvature={largest!r}: "
            "curvatures must be finite, > 0, and the smallest first"
        )
    return float(smallest), float(largest)


def _both_missing(learning_rate, momentum):
    if (learning_rate is None) != (momentum is None):
        raise ValueError(
            f"learning_rate={learning_rate!r}, momentum={momentum!r}: give both, or neither for the best pair"
        )
    return learning_rate is None


def _check_parameters(learning_rate, momentum):
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate={learning_rate!r}: it must be finite and > 0")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum!r}: it must be in [0, 1)")
