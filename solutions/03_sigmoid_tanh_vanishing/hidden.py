"""Hidden cases of sheet 03. They stay with the instructor."""

import numpy as np

from gradcourse.sheets import Case
from gradcourse.sheets.sigmoid_tanh_vanishing import dead_case, sigmoid_slope, tanh_slope
from gradcourse.training import Config, run


def softplus_slope(u):
    return 0.5 * (1.0 + np.tanh(0.5 * u))


def sine_slope(u):
    return np.cos(u)


def cases(rng):
    made = []
    for slope in (sigmoid_slope, tanh_slope, softplus_slope, sine_slope):
        made.append(Case("03-q1", (slope, rng.uniform(0.3, 4.0), rng.uniform(0.1, 2.0))))
    for _ in range(4):
        factor, depth = rng.uniform(0.1, 0.95), int(rng.integers(2, 60))
        last = 10.0 ** rng.uniform(-4, 1)
        made.append(Case("03-q2", (factor, last, last * factor ** (depth - 1 - rng.uniform(0.1, 0.9)))))
    for activation, init, gain in (("relu", "xavier", 1.0), ("tanh", "xavier", 2.0), ("sigmoid", "xavier", 1.0)):
        depth, seed = int(rng.integers(8, 25)), int(rng.integers(1, 10_000))
        config = Config(depth=depth, activation=activation, init=init, gain=gain, seed=seed, steps=0)
        made.append(Case("03-q3", (run(config),)))
    for _ in range(3):
        units, inputs, batches, images = rng.integers((8, 5, 2, 8), (40, 20, 6, 30))
        made.append(dead_case(rng, int(units), int(inputs), int(batches), int(images)))
    return made
