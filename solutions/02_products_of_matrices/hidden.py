"""Hidden cases of sheet 02. They stay with the instructor."""

import numpy as np

from gradcourse.sheets import Case
from gradcourse.sheets.products_of_matrices import (
    exponents_case,
    log_norm_case,
    lyapunov_case,
    rectangular_case,
    rotation,
    turned,
    upper,
)


def lyapunov_cases(rng):
    for scale in (0.02, 1.0, 40.0):  # underflow, neither, overflow
        yield lyapunov_case(rng, int(rng.integers(300, 500)), int(rng.integers(2, 7)), scale)


def judge_cases(rng):
    small, large, depth = rng.uniform(0.3, 0.6), rng.uniform(1.3, 2.0), int(rng.integers(30, 60))
    yield np.diag([large, 1 / large]), depth
    yield upper(1.0, rng.uniform(0.5, 2.0)), depth  # grows like depth
    yield upper(small, rng.uniform(5.0, 20.0)), depth  # stretches once, vanishes in the end
    yield upper(0.9, rng.uniform(20.0, 40.0)), depth  # eigenvalues below 1, still large at this depth
    yield turned(rng, [-1.0] * 27 + [small] * 4), depth
    yield rng.uniform(1.15, 1.3) * rotation(rng, 2), depth
    yield np.diag([1.0, small, small**2])[rng.permutation(3)][:, rng.permutation(3)], 1


def log_norm_cases(rng):
    yield rectangular_case(rng, rng.integers(2, 9, size=6))
    yield log_norm_case(rng, int(rng.integers(2, 5)), (int(rng.integers(400, 600)), rng.uniform(10.0, 20.0)))
    yield log_norm_case(rng, int(rng.integers(2, 5)), (int(rng.integers(400, 600)), rng.uniform(0.001, 0.01)))
    yield log_norm_case(rng, 3, (400, 0.01), (400, rng.uniform(5.0, 20.0)))


def cases(rng):
    made = [*lyapunov_cases(rng), *log_norm_cases(rng)]
    made += [Case("02-q2", arguments) for arguments in judge_cases(rng)]
    for dtype in ("float16", "float32", "float16", "float32"):
        made.append(Case("02-q4", (rng.uniform(0.1, 0.49), 10.0 ** rng.uniform(-3, 1), dtype)))
    made.append(Case("02-q4", (0.5, 2.0 ** int(rng.integers(-9, 9)), "float16")))  # meets the tie
    for shortest, n in ((3, 4), (150, 2), (200, 3)):
        made.append(exponents_case(rng, shortest + int(rng.integers(6)), n, rng.uniform(0.5, 2.0)))
    return made
