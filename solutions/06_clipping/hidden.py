"""Hidden cases of sheet 06. They stay with the instructor."""

from itertools import permutations

import numpy as np

from gradcourse.sheets import Case
from gradcourse.sheets.clipping import accumulation_case, gradients_case, norms_case, order_case, relative_case


def shapes(rng):
    """Draw the shapes of a few gradients, one of them missing."""
    drawn = [tuple(int(n) for n in rng.integers(1, 6, size=int(rng.integers(1, 4)))) for _ in range(4)]
    drawn[int(rng.integers(0, 4))] = None
    return drawn


def orders(rng):
    """Draw half of the 24 orders."""
    every = [" ".join(order) for order in permutations(("zero_grad", "backward", "clip", "step"))]
    return [every[number] for number in sorted(rng.permutation(24)[:12])]


def cases(rng):
    made: list[Case] = []
    for scale in (0.01, 1.0, 100.0, 0.0):
        made.append(gradients_case(shapes(rng), round(float(rng.uniform(0.5, 2.0)), 2), rng, scale))
    made += [order_case(order) for order in orders(rng)]
    for share in (0.07, 0.19, 0.43, 0.0):
        made.append(norms_case(int(rng.integers(50, 120)), int(rng.integers(8, 30)), share, rng))
    for sizes, max_norm in (((5, 5), 0.1), ((7, 2, 4, 1), 0.05), ((3, 9), 50.0), ((6,), 0.2)):
        made.append(accumulation_case(tuple(int(n) for n in rng.permutation(sizes)), max_norm, rng))
    for share in (0.01, 0.3, 2.0):
        units, inputs = (int(n) for n in rng.integers(3, 9, size=2))
        made.append(relative_case(units, inputs, share, float(np.exp(rng.uniform(-7, -2))), rng))
    return made
