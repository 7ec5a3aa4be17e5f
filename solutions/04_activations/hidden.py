"""Hidden cases of sheet 04. They stay with the instructor."""

import numpy as np

from gradcourse.sheets import Case
from gradcourse.sheets.activations import NAMES, clamped, exponential, leaky, revive_case


def softplus(u):
    return np.logaddexp(0.0, u)


def sine(u):
    return np.sin(u)


def cases(rng):
    made = []
    for phi in (leaky(0.0), leaky(rng.uniform(0.02, 0.9)), leaky(-rng.uniform(0.1, 0.9)), exponential(2.0)):
        made.append(Case("04-q1", (phi, -rng.uniform(0.5, 6.0, size=7))))
    made.append(Case("04-q1", (leaky(0.0), rng.permutation([-2.0, -1.0, rng.uniform(0.5, 3.0), -4.0, -0.5]))))
    made.append(Case("04-q1", (clamped(-1.0, 1.0), -rng.uniform(1.5, 6.0, size=5))))
    for name in NAMES:
        far = rng.choice([-1, 1]) * rng.uniform(800.0, 1000.0, size=2)
        made.append(Case("04-q2", (name, rng.permutation([*rng.uniform(-8.0, 8.0, size=6), *far]))))
    slope, scale = rng.uniform(0.05, 0.8), rng.uniform(0.5, 2.0)
    for phi in (leaky(slope), softplus, sine, lambda u: scale * np.tanh(u)):
        made.append(Case("04-q3", (phi,)))
    for _ in range(3):
        units, inputs, images = rng.integers((8, 4, 8), (30, 12, 30))
        made.append(revive_case(rng, int(units), int(inputs), 2 * int(images) + 1))
    return made
