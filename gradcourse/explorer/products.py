"""Lesson 02: the singular values of a product of many matrices, beside the length of a vector that passes it."""

import functools
import math

import numpy as np
import torch

from gradcourse.explorer.controls import Menu, Slider, Toggle
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import SOFT, Axis, Panel, Picture

_MOST, _WIDEST = 100, 16  # factors, rows of one
_SWEEPS = 4
_NEAR = 25.0  # natural logarithms between the largest and the smallest: then the SVD has digits for both
_LINES = 6  # singular values that are drawn at most
_SMALLEST, _LARGEST = math.log10(2.0**-149), math.log10(3.4028e38)  # of float32
_SHEAR = np.array([[1.0, 1.0], [0.0, 1.0]])
_PAIRS = {  # 2 x 2: the factors, which take turns, and the exponents, natural logarithms per factor
    "shear": ([_SHEAR], [0.0, 0.0]),
    "shear and transpose": ([_SHEAR, _SHEAR.T], math.log((1 + math.sqrt(5)) / 2) * np.array([1.0, -1.0])),
    "shear and inverse": ([_SHEAR, np.linalg.inv(_SHEAR)], [0.0, 0.0]),
    "stretch by 2 and 1/2": ([np.diag([2.0, 0.5])], [math.log(2), -math.log(2)]),
    "eigenvalues 0.9": ([np.array([[0.9, 10.0], [0.0, 0.9]])], [math.log(0.9), math.log(0.9)]),
}
_KINDS = ("Gaussian", "orthogonal", *_PAIRS)


def matrix_products():
    """Return the Explorer of kind, size and gain of the factors against the singular values of their product."""
    return Explorer(
        "What does a product of matrices do to a vector?",
        _draw,
        id="02-x1",
        kind=Menu("kind of factors", "Gaussian", _KINDS),
        size=Slider("size n (random ones)", 4, 2, _WIDEST),
        gain=Slider("gain, on every factor", 1.0, 0.4, 2.5, step=0.01, log=True),
        factors=Slider("number of factors", 50, 1, _MOST),
        sample=Slider("which random draw", 0, 0, 9),
        zoom=Toggle("zoom in, to 5 decades"),
    )


def _draw(kind, size, gain, factors, sample, zoom):
    size = 2 if kind in _PAIRS else size
    grown = np.arange(_MOST + 1) * math.log10(gain)
    singular, length = _of_product(kind, size, sample)
    singular, length = singular + grown[:, None], length + grown  # (K + 1, n), (K + 1,)
    theory = _exponents(kind, size) / math.log(10) + math.log10(gain)
    scale = Axis("log₁₀ of size", -5, 5) if zoom else Axis("log₁₀ of size", -50, 50)
    panels = _growth(scale, singular, length, theory, factors), _spectrum(scale, singular, length, theory, factors)
    words = (
        f"{_counted(kind, size, factors)}, gain {gain:.3g}. Largest singular value of the product "
        f"{_power(singular[factors, 0])}, by Lyapunov's exponent {_power(factors * theory[0])}; "
        f"length of a vector {_power(length[factors])}; determinant {_power(singular[factors].sum())}. "
        f"In the long run a gain of {gain / 10 ** theory[0]:.3g} would keep a vector's length."
    )
    return Picture(panels, words)


def _counted(kind, size, count):
    matrices = f"{size} x {size} matri{'x' if count == 1 else 'ces'}"
    return f"{count} {matrices}, {kind}" if kind in _PAIRS else f"{count} {kind} {matrices}"


def _power(decades):
    """Write a number of which log10 is known, also where no float holds it."""
    if abs(decades) < 2.5:
        return f"{10**decades:.2g}"
    whole = math.floor(decades + 0.02)
    return f"{max(1.0, 10 ** (decades - whole)):.1f}e{whole}"


def _growth(scale, singular, length, theory, factors):
    panel = Panel("The product, factor by factor", Axis("number of factors", 0, _MOST), scale)
    steps = np.arange(_MOST + 1)
    _float_limits(panel, [0, _MOST])
    panel.line([factors, factors], [-99, 99], colour=SOFT, width=1)
    for number in _chosen(len(theory)):
        first = number == 0
        panel.line(steps, singular[:, number], "singular values" if first else "", colour=0, width=3 if first else 1.4)
    panel.line(steps, length, "vector length", colour=1, dash="--", width=3)
    for number in _chosen(len(theory)):
        panel.line(steps, steps * theory[number], "Lyapunov exponents" if number == 0 else "", dash=":", width=1.8)
    for value, text, lift in ((_LARGEST, "float32 ends", -16), (_SMALLEST, "float32 ends", 6)):
        panel.text(2, value, text, colour=SOFT, lift=lift, anchor="start")
    return panel


def _spectrum(scale, singular, length, theory, factors):
    ranks = Axis("singular values, in order", -0.08, 1.08, ticks={0: "largest", 1: "smallest"})
    panel = Panel(f"After {factors} factor{'s' * (factors > 1)}", ranks, scale)
    ends, places = [-0.08, 1.08], np.linspace(0, 1, len(theory))
    _float_limits(panel, ends)
    panel.line(places, singular[factors], "singular values", colour=0, marker=True, width=1.4)
    panel.line(ends, [length[factors]] * 2, "vector length", colour=1, dash="--", width=3)
    panel.line(places, factors * theory, "Lyapunov exponents", dash=":", width=1.8)
    panel.line(ends, [singular[factors].mean()] * 2, "mean (determinant)", colour=2, dash="-.")
    return panel


def _float_limits(panel, ends):
    for value in (_LARGEST, _SMALLEST):
        panel.line(ends, [value, value], colour=SOFT, dash="--", width=1)


def _chosen(count):
    """Return which singular values are drawn: the largest, the smallest and some between."""
    return np.unique(np.linspace(0, count - 1, min(count, _LINES)).round().astype(int))


@functools.cache
def _exponents(kind, size):
    """Return the Lyapunov exponents, natural logarithms per factor, largest first (newman1986 for Gaussian factors)."""
    if kind == "orthogonal":
        return np.zeros(size)
    if kind in _PAIRS:
        return np.array(_PAIRS[kind][1])
    free = torch.arange(size, 0, -1, dtype=torch.float64)  # squared length of what is left of a column: chi square
    return (0.5 * (math.log(2) + torch.special.digamma(free / 2)) - 0.5 * math.log(size)).numpy()


def _matrices(kind, size, sample):
    """Return the factors, (K, n, n), and the basis whose first vector is sent through them."""
    if kind in _PAIRS:
        turns, _ = _PAIRS[kind]
        return np.stack([turns[k % len(turns)] for k in range(_MOST)]), np.array([[1.0, -1.0], [1.0, 1.0]]) / 2**0.5
    normal = np.random.default_rng([sample, size]).normal(size=(_MOST, size, size))
    return (np.linalg.qr(normal)[0] if kind == "orthogonal" else normal / size**0.5), np.eye(size)


@functools.lru_cache(64)
def _of_product(kind, size, sample):
    """Return log10 of the singular values after 0, 1, ... factors, (K + 1, n), and of a vector's length, (K + 1,).

    The product is kept as Q diag(exp(scale)) U with U upper triangular and 1 on its diagonal, so that nothing
    overflows and small singular values keep their digits beside large ones.
    """
    factors, q = _matrices(kind, size, sample)
    scale, unit = np.zeros((_MOST + 1, size)), np.tile(np.eye(size), (_MOST + 1, 1, 1))
    for k, factor in enumerate(factors):
        q, r = np.linalg.qr(factor @ q)
        rows = np.diagonal(r)
        q = q * np.sign(rows)  # which makes the diagonal of r positive
        scale[k + 1] = scale[k] + np.log(np.abs(rows))
        unit[k + 1] = _conjugated(r / rows[:, None], scale[k]) @ unit[k]
    return _singular_values(scale, unit) / math.log(10), scale[:, 0] / math.log(10)


def _conjugated(r, scale):
    """Return diag(exp(-scale)) r diag(exp(scale)) of an upper triangular r, its entries kept in the range of floats."""
    apart = scale[..., None, :] - scale[..., :, None]
    return np.triu(r) * np.exp(np.clip(apart, -700, 300))


def _singular_values(scale, unit):
    """Return log of the singular values of diag(exp(scale)) U, largest first.

    QR of the transpose, again and again, which settles fast where they lie far apart; the others are left to the SVD.
    """
    for _ in range(_SWEEPS):
        r = np.linalg.qr(unit.swapaxes(-1, -2))[1]
        rows = np.diagonal(r, axis1=-2, axis2=-1)
        unit = _conjugated(r / rows[..., None], scale)
        scale = scale + np.log(np.abs(rows))
    top = scale.max(axis=-1, keepdims=True)
    near = (top[:, 0] - scale.min(axis=-1)) < _NEAR
    whole = np.exp(scale[near] - top[near])[..., None] * unit[near]
    scale[near] = np.log(np.linalg.svd(whole, compute_uv=False)) + top[near]
    return -np.sort(-scale, axis=-1)
