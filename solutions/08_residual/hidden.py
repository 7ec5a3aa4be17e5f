"""Hidden cases of sheet 08. They stay with the instructor."""

from gradcourse.sheets import Case
from gradcourse.sheets.residual import batch_norm, block_case, branch_case, layer_norm, replication_case


def branches(rng):
    """Draw the layers of branches: with a norm before, between or behind, linear or convolutional."""
    n, m = (int(size) for size in rng.integers(2, 7, size=2))
    yield [("relu",), ("linear", n, m), ("relu",), ("linear", m, m), ("relu",), ("linear", m, n)]
    yield [("linear", n, m, False), ("norm", m), ("relu",), ("linear", m, n, False), ("norm", n)]
    yield [("norm2d", n), ("relu",), ("conv", n, m), ("norm2d", m), ("relu",), ("conv", m, n, False)]
    yield [("norm", n), ("relu",), ("linear", n, n)]


def cases(rng):
    made = []
    for norm in (layer_norm, batch_norm, layer_norm):
        made.append(block_case(*(int(n) for n in rng.integers(3, 8, size=3)), norm, rng))
    for _ in range(4):
        start, alpha, weight_variance = (float(n) for n in rng.uniform((0.2, 0.1, 0.5), (4.0, 1.5, 4.0)))
        made.append(Case("08-q2", (start, alpha, weight_variance, int(rng.integers(2, 30)))))
    made += [branch_case(layers, rng) for layers in branches(rng)]
    for _ in range(3):
        made.append(replication_case(*(int(n) for n in rng.integers(4, 16, size=3)), rng))
    return made
