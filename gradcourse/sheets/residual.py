"""Sheet 08: residual blocks, what they do to a stream, and how they begin."""

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

from gradcourse.sheets.question import Case, Mistake, Question
from gradcourse.theory import residual_variance_map

# Question 1: the pre-activation block


def layer_norm(h):
    """Normalize each row of h to mean 0 and variance 1."""
    return (h - h.mean(dim=1, keepdim=True)) / h.var(dim=1, keepdim=True, correction=0).add(1e-5).sqrt()


def batch_norm(h):
    """Normalize each column of h to mean 0 and variance 1."""
    return (h - h.mean(dim=0)) / h.var(dim=0, correction=0).add(1e-5).sqrt()


def block_case(batch, width, hidden, norm, rng):
    """Make a case of question 1: a batch of inputs, a norm and two weight matrices of normal numbers."""
    x, w1, w2 = (
        torch.from_numpy(rng.normal(size=shape)) for shape in ((batch, width), (hidden, width), (width, hidden))
    )
    shown = f"x of shape {tuple(x.shape)}, {norm.__name__}, w1 {tuple(w1.shape)}, w2 {tuple(w2.shape)}"
    return Case("08-q1", (x, norm, w1, w2), shown)


def _block_cases():
    rng = np.random.default_rng(8)
    return [block_case(5, 4, 6, layer_norm, rng), block_case(7, 3, 3, batch_norm, rng)]


def _block(x, norm, w1, w2):
    """Compute the block row by row and entry by entry in NumPy; the norm alone is taken as it is."""

    def mapped(h, weight):
        rows, columns = h.numpy(), weight.numpy()
        return torch.tensor([[sum(a * b for a, b in zip(r, c, strict=True)) for c in columns] for r in rows])

    inner = mapped(norm(x).clamp(min=0), w1)
    return x.numpy() + mapped(norm(inner).clamp(min=0), w2).numpy()


_relu = torch.relu


def _branch(x, norm, w1, w2):
    return _relu(norm(_relu(norm(x)) @ w1.T)) @ w2.T


_BLOCK_MISTAKES = (
    Mistake("The skip is missing: the block adds its branch to x.", _branch),
    Mistake(
        "There is an activation behind the sum. In a pre-activation block nothing stands on the skip: what comes out "
        "is x plus the branch.",
        lambda x, norm, w1, w2: _relu(x + _branch(x, norm, w1, w2)),
    ),
    Mistake(
        "This is the block with the activation behind the sum, weights first. Pre-activation means: norm, ReLU, "
        "weights, twice, and nothing on the skip.",
        lambda x, norm, w1, w2: _relu(x + norm(_relu(norm(x @ w1.T)) @ w2.T)),
    ),
    Mistake(
        "The order in the branch is weights, norm, ReLU. In a pre-activation block norm and ReLU stand BEFORE the "
        "weights.",
        lambda x, norm, w1, w2: x + norm(_relu(norm(x @ w1.T)) @ w2.T),
    ),
    Mistake(
        "The order in the branch is weights, norm, ReLU. In a pre-activation block norm and ReLU stand BEFORE the "
        "weights.",
        lambda x, norm, w1, w2: x + _relu(norm(_relu(norm(x @ w1.T)) @ w2.T)),
    ),
    Mistake(
        "The ReLU comes before the norm. It is norm first, then ReLU, then the weights.",
        lambda x, norm, w1, w2: x + norm(_relu(norm(_relu(x)) @ w1.T)) @ w2.T,
    ),
    Mistake(
        "The branch ends with a ReLU, so it can only add, and the mean of the stream grows. It ends with the weights.",
        lambda x, norm, w1, w2: x + _relu(_branch(x, norm, w1, w2)),
    ),
    Mistake(
        "Your skip carries norm(x). The skip carries x itself: only the branch is normalized.",
        lambda x, norm, w1, w2: norm(x) + _branch(x, norm, w1, w2),
    ),
    Mistake(
        "Your skip carries relu(norm(x)). The skip carries x itself: keep it before you go into the branch.",
        lambda x, norm, w1, w2: _relu(norm(x)) + _branch(x, norm, w1, w2),
    ),
    Mistake(
        "The second norm is missing: each of the two weight matrices has a norm and a ReLU before it.",
        lambda x, norm, w1, w2: x + _relu(_relu(norm(x)) @ w1.T) @ w2.T,
    ),
    Mistake(
        "The first norm is missing: each of the two weight matrices has a norm and a ReLU before it.",
        lambda x, norm, w1, w2: x + _relu(norm(_relu(x) @ w1.T)) @ w2.T,
    ),
    Mistake(
        "The ReLUs are missing: without them the branch's two matrices are one.",
        lambda x, norm, w1, w2: x + norm(norm(x) @ w1.T) @ w2.T,
    ),
)

# Question 2: the stream's mean square


def _stream_mean_square(start, alpha, weight_variance, blocks):
    """Follow the stream block by block, with a Gaussian integral for each."""
    through_block = residual_variance_map("relu", alpha, weight_variance)
    for _ in range(blocks):
        start = through_block(start)
    return start


def _stream_cases():
    rows = ((1.0, 1.0, 2.0, 5), (2.5, 0.3, 2.0, 10), (0.7, 0.5, 1.0, 8), (1.3, 32**-0.5, 3.0, 32), (2.0, 0.8, 2.0, 1))
    return [Case("08-q2", row) for row in rows]


def _power(factor):
    """Return the answer that multiplies by factor(alpha, weight_variance) in each block."""
    return lambda start, alpha, variance, blocks: start * factor(alpha, variance) ** blocks


_STREAM_MISTAKES = (
    Mistake(
        "Skip and branch are uncorrelated, so their squares add, not they themselves: 1 + alpha^2 (...), not "
        "1 + alpha.",
        _power(lambda alpha, variance: 1 + alpha),
    ),
    Mistake(
        "Skip and branch are uncorrelated, so their squares add: the cross term of (1 + alpha)^2 is 0 on average.",
        _power(lambda alpha, variance: (1 + alpha) ** 2),
    ),
    Mistake(
        "Skip and branch are uncorrelated, so their squares add: the cross term of (1 + alpha)^2 is 0 on average.",
        _power(lambda alpha, variance: (1 + alpha * math.sqrt(variance / 2)) ** 2),
    ),
    Mistake(
        "This is one block. The factor comes once for each of them: a power.",
        lambda start, alpha, variance, blocks: start * (1 + alpha**2 * variance / 2),
    ),
    Mistake(
        "You add up what the blocks add to the first signal. Each block adds its share of what has come so far: a "
        "power, not a sum.",
        lambda start, alpha, variance, blocks: start * (1 + blocks * alpha**2 * variance / 2),
    ),
    Mistake(
        "The branch is scaled by alpha, so its mean SQUARE is scaled by alpha^2.",
        _power(lambda alpha, variance: 1 + alpha * variance / 2),
    ),
    Mistake(
        "1 + alpha^2 is right for He's weights, of variance 2 / width. Here the variance is given.",
        _power(lambda alpha, variance: 1 + alpha**2),
    ),
    Mistake(
        "ReLU lets half of the mean square through: the branch has alpha^2 * weight_variance / 2 of the stream's.",
        _power(lambda alpha, variance: 1 + alpha**2 * variance),
    ),
    Mistake(
        "You left out the skip: this is a plain network, whose layers multiply.",
        _power(lambda alpha, variance: alpha**2 * variance / 2),
    ),
    Mistake(
        "You left out the mean square that the stream starts with.",
        lambda start, alpha, variance, blocks: (1 + alpha**2 * variance / 2) ** blocks,
    ),
    Mistake(
        "This is the root mean square. The question asks for the mean square.",
        lambda start, alpha, variance, blocks: math.sqrt(start * (1 + alpha**2 * variance / 2) ** blocks),
    ),
    Mistake(
        "This is the growth of the root: the mean square grows by 1 + alpha^2 weight_variance / 2 per block, not by "
        "its root.",
        _power(lambda alpha, variance: math.sqrt(1 + alpha**2 * variance / 2)),
    ),
)

# Question 3: zeros in the right place


def branch(layers, rng):
    """Make a residual branch of layers, each parameter filled with normal numbers from a NumPy rng.

    Args:
        layers: "norm" n, "linear" (n, m), "conv" (n, m) or "relu", each a pair (kind, sizes).
        rng: a numpy Generator.
    """
    made = nn.Sequential(*[_MAKERS[kind](*sizes) for kind, *sizes in layers]).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
    return made


_MAKERS = {
    "relu": nn.ReLU,
    "norm": nn.BatchNorm1d,
    "norm2d": nn.BatchNorm2d,
    "linear": lambda n, m, bias=True: skip_init(nn.Linear, n, m, bias=bias),
    "conv": lambda n, m, bias=True: skip_init(nn.Conv2d, n, m, 3, padding=1, bias=bias),
}


def branch_case(layers, rng):
    """Make a case of question 3."""
    shown = "nn.Sequential of " + ", ".join(" ".join(map(str, layer)) for layer in layers)
    return Case("08-q3", (branch(layers, rng),), shown)


def _zero_cases():
    rng = np.random.default_rng(8)
    return [
        branch_case([("linear", 4, 6), ("relu",), ("linear", 6, 4)], rng),
        branch_case([("norm", 4), ("relu",), ("linear", 4, 5), ("norm", 5), ("relu",), ("linear", 5, 4, False)], rng),
        branch_case([("linear", 4, 5), ("norm", 5), ("relu",), ("linear", 5, 4), ("norm", 4)], rng),
    ]


def _zero_init(given):
    """Try each module's parameters in turn: whose zeros make the branch 0, and let one step of SGD change that?"""
    for name, module in given.named_children():
        if any(True for _ in module.parameters()):
            tried = copy.deepcopy(given)
            _zero(tried.get_submodule(name))
            if _is_zero(tried) and _learns(tried):
                return tuple(parameter.detach().numpy() for parameter in tried.parameters())
    raise AssertionError("no module of this branch can be set to 0 alone")


def _zero(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def _input(module):
    sizes = ("num_features", "in_features", "in_channels")
    width = next(getattr(part, name) for part in module for name in sizes if hasattr(part, name))
    places = (4, 4) if _maps(module) and isinstance(_maps(module)[0], nn.Conv2d) else ()
    return torch.from_numpy(np.random.default_rng(0).normal(size=(6, width, *places)))


def _is_zero(module):
    return not module(_input(module)).any()


def _learns(module):
    """Take a step against a random gradient on a copy and look whether the output is not 0 any more."""
    stepped = copy.deepcopy(module)
    x = _input(stepped)
    (stepped(x) * torch.from_numpy(np.random.default_rng(1).normal(size=x.shape))).sum().backward()
    with torch.no_grad():
        for parameter in stepped.parameters():
            parameter -= 0.1 * parameter.grad
    return not _is_zero(stepped)


def _zeroed(choose):
    """Return the answer that sets the parameters choose(branch) to 0."""

    def answer(given):
        chosen = {id(parameter) for parameter in choose(given)}
        return tuple(
            0.0 * parameter.detach() if id(parameter) in chosen else parameter.detach()
            for parameter in given.parameters()
        )

    return answer


def _maps(given):
    return [module for module in given if isinstance(module, (nn.Linear, nn.Conv2d))]


def _norms(given):
    return [module for module in given if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


def _owners(given):
    return [module for module in given if any(True for _ in module.parameters())]


_ZERO_MISTAKES = (
    Mistake(
        "You set every parameter to 0. The block is the identity, and stays it: with zeros before and behind, no "
        "matrix gets a gradient. Zero the end of the branch only.",
        _zeroed(lambda given: given.parameters()),
    ),
    Mistake(
        "You set all matrices to 0. Behind a ReLU of zeros the last one gets no gradient, and before a zero matrix the "
        "first one gets none. Zero the end of the branch only.",
        _zeroed(lambda given: [p for module in _maps(given) for p in module.parameters()]),
    ),
    Mistake(
        "You set all weights to 0 and leave the biases. That is neither the identity nor does it learn.",
        _zeroed(lambda given: [p for name, p in given.named_parameters() if name.endswith("weight")]),
    ),
    Mistake(
        "You set all biases to 0; the weights still give an output. Zero all of the branch's last layer, its "
        "weights too.",
        _zeroed(lambda given: [p for name, p in given.named_parameters() if name.endswith("bias")]),
    ),
    Mistake(
        "You zero the first layer. What comes behind it still adds its biases, and its matrix gets no gradient from a "
        "ReLU of zeros: zero the LAST layer.",
        _zeroed(lambda given: _owners(given)[0].parameters()),
    ),
    Mistake(
        "You zero the first layer. What comes behind it still adds its biases, and its matrix gets no gradient from a "
        "ReLU of zeros: zero the LAST layer.",
        _zeroed(lambda given: _maps(given)[0].parameters()),
    ),
    Mistake(
        "The last layer has a bias (or a norm's shift) too: as long as it is not 0, the block adds it to its input.",
        _zeroed(lambda given: [_owners(given)[-1].weight]),
    ),
    Mistake(
        "You zero the last linear layer. Where a norm follows, that norm ends the branch, and it adds its shift, its "
        "bias, whatever comes in: zero the norm's weight and bias there, and leave the linear layer as it is.",
        _zeroed(lambda given: _maps(given)[-1].parameters()),
    ),
    Mistake(
        "You zero the last norm. Where a linear layer follows it, that layer ends the branch.",
        _zeroed(lambda given: (_norms(given) or _maps(given))[-1].parameters()),
    ),
    Mistake(
        "You zero the last two layers that have parameters. The end is enough; a zero matrix before it would have to "
        "wait for it, and with a ReLU between them both would wait for ever.",
        _zeroed(lambda given: [p for module in _owners(given)[-2:] for p in module.parameters()]),
    ),
    Mistake(
        "The parameters are as they were. Set them to 0 in place: nn.init.zeros_(parameter), or parameter.zero_() "
        "under torch.no_grad().",
        _zeroed(lambda given: ()),
    ),
)

# Question 4: a textbook's failed replication


def replication_case(batch, width, layers, rng):
    """Make a case of question 4: a batch of inputs and the normal numbers of `layers` square matrices."""
    x, draws = rng.normal(size=(batch, width)), list(rng.normal(size=(layers, width, width)))
    return Case("08-q4", (x, draws), f"x of shape ({batch}, {width}), {layers} matrices")


def _replication_cases():
    rng = np.random.default_rng(8)
    return [replication_case(6, 5, 3, rng), replication_case(10, 8, 12, rng)]


def _replicate(x, draws):
    """Run both networks in torch, the weights' size from torch's own gain for ReLU."""
    plain = stream = start = torch.from_numpy(np.asarray(x))
    for draw in draws:
        weight = torch.from_numpy(draw) * nn.init.calculate_gain("relu") / draw.shape[1] ** 0.5
        plain = nn.functional.linear(torch.relu(plain), weight)
        stream = torch.add(stream, nn.functional.linear(torch.relu(stream), weight), alpha=len(draws) ** -0.5)
    return tuple(float(h.square().mean() / start.square().mean()) for h in (plain, stream))


def _replicated(plain_gain, stream_gain, alpha=lambda layers: layers**-0.5, outside=False, finish=lambda layers: 1.0):
    """Return the answer with these gains on weights of variance 1 / width; finish multiplies both results."""

    def through(h, weight):
        return np.maximum(h @ weight.T, 0) if outside else np.maximum(h, 0) @ weight.T

    def answer(x, draws):
        plain = stream = x
        for draw in draws:
            weight = draw / np.sqrt(x.shape[1])
            plain = through(plain, plain_gain * weight)
            stream = stream + alpha(len(draws)) * through(stream, stream_gain * weight)
        return tuple(finish(len(draws)) * np.mean(h**2) / np.mean(x**2) for h in (plain, stream))

    return answer


_GAIN = math.sqrt(2.0)


def _root_of_results(x, draws):
    return tuple(math.sqrt(value) for value in _replicate(x, draws))


def _variance_for_deviation(x, draws):
    return _replicated(2.0 / math.sqrt(x.shape[1]), 2.0 / math.sqrt(x.shape[1]))(x, draws)


_REPLICATE_MISTAKES = (
    Mistake(
        "This is the book's code. Its weights have variance 1 / n; He's have 2 / n, and that 2 makes up for the half "
        "that ReLU cuts off.",
        _replicated(1.0, 1.0),
    ),
    Mistake(
        "You doubled the weights. It is their variance that is doubled: a factor of sqrt(2) on each weight.",
        _replicated(2.0, 2.0),
    ),
    Mistake(
        "You repaired the plain network only: the branches of the residual one need He's weights too.",
        _replicated(_GAIN, 1.0),
    ),
    Mistake(
        "You repaired the residual network only: the plain one uses the same weights.",
        _replicated(1.0, _GAIN),
    ),
    Mistake(
        "You multiply the sums, or the result, by the missing factor. For the plain network that comes to the same; in "
        "the residual one only the branch is too small, not the stream on the skip.",
        _replicated(1.0, 1.0, finish=lambda layers: 2.0**layers),
    ),
    Mistake(
        "You took the scale 1 / sqrt(L) off the branches. It was right: with He's weights and without it the stream "
        "grows by 2 per block.",
        _replicated(_GAIN, _GAIN, alpha=lambda layers: 1.0),
    ),
    Mistake(
        "You doubled the branches instead of the weights' variance.",
        _replicated(_GAIN, 1.0, alpha=lambda layers: 2.0 * layers**-0.5),
    ),
    Mistake(
        "You changed the branches' scale to 1 / L. 1 / sqrt(L) was right: its square, 1 / L, is what each block adds.",
        _replicated(_GAIN, _GAIN, alpha=lambda layers: 1.0 / layers),
    ),
    Mistake(
        "You moved the ReLU behind the weights. Then the branches have a positive mean, which piles up in the stream.",
        _replicated(_GAIN, _GAIN, outside=True),
    ),
    Mistake(
        "2 / n is the variance. The weights are multiplied by the standard deviation, its root.",
        _variance_for_deviation,
    ),
    Mistake("You return roots. The book, and the question, ask for mean squares.", _root_of_results),
)

QUESTIONS = (
    Question(
        id="08-q1",
        signature="preactivation_block(x, norm, w1, w2)",
        returns="what the block puts out",
        points=3,
        minutes=15,
        core=True,
        oracle=_block,
        cases=_block_cases,
        mistakes=_BLOCK_MISTAKES,
        problems=(
            (
                "shapes cannot be multiplied",
                "Weights have shape (outputs, inputs) and x has shape (batch, inputs): a linear map is x @ w.T.",
            ),
        ),
    ),
    Question(
        id="08-q2",
        signature="stream_mean_square(start, alpha, weight_variance, blocks)",
        returns="the mean square of the stream behind the last block",
        points=3,
        minutes=15,
        core=True,
        oracle=_stream_mean_square,
        cases=_stream_cases,
        mistakes=_STREAM_MISTAKES,
        refused=("gradcourse.theory:residual_variance_map", "gradcourse.theory:residual_gradient_factor"),
    ),
    Question(
        id="08-q3",
        signature="zero_init(branch)",
        returns="the list of the branch's parameters",
        points=4,
        minutes=20,
        core=False,
        oracle=_zero_init,
        cases=_zero_cases,
        mistakes=_ZERO_MISTAKES,
        in_place=True,
    ),
    Question(
        id="08-q4",
        signature="replicate(x, draws)",
        returns="the growth of the mean square in the plain and in the residual network",
        points=3,
        minutes=15,
        core=False,
        oracle=_replicate,
        cases=_replication_cases,
        mistakes=_REPLICATE_MISTAKES,
    ),
)
