"""The data of the course: 1,797 handwritten digits of 8x8 pixels, bundled with the package, and a synthetic stand-in.

The images are the test part of the UCI data set "Optical Recognition of Handwritten Digits" (alpaydin1998), the same
that scikit-learn ships as ``load_digits``. Source and licence: LICENSE-data.md.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch.nn.functional import one_hot

TRAIN_SIZE = 1437
"""Images in the training part; the other 360 are for testing."""

SCALINGS = ("standard", "unit", "raw", "255")
"""Names of the ways to scale pixels."""

_TEST_SIZE = 360
_PIXELS = 64
_CLASSES = 10
_UNIT = 16.0  # the brightest pixel of the 4x4 counts


@dataclass(frozen=True)
class Split:
    """Points for training and testing, as float64 tensors.

    Attributes:
        x_train: inputs of the training part, shape (1437, 64).
        y_train: their classes 0..9, int64, shape (1437,).
        x_test: inputs of the test part, shape (360, 64).
        y_test: their classes, shape (360,).
        scores_train: one number per class that a regression aims at, shape (1437, 10).
    """

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    scores_train: torch.Tensor


@cache
def raw_digits():
    """All digits in the order of the source: pixels 0..16 of shape (1797, 64), classes of shape (1797,)."""
    with np.load(files(__package__).joinpath("digits.npz")) as archive:
        images, labels = archive["images"], archive["labels"]
    pixels = images.reshape(len(images), -1)
    pixels.setflags(write=False)
    labels.setflags(write=False)
    return pixels, labels


def digits(seed=0, *, scaling="standard"):
    """Split the digits by a seed and scale their pixels.

    Args:
        seed: which images are for training; the classes are mixed by a permutation drawn from it.
        scaling: "standard" subtracts each pixel's mean over the training part and divides by its standard deviation
            (three corner pixels are 0 in every image: they have no spread and stay 0); "unit" divides by 16, so that
            pixels lie in 0..1; "raw" leaves the counts 0..16; "255" stretches them to 0..255.

    Returns:
        A Split of the images; its scores are 1 at the image's class and 0 elsewhere.

    Raises:
        ValueError: for an unknown scaling.
    """
    pixels, labels = raw_digits()
    order = np.random.RandomState(seed).permutation(len(pixels))  # RandomState: its stream never changes
    train, test = order[:TRAIN_SIZE], order[TRAIN_SIZE:]
    scaled = _scaled(pixels.astype(np.float64), train, scaling)
    images = torch.from_numpy(scaled)  # (1797, 64)
    classes = torch.from_numpy(labels.astype(np.int64))
    scores = one_hot(classes[train], _CLASSES).to(images)
    return Split(images[train], classes[train], images[test], classes[test], scores)


def _scaled(pixels, train, scaling):
    if scaling == "raw":
        return pixels
    if scaling == "unit":
        return pixels / _UNIT
    if scaling == "255":
        return pixels * 255.0 / _UNIT
    if scaling == "standard":
        spread = pixels[train].std(axis=0)
        spread[spread == 0] = 1.0  # a pixel that never varies carries nothing: 0, not 0/0
        return (pixels - pixels[train].mean(axis=0)) / spread
    raise ValueError(f"digits(scaling={scaling!r}): scaling must be 'standard', 'unit', 'raw' or '255'")


def synthetic(seed=0):
    """Draw points whose classes a random linear map gives, of the same sizes and shapes as the digits.

    Inputs are independent standard normal numbers. The teacher's scores are too: a linear map with weights of variance
    1/64. A point's class is the one with the highest score.

    Args:
        seed: of the teacher and the points.

    Returns:
        A Split; its scores are the teacher's.
    """
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(_CLASSES, _PIXELS, dtype=torch.float64, generator=generator) / _PIXELS**0.5
    x = torch.randn(TRAIN_SIZE + _TEST_SIZE, _PIXELS, dtype=torch.float64, generator=generator)
    scores = x @ teacher.T
    y = scores.argmax(dim=1)
    return Split(x[:TRAIN_SIZE], y[:TRAIN_SIZE], x[TRAIN_SIZE:], y[TRAIN_SIZE:], scores[:TRAIN_SIZE])
