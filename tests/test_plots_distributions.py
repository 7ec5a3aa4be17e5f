"""Histograms by layer against values taken by hand, singular values against products of known matrices."""

import copy

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn.functional import cross_entropy

import gradcourse as gc

matplotlib.use("agg")


@pytest.fixture
def ax():
    return Figure(layout="constrained").add_subplot()


@pytest.fixture
def model():
    return gc.mlp(4, 16, "tanh", generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 64, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (50,), generator=generator)


def by_hand(model, batch, of):
    """The values of each layer, by calling the layers one by one."""
    h, outputs = batch[0], []
    for layer in model:
        h = layer(h)
        h.retain_grad()
        outputs.append(h)
    if of == "weights":
        return [layer.weight.detach() for layer in model if isinstance(layer, nn.Linear)]
    if of == "activations":
        return [h.detach() for h in outputs[1::2]]
    cross_entropy(h, batch[1]).backward()
    return [h.grad if of == "gradients" else h.detach() for h in outputs[0::2]]


@pytest.mark.parametrize("of", ["activations", "pre_activations", "weights", "gradients"])
def test_histograms_count_the_values_of_each_layer(model, batch, ax, of):
    gc.plot_histograms(model, batch, cross_entropy, ax, of=of)
    mesh = ax.collections[0]
    edges, shares = mesh.get_coordinates()[:, 0, 1], mesh.get_array()
    layers = [values.numpy().ravel() for values in by_hand(copy.deepcopy(model), batch, of)]
    layers = [np.abs(values) for values in layers] if of == "gradients" else layers
    assert shares.shape == (60, len(layers))
    for column, values in enumerate(layers):
        assert shares[:, column].sum() == pytest.approx(1.0)
        for lowest, highest in ((5, 20), (20, 40), (40, 59)):
            share = np.mean((values >= edges[lowest]) & (values < edges[highest]))
            assert shares[lowest:highest, column].sum() == pytest.approx(share, abs=1e-12)
    assert ax.get_yscale() == ("log" if of == "gradients" else "linear")


def test_histograms_say_mean_and_spread_of_the_first_and_the_last_layer(model, batch, ax):
    gc.plot_histograms(model, batch, cross_entropy, ax, of="pre_activations")
    layers = by_hand(copy.deepcopy(model), batch, "pre_activations")
    for number, values in ((1, layers[0]), (4, layers[-1])):
        assert f"Layer {number}: mean {values.mean():.2g}, standard deviation" in gc.describe(ax)
        assert f"{values.std(correction=0):.2g}, from {values.min():.2g} to {values.max():.2g}" in gc.describe(ax)


def test_histograms_leave_the_model_and_the_random_numbers_alone(batch, ax):
    model = gc.mlp(
        *(4, 16, "relu"),
        generator=torch.Generator().manual_seed(0),
        norm="batch",
        dropout=0.5,
        mask_generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    gc.plot_histograms(model, batch, cross_entropy, ax, of="gradients")
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())


def test_histograms_see_outputs_before_they_are_changed_in_place(batch, ax):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(*gc.mlp(2, 16, "tanh", generator=generator, dtype=torch.float64))
    model[1] = nn.ReLU(inplace=True)
    gc.plot_histograms(model, batch, cross_entropy, ax, of="pre_activations")
    mesh = ax.collections[0]
    negative = mesh.get_coordinates()[1:, 0, 1] < 0
    assert mesh.get_array()[negative, 0].sum() > 0.3  # of the first layer, which the ReLU cuts


def test_histograms_of_activations_leave_out_normalizations(batch, ax):
    generator = torch.Generator().manual_seed(0)
    model = gc.mlp(4, 16, "relu", generator=generator, norm="batch", dtype=torch.float64)
    gc.plot_histograms(model, batch, cross_entropy, ax)
    assert ax.collections[0].get_array().shape[1] == 3
    assert ax.collections[0].get_coordinates()[:, :, 1].min() == 0


def test_histograms_refuse_what_they_can_t_draw(model, batch, ax):
    with pytest.raises(ValueError, match="take one of activations, pre_activations, gradients, weights"):
        gc.plot_histograms(model, batch, cross_entropy, ax, of="biases")
    with pytest.raises(ValueError, match="this model has no such layer"):
        gc.plot_histograms(nn.Linear(64, 10).double(), batch, cross_entropy, ax)
    with torch.no_grad():
        model[-1].weight.fill_(np.nan)
    with pytest.raises(ValueError, match="no finite value other than 0"):
        gc.plot_histograms(model, batch, cross_entropy, ax, of="gradients")


# --- singular values


def values(ax, label="singular values"):
    return next(line for line in ax.lines if line.get_label() == label).get_ydata()


def test_singular_values_of_a_matrix_are_its_known_ones(ax):
    left, right = (torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0] for _ in range(2))
    gc.plot_singular_values(left @ torch.diag(torch.tensor([0.1, 3.0, 1.0, 0.5], dtype=torch.float64)) @ right, ax=ax)
    np.testing.assert_allclose(values(ax), [3.0, 1.0, 0.5, 0.1])
    assert "4 values from 3 down to 0.1, root mean square 1.6." in gc.describe(ax)
    assert ax.get_yscale() == "log"


def test_singular_values_of_a_module_are_those_of_its_jacobian(model, ax):
    x = torch.randn(64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gc.plot_singular_values(model, x, ax)
    h, jacobian = x, torch.eye(64, dtype=torch.float64)
    for layer in model:
        h = layer(h)
        step = layer.weight if isinstance(layer, nn.Linear) else torch.diag(1 - h**2)
        jacobian = step @ jacobian
    np.testing.assert_allclose(values(ax), torch.linalg.svdvals(jacobian).detach())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_singular_values_that_are_0_or_only_rounding_are_marked(ax):
    gc.plot_singular_values({"exact": np.diag([2.0, 1.0, 0.0]), "noisy": np.diag([1.0, 1.0, 1e-20])}, ax=ax)
    zero = next(line for line in ax.lines if line.get_label() == "0: below the scale")
    assert zero.get_xdata().tolist() == [3]
    assert gc.describe(ax).count("Only rounding: 1 of them") == 2
    assert "below: rounding" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_singular_values_refuse_what_is_no_matrix(model, ax):
    with pytest.raises(ValueError, match="a module needs an input x"):
        gc.plot_singular_values(model, ax=ax)
    with pytest.raises(ValueError, match=r"a matrix, not an array of shape \(3,\)"):
        gc.plot_singular_values(np.ones(3), ax=ax)
    with pytest.raises(ValueError, match="holds inf or NaN"):
        gc.plot_singular_values(np.array([[1.0, np.inf]]), ax=ax)
    with pytest.raises(ValueError, match="an empty mapping"):
        gc.plot_singular_values({}, ax=ax)
