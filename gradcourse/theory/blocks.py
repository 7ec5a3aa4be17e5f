"""Gradient factors of layers with batch or layer normalization, and of residual blocks."""

import math

from gradcourse.models import activation_name
from gradcourse.theory.gaussian import activation_variance, mean_square, mean_square_slope


def batchnorm_gradient_factor(activation):
    """Return the factor of the mean-square gradient per layer "linear, batch norm, activation", towards the input.

    E[phi'(z)**2] / Var[phi(z)] for a standard normal z. Behind batch norm a pre-activation is z over the batch,
    whatever the weights. The next layer's varies over the batch by sigma_w**2 Var[phi(z)], since batch norm takes away
    the mean, and its norm divides gradients by the root of that; the weights multiply the mean-square gradient by
    sigma_w**2, the activation by E[phi'(z)**2]. The weights cancel. By the Gaussian Poincare inequality
    Var[phi(z)] <= E[phi'(z)**2]: the factor is at least 1, and 1 for linear activations alone, so that no
    initialization prevents the explosion (yang2019). ReLU: pi / (pi - 1) = 1.467.

    Holds for wide layers and large batches of inputs with many independent directions. A batch of B raises it by
    O(1/B): (B - 2) / (B - 3) for a linear activation in very wide layers, as the gradient loses 2 of B dimensions and
    the mean of 1 / variance is B / (B - 3).

    Args:
        activation: a name or a callable on tensors.

    Raises:
        ValueError: for an activation that is constant.

    References:
        yang2019 (that batch norm makes gradients explode; the formula here is derived above)
    """
    return _ratio(activation, activation_variance(activation, 1.0), "batchnorm_gradient_factor")


def layernorm_gradient_factor(activation):
    """Return the factor of the mean-square gradient per layer "linear, layer norm, activation", towards the input.

    E[phi'(z)**2] / E[phi(z)**2] for a standard normal z, in wide layers without biases. Layer norm takes away the mean
    over the units (ba2016), which is 0 in a wide layer with random weights, so that the mean square of phi stands where
    batch norm has its variance. ReLU and other activations of two straight pieces through 0: 1. Odd ones: the same as
    with batch norm. Layers of N units raise it by O(1/N), about 4 / N for ReLU.

    Args:
        activation: a name or a callable on tensors.

    Raises:
        ValueError: for an activation that is 0 everywhere.

    References:
        ba2016 (the layer; the factor is derived above)
    """
    return _ratio(activation, mean_square(activation, 1.0), "layernorm_gradient_factor")


def _ratio(activation, size, asked):
    if not size > 1e-24:
        raise ValueError(f"{asked}({activation_name(activation)}): the activation is constant; nothing to normalize")
    return mean_square_slope(activation, 1.0) / size


def residual_variance_map(activation, scale, weight_variance=2.0, bias_variance=0.0):
    """Return the map from the variance of a residual stream x to that behind the block x + scale * (W phi(x) + b).

    v_next = v + scale**2 (sigma_w**2 E[phi(sqrt(v) z)**2] + sigma_b**2): W is independent of x and has mean 0, so that
    the variances add. Exact for wide layers (yang2017 studies such recursions); for ReLU and other activations of two
    straight pieces through 0 exact on average at every width. ReLU with He's weights: v grows by the factor
    1 + scale**2 per block.

    Args:
        activation: a name or a callable on tensors.
        scale: alpha, the factor on the branch.
        weight_variance: sigma_w**2 of the branch; 2 is He's.
        bias_variance: sigma_b**2 of the branch.

    Raises:
        ValueError: for a scale that is not finite or a variance that is negative.

    References:
        yang2017
    """
    _check_block(scale, weight_variance=weight_variance, bias_variance=bias_variance)
    return lambda v: v + scale**2 * (weight_variance * mean_square(activation, v) + bias_variance)


def residual_gradient_factor(activation, scale, weight_variance=2.0, variance=1.0):
    """Return the factor of the mean-square gradient over the block x + scale * W phi(x), towards the input.

    1 + scale**2 sigma_w**2 E[phi'(sqrt(v) z)**2] for a stream of variance v: the gradient arrives once through the skip
    and once through the branch, and the two are uncorrelated, since W has mean 0. The stream's variance grows from
    block to block (residual_variance_map): for activations whose slope depends on the size of its argument, follow it.
    ReLU with He's weights: 1 + scale**2 for every v, so that scale = 1 doubles the mean square per block, and
    scale = 1 / sqrt(blocks) keeps it below e in all.

    Exact for wide layers. At finite width it holds up to O(1 / width): the gradient depends, a little, on the branch's
    own weights through the layers behind. It does not hold for x + scale * phi(W x): there the mean of phi adds up over
    the blocks.

    Args:
        activation: a name or a callable on tensors.
        scale: alpha, the factor on the branch.
        weight_variance: sigma_w**2 of the branch; 2 is He's.
        variance: v, of the stream in front of the block.

    Raises:
        ValueError: for a scale that is not finite or a variance that is negative.

    References:
        yang2017
    """
    _check_block(scale, weight_variance=weight_variance, variance=variance)
    return 1.0 + scale**2 * weight_variance * mean_square_slope(activation, variance)


def _check_block(scale, **variances):
    if not math.isfinite(scale):
        raise ValueError(f"scale={scale!r}: the factor on a residual branch must be finite")
    for name, value in variances.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value!r}: a variance must be finite and >= 0")
