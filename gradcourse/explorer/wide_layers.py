"""Theory and measurement of random layers, both quick enough to follow a hand.

The formulas are those of gc.theory, which splits its panels until an integral has settled; here they are sums over
fixed nodes, good to three digits or more.
"""

import functools
import math

import numpy as np
import torch

from gradcourse.models import make_activation
from gradcourse.theory import slope

WIDTH, INPUTS = 100, 16  # of the networks that are measured
_LAYERS = 50  # at most
_NODES = 800  # on [-8, 8], beyond which lies 1e-15; 0, where kinks and jumps are, lies between two of them
_LEAST, _MOST = 1e-12, 1e12  # variances at which a signal has died out or grows without bound


@functools.cache
def _nodes(count=_NODES):
    """Return the middles of equal intervals and their probabilities, of a standard normal."""
    z = 16.0 * (torch.arange(count, dtype=torch.float64) + 0.5) / count - 8.0
    density = torch.exp(-0.5 * z * z)
    return z, density / density.sum()


@functools.cache
def _pairs():
    """Return nodes for the sum and the difference of two normals, and their joint probabilities."""
    z, chance = _nodes(80)
    half = z > 0  # the difference's sign changes nothing
    return z[:, None], z[half], chance[:, None] * (2.0 * chance[half])


class WideLayers:
    """Layers z = W h + b, h = phi(z) of infinite width, alike in their statistics.

    Attributes:
        phi: the activation, a module.
        slope: its derivative, a function on float64 tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
    """

    def __init__(self, activation, weight_variance, bias_variance=0.0):
        self.phi, self.slope = make_activation(activation), slope(activation)
        self.weight_variance, self.bias_variance = weight_variance, bias_variance

    def next_variance(self, variances):
        """Return the variance of the pre-activations behind layers that have these ones, (K,)."""
        z, chance = _nodes()
        u = np.sqrt(np.atleast_1d(variances))[:, None] * z.numpy()
        with torch.no_grad():
            square = self.phi(torch.from_numpy(u)).square_() @ chance
        return self.weight_variance * square.numpy() + self.bias_variance

    def gradient_factor(self, variances):
        """Return the factor of the mean-square gradient over layers with these pre-activation variances, (K,)."""
        z, chance = _nodes()
        spread = np.sqrt(np.clip(np.atleast_1d(variances), 1e-24, 1e24))
        return (
            self.weight_variance * (self.slope(torch.from_numpy(spread[:, None] * z.numpy())).square() @ chance).numpy()
        )

    def signal(self, layers):
        """Return the variances of so many layers, (L,), for inputs of mean square 1."""
        found = [self.weight_variance + self.bias_variance]
        while len(found) < layers:
            found.append(float(self.next_variance(found[-1])[0]))
        return np.array(found)

    def difference(self, signal):
        """Return half the mean square of z - z' of two unrelated inputs in each layer, (L,), given signal's answer.

        As a mean over (z + z') / 2 and (z - z') / 2, which are independent: no digit is lost when the two are close.
        """
        total, apart, chance = _pairs()
        found = [self.weight_variance]
        for q in signal[:-1]:
            d = found[-1]
            middle, half = math.sqrt(max(q - 0.5 * d, 0.0)) * total, math.sqrt(0.5 * d) * apart
            with torch.no_grad():
                gap = self.phi(middle + half) - self.phi(middle - half)
            found.append(0.5 * self.weight_variance * float((gap.square_() * chance).sum()))
        return np.array(found)

    def rest(self, start):
        """Return the variance at which deep layers settle: 0 for a signal that dies out, inf for one that grows on."""
        ratio = 2.0 if self._moves(start) > 0 else 0.5
        if abs(self._moves(start)) < 1e-9 * start:
            return start
        here = start
        while _LEAST < here < _MOST:
            if self._moves(here) * self._moves(here * ratio) <= 0:
                return self._crossing(here, here * ratio)
            here *= ratio
        return 0.0 if here < 1 else math.inf

    def _moves(self, variance):
        return float(self.next_variance(variance)[0]) - variance

    def _crossing(self, one, other):
        sign = math.copysign(1.0, self._moves(one))
        for _ in range(30):
            middle = 0.5 * (one + other)
            one, other = (middle, other) if self._moves(middle) * sign > 0 else (one, middle)
        return 0.5 * (one + other)

    def measure(self, layers):
        """Send inputs through a network of finite width and random gradients back, in float64.

        Returns:
            Of each layer, (L,): the mean square of z, half that of z - z' for pairs of inputs, and the mean square of
            the gradient with respect to h.
        """
        weights, biases, h, gradient = _random()
        weights, size, shift = weights[:layers], (self.weight_variance / WIDTH) ** 0.5, self.bias_variance**0.5
        z, passed = [], [gradient]
        for weight, bias in zip(weights, biases[:layers], strict=True):
            z.append(size * (weight @ h) + shift * bias)  # (width, inputs)
            with torch.no_grad():
                h = self.phi(torch.from_numpy(z[-1])).numpy()
        slopes = size * self.slope(torch.from_numpy(np.stack(z))).numpy()
        for number in range(layers - 1, 0, -1):
            passed.append(weights[number].T @ (slopes[number] * passed[-1]))
        z = np.stack(z)
        found = z, (z[:, :, ::2] - z[:, :, 1::2]) / 2**0.5, np.stack(passed[::-1])
        return tuple(np.square(numbers).mean(axis=(1, 2)) for numbers in found)


@functools.cache
def _random():
    """Return normal numbers for weights, biases, inputs of mean square 1 and a gradient of mean square 1."""
    rng = np.random.default_rng(0)
    shapes = (_LAYERS, WIDTH, WIDTH), (_LAYERS, WIDTH, 1), (WIDTH, INPUTS), (WIDTH, INPUTS)
    weights, biases, *ends = (rng.normal(size=shape) for shape in shapes)
    return weights, biases, *(normal / np.square(normal).mean() ** 0.5 for normal in ends)
