"""The variance of the signal from layer to layer, the factor of the gradient, and where it stays level."""

import math

from gradcourse.models import activation_name
from gradcourse.theory.gaussian import mean_square, mean_square_slope

LEVEL = 1e-9  # |ln chi| below which the gradient factor counts as 1: far above rounding, far below any measurement
_STEP = 1.25  # ratio of the weight variances tried in search of a crossing


def variance_map(activation, weight_variance, bias_variance=0.0):
    """Return the map from one layer's pre-activation variance to the next one's.

    q_next = sigma_w**2 E[phi(sqrt(q) z)**2] + sigma_b**2 (poole2016).
    """
    _check_variances(weight_variance, bias_variance)
    return lambda q: weight_variance * mean_square(activation, q) + bias_variance


def _check_variances(weight_variance, bias_variance):
    for name, value in (("weight_variance", weight_variance), ("bias_variance", bias_variance)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value!r}: a variance must be finite and >= 0")


def variance_fixed_point(activation, weight_variance, bias_variance=0.0, start=1.0):
    """Return q*, the pre-activation variance at which deep layers settle (poole2016).

    Found by bisection from `start` in the direction in which the variance map moves, since iterating the map converges
    only like 1/layers at criticality.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
        start: the variance at the first layer; matters where several fixed points exist (He ReLU keeps any).

    Returns:
        q*; 0.0 when the signal dies out, inf when it grows without bound.

    Raises:
        ValueError: for a start that is not > 0, or an activation that is NaN somewhere.
    """
    if not (math.isfinite(start) and start > 0):
        raise ValueError(f"start={start!r}: the variance at the first layer must be finite and > 0")
    next_variance = variance_map(activation, weight_variance, bias_variance)
    first = next_variance(start)
    if math.isnan(first):
        raise ValueError(f"activation {activation_name(activation)} is NaN at some pre-activations: it has no variance")
    if math.isclose(first, start, rel_tol=1e-9):
        return start
    factor = 2.0 if first > start else 0.5
    here = start
    while here < 1e12 if first > start else here > 1e-12:
        there = here * factor
        if (next_variance(there) - there) * (first - start) <= 0:
            return bisect(lambda q: next_variance(q) - q, min(here, there), max(here, there))
        here = there
    return math.inf if first > start else 0.0


def bisect(function, low, high):
    """Return where a function changes its sign between low and high, by halving 60 times."""
    sign = math.copysign(1.0, function(low))
    for _ in range(60):
        middle = 0.5 * (low + high)
        if function(middle) * sign > 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def gradient_factor(activation, weight_variance, bias_variance=0.0):
    """Return chi, the factor by which the mean-square gradient changes per layer towards the input.

    chi = sigma_w**2 E[phi'(sqrt(q*) z)**2] (schoenholz2017). The norm changes by sqrt(chi). Below 1 the gradient
    vanishes, above 1 it explodes.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
    """
    q = variance_fixed_point(activation, weight_variance, bias_variance)
    return weight_variance * mean_square_slope(activation, q)


def phase(activation, weight_variance, bias_variance=0.0, tolerance=1e-4):
    """Return "ordered", "critical" or "chaotic": gradients vanish, stay level or explode with depth.

    Two close inputs become alike in the ordered phase and move apart in the chaotic one, since chi is also the slope
    of the correlation map at 1 (poole2016, schoenholz2017).

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
        tolerance: |ln chi| up to which the phase is critical; a weight variance rounded to five digits passes.
    """
    chi = gradient_factor(activation, weight_variance, bias_variance)
    if abs(chi - 1.0) <= tolerance:
        return "critical"
    return "ordered" if chi < 1.0 else "chaotic"


def critical_weight_variance(activation, bias_variance=0.0):
    """Return the weight variance sigma_w**2 at which chi = 1, so that gradients neither vanish nor explode.

    Where the gradient factor crosses 1 for the first time, going from sigma_w**2 = 1 down if it is above 1 there, else
    up. For ReLU it is 2 (he2015), for any bias variance, although q* is infinite with one > 0.

    Args:
        activation: a name or a callable on tensors.
        bias_variance: sigma_b**2.

    Raises:
        ValueError: when the gradient factor jumps over 1, as for GELU: there q*, reached from a first layer of
            variance 1, goes from 0 to infinity; or when it does not cross 1 for weight variances in [1e-4, 1e4].

    References:
        schoenholz2017, he2015
    """

    def excess(weight_variance):
        return gradient_factor(activation, weight_variance, bias_variance) - 1.0

    name = f"critical_weight_variance({activation_name(activation)}, bias_variance={bias_variance:g})"
    low, high = _crossing(excess, name)
    critical = _root(excess, low, high)
    if abs(excess(critical)) > 1e-6:
        below, above = (1.0 + excess(critical * (1.0 + side)) for side in (-1e-9, 1e-9))
        raise ValueError(
            f"{name}: the gradient factor jumps over 1, from {below:.3g} to {above:.3g}, at the weight variance "
            f"{critical:.6g}; none makes it 1"
        )
    return critical


def _crossing(excess, name):
    """Return a weight variance where the gradient factor is below 1 and the next larger one tried where it is above."""
    here = 1.0
    step = 1.0 / _STEP if excess(here) > LEVEL else _STEP
    sought = (lambda value: value < -LEVEL) if step < 1.0 else (lambda value: value > LEVEL)
    outside = here  # the last one on the other side: at criticality itself the factor is neither below 1 nor above
    while 1e-4 < here < 1e4:
        value = excess(here)
        if sought(value):
            return min(here, outside), max(here, outside)
        if abs(value) > LEVEL:
            outside = here
        here *= step
    raise ValueError(f"{name}: the gradient factor does not cross 1 for weight variances in [1e-4, 1e4]")


def _root(function, low, high):
    """Return where a function changes its sign from - to +: by secants at first, by halving if they don't settle."""
    below, above = function(low), function(high)
    for step in range(60):
        here = low - below * (high - low) / (above - below) if step < 12 and step % 3 else 0.5 * (low + high)
        value = function(here)
        if abs(value) < 1e-14 or high - low < 1e-15 * high:
            break
        if value < 0:
            low, below = here, value
        else:
            high, above = here, value
    return here
