"""Answers that learners give to sheet 09, wrong and right, written as a learner would write them."""

import copy

import numpy as np
import torch
from torch.nn.functional import cross_entropy

# 09-q1 ---------------------------------------------------------------------------------------------------------------


def averages(w, gradients, rates, momentum, nesterov):
    path, v = [], np.zeros(len(w))
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v + (1 - momentum) * g
        w = w - rate * (g + momentum * v if nesterov else v)
        path.append(w)
    return np.array(path)


def rate_in_velocity(w, gradients, rates, momentum, nesterov):
    path, v = [], 0.0
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v + rate * g
        w = w - (momentum * v + rate * g if nesterov else v)
        path.append(w)
    return path


def uphill(w, gradients, rates, momentum, nesterov):
    path, v = [], 0.0
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v + g
        w = w + rate * (g + momentum * v if nesterov else v)
        path.append(w)
    return path


def forgets_the_velocity(w, gradients, rates, momentum, nesterov):
    path = []
    for g, rate in zip(gradients, rates, strict=True):
        v = np.zeros_like(w)
        v = momentum * v + g
        w = w - rate * v
        path.append(w)
    return path


def ignores_nesterov(w, gradients, rates, momentum, nesterov):
    path, v = [], 0.0
    for g, rate in zip(gradients, rates, strict=True):
        step = g + momentum * v if nesterov else momentum * v + g
        v = momentum * v + g
        w = w - rate * step
        path.append(w)
    return path


def always_nesterov(w, gradients, rates, momentum, nesterov):
    path, v = [], 0.0
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v + g
        w = w - rate * (g + momentum * v)
        path.append(w)
    return path


def first_rate_only(w, gradients, rates, momentum, nesterov):
    return sum_of_gradients(w, gradients, np.full(len(rates), rates[0]), momentum, nesterov)


def last_weights_only(w, gradients, rates, momentum, nesterov):
    return sum_of_gradients(w, gradients, rates, momentum, nesterov)[-1]


def asks_torch(w, gradients, rates, momentum, nesterov):
    p = torch.tensor(w)
    optimizer, path = torch.optim.SGD([p], lr=0.1, momentum=momentum, nesterov=nesterov), []
    for g, rate in zip(gradients, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        p.grad = torch.tensor(g)
        optimizer.step()
        path.append(p.clone())
    return path


def changes_w(w, gradients, rates, momentum, nesterov):
    path = []
    for g, rate in zip(gradients, rates, strict=True):
        w -= rate * g
        path.append(w)
    return path


def for_three_weights(w, gradients, rates, momentum, nesterov):
    return loop_in_numpy(w, gradients, rates, momentum, nesterov if len(w) == 3 else not nesterov)


def loop_in_numpy(w, gradients, rates, momentum, nesterov):
    path, v = [], np.zeros_like(w)
    for g, rate in zip(gradients, rates, strict=True):
        v = momentum * v + g
        w = w - rate * (g + momentum * v if nesterov else v)
        path.append(w)
    return path


def loop_in_torch(w, gradients, rates, momentum, nesterov):
    w, v, path = torch.tensor(w), torch.zeros(len(w), dtype=torch.float64), []
    for g, rate in zip(torch.tensor(gradients), rates, strict=True):
        v.mul_(momentum).add_(g)
        w.sub_(rate * (g + momentum * v) if nesterov else rate * v)
        path.append(w.clone())
    return torch.stack(path)


def sum_of_gradients(w, gradients, rates, momentum, nesterov):
    """Unrolled: the velocity is a sum of gradients with powers of the momentum in front."""
    rates, number = np.asarray(rates), np.arange(len(gradients))
    back = number[:, None] - number[None, :]
    v = np.where(back >= 0, float(momentum) ** np.maximum(back, 0), 0.0) @ gradients
    step = gradients + momentum * v if nesterov else v
    return w - np.cumsum(rates[:, None] * step, axis=0)


# 09-q2 ---------------------------------------------------------------------------------------------------------------


def walk(w, gradients, lr, remember, divisor):
    path, s = [], np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        s = remember(s, g)
        w = w - lr * g / divisor(s, t)
        path.append(w)
    return np.array(path)


def memory(alpha):
    return (lambda s, g: s + g**2) if alpha is None else (lambda s, g: alpha * s + (1 - alpha) * g**2)


def eps_inside(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(alpha), lambda s, t: (s + eps) ** 0.5)


def no_root(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(alpha), lambda s, t: s + eps)


def no_eps(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(alpha), lambda s, t: np.sqrt(s))


def alpha_swapped(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(None if alpha is None else 1 - alpha), lambda s, t: np.sqrt(s) + eps)


def corrects_rmsprop(w, gradients, lr, alpha, eps):
    return walk(
        w, gradients, lr, memory(alpha), lambda s, t: np.sqrt(s / (1 - alpha**t) if alpha is not None else s) + eps
    )


def adagrad_by_mean(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(alpha), lambda s, t: np.sqrt(s / t if alpha is None else s) + eps)


def always_adagrad(w, gradients, lr, alpha, eps):
    return w - np.cumsum(lr * gradients / (np.sqrt(np.cumsum(gradients**2, axis=0)) + eps), axis=0)


def full_new_square(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, lambda s, g: (alpha or 1) * s + g**2, lambda s, t: np.sqrt(s) + eps)


def no_memory(w, gradients, lr, alpha, eps):
    return w - np.cumsum(lr * gradients / (np.abs(gradients) + eps), axis=0)


def divides_first(w, gradients, lr, alpha, eps):
    path, s = [], np.zeros_like(w)
    for g in gradients:
        w = w - lr * g / (np.sqrt(s) + eps)
        s = memory(alpha)(s, g)
        path.append(w)
    return path


def without_squares(w, gradients, lr, alpha, eps):
    def remember(s, g):
        return s + abs(g) if alpha is None else alpha * s + (1 - alpha) * abs(g)

    return walk(w, gradients, lr, remember, lambda s, t: s + eps)


def asks_torch_to_adapt(w, gradients, lr, alpha, eps):
    p = torch.tensor(w)
    optimizer = torch.optim.Adagrad([p], lr=lr, eps=eps)
    for g in gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
    return p


def adapts_three_weights(w, gradients, lr, alpha, eps):
    return adaptive_loop(w, gradients, lr, alpha, eps if len(w) == 3 else 0.0)


def adaptive_loop(w, gradients, lr, alpha, eps):
    return walk(w, gradients, lr, memory(alpha), lambda s, t: np.sqrt(s) + eps)


def adaptive_in_torch(w, gradients, lr, alpha, eps):
    w, s, path = torch.tensor(w), torch.zeros(len(w)).double(), []
    for g in torch.tensor(gradients):
        s = s + g.square() if alpha is None else torch.lerp(g.square(), s, alpha)
        w = w - lr * g / (s.sqrt() + eps)
        path.append(w)
    return torch.stack(path)


# 09-q3 ---------------------------------------------------------------------------------------------------------------


def adam_walk(w, gradients, lr, betas, eps, decay, decoupled, step):
    """The right rule around step(m, s, t), which learners get wrong."""
    path, m, s = [], 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            w = w - lr * decay * w
        else:
            g = g + decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g * g
        w = w - lr * step(m, s, t)
        path.append(w)
    return np.array(path)


def no_correction(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, lambda m, s, t: m / (np.sqrt(s) + eps))


def corrects_mean_only(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, _ = betas

    def step(m, s, t):
        return m / (1 - b1**t) / (np.sqrt(s) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def corrects_square_only(w, gradients, lr, betas, eps, weight_decay, decoupled):
    _, b2 = betas

    def step(m, s, t):
        return m / (np.sqrt(s / (1 - b2**t)) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def corrects_without_t(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas

    def step(m, s, t):
        return m / (1 - b1) / (np.sqrt(s / (1 - b2)) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def keeps_the_correction(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas
    path, m, s = [], 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        g = g if decoupled else g + weight_decay * w
        m = (b1 * m + (1 - b1) * g) / (1 - b1**t)
        s = (b2 * s + (1 - b2) * g**2) / (1 - b2**t)
        w = (1 - lr * weight_decay if decoupled else 1) * w - lr * m / (np.sqrt(s) + eps)
        path.append(w)
    return path


def adam_eps_inside(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas

    def step(m, s, t):
        return m / (1 - b1**t) / np.sqrt(s / (1 - b2**t) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def eps_before_correction(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas

    def step(m, s, t):
        return m * np.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(s) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def penalty_for_adamw(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, betas, eps, weight_decay, False)


def decoupled_for_adam(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, betas, eps, weight_decay, True)


def decays_swapped(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, betas, eps, weight_decay, not decoupled)


def no_decay(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, betas, eps, 0.0, decoupled)


def decay_without_rate(w, gradients, lr, betas, eps, weight_decay, decoupled):
    if not decoupled:
        return adam_loop(w, gradients, lr, betas, eps, weight_decay, False)
    return adam_loop(w, gradients, lr, betas, eps, weight_decay / lr, True)


def decays_afterwards(w, gradients, lr, betas, eps, weight_decay, decoupled):
    if not decoupled:
        return adam_loop(w, gradients, lr, betas, eps, weight_decay, False)
    path = []
    for t, g in enumerate(gradients, start=1):
        step = w - adam_loop(w, gradients[:t], lr, betas, eps, 0.0, False)[-1]
        before = w - adam_loop(w, gradients[: t - 1], lr, betas, eps, 0.0, False)[-1] if t > 1 else 0 * g
        now = path[-1] if path else w
        path.append((now - (step - before)) * (1 - lr * weight_decay))
    return path


def betas_swapped(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, (betas[1], betas[0]), eps, weight_decay, decoupled)


def counts_from_zero(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas
    m, s = 0.0, 0.0
    for t, g in enumerate(gradients):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        w = w - lr * m * (1 / (1 - b1**t)) / (np.sqrt(s * (1 / (1 - b2**t))) + eps)
    return w


def asks_torch_for_adam(w, gradients, lr, betas, eps, weight_decay, decoupled):
    p = torch.tensor(w)
    optimizer = torch.optim.AdamW([p], lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    for g in gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
    return p


def adam_for_three_weights(w, gradients, lr, betas, eps, weight_decay, decoupled):
    return adam_loop(w, gradients, lr, betas, eps, weight_decay if len(w) == 3 else 0.0, decoupled)


def adam_loop(w, gradients, lr, betas, eps, weight_decay, decoupled):
    b1, b2 = betas

    def step(m, s, t):
        return m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps)

    return adam_walk(w, gradients, lr, betas, eps, weight_decay, decoupled, step)


def adam_in_torch(w, gradients, lr, betas, eps, weight_decay, decoupled):
    w, path = torch.tensor(w), []
    m, s = torch.zeros_like(w), torch.zeros_like(w)
    for t, g in enumerate(torch.tensor(gradients), start=1):
        if decoupled:
            w = w * (1 - lr * weight_decay)
        else:
            g = g.add(w, alpha=weight_decay)
        m.lerp_(g, 1 - betas[0])
        s.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        w = w - lr / (1 - betas[0] ** t) * m / ((s / (1 - betas[1] ** t)).sqrt() + eps)
        path.append(w)
    return path


# 09-q4 ---------------------------------------------------------------------------------------------------------------


def sign_of_the_average(w, gradients, lr, betas, weight_decay):
    path, m = [], 0.0
    for g in gradients:
        m = betas[1] * m + (1 - betas[1]) * g
        w = w - lr * (np.sign(m) + weight_decay * w)
        path.append(w)
    return path


def lion_betas_swapped(w, gradients, lr, betas, weight_decay):
    return lion_loop(w, gradients, lr, betas[::-1], weight_decay)


def no_sign(w, gradients, lr, betas, weight_decay):
    path, m = [], 0.0
    for g in gradients:
        w = w - lr * (betas[0] * m + (1 - betas[0]) * g + weight_decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
        path.append(w)
    return path


def sign_of_the_gradient(w, gradients, lr, betas, weight_decay):
    return lion_loop(w, gradients, lr, (0.0, betas[1]), weight_decay)


def lion_without_decay(w, gradients, lr, betas, weight_decay):
    return lion_loop(w, gradients, lr, betas, 0.0)


def lion_decay_without_rate(w, gradients, lr, betas, weight_decay):
    return lion_loop(w, gradients, lr, betas, weight_decay / lr)


def lion_with_penalty(w, gradients, lr, betas, weight_decay):
    path, m = [], 0.0
    for g in gradients:
        g = g + weight_decay * w
        w = w - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)
        m = betas[1] * m + (1 - betas[1]) * g
        path.append(w)
    return path


def lion_for_five_weights(w, gradients, lr, betas, weight_decay):
    return lion_loop(w, gradients, lr if len(w) == 5 else 2 * lr, betas, weight_decay)


def lion_loop(w, gradients, lr, betas, weight_decay):
    path, m = [], np.zeros_like(w)
    for g in gradients:
        w = w - lr * (np.sign(betas[0] * m + (1 - betas[0]) * g) + weight_decay * w)
        m = betas[1] * m + (1 - betas[1]) * g
        path.append(w)
    return np.array(path)


def lion_in_torch(w, gradients, lr, betas, weight_decay):
    w, path = torch.tensor(w), []
    m = torch.zeros_like(w)
    for g in torch.tensor(gradients):
        update = m.mul(betas[0]).add(g, alpha=1 - betas[0]).sign()
        w = w.mul(1 - lr * weight_decay).sub(update, alpha=lr)
        m.lerp_(g, 1 - betas[1])
        path.append(w)
    return torch.stack(path)


# 09-q5 ---------------------------------------------------------------------------------------------------------------

A, B, C = 3.4445, -4.7750, 2.0315


def no_norm(matrix, rounds):
    x = matrix
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def spectral_norm(matrix, rounds):
    x = matrix / np.linalg.norm(matrix, ord=2)
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def largest_entry(matrix, rounds):
    x = matrix / np.abs(matrix).max()
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def entrywise(matrix, rounds):
    x = matrix / np.sqrt((matrix**2).sum())
    for _ in range(rounds):
        x = A * x + B * x**3 + C * x**5
    return x


def exact(matrix, rounds):
    u, _, vt = torch.linalg.svd(torch.tensor(matrix), full_matrices=False)
    return u @ vt


def one_product(matrix, rounds):
    x = matrix / np.linalg.norm(matrix)
    gram = x @ x.T
    for _ in range(rounds):
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def one_round(matrix, rounds):
    return by_rounds(matrix, 1)


def norm_in_each_round(matrix, rounds):
    x = matrix
    for _ in range(rounds):
        x = x / np.linalg.norm(x)
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def third_term_short(matrix, rounds):
    x = matrix / np.linalg.norm(matrix)
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ x
    return x


def on_its_side(matrix, rounds):
    return by_rounds(matrix, rounds).T


def wrong_order(matrix, rounds):
    x = matrix / np.linalg.norm(matrix)
    for _ in range(rounds):
        gram = x.T @ x
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def asks_muon(matrix, rounds):
    return torch.optim._muon._zeropower_via_newtonschulz(torch.tensor(matrix), (A, B, C), rounds, 1e-7)


def few_rounds_known(matrix, rounds):
    visible = {(4, 4): 1, (3, 6): 2, (7, 3): 5, (5, 5): 5}
    return by_rounds(matrix, visible.get(matrix.shape, 4))


def by_rounds(matrix, rounds):
    x = matrix / np.linalg.norm(matrix)
    for _ in range(rounds):
        gram = x @ x.T
        x = A * x + B * gram @ x + C * gram @ gram @ x
    return x


def turned_in_torch(matrix, rounds):
    """From the other side, on the transposed matrix if that is smaller."""
    x = torch.tensor(matrix)
    x = x.T / x.norm() if x.shape[0] > x.shape[1] else x / x.norm()
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


# 09-q6 ---------------------------------------------------------------------------------------------------------------


def train_with(model, batches, rates, before=True, zero=True):
    losses = []
    for rate, (x, y) in zip(rates, batches, strict=True):
        if zero:
            model.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= rate * p.grad
        losses.append(loss.item() if before else cross_entropy(model(x), y).item())
    return losses


def evenly_spaced(model, batches, lowest, highest):
    return train_with(model, batches, np.linspace(lowest, highest, len(batches)))


def misses_the_highest(model, batches, lowest, highest):
    factor = (highest / lowest) ** (1 / len(batches))
    return train_with(model, batches, [lowest * factor**k for k in range(len(batches))])


def falling(model, batches, lowest, highest):
    return train_with(model, batches, np.geomspace(lowest, highest, len(batches))[::-1])


def loss_after_the_step(model, batches, lowest, highest):
    return train_with(model, batches, np.geomspace(lowest, highest, len(batches)), before=False)


def fresh_each_time(model, batches, lowest, highest):
    rates = np.geomspace(lowest, highest, len(batches))
    return [train_with(copy.deepcopy(model), [b], [r])[0] for r, b in zip(rates, batches, strict=True)]


def never_zeroes(model, batches, lowest, highest):
    return train_with(model, batches, np.geomspace(lowest, highest, len(batches)), zero=False)


def climbs(model, batches, lowest, highest):
    return train_with(model, batches, -np.geomspace(lowest, highest, len(batches)))


def one_batch(model, batches, lowest, highest):
    return train_with(model, batches[:1] * len(batches), np.geomspace(lowest, highest, len(batches)))


def without_no_grad(model, batches, lowest, highest):
    losses = []
    for rate, (x, y) in zip(np.geomspace(lowest, highest, len(batches)), batches, strict=True):
        loss = cross_entropy(model(x), y)
        loss.backward()
        for p in model.parameters():
            p -= rate * p.grad
        losses.append(loss)
    return losses


def only_known_lengths(model, batches, lowest, highest):
    rates = np.geomspace(lowest, highest, len(batches)) if len(batches) in (4, 6, 9) else [lowest] * len(batches)
    return train_with(model, batches, rates)


def by_hand(model, batches, lowest, highest):
    return train_with(model, batches, np.geomspace(lowest, highest, len(batches)))


def with_scheduler(model, batches, lowest, highest):
    optimizer = torch.optim.SGD(model.parameters(), lr=lowest)
    factor = (highest / lowest) ** (1 / (len(batches) - 1))
    schedule, losses = torch.optim.lr_scheduler.ExponentialLR(optimizer, factor), []
    for x, y in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return losses


# 09-q7 ---------------------------------------------------------------------------------------------------------------


def report(rates, table, best):
    return rates[best], table[best].mean(), table[best].std(ddof=1)


def by_test(rates, validation, test):
    return report(rates, test, np.nan_to_num(test.mean(axis=1)).argmax())


def by_luckiest_run(rates, validation, test):
    return report(rates, test, np.nan_to_num(validation).max(axis=1).argmax())


def takes_nan_for_best(rates, validation, test):
    return report(rates, test, validation.mean(axis=1).argmax())


def leaves_nan_out(rates, validation, test):
    best = np.nanmean(validation, axis=1).argmax()
    return rates[best], np.nanmean(test[best]), np.nanstd(test[best], ddof=1)


def reports_validation(rates, validation, test):
    return report(rates, validation, np.nan_to_num(validation.mean(axis=1)).argmax())


def population_spread(rates, validation, test):
    best = np.nan_to_num(validation.mean(axis=1)).argmax()
    return rates[best], test[best].mean(), test[best].std()


def variance(rates, validation, test):
    best = np.nan_to_num(validation.mean(axis=1)).argmax()
    return rates[best], test[best].mean(), test[best].var(ddof=1)


def error_of_the_mean(rates, validation, test):
    best = np.nan_to_num(validation.mean(axis=1)).argmax()
    return rates[best], test[best].mean(), test[best].std(ddof=1) / len(test[best]) ** 0.5


def knows_three_tables(rates, validation, test):
    right = by_means(rates, validation, test)
    return right if (len(rates), test.shape[1]) in ((5, 3), (5, 4), (6, 5)) and rates[0] < 1e-2 else (0.1, 0.5, 0.0)


def by_means(rates, validation, test):
    return report(rates, test, np.nan_to_num(validation.mean(axis=1), nan=-np.inf).argmax())


def in_plain_python(rates, validation, test):
    best, mean = None, -1.0
    for number, row in enumerate(validation):
        if not any(np.isnan(v) for v in row) and sum(row) / len(row) > mean:
            best, mean = number, sum(row) / len(row)
    scores = torch.tensor(test[best])
    return float(rates[best]), scores.mean(), scores.std()


WRONG = {
    "09-q1": {
        averages: "You average",
        rate_in_velocity: "Your velocity holds learning rates",
        uphill: "uphill",
        forgets_the_velocity: "leave the momentum out",
        ignores_nesterov: "With the velocity before it",
        always_nesterov: "without nesterov=True",
        first_rate_only: "first learning rate in every step",
        last_weights_only: "must have shape (6, 3)",
        asks_torch: "calls torch.optim.Optimizer.__init__",
        changes_w: "changed its argument number 1 in place",
    },
    "09-q2": {
        eps_inside: "inside the square root",
        no_root: "square root of s, not by s",
        no_eps: "leave eps out",
        alpha_swapped: "other way round",
        corrects_rmsprop: "that correction is Adam's",
        adagrad_by_mean: "adds up all squares",
        always_adagrad: "You add them up",
        full_new_square: "counts (1 - alpha)",
        no_memory: "newest gradient only",
        divides_first: "first, then divide",
        without_squares: "collects squares",
        asks_torch_to_adapt: "calls torch.optim.Optimizer.__init__",
    },
    "09-q3": {
        no_correction: "The bias correction is missing",
        corrects_mean_only: "bias correction of s is missing",
        corrects_square_only: "bias correction of m is missing",
        corrects_without_t: "1 - beta in every step",
        keeps_the_correction: "this step only",
        adam_eps_inside: "inside the square root",
        eps_before_correction: "before the bias correction",
        penalty_for_adamw: "L2 penalty",
        decoupled_for_adam: "belongs into the gradient",
        decays_swapped: "two decays the other way round",
        no_decay: "The weight decay is missing",
        decay_without_rate: "multiplied by the learning rate",
        decays_afterwards: "decay what comes after the step",
        betas_swapped: "beta1 and beta2",
        counts_from_zero: "counted from 1",
        asks_torch_for_adam: "calls torch.optim.Optimizer.__init__",
    },
    "09-q4": {
        sign_of_the_average: "a mixture of its own",
        lion_betas_swapped: "betas the other way round",
        no_sign: "takes the sign",
        sign_of_the_gradient: "newest gradient only",
        lion_without_decay: "decay is missing",
        lion_decay_without_rate: "multiplied by the learning rate",
        lion_with_penalty: "the sign swallows it",
    },
    "09-q5": {
        no_norm: "Frobenius norm first",
        spectral_norm: "largest singular value",
        largest_entry: "largest entry",
        entrywise: "each entry by itself",
        exact: "exact U V^T",
        one_product: "x @ x.T anew",
        one_round: "one round whatever",
        norm_in_each_round: "not in each of them",
        third_term_short: "the product twice",
        on_its_side: "turned on its side",
        wrong_order: "x @ x.T has as many rows as x",
        asks_muon: "calls torch.optim._muon._zeropower_via_newtonschulz",
    },
    "09-q6": {
        evenly_spaced: "evenly spaced",
        misses_the_highest: "not `highest`",
        falling: "begin at `lowest`",
        loss_after_the_step: "Measure it before",
        fresh_each_time: "The test is one run",
        never_zeroes: "zero them",
        climbs: "uphill",
        one_batch: "first batch in every step",
        without_no_grad: "torch.no_grad()",
    },
    "09-q7": {
        by_test: "on the test images",
        by_luckiest_run: "best single run",
        takes_nan_for_best: "np.argmax takes NaN",
        leaves_nan_out: "report the others",
        reports_validation: "report the validation accuracy",
        population_spread: "ddof=1",
        variance: "not the variance",
        error_of_the_mean: "error of the mean",
    },
}
"""Wrong answer -> words that its message must hold."""

RIGHT = {
    "09-q1": (loop_in_numpy, loop_in_torch, sum_of_gradients),
    "09-q2": (adaptive_loop, adaptive_in_torch),
    "09-q3": (adam_loop, adam_in_torch),
    "09-q4": (lion_loop, lion_in_torch),
    "09-q5": (by_rounds, turned_in_torch),
    "09-q6": (by_hand, with_scheduler),
    "09-q7": (by_means, in_plain_python),
}

ONLY_VISIBLE = {
    "09-q1": for_three_weights,
    "09-q2": adapts_three_weights,
    "09-q3": adam_for_three_weights,
    "09-q4": lion_for_five_weights,
    "09-q5": few_rounds_known,
    "09-q6": only_known_lengths,
    "09-q7": knows_three_tables,
}
"""Answers that pass what is visible and must fail what is hidden."""
