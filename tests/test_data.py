"""The digits: where they come from, how they are split and scaled."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gradcourse.data import TRAIN_SIZE, digits, raw_digits
from gradcourse.models import one_thread

ALWAYS_ZERO = (0, 32, 39)  # the pixels that are 0 in every image of scikit-learn's copy; asserted below
SCALINGS = ("standard", "unit", "raw")


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors: a second thread only waits for the first."""
    with one_thread():
        yield


def parts(split):
    return split.x_train, split.y_train, split.x_test, split.y_test


def sorted_rows(x, y):
    """Images with their classes in an order that does not depend on the split."""
    rows = np.column_stack([x, y])
    return rows[np.lexsort(rows.T)]


def test_raw_digits_equal_those_of_scikit_learn():
    pixels, labels = raw_digits()
    reference = load_digits()
    np.testing.assert_array_equal(pixels, reference.data)
    np.testing.assert_array_equal(labels, reference.target)


def test_raw_digits_cannot_be_changed_by_a_user():
    pixels, labels = raw_digits()
    for array in (pixels, labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("scaling", SCALINGS)
def test_digits_have_the_sizes_and_types_that_they_promise(scaling):
    split = digits(scaling=scaling)
    assert [tuple(part.shape) for part in parts(split)] == [(1437, 64), (1437,), (360, 64), (360,)]
    assert [part.dtype for part in parts(split)] == [torch.float64, torch.int64] * 2
    assert TRAIN_SIZE == 1437


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_digits_split_holds_every_image_exactly_once_with_its_class(seed):
    reference = load_digits()
    split = digits(seed, scaling="raw")
    together = sorted_rows(torch.cat([split.x_train, split.x_test]), torch.cat([split.y_train, split.y_test]))
    np.testing.assert_array_equal(together, sorted_rows(reference.data, reference.target))


def test_digits_parts_share_no_image():
    split = digits(scaling="raw")
    train, test = ({row.numpy().tobytes() for row in x} for x in (split.x_train, split.x_test))
    assert len(train) == 1437  # no image occurs twice in the source, so that bytes identify it
    assert len(test) == 360
    assert not train & test


@pytest.mark.parametrize("seed", range(5))
def test_digits_both_parts_hold_all_ten_classes(seed):
    split = digits(seed)
    assert set(split.y_train.tolist()) == set(split.y_test.tolist()) == set(range(10))


def test_digits_are_the_same_for_the_same_seed_and_others_for_another():
    first, again, other = digits(3), digits(3), digits(4)
    assert all(torch.equal(a, b) for a, b in zip(parts(first), parts(again), strict=True))
    assert not torch.equal(first.y_train, other.y_train)


def test_digits_of_one_seed_are_the_same_images_at_every_scaling():
    labels = [digits(2, scaling=scaling).y_train for scaling in SCALINGS]
    assert all(torch.equal(labels[0], other) for other in labels[1:])


def test_digits_touch_no_global_generator():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    digits(5)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_standard_scaling_gives_training_pixels_mean_0_and_spread_1():
    x = digits(1).x_train.numpy()
    raw = digits(1, scaling="raw").x_train.numpy()
    varies = raw.min(axis=0) != raw.max(axis=0)
    assert varies.sum() >= 60
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0)[varies], 1, rtol=1e-12)
    np.testing.assert_array_equal(x[:, ~varies], 0)


@pytest.mark.parametrize("seed", range(20))
def test_standard_scaling_keeps_always_zero_pixels_at_exactly_0_and_all_finite(seed):
    assert np.flatnonzero((load_digits().data == 0).all(axis=0)).tolist() == list(ALWAYS_ZERO)
    split = digits(seed)
    for x in (split.x_train, split.x_test):
        assert torch.count_nonzero(x[:, ALWAYS_ZERO]) == 0
        assert torch.isfinite(x).all()


def test_standard_scaling_of_the_test_part_uses_the_training_parts_statistics():
    split, raw = digits(7), digits(7, scaling="raw")
    mean, spread = raw.x_train.mean(dim=0), raw.x_train.std(dim=0, correction=0)
    varies = spread > 0
    expected = (raw.x_test[:, varies] - mean[varies]) / spread[varies]
    torch.testing.assert_close(split.x_test[:, varies], expected, rtol=1e-12, atol=1e-12)
    assert split.x_test.mean(dim=0).abs().max() > 0.01  # its own mean would be 0


def test_unit_scaling_is_a_sixteenth_of_the_raw_counts_and_fills_0_to_1():
    unit, raw = digits(1, scaling="unit"), digits(1, scaling="raw")
    assert torch.equal(16 * unit.x_train, raw.x_train)
    assert torch.equal(16 * unit.x_test, raw.x_test)
    assert (unit.x_train.min(), unit.x_train.max()) == (0, 1)
    assert (raw.x_train.min(), raw.x_train.max()) == (0, 16)


def test_digits_may_be_changed_by_a_user_without_harm_to_the_next():
    digits(scaling="raw").x_train.zero_()
    assert digits(scaling="raw").x_train.max() == 16


@pytest.mark.parametrize("scaling", ["minmax", None, 1], ids=repr)
def test_digits_unknown_scaling_is_refused_with_the_allowed_names(scaling):
    with pytest.raises(ValueError, match="must be 'standard', 'unit', 'raw' or '255'") as caught:
        digits(scaling=scaling)
    assert f"scaling={scaling!r}" in str(caught.value)
    assert "\n" not in str(caught.value)
