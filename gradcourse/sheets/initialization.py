"""Sheet 05: how large the first weights must be, and what they must not have in common."""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

from gradcourse.sheets.question import Case, Mistake, Question
from gradcourse.theory import gaussian_mean

_TORCH_INIT = (
    "torch.nn.init:calculate_gain",
    "torch.nn.init:kaiming_normal_",
    "torch.nn.init:kaiming_uniform_",
    "torch.nn.init:_calculate_fan_in_and_fan_out",
    "torch.nn.init:_calculate_correct_fan",
)

# Question 1: He's variance for a leaky ReLU


def _leaky_variance(slope, fan_in):
    """Solve fan_in * variance * E[phi(z)^2] = E[z^2] for a Gaussian z, by quadrature."""
    return 1.0 / (fan_in * gaussian_mean(lambda z: torch.where(z > 0, z, slope * z) ** 2))


def _leaky_variance_cases():
    return [Case("05-q1", arguments) for arguments in ((0.1, 128), (0.0, 64), (0.8, 50), (5**0.5, 64), (-0.5, 30))]


def _spread(slope):
    """Return the variance of a leaky ReLU's output, from what is left of its second moment behind its mean."""
    return (1.0 + slope**2) / 2.0 - (1.0 - slope) ** 2 / (2.0 * math.pi)


_LEAKY_VARIANCE_MISTAKES = (
    Mistake(
        "This is He's variance for plain ReLU. A leaky ReLU lets slope^2 of the negative half's square through too.",
        lambda slope, fan_in: 2.0 / fan_in,
    ),
    Mistake(
        "The slope must be squared: what counts is the mean SQUARE of the output.",
        lambda slope, fan_in: 2.0 / ((1.0 + slope) * fan_in),
    ),
    Mistake(
        "The negative half adds to what passes, whatever the sign of its slope: 1 + slope^2, not 1 - slope^2.",
        lambda slope, fan_in: 2.0 / ((1.0 - slope**2) * fan_in),
    ),
    Mistake(
        "The square is of the slope alone: 1 + slope^2, not (1 + slope)^2.",
        lambda slope, fan_in: 2.0 / ((1.0 + slope) ** 2 * fan_in),
    ),
    Mistake(
        "This is the standard deviation of a weight. The question asks for the variance, its square.",
        lambda slope, fan_in: math.sqrt(2.0 / ((1.0 + slope**2) * fan_in)),
    ),
    Mistake(
        "You left out the fan-in: a pre-activation is a sum of that many products.",
        lambda slope, fan_in: 2.0 / (1.0 + slope**2),
    ),
    Mistake(
        "The 2 is missing: only half of the pre-activations are positive, so the mean square is (1 + slope^2) / 2 of "
        "what it was.",
        lambda slope, fan_in: 1.0 / ((1.0 + slope**2) * fan_in),
    ),
    Mistake(
        "A larger slope lets more through, so the weights must be smaller: divide by 1 + slope^2.",
        lambda slope, fan_in: 2.0 * (1.0 + slope**2) / fan_in,
    ),
    Mistake(
        "You took the variance of the activation's output. Its mean counts too: the next layer sums w h, and "
        "E[(w h)^2] = Var[w] E[h^2].",
        lambda slope, fan_in: 1.0 / (fan_in * _spread(slope)),
    ),
)

# Question 2: the fan-in of any layer


def _he_std(layer):
    """Count the inputs on which one output depends, by autograd, and give each weight the variance 2 / count."""
    ones = torch.ones_like(layer.weight, dtype=torch.float64)
    if isinstance(layer, nn.Linear):
        return math.sqrt(2.0 / _inputs_of_one_output(lambda x: nn.functional.linear(x, ones), (1, layer.in_features)))
    dimensions = ones.ndim - 2
    sides = [kernel * dilation for kernel, dilation in zip(layer.kernel_size, layer.dilation, strict=True)]
    convolve = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[dimensions - 1]
    count = _inputs_of_one_output(
        lambda x: convolve(x, ones, dilation=layer.dilation, groups=layer.groups), (1, layer.in_channels, *sides)
    )
    return math.sqrt(2.0 / count)


def _inputs_of_one_output(function, shape):
    """Count the inputs, of this shape, that have an influence on a function's first output."""
    x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x).flatten()[0], x)
    return int((gradient != 0).sum())


def linear(inputs, outputs):
    """Make a linear layer whose weights are all 0: its shape is what counts, and nothing is drawn."""
    return _emptied(skip_init(nn.Linear, inputs, outputs))


def convolution(inputs, outputs, kernel, *, dimensions=2, **options):
    """Make a convolution whose weights are all 0, in 1, 2 or 3 dimensions."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    return _emptied(skip_init(kind, inputs, outputs, kernel, **options))


def _emptied(layer):
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    return layer


def _he_std_cases():
    layers = (
        linear(64, 128),
        convolution(3, 16, 3, padding=1),
        convolution(8, 32, (3, 5)),
        convolution(16, 24, 3, groups=4),
        convolution(6, 10, 5, dimensions=1, dilation=2),
    )
    return [Case("05-q2", (layer,), str(layer)) for layer in layers]


def _kernel(layer):
    return math.prod(layer.weight.shape[2:])


def _per_fan(count):
    """Return the answer that draws with the variance 2 / count(layer)."""
    return lambda layer: math.sqrt(2.0 / count(layer))


_HE_STD_MISTAKES = (
    Mistake(
        "You count the input channels only. Each output of a k x k convolution sums over k * k places in each of them.",
        _per_fan(lambda layer: layer.weight.shape[1]),
    ),
    Mistake(
        "You count the input channels only. Each output of a k x k convolution sums over k * k places in each of them.",
        _per_fan(lambda layer: getattr(layer, "in_channels", layer.weight.shape[1])),
    ),
    Mistake(
        "This is the fan-out, what reads an input. The fan-in counts what one output is the sum of: input channels "
        "times k * k.",
        _per_fan(lambda layer: layer.weight.shape[0] * _kernel(layer)),
    ),
    Mistake(
        "With groups an output reads only its own group's channels: in_channels / groups of them, which is "
        "weight.shape[1].",
        _per_fan(lambda layer: getattr(layer, "in_channels", layer.weight.shape[1]) * _kernel(layer)),
    ),
    Mistake(
        "A kernel of k x k has k * k places, not k.",
        _per_fan(lambda layer: layer.weight.shape[1] * (layer.weight.shape[2] if layer.weight.ndim > 2 else 1)),
    ),
    Mistake(
        "Kernels need not be square, nor two-dimensional: multiply their sides, don't square the first.",
        _per_fan(lambda layer: layer.weight.shape[1] * (layer.weight.shape[2] ** 2 if layer.weight.ndim > 2 else 1)),
    ),
    Mistake(
        "You count all weights of the layer. The fan-in is that of one output: leave the number of outputs out.",
        _per_fan(lambda layer: layer.weight.numel()),
    ),
    Mistake(
        "This is the variance. The question asks for the standard deviation, its square root.",
        lambda layer: 2.0 / layer.weight[0].numel(),
    ),
    Mistake(
        "The 2 is missing, which makes up for the half that ReLU cuts off.",
        lambda layer: math.sqrt(1.0 / layer.weight[0].numel()),
    ),
    Mistake(
        "This is Xavier's: 2 / (fan-in + fan-out). He's is 2 / fan-in.",
        lambda layer: math.sqrt(2.0 / (layer.weight[0].numel() + layer.weight.shape[0] * _kernel(layer))),
    ),
    Mistake(
        "This is PyTorch's default, 1 / (3 fan-in). He's is 2 / fan-in.",
        lambda layer: math.sqrt(1.0 / (3.0 * layer.weight[0].numel())),
    ),
)

# Question 3: units that stay alike


def _different_units(w1, b1, w2):
    """Train the network for three steps by autograd, on random data, and count the units that came out different."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in (w1, b1, w2)]
    x = torch.randn(20, w1.shape[1], dtype=torch.float64, generator=generator)
    y = torch.randn(20, w2.shape[0], dtype=torch.float64, generator=generator)
    for _ in range(3):
        first, bias, second = parameters
        loss = ((torch.tanh(x @ first.T + bias) @ second.T - y) ** 2).mean()
        gradients = torch.autograd.grad(loss, parameters)
        pairs = zip(parameters, gradients, strict=True)
        parameters = [(p - 0.05 * g).detach().requires_grad_() for p, g in pairs]
    first, bias, second = (parameter.detach().numpy() for parameter in parameters)
    return _count_different(np.column_stack([first, bias, second.T]))


def _count_different(units, tolerance=1e-9):
    """Count rows that differ from all rows before them by more than rounding."""
    seen = []
    for unit in units:
        if all(np.abs(unit - other).max() > tolerance for other in seen):
            seen.append(unit)
    return len(seen)


def symmetry_case(w1, b1, w2, shown=""):
    """Make a case of question 3 from anything that arrays can be made of."""
    return Case("05-q3", tuple(np.array(array, dtype=np.float64) for array in (w1, b1, w2)), shown)


def _different_units_cases():
    rng = np.random.default_rng(5)
    w1, w2 = np.full((4, 3), 0.1), np.full((2, 4), 0.1)
    rows, columns = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    pairs, twice, signs = [0, 0, 1, 2], [0, 0, 1, 1], np.array([1.0, 1.0, -1.0, -1.0])
    return [
        symmetry_case(w1, np.zeros(4), w2, "all weights 0.1, biases 0"),
        symmetry_case(w1, np.full(4, 0.5), w2, "all weights 0.1, all biases 0.5"),
        symmetry_case(w1, rng.normal(size=4), w2, "all weights 0.1, random biases"),
        symmetry_case(w1, np.zeros(4), columns, "w1 all 0.1, biases 0, w2 random"),
        symmetry_case(rows, np.zeros(4), w2, "w1 random, biases 0, w2 all 0.1"),
        symmetry_case(rows[pairs], np.zeros(4), w2, "two equal rows in w1, biases 0, w2 all 0.1"),
        symmetry_case(rows[twice], 0.3 * signs[[0, 2, 0, 2]], columns[:, twice], "two pairs that differ in b1 only"),
        symmetry_case(w1 * signs[:, None], 0.2 * signs, w2, "two signs in w1 and in b1"),
    ]


def _unique(*columns):
    return len(np.unique(np.column_stack(columns), axis=0))


_DIFFERENT_UNITS_MISTAKES = (
    Mistake(
        "You let any bias but 0 break the symmetry. An equal bias does not: it is one more thing that the units have "
        "in common.",
        lambda w1, b1, w2: len(b1) if np.any(b1 != 0) else _unique(w1, b1, w2.T),
    ),
    Mistake(
        "You compare w1 only. A random bias breaks the symmetry too, through the slope, and so do different outgoing "
        "weights.",
        lambda w1, b1, w2: _unique(w1),
    ),
    Mistake(
        "You leave out the biases. Random biases break the symmetry although the weights are equal.",
        lambda w1, b1, w2: _unique(w1, w2.T),
    ),
    Mistake(
        "You leave out the outgoing weights: units with different columns of w2 get different gradients.",
        lambda w1, b1, w2: _unique(w1, b1),
    ),
    Mistake(
        "Units that agree in one part are not alike if they differ in another: compare w1, b1 and w2 of a unit "
        "together, not each array by itself.",
        lambda w1, b1, w2: max(_unique(w1), _unique(b1), _unique(w2.T)),
    ),
    Mistake(
        "You compare the rows of w2. A unit's outgoing weights are a column of w2.",
        lambda w1, b1, w2: len(
            {(*w, b, *w2[min(i, len(w2) - 1)]) for i, (w, b) in enumerate(zip(w1, b1, strict=True))}
        ),
    ),
    Mistake(
        "The rank counts directions. Units can be different although their weights are multiples of each other: "
        "count different rows.",
        lambda w1, b1, w2: int(np.linalg.matrix_rank(np.column_stack([w1, b1, w2.T]))),
    ),
    Mistake(
        "The rank of w1 alone does not see the biases, nor the outgoing weights.",
        lambda w1, b1, w2: int(np.linalg.matrix_rank(w1)),
    ),
    Mistake(
        "You count the units that have a twin. The question asks how many different units there are.",
        lambda w1, b1, w2: len(b1) - _unique(w1, b1, w2.T),
    ),
    Mistake(
        "Training does not make units different that are equal in everything: they get the same gradient at each step.",
        lambda w1, b1, w2: len(b1),
    ),
)

# Question 4: LSUV


def stack(sizes, rng, scale=1.0):
    """Make linear layers of these sizes with ReLU between them, biases 0 and float64 weights drawn by a NumPy rng."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        layer = _emptied(skip_init(nn.Linear, inputs, outputs, dtype=torch.float64))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(scale * rng.uniform(0.2, 2.0) * rng.normal(size=(outputs, inputs))))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lsuv_case(sizes, images, rng, scale=1.0):
    """Make a case of question 4; its inputs have a mean, so that a standard deviation is not a root mean square."""
    x = torch.from_numpy(rng.normal(0.7, 1.0, size=(images, sizes[0])))
    model = stack(sizes, rng, scale)
    while any(np.std(z) == 0 for z in _pre_activations(model, x)):  # narrow layers can be dead: no scale mends that
        model = stack(sizes, rng, scale)
    shown = f"linear layers {' -> '.join(map(str, sizes))} with ReLU, {images} inputs"
    return Case("05-q4", (model, x), shown)


def _lsuv_cases():
    rng = np.random.default_rng(5)
    return [lsuv_case((6, 5, 4), 8, rng), lsuv_case((5, 12, 12, 12, 3), 10, rng, 0.01)]


def _linears(model):
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def _pre_activations(model, x):
    """Return what each linear layer puts out, as NumPy arrays."""
    outputs, h = [], x.numpy()
    for layer in _linears(model):
        outputs.append(h @ layer.weight.detach().numpy().T)
        h = np.maximum(outputs[-1], 0.0)
    return outputs


def _lsuv_by(spread, skip_last=False):
    """Return the answer that makes `spread` of each layer's outputs 1.

    One pass over the unchanged network is enough: a factor c on a layer multiplies all that is behind it, relu(c z) =
    c relu(z), so layer l gets the factor of layer l over that of layer l - 1.
    """

    def answer(model, x):
        factors = [1.0, *(1.0 / spread(z) for z in _pre_activations(model, x))]
        weights = [layer.weight.detach().numpy() for layer in _linears(model)]
        steps = [factor / before for before, factor in pairwise(factors)]
        return tuple(
            weight if skip_last and number == len(weights) else weight * step
            for number, (weight, step) in enumerate(zip(weights, steps, strict=True), start=1)
        )

    return answer


def _relu(z):
    return np.maximum(z, 0.0)


def _unchained(model, x):
    pairs = zip(_linears(model), _pre_activations(model, x), strict=True)
    return tuple(layer.weight.detach().numpy() / z.std() for layer, z in pairs)


def _by_weights(model, x):
    weights = [layer.weight.detach().numpy() for layer in _linears(model)]
    return tuple(weight / weight.std() for weight in weights)


def _chained(model, x, divisor, last=None):
    """Divide each layer's weights by divisor(its output), layer after layer; the last one's by last(its output)."""
    scaled, h, layers = [], x.numpy(), _linears(model)
    for number, layer in enumerate(layers, start=1):
        weight, divide = layer.weight.detach().numpy(), last if last and number == len(layers) else divisor
        scaled.append((weight.T / divide(h @ weight.T)).T)
        h = _relu(h @ scaled[-1].T)
    return tuple(scaled)


def _no_relu(model, x):
    scaled, h = [], x.numpy()
    for layer in _linears(model):
        weight = layer.weight.detach().numpy()
        scaled.append(weight / (h @ weight.T).std())
        h = h @ scaled[-1].T
    return tuple(scaled)


_LSUV_MISTAKES = (
    Mistake(
        "You measure after the ReLU. LSUV gives the pre-activations, what the linear layer puts out, a standard "
        "deviation of 1.",
        _lsuv_by(lambda z: _relu(z).std()),
    ),
    Mistake(
        "You measure after the ReLU. LSUV gives the pre-activations, what the linear layer puts out, a standard "
        "deviation of 1.",
        lambda model, x: _chained(model, x, lambda z: _relu(z).std(), last=np.std),
    ),
    Mistake(
        "Your standard deviation divides by n - 1, as torch's does by default: write std(correction=0).",
        lambda model, x: _chained(model, x, lambda z: z.std(ddof=1)),
    ),
    Mistake(
        "You measure all layers in the network as it was. A scaled layer changes what the next one gets: pass its new "
        "output on, then measure.",
        _unchained,
    ),
    Mistake(
        "You divide by the variance. Dividing by the standard deviation makes the standard deviation 1.",
        lambda model, x: _chained(model, x, np.var),
    ),
    Mistake(
        "You take the root mean square. The outputs have a mean, which the standard deviation leaves out.",
        _lsuv_by(lambda z: np.sqrt(np.mean(z**2))),
    ),
    Mistake(
        "You scale each unit by a standard deviation of its own. LSUV takes one number per layer, over all inputs and "
        "units.",
        lambda model, x: _chained(model, x, lambda z: z.std(axis=0)),
    ),
    Mistake(
        "You divide by the standard deviation of the weights. LSUV measures what the layer puts out.",
        _by_weights,
    ),
    Mistake(
        "You send the inputs through the linear layers only: the ReLUs between them belong to the network.",
        _no_relu,
    ),
    Mistake(
        "The last linear layer is one too: scale it as well.",
        _lsuv_by(np.std, skip_last=True),
    ),
    Mistake(
        "The weights are as they were. Assign the scaled ones: layer.weight.mul_(...) under torch.no_grad(), or "
        "layer.weight.data.",
        lambda model, x: tuple(layer.weight.detach().numpy() for layer in _linears(model)),
    ),
)

QUESTIONS = (
    Question(
        id="05-q1",
        signature="leaky_variance(slope, fan_in)",
        returns="the variance of a weight that keeps the mean square in a leaky ReLU network",
        points=3,
        minutes=15,
        core=True,
        oracle=_leaky_variance,
        cases=_leaky_variance_cases,
        mistakes=_LEAKY_VARIANCE_MISTAKES,
        refused=(*_TORCH_INIT, "gradcourse.theory:critical_weight_variance"),
        rtol=1e-4,
    ),
    Question(
        id="05-q2",
        signature="he_std(layer)",
        returns="the standard deviation of He's weights for a linear layer or convolution",
        points=3,
        minutes=15,
        core=True,
        oracle=_he_std,
        cases=_he_std_cases,
        mistakes=_HE_STD_MISTAKES,
        refused=(*_TORCH_INIT, "gradcourse.initialization:weight_variance"),
    ),
    Question(
        id="05-q3",
        signature="different_units(w1, b1, w2)",
        returns="the number of hidden units that training can ever tell apart",
        points=3,
        minutes=15,
        core=False,
        oracle=_different_units,
        cases=_different_units_cases,
        mistakes=_DIFFERENT_UNITS_MISTAKES,
    ),
    Question(
        id="05-q4",
        signature="lsuv(model, x)",
        returns="the weights of the linear layers, scaled",
        points=4,
        minutes=20,
        core=False,
        oracle=_lsuv_by(np.std),
        cases=_lsuv_cases,
        mistakes=_LSUV_MISTAKES,
        refused=("gradcourse.initialization:lsuv",),
        in_place=True,
    ),
)
