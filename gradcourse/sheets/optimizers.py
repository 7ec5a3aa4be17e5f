"""Sheet 09: the steps of optimizers, written out, and how to choose a learning rate."""

import copy
import math
import statistics

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from gradcourse.models import mlp
from gradcourse.optimizers import Lion
from gradcourse.sheets.question import Case, Mistake, Question

_TORCH = ("torch.optim:Optimizer.__init__",)  # every optimizer begins there
_COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of torch.optim.Muon


def _by_torch(make, w, gradients, rates=None):
    """Return the weights after each step of a torch optimizer that is handed these gradients."""
    parameter = torch.tensor(w, dtype=torch.float64)
    optimizer, rows = make([parameter]), []
    for step, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = float(rates[step])
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        rows.append(parameter.numpy().copy())
    return np.array(rows)


def _walk(w, gradients, step):
    """Return the weights after each step, w <- step(t, w, g), counted from 1."""
    rows = []
    for t, gradient in enumerate(gradients, start=1):
        w = step(t, w, gradient)
        rows.append(w)
    return np.array(rows)


def draw(rng, weights=3, steps=6, scale=1.0):
    """Draw the first weights, shape (weights,), and the gradients, shape (steps, weights)."""
    return rng.normal(size=weights), scale * rng.normal(size=(steps, weights))


def _shown(w, gradients, **options):
    told = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"{len(w)} weights, {len(gradients)} gradients of size {np.abs(gradients).mean():.0e}, {told}"


# Question 1: SGD, momentum, Nesterov


def _sgd(w, gradients, rates, momentum, nesterov):
    def make(parameters):
        return torch.optim.SGD(parameters, lr=1.0, momentum=momentum, nesterov=nesterov)

    return _by_torch(make, w, gradients, rates)


def sgd_case(rng, momentum, nesterov, falling, weights=3):
    """Make a case of question 1 with a constant learning rate or one that falls."""
    w, gradients = draw(rng, weights)
    rates = 0.1 * np.array([1.0, 1.0, 0.5, 0.5, 0.1, 0.1]) if falling else np.full(6, 0.1)
    shown = _shown(w, gradients, momentum=momentum, nesterov=nesterov)
    arguments = (w, gradients, rates, momentum, nesterov)
    return Case("09-q1", arguments, f"{shown}, rates that {'fall' if falling else 'stay'}")


def _sgd_cases():
    rng = np.random.default_rng(9)
    settings = ((0.0, False, False), (0.9, False, False), (0.9, False, True), (0.9, True, False), (0.5, True, True))
    return [sgd_case(rng, *setting) for setting in settings]


def _momentum_by(collect, move):
    """Return the answer with v <- collect(v, g, rate, momentum), w <- w - move(v, g, rate, momentum, nesterov)."""

    def answer(w, gradients, rates, momentum, nesterov):
        v = np.zeros_like(w)

        def step(t, w, g):
            nonlocal v
            v = collect(v, g, rates[t - 1], momentum)
            return w - move(v, g, rates[t - 1], momentum, nesterov)

        return _walk(w, gradients, step)

    return answer


def _torch_velocity(v, g, rate, momentum):
    return momentum * v + g


def _torch_move(v, g, rate, momentum, nesterov):
    return rate * (g + momentum * v if nesterov else v)


_SGD_MISTAKES = (
    Mistake(
        "You average: v = momentum * v + (1 - momentum) * g. PyTorch's velocity is a sum, v = momentum * v + g, so "
        "your steps are (1 - momentum) times as long.",
        _momentum_by(lambda v, g, rate, momentum: momentum * v + (1 - momentum) * g, _torch_move),
    ),
    Mistake(
        "Your velocity holds learning rates: v = momentum * v + rate * g. That is the same while the rate stays; when "
        "it falls, PyTorch multiplies the whole velocity by the new rate, w = w - rate * v.",
        _momentum_by(
            lambda v, g, rate, momentum: momentum * v + rate * g,
            lambda v, g, rate, momentum, nesterov: rate * g + momentum * v if nesterov else v,
        ),
    ),
    Mistake(
        "Your steps go uphill: subtract them.",
        _momentum_by(_torch_velocity, lambda *given: -_torch_move(*given)),
    ),
    Mistake(
        "You leave the momentum out: the velocity must be kept from step to step.",
        lambda w, gradients, rates, momentum, nesterov: w - np.cumsum(np.asarray(rates)[:, None] * gradients, axis=0),
    ),
    Mistake(
        "With nesterov=True the step is along g + momentum * v, with the velocity v that already holds g. With the "
        "velocity before it you get plain momentum.",
        _momentum_by(_torch_velocity, lambda v, g, rate, momentum, nesterov: rate * v),
    ),
    Mistake(
        "Your steps look ahead without nesterov=True: then the step is rate * v.",
        _momentum_by(_torch_velocity, lambda v, g, rate, momentum, nesterov: rate * (g + momentum * v)),
    ),
    Mistake(
        "With nesterov=True the step is along g + momentum * v: you leave out g.",
        _momentum_by(_torch_velocity, lambda v, g, rate, momentum, nesterov: rate * (momentum * v if nesterov else v)),
    ),
    Mistake(
        "You use the first learning rate in every step: step t has rates[t].",
        lambda w, gradients, rates, momentum, nesterov: _sgd(w, gradients, [rates[0]] * len(rates), momentum, nesterov),
    ),
)

# Question 2: Adagrad and RMSprop


def _adaptive(w, gradients, lr, alpha, eps):
    def make(parameters):
        if alpha is None:
            return torch.optim.Adagrad(parameters, lr=lr, eps=eps)
        return torch.optim.RMSprop(parameters, lr=lr, alpha=alpha, eps=eps)

    return _by_torch(make, w, gradients)


def adaptive_case(rng, alpha, eps, scale=1.0, weights=3):
    """Make a case of question 2."""
    w, gradients = draw(rng, weights, scale=scale)
    return Case("09-q2", (w, gradients, 0.1, alpha, eps), _shown(w, gradients, lr=0.1, alpha=alpha, eps=eps))


def _adaptive_cases():
    rng = np.random.default_rng(9)
    settings = ((None, 1e-10), (None, 0.1), (0.99, 1e-8), (0.9, 0.01), (0.9, 1e-8, 1e-8))
    return [adaptive_case(rng, *setting) for setting in settings]


def _adaptive_by(remember=None, divisor=None):
    """Return the answer with s <- remember(s, g, alpha, t), w <- w - lr g / divisor(s, eps, alpha, t)."""
    remember = remember or _torch_memory
    divisor = divisor or (lambda s, eps, alpha, t: np.sqrt(s) + eps)

    def answer(w, gradients, lr, alpha, eps):
        s = np.zeros_like(w)

        def step(t, w, g):
            nonlocal s
            s = remember(s, g, alpha, t)
            return w - lr * g / divisor(s, eps, alpha, t)

        return _walk(w, gradients, step)

    return answer


def _torch_memory(s, g, alpha, t):
    return s + g**2 if alpha is None else alpha * s + (1 - alpha) * g**2


def _divides_before(w, gradients, lr, alpha, eps):
    """Divide by the memory of the steps before."""
    s = np.zeros_like(w)

    def step(t, w, g):
        nonlocal s
        w = w - lr * g / (np.sqrt(s) + eps)
        s = _torch_memory(s, g, alpha, t)
        return w

    return _walk(w, gradients, step)


_ADAPTIVE_MISTAKES = (
    Mistake(
        "Your eps is inside the square root. PyTorch adds it outside, sqrt(s) + eps; inside, the floor would be "
        "sqrt(eps).",
        _adaptive_by(divisor=lambda s, eps, alpha, t: np.sqrt(s + eps)),
    ),
    Mistake("Divide by the square root of s, not by s.", _adaptive_by(divisor=lambda s, eps, alpha, t: s + eps)),
    Mistake(
        "You leave eps out, or let it count for nothing: with small gradients it is the larger part of sqrt(s) + eps.",
        _adaptive_by(divisor=lambda s, eps, alpha, t: np.sqrt(s)),
    ),
    Mistake(
        "alpha belongs to the memory: s = alpha * s + (1 - alpha) * g**2. You have them the other way round.",
        _adaptive_by(lambda s, g, alpha, t: _torch_memory(s, g, None if alpha is None else 1 - alpha, t)),
    ),
    Mistake(
        "RMSprop does not make up for the start of s at 0; that correction is Adam's.",
        _adaptive_by(
            divisor=lambda s, eps, alpha, t: np.sqrt(s if alpha is None else s / (1 - alpha**t)) + eps,
        ),
    ),
    Mistake(
        "Without alpha it is Adagrad, which adds up all squares. You take their mean.",
        _adaptive_by(divisor=lambda s, eps, alpha, t: np.sqrt(s / t if alpha is None else s) + eps),
    ),
    Mistake(
        "With alpha it is RMSprop, a moving average of the squares: s = alpha * s + (1 - alpha) * g**2. You add them "
        "up, as Adagrad does.",
        _adaptive_by(lambda s, g, alpha, t: s + g**2),
    ),
    Mistake(
        "With alpha the new square counts (1 - alpha): s = alpha * s + (1 - alpha) * g**2.",
        _adaptive_by(lambda s, g, alpha, t: (1.0 if alpha is None else alpha) * s + g**2),
    ),
    Mistake(
        "You divide by the newest gradient only: s must be kept from step to step.",
        _adaptive_by(lambda s, g, alpha, t: g**2),
    ),
    Mistake(
        "Take the newest gradient into s first, then divide. At the first step you divide by eps alone.",
        _divides_before,
    ),
    Mistake(
        "s collects squares of gradients. You collect the gradients' sizes.",
        _adaptive_by(
            lambda s, g, alpha, t: s + np.abs(g) if alpha is None else alpha * s + (1 - alpha) * np.abs(g),
            lambda s, eps, alpha, t: s + eps,
        ),
    ),
)

# Question 3: Adam and AdamW


def _adam(w, gradients, lr, betas, eps, weight_decay, decoupled):
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam

    def make(parameters):
        return kind(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    return _by_torch(make, w, gradients)


def adam_case(rng, betas, eps, weight_decay, decoupled, scale=1.0, weights=3):
    """Make a case of question 3."""
    w, gradients = draw(rng, weights, scale=scale)
    options = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "decoupled": decoupled}
    return Case("09-q3", (w, gradients, 0.1, *options.values()), _shown(w, gradients, lr=0.1, **options))


def _adam_cases():
    rng = np.random.default_rng(9)
    return [
        adam_case(rng, (0.9, 0.999), 1e-8, 0.0, False),
        adam_case(rng, (0.9, 0.999), 1e-8, 0.0, False, 1e-8),
        adam_case(rng, (0.8, 0.9), 1e-8, 0.3, False),
        adam_case(rng, (0.9, 0.999), 1e-8, 0.3, True),
        adam_case(rng, (0.5, 0.7), 0.1, 0.5, True),
    ]


def _adam_by(
    *,
    mean=lambda m, b1, t: m / (1 - b1**t),
    square=lambda s, b2, t: s / (1 - b2**t),
    divisor=lambda s, eps, b2, t: np.sqrt(s) + eps,
    decay_rate=lambda lr: lr,
    decoupled_as=lambda decoupled: decoupled,
    decay_after=False,
    swap=False,
    keep=False,
):
    """Return an answer that differs from Adam in one of these parts.

    decoupled_as turns the flag into what is done: True outside the gradient, False in it, None no decay.
    """

    def answer(w, gradients, lr, betas, eps, weight_decay, decoupled):
        (b1, b2), done = betas[::-1] if swap else betas, decoupled_as(decoupled)
        m, s = np.zeros_like(w), np.zeros_like(w)
        factor = 1 - decay_rate(lr) * weight_decay if done else 1.0

        def step(t, w, g):
            nonlocal m, s
            g = g + weight_decay * w if done is False else g
            m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
            up, down = mean(m, b1, t), square(s, b2, t)
            if keep:
                m, s = up, down
            move = lr * up / divisor(down, eps, b2, t)
            return factor * (w - move) if decay_after else factor * w - move

        return _walk(w, gradients, step)

    return answer


_ADAM_MISTAKES = (
    Mistake(
        "The bias correction is missing: m and s start at 0 and are too small at first, so divide them by 1 - beta**t.",
        _adam_by(mean=lambda m, b1, t: m, square=lambda s, b2, t: s),
    ),
    Mistake(
        "The bias correction of s is missing: m / (1 - beta1**t) and s / (1 - beta2**t), both.",
        _adam_by(square=lambda s, b2, t: s),
    ),
    Mistake(
        "The bias correction of m is missing: m / (1 - beta1**t) and s / (1 - beta2**t), both.",
        _adam_by(mean=lambda m, b1, t: m),
    ),
    Mistake(
        "You divide by 1 - beta in every step. The correction is 1 - beta**t, with t = 1, 2, ...: it fades out.",
        _adam_by(mean=lambda m, b1, t: m / (1 - b1), square=lambda s, b2, t: s / (1 - b2)),
    ),
    Mistake(
        "You keep the corrected m and s for the next step. The correction is for this step only; m and s go on "
        "uncorrected.",
        _adam_by(keep=True),
    ),
    Mistake(
        "Your eps is inside the square root. PyTorch adds it outside, sqrt(s) + eps; inside, the floor would be "
        "sqrt(eps).",
        _adam_by(divisor=lambda s, eps, b2, t: np.sqrt(s + eps)),
    ),
    Mistake(
        "You add eps before the bias correction of s. PyTorch corrects first: sqrt(s / (1 - beta2**t)) + eps.",
        _adam_by(divisor=lambda s, eps, b2, t: np.sqrt(s) + eps / np.sqrt(1 - b2**t)),
    ),
    Mistake(
        "You leave eps out, or let it count for nothing: with gradients of 1e-8 it is half of sqrt(s) + eps.",
        _adam_by(divisor=lambda s, eps, b2, t: np.sqrt(s)),
    ),
    Mistake(
        "For decoupled=True you add the decay to the gradient, which is Adam with an L2 penalty. In AdamW it does not "
        "pass through the division: w = (1 - lr * weight_decay) * w.",
        _adam_by(decoupled_as=lambda decoupled: False),
    ),
    Mistake(
        "For decoupled=False the decay belongs into the gradient, g + weight_decay * w, before m and s see it.",
        _adam_by(decoupled_as=lambda decoupled: True),
    ),
    Mistake(
        "You have the two decays the other way round: decoupled=True is AdamW.",
        _adam_by(decoupled_as=lambda decoupled: not decoupled),
    ),
    Mistake("The weight decay is missing.", _adam_by(decoupled_as=lambda decoupled: None)),
    Mistake(
        "AdamW's decay is multiplied by the learning rate: w = (1 - lr * weight_decay) * w.",
        _adam_by(decay_rate=lambda lr: 1.0),
    ),
    Mistake(
        "You decay what comes after the step. PyTorch decays the weights first, then steps: "
        "w = (1 - lr * weight_decay) * w - step.",
        _adam_by(decay_after=True),
    ),
    Mistake("You have beta1 and beta2 the other way round: beta1 is for the gradient's mean.", _adam_by(swap=True)),
)

# Question 4: Lion


def _lion(w, gradients, lr, betas, weight_decay):
    return _by_torch(lambda p: Lion(p, lr=lr, betas=betas, weight_decay=weight_decay), w, gradients)


def lion_case(rng, betas, weight_decay, weights=3):
    """Make a case of question 4."""
    w, gradients = draw(rng, weights)
    shown = _shown(w, gradients, lr=0.1, betas=betas, weight_decay=weight_decay)
    return Case("09-q4", (w, gradients, 0.1, betas, weight_decay), shown)


def _lion_cases():
    rng = np.random.default_rng(9)
    settings = (((0.9, 0.99), 0.0), ((0.5, 0.7), 0.0), ((0.2, 0.9), 0.0), ((0.9, 0.5), 0.3))
    return [lion_case(rng, *setting, weights=5) for setting in settings]


def _lion_by(direction=None, decay=None, swap=False, penalty=False):
    """Return the answer with w <- w - lr direction(c, m, g) - decay(lr, weight_decay, w)."""
    direction = direction or (lambda c, m, g: np.sign(c))
    decay = decay or (lambda lr, weight_decay, w: lr * weight_decay * w)

    def answer(w, gradients, lr, betas, weight_decay):
        b1, b2 = betas[::-1] if swap else betas
        m = np.zeros_like(w)

        def step(t, w, g):
            nonlocal m
            g = g + weight_decay * w if penalty else g
            c, m = b1 * m + (1 - b1) * g, b2 * m + (1 - b2) * g
            return w - lr * direction(c, m, g) - (0 if penalty else decay(lr, weight_decay, w))

        return _walk(w, gradients, step)

    return answer


_LION_MISTAKES = (
    Mistake(
        "You step along the sign of the moving average. Lion steps along the sign of a mixture of its own, "
        "beta1 * m + (1 - beta1) * g, with m as it was before this gradient.",
        _lion_by(lambda c, m, g: np.sign(m)),
    ),
    Mistake(
        "You have the betas the other way round: beta1 is for the step, beta2 for the moving average.",
        _lion_by(swap=True),
    ),
    Mistake("Lion takes the sign of its mixture: every weight moves by the rate.", _lion_by(lambda c, m, g: c)),
    Mistake(
        "You take the sign of the newest gradient only: the moving average is part of the step.",
        _lion_by(lambda c, m, g: np.sign(g)),
    ),
    Mistake("The weight decay is missing.", _lion_by(decay=lambda lr, weight_decay, w: 0.0)),
    Mistake(
        "The decay is multiplied by the learning rate: lr * (sign + weight_decay * w).",
        _lion_by(decay=lambda lr, weight_decay, w: weight_decay * w),
    ),
    Mistake(
        "You add the decay to the gradient, where the sign swallows it. Lion's is outside: "
        "lr * (sign + weight_decay * w).",
        _lion_by(penalty=True),
    ),
)

# Question 5: Muon's step


def _orthogonalized(matrix, rounds):
    """Send each singular value through the polynomial as a number; the rounds leave U and V alone."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    a, b, c = _COEFFICIENTS
    s = s / math.sqrt((s**2).sum())
    for _ in range(rounds):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ vt


def muon_case(rng, shape, rounds, flat=0.0):
    """Make a case of question 5; flat: how much of the matrix is a single direction."""
    matrix = rng.uniform(0.5, 5.0) * rng.normal(size=shape)
    matrix += flat * np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1]))
    shown = f"a matrix of shape {shape} and norm {np.linalg.norm(matrix):.3g}, rounds={rounds}"
    return Case("09-q5", (matrix, rounds), shown)


def _muon_cases():
    rng = np.random.default_rng(9)
    settings = (((3, 6), 2), ((4, 4), 1), ((7, 3), 5), ((5, 5), 5, 30.0))
    return [muon_case(rng, *setting) for setting in settings]


def _rounds_by(start=lambda x: x / np.linalg.norm(x), one=None, count=lambda rounds: rounds):
    """Return the answer that begins at start(matrix) and does x <- one(x, gram of x) so many times."""
    one = one or _newton_schulz

    def answer(matrix, rounds):
        x = start(matrix)
        for _ in range(count(rounds)):
            x = one(x)
        return x

    return answer


def _newton_schulz(x):
    a, b, c = _COEFFICIENTS
    gram = x @ x.T
    return a * x + (b * gram + c * gram @ gram) @ x


def _entrywise(x):
    a, b, c = _COEFFICIENTS
    return a * x + b * x**3 + c * x**5


def _gram_once(matrix, rounds):
    a, b, c = _COEFFICIENTS
    x = matrix / np.linalg.norm(matrix)
    gram = x @ x.T
    for _ in range(rounds):
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def _exact(matrix, rounds):
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ vt


_MUON_MISTAKES = (
    Mistake(
        "Divide the matrix by its Frobenius norm first, the root of the sum of all squares: the polynomial is made for "
        "singular values up to 1.",
        _rounds_by(start=lambda x: x),
    ),
    Mistake(
        "You divide by the largest singular value. The question, like PyTorch, divides by the Frobenius norm.",
        _rounds_by(start=lambda x: x / np.linalg.norm(x, 2)),
    ),
    Mistake(
        "You divide by the largest entry. The question, like PyTorch, divides by the Frobenius norm.",
        _rounds_by(start=lambda x: x / np.abs(x).max()),
    ),
    Mistake(
        "You raise the entries to powers, which treats each entry by itself. The products are of matrices: "
        "(x @ x.T) @ x.",
        _rounds_by(one=_entrywise),
    ),
    Mistake(
        "This is the exact U V^T. Muon's rounds come near it only; return what the rounds give.",
        _exact,
    ),
    Mistake("Each round begins with the x of the round before: compute x @ x.T anew.", _gram_once),
    Mistake("You do one round whatever `rounds` says.", _rounds_by(count=lambda rounds: 1)),
    Mistake(
        "The norm is taken out once, before the first round, not in each of them.",
        _rounds_by(start=lambda x: x, one=lambda x: _newton_schulz(x / np.linalg.norm(x))),
    ),
    Mistake(
        "The third term is c * (x @ x.T) @ (x @ x.T) @ x: the product twice.",
        _rounds_by(one=lambda x: _COEFFICIENTS[0] * x + (_COEFFICIENTS[1] + _COEFFICIENTS[2]) * x @ x.T @ x),
    ),
    Mistake(
        "The step is turned on its side: it must have the shape of the matrix.", lambda m, r: _orthogonalized(m, r).T
    ),
)

# Question 6: the learning-rate range test


def _range_test(model, batches, lowest, highest):
    """Train a copy with torch.optim.SGD, the rates spaced by torch."""
    model = copy.deepcopy(model)
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=1.0), []
    rates = torch.logspace(math.log10(lowest), math.log10(highest), len(batches), dtype=torch.float64)
    for rate, (x, y) in zip(rates, batches, strict=True):
        optimizer.param_groups[0]["lr"] = rate.item()
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def range_case(seed, steps, lowest, highest):
    """Make a case of question 6: a small ReLU network in float64, and batches of random points of 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    model = mlp(2, 8, "relu", generator=generator, init="he", inputs=4, outputs=3, dtype=torch.float64)
    batches = []
    for _ in range(steps):
        x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
        batches.append((x, x[:, :3].argmax(dim=1)))
    shown = f"2 ReLU layers, {steps} batches of 6, lowest={lowest:g}, highest={highest:g}"
    return Case("09-q6", (model, batches, lowest, highest), shown)


def _range_cases():
    return [range_case(1, 4, 0.01, 0.1), range_case(2, 6, 1e-3, 1.0), range_case(3, 9, 1e-3, 10.0)]


def _range_by(rates=None, *, after=False, carry=True, zero=True, uphill=False):
    """Return an answer that differs from the range test in one of these parts."""
    rates = rates or (lambda lowest, highest, n: np.geomspace(lowest, highest, n))

    def answer(model, batches, lowest, highest):
        first, losses = copy.deepcopy(model), []
        for rate, (x, y) in zip(rates(lowest, highest, len(batches)), batches, strict=True):
            model = model if carry else copy.deepcopy(first)
            losses.append(_range_step(model, x, y, -rate if uphill else rate, after=after, zero=zero))
        return np.array(losses)

    return answer


def _range_step(model, x, y, rate, *, after, zero):
    if zero:
        model.zero_grad()
    loss = cross_entropy(model(x), y)
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= rate * parameter.grad
    return (cross_entropy(model(x), y) if after else loss).item()


def _first_batch_only(model, batches, lowest, highest):
    return _range_test(model, [batches[0]] * len(batches), lowest, highest)


_RANGE_MISTAKES = (
    Mistake(
        "Your rates are evenly spaced, so that nearly all of them are large. Multiply by the same factor each time: "
        "np.geomspace.",
        _range_by(np.linspace),
    ),
    Mistake(
        "Your last rate is not `highest`: n rates have n - 1 factors between them.",
        _range_by(lambda lowest, highest, n: lowest * (highest / lowest) ** (np.arange(n) / n)),
    ),
    Mistake("The rates begin at `lowest` and rise.", _range_by(lambda low, high, n: np.geomspace(high, low, n))),
    Mistake(
        "You measure the loss after the step, on the batch that was just fitted. Measure it before: it judges the "
        "steps before it.",
        _range_by(after=True),
    ),
    Mistake(
        "You begin with the first weights for each rate. The test is one run: each step starts where the last "
        "one ended.",
        _range_by(carry=False),
    ),
    Mistake(
        "Gradients of earlier batches are still there: zero them before each backward pass.", _range_by(zero=False)
    ),
    Mistake("Your steps go uphill: subtract rate times gradient.", _range_by(uphill=True)),
    Mistake("Batch number k is for step k: you use the first batch in every step.", _first_batch_only),
    Mistake(
        "You use the lowest rate in every step.",
        _range_by(lambda lowest, highest, n: np.full(n, lowest)),
    ),
)

# Question 7: choosing


def _choose(rates, validation, test):
    """Choose with the standard library."""
    means = [statistics.fmean(row) for row in validation.tolist()]
    usable = [number for number, mean in enumerate(means) if not math.isnan(mean)]
    best = max(usable, key=lambda number: means[number])
    scores = test[best].tolist()
    return float(rates[best]), statistics.fmean(scores), statistics.stdev(scores)


def choice_case(rng, seeds=3, lost=True, count=5):
    """Make a case of question 7 in which the tempting choices are not the right one."""
    rates = 10.0 ** np.sort(rng.uniform(-4, 0, size=count))
    good, lucky, tempting, half = rng.permutation(count)[:4]
    validation, test = (rng.uniform(0.6, 0.7, size=(count, seeds)) for _ in range(2))
    validation[good] += 0.2  # the best mean
    validation[lucky, 0] = 0.99  # the best single run
    test[tempting] += 0.3  # the best on the test images
    if lost:  # one run diverged, the others are very good
        validation[half], test[half] = 0.97, 0.9
        validation[half, -1] = test[half, -1] = np.nan
    shown = f"{count} rates, {seeds} seeds{', one run diverged' if lost else ''}"
    return Case("09-q7", (rates, validation, test), shown)


def _choose_cases():
    rng = np.random.default_rng(9)
    return [choice_case(rng, lost=False), choice_case(rng, 4), choice_case(rng, 5, count=6)]


def _choose_by(score, report=lambda validation, test: test, spread=lambda scores: np.std(scores, ddof=1)):
    """Return the answer that takes the rate with the highest score(validation, test)."""

    def answer(rates, validation, test):
        best = int(np.argmax(score(validation, test)))
        scores = report(validation, test)[best]
        return float(rates[best]), float(np.mean(scores)), float(spread(scores))

    return answer


def _mean(table):
    """Mean over seeds; a rate with a lost run comes last."""
    return np.nan_to_num(table.mean(axis=1), nan=-1.0)


_CHOOSE_MISTAKES = (
    Mistake(
        "You choose the rate on the test images, and report on the same ones: that is the luckiest of all tries. "
        "Choose by `validation`.",
        _choose_by(lambda validation, test: _mean(test)),
    ),
    Mistake(
        "You choose the rate on the test images, and report on the same ones: that is the luckiest of all tries. "
        "Choose by `validation`.",
        _choose_by(lambda validation, test: np.nanmean(test, axis=1)),
    ),
    Mistake(
        "You choose by the best single run. One lucky seed decides then: take the mean over seeds.",
        _choose_by(lambda validation, test: np.nan_to_num(validation, nan=-1.0).max(axis=1)),
    ),
    Mistake(
        "NaN is a run that diverged, and a rate with such a run is out. np.nanmean leaves the lost run out and makes "
        "the rate look good; np.argmax takes NaN for the largest number.",
        _choose_by(lambda validation, test: validation.mean(axis=1)),
    ),
    Mistake(
        "NaN is a run that diverged, and a rate with such a run is out. You leave the lost run out and report "
        "the others.",
        _choose_by(
            lambda validation, test: np.nanmean(validation, axis=1),
            lambda validation, test: [row[~np.isnan(row)] for row in test],
        ),
    ),
    Mistake(
        "You report the validation accuracy of the rate, which was chosen because it is high. Report on `test`.",
        _choose_by(lambda validation, test: _mean(validation), lambda validation, test: validation),
    ),
    Mistake(
        "The seeds are a sample: divide by their number minus 1 (ddof=1).",
        _choose_by(lambda validation, test: _mean(validation), spread=np.std),
    ),
    Mistake(
        "The spread is the standard deviation over seeds, not the variance.",
        _choose_by(lambda validation, test: _mean(validation), spread=lambda scores: np.var(scores, ddof=1)),
    ),
    Mistake(
        "The spread is that of the runs, the standard deviation over seeds. You divide by the root of their number, "
        "which is the error of the mean.",
        _choose_by(
            lambda validation, test: _mean(validation),
            spread=lambda scores: np.std(scores, ddof=1) / math.sqrt(len(scores)),
        ),
    ),
)


QUESTIONS = (
    Question(
        id="09-q1",
        signature="sgd(w, gradients, rates, momentum, nesterov)",
        returns="the weights after each step, shape (steps, n)",
        points=3.0,
        minutes=12,
        core=True,
        oracle=_sgd,
        cases=_sgd_cases,
        mistakes=_SGD_MISTAKES,
        refused=_TORCH,
    ),
    Question(
        id="09-q2",
        signature="adaptive(w, gradients, lr, alpha, eps)",
        returns="the weights after each step, shape (steps, n)",
        points=3.0,
        minutes=12,
        core=False,
        oracle=_adaptive,
        cases=_adaptive_cases,
        mistakes=_ADAPTIVE_MISTAKES,
        refused=_TORCH,
    ),
    Question(
        id="09-q3",
        signature="adam(w, gradients, lr, betas, eps, weight_decay, decoupled)",
        returns="the weights after each step, shape (steps, n)",
        points=4.0,
        minutes=18,
        core=True,
        oracle=_adam,
        cases=_adam_cases,
        mistakes=_ADAM_MISTAKES,
        problems=(("ZeroDivisionError", "Steps are counted from 1: with t = 0 the bias correction 1 - beta**t is 0."),),
        refused=_TORCH,
    ),
    Question(
        id="09-q4",
        signature="lion(w, gradients, lr, betas, weight_decay)",
        returns="the weights after each step, shape (steps, n)",
        points=2.0,
        minutes=8,
        core=False,
        oracle=_lion,
        cases=_lion_cases,
        mistakes=_LION_MISTAKES,
        refused=_TORCH,
    ),
    Question(
        id="09-q5",
        signature="orthogonalize(matrix, rounds)",
        returns="a matrix of the same shape",
        points=3.0,
        minutes=14,
        core=False,
        oracle=_orthogonalized,
        cases=_muon_cases,
        mistakes=_MUON_MISTAKES,
        problems=(
            ("mismatch", "The shapes do not fit: x @ x.T has as many rows as x and stands on the left of x."),
            ("cannot be multiplied", "The shapes do not fit: x @ x.T has as many rows as x and stands left of x."),
        ),
        refused=("torch.optim._muon:_zeropower_via_newtonschulz", "torch.optim:Optimizer.__init__"),
    ),
    Question(
        id="09-q6",
        signature="range_test(model, batches, lowest, highest)",
        returns="the loss of each batch before its step",
        points=3.0,
        minutes=14,
        core=False,
        oracle=_range_test,
        cases=_range_cases,
        mistakes=_RANGE_MISTAKES,
        problems=(
            ("in-place operation", "Change parameters under `with torch.no_grad():`."),
            ("requires grad", "Change parameters under `with torch.no_grad():`, and return numbers: loss.item()."),
        ),
        in_place=True,
    ),
    Question(
        id="09-q7",
        signature="choose(rates, validation, test)",
        returns="the rate, its mean test accuracy, the spread over seeds",
        points=3.0,
        minutes=10,
        core=False,
        oracle=_choose,
        cases=_choose_cases,
        mistakes=_CHOOSE_MISTAKES,
    ),
)
