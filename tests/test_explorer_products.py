"""Tests of the explorer of products of matrices."""

import re

import mpmath
import numpy as np
import pytest
from explorer_reading import check_everywhere, curves

import gradcourse as gc
from gradcourse.explorer import products
from gradcourse.plots import COLOURS

DECADE = 100 / 218 * 0.11  # of the unzoomed axis, within which a drawn point is written


@pytest.fixture(scope="module")
def explorer():
    return gc.explorer.matrix_products()


def exact(factors):
    """Return log10 of the singular values of the product, computed with 300 digits."""
    with mpmath.workdps(300):
        product = mpmath.eye(len(factors[0]))
        for factor in factors:
            product = mpmath.matrix(factor.tolist()) * product
        return sorted((float(mpmath.log10(s)) for s in mpmath.svd_r(product, compute_uv=False)), reverse=True)


@pytest.mark.parametrize("kind", products._KINDS)
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_singular_values_are_those_of_the_product(kind, count):
    size = 2 if kind in products._PAIRS else 5
    factors, basis = products._matrices(kind, size, 3)
    singular, length = products._of_product(kind, size, 3)
    np.testing.assert_allclose(singular[count], exact(factors[:count]), rtol=0, atol=1e-3)
    vector = basis[:, 0]
    for factor in factors[:count]:
        vector = factor @ vector
    assert length[count] == pytest.approx(np.log10(np.linalg.norm(vector)), abs=1e-9)


def test_determinant_is_the_sum_of_all_singular_values():
    factors, _ = products._matrices("Gaussian", 16, 1)
    singular, _ = products._of_product("Gaussian", 16, 1)
    by_numpy = np.cumsum(np.linalg.slogdet(factors)[1]) / np.log(10)
    np.testing.assert_allclose(singular[1:].sum(axis=1), by_numpy, rtol=1e-12)


def test_exponents_are_those_of_many_factors():
    rng, (n, count) = np.random.default_rng(0), (3, 20_000)
    q, total = np.eye(n), np.zeros(n)
    for factor in rng.normal(size=(count, n, n)) / n**0.5:
        q, r = np.linalg.qr(factor @ q)
        total += np.log(np.abs(np.diagonal(r)))
    np.testing.assert_allclose(products._exponents("Gaussian", n), total / count, atol=0.03)


@pytest.mark.parametrize("kind", products._PAIRS)
def test_exponents_of_the_pairs_are_reached(kind):
    factors, _ = products._matrices(kind, 2, 0)
    rates = np.array(exact(factors)) * np.log(10) / len(factors)
    np.testing.assert_allclose(rates, products._exponents(kind, 2), atol=0.1)  # the shear's goes like ln(k) / k


@pytest.mark.parametrize("position", [{}, {"gain": 2.0, "size": 7}, {"kind": "orthogonal", "gain": 0.5, "factors": 9}])
def test_picture_draws_the_product(explorer, position):
    explorer.move(kind="Gaussian", size=4, gain=1.0, factors=50, sample=0, zoom=False)
    explorer.move(**position)
    at = explorer.values
    factors, _ = products._matrices(at["kind"], at["size"], at["sample"])
    by_mpmath = exact(at["gain"] * factors[: at["factors"]])
    growth, spectrum = map(curves, explorer.picture.panels)
    largest = next(curve for curve in growth if curve.colour == COLOURS[0])
    assert largest.y[at["factors"]] == pytest.approx(by_mpmath[0], abs=DECADE)
    points = next(curve for curve in spectrum if curve.colour == COLOURS[0])
    seen = np.abs(by_mpmath) < 60
    np.testing.assert_allclose(points.y[seen], np.array(by_mpmath)[seen], atol=DECADE)


def test_words_tell_the_numbers(explorer):
    explorer.move(kind="Gaussian", size=4, gain=1.0, factors=50, sample=0, zoom=False)
    factors, _ = products._matrices("Gaussian", 4, 0)
    told = re.search(
        r"product (\S+), .* exponent (\S+); .* vector (\S+); determinant (\S+)\. .* of (\S+) would", repr(explorer)
    )
    largest, exponent, length, determinant, gain = map(float, told.groups())
    product = np.linalg.multi_dot(factors[49::-1])
    assert largest == pytest.approx(np.linalg.norm(product, 2), rel=0.05)
    assert length == pytest.approx(np.linalg.norm(product[:, 0]), rel=0.05)
    assert determinant == pytest.approx(np.prod(np.linalg.det(factors[:50])), rel=0.05)
    rate = 0.5 * (np.log(2) + 0.4227843351) - np.log(2)  # psi(2) = 1 - Euler's constant
    assert exponent == pytest.approx(np.exp(50 * rate), rel=0.05)
    assert gain == pytest.approx(np.exp(-rate), rel=5e-3)


@pytest.mark.parametrize(
    "change",
    [{"kind": "shear"}, {"size": 5}, {"gain": 1.1}, {"factors": 51}, {"sample": 1}, {"zoom": True}],
    ids=lambda change: next(iter(change)),
)
def test_every_control_changes_the_picture(change):
    explorer = gc.explorer.matrix_products()
    before = explorer.picture.svg()
    explorer.move(**change)
    assert explorer.picture.svg() != before


def test_no_position_breaks_it(explorer):
    check_everywhere(explorer)
