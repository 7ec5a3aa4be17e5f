"""Hidden cases of sheet 09. They stay with the instructor."""

from gradcourse.sheets.optimizers import (
    adam_case,
    adaptive_case,
    choice_case,
    lion_case,
    muon_case,
    range_case,
    sgd_case,
)


def betas(rng):
    return tuple(float(b) for b in rng.uniform(0.2, 0.95, size=2))


def cases(rng):
    made = []
    for nesterov, falling in ((False, True), (True, False), (True, True)):
        made.append(sgd_case(rng, float(rng.uniform(0.3, 0.95)), nesterov, falling, int(rng.integers(4, 9))))
    for alpha in (None, None, 0.95, 0.6):
        made.append(adaptive_case(rng, alpha, float(10 ** rng.uniform(-6, -1)), 0.1, int(rng.integers(4, 9))))
    for decoupled in (False, True, False, True):
        eps, decay = float(10 ** rng.uniform(-6, -1)), float(rng.uniform(0.1, 1.0))
        made.append(adam_case(rng, betas(rng), eps, decay, decoupled, 0.1, int(rng.integers(4, 9))))
    made += [lion_case(rng, betas(rng), float(rng.uniform(0.0, 0.5)), int(rng.integers(8, 12))) for _ in range(3)]
    for rounds in (2, 3, 5):
        shape = tuple(int(side) for side in rng.integers(2, 9, size=2))
        made.append(muon_case(rng, shape, rounds, float(rng.uniform(0.0, 5.0))))
    for steps in (5, 7, 10):
        lowest, highest = float(10 ** rng.uniform(-3, -2)), float(10 ** rng.uniform(-1, 0.5))
        made.append(range_case(int(rng.integers(1 << 30)), steps, lowest, highest))
    made += [choice_case(rng, int(seeds), count=int(rng.integers(5, 9))) for seeds in rng.integers(3, 8, size=3)]
    return made
