"""Closed-form predictions of mean-field theory, to hold against measurements.

The setting: weights with mean 0 and variance ``weight_variance / fan_in``, biases with variance ``bias_variance``, wide
layers. A pre-activation is then Gaussian with some variance q, and every prediction is a Gaussian mean over it
(poole2016, schoenholz2017). Names in this module: ``weight_variance`` is sigma_w**2, ``bias_variance`` sigma_b**2. An
activation is a name or any callable on float64 tensors. Factors are of the mean-square gradient, per layer towards the
input: that of its norm is the square root.
"""

from gradcourse.theory.blocks import (
    batchnorm_gradient_factor,
    layernorm_gradient_factor,
    residual_gradient_factor,
    residual_variance_map,
)
from gradcourse.theory.correlation import correlation_fixed_point, correlation_map, depth_scale
from gradcourse.theory.gaussian import (
    activation_variance,
    gaussian_mean,
    gaussian_pair_mean,
    mean_square,
    mean_square_slope,
    slope,
)
from gradcourse.theory.meanfield import (
    critical_weight_variance,
    gradient_factor,
    phase,
    variance_fixed_point,
    variance_map,
)
from gradcourse.theory.profile import gradient_profile
from gradcourse.theory.quadratic import Rate, gd_rate, momentum_rate, nesterov_rate
from gradcourse.theory.width import width_fluctuation

__all__ = [
    "Rate",
    "activation_variance",
    "batchnorm_gradient_factor",
    "correlation_fixed_point",
    "correlation_map",
    "critical_weight_variance",
    "depth_scale",
    "gaussian_mean",
    "gaussian_pair_mean",
    "gd_rate",
    "gradient_factor",
    "gradient_profile",
    "layernorm_gradient_factor",
    "mean_square",
    "mean_square_slope",
    "momentum_rate",
    "nesterov_rate",
    "phase",
    "residual_gradient_factor",
    "residual_variance_map",
    "slope",
    "variance_fixed_point",
    "variance_map",
    "width_fluctuation",
]
