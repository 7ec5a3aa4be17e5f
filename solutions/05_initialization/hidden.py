"""Hidden cases of sheet 05. They stay with the instructor."""

import numpy as np

from gradcourse.sheets import Case
from gradcourse.sheets.initialization import convolution, linear, lsuv_case, symmetry_case


def layers(rng):
    """Draw a linear layer and convolutions of each kind."""
    groups, each, outputs, side = (int(n) for n in rng.integers((2, 2, 2, 2), (5, 6, 9, 6)))
    yield linear(int(rng.integers(5, 300)), int(rng.integers(5, 300)))
    yield convolution(int(rng.integers(2, 40)), int(rng.integers(41, 60)), side)
    yield convolution(groups * each, groups * outputs, (side, side + 1), groups=groups, stride=2)
    yield convolution(each, outputs, (side, 2, 3), dimensions=3)


def units(rng):
    """Draw the weights of a hidden layer in which some units are copies of others."""
    count, inputs, outputs = (int(n) for n in rng.integers((4, 2, 2), (9, 6, 5)))
    copies = rng.integers(0, count, size=count)
    w1, b1 = rng.normal(size=(count, inputs)), rng.normal(size=count)
    w2 = rng.normal(size=(outputs, count))
    return w1[copies], b1[copies], w2[:, copies]


def cases(rng):
    made = [Case("05-q1", (float(rng.uniform(-1, 3)), int(rng.integers(5, 500)))) for _ in range(4)]
    made += [Case("05-q2", (layer,)) for layer in layers(rng)]
    for _ in range(2):
        made.append(symmetry_case(*units(rng)))
    w1, b1, w2 = units(rng)
    made += [symmetry_case(0 * w1 + 0.2, 0 * b1 + 1.5, w2), symmetry_case(w1, b1, 0 * w2 + 0.3)]
    for scale in (0.01, 1.0, 10.0):
        sizes = tuple(int(n) for n in rng.integers(3, 9, size=int(rng.integers(3, 7))))
        made.append(lsuv_case(sizes, int(rng.integers(6, 15)), np.random.default_rng(rng.integers(1 << 30)), scale))
    return made
