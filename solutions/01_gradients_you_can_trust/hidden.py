"""Hidden cases of sheet 01. They stay with the instructor."""

import numpy as np

from gradcourse.sheets.gradients_you_can_trust import (
    ACTIVATIONS,
    BUGS,
    backward_case,
    hook_case,
    planted_case,
    wave_case,
)

NAMES = ("first", "phi", "second", "psi", "last")


def cases(rng):
    made = []
    for phi, slope in ACTIVATIONS:
        batch, inputs, hidden, outputs = (int(size) for size in rng.integers((2, 3, 4, 2), (9, 7, 9, 6)))
        made.append(backward_case(rng, batch, inputs, hidden, outputs, phi, slope))
    for step, dtype in ((1e-5, np.float64), (rng.uniform(0.2, 0.8), np.float64), (1e-6, np.float32)):
        made.append(wave_case(rng, int(rng.integers(2, 9)), step, dtype, spoil=rng.uniform(0.05, 0.5)))
    for count in (2, 3, 5):
        names = [str(name) for name in rng.permutation(NAMES)[:count]]
        batch, inputs, width, outputs = (int(size) for size in rng.integers((3, 3, 4, 3), (12, 8, 9, 7)))
        made.append(hook_case(rng, batch, inputs, width, outputs, names))
    for bug in BUGS:
        layer = int(rng.integers(2 if bug == "wrong transpose" else 3))
        scales = 10.0 ** rng.uniform(-6, 6, size=4)
        made.append(planted_case(rng, bug, layer, int(rng.integers(4)), scales))
    return made
