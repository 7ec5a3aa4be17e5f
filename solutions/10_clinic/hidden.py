"""Hidden cases of sheet 10. They stay with the instructor."""

from gradcourse.clinic import CAUSES, admit, ward
from gradcourse.sheets import Case
from gradcourse.sheets.clinic import (
    TREATMENTS,
    WARD,
    cause_case,
    network_case,
    prescription_case,
    verdict_case,
)

_SHOWN = {patient.cause for patient in ward(WARD).values()}


def drawn(rng, names, count):
    return [str(name) for name in rng.choice(list(names), count, replace=False)]


def cases(rng) -> list[Case]:
    seed = int(rng.integers(1000, 1_000_000))
    unseen = [name for name in CAUSES if name not in _SHOWN]
    patients = [admit(cause, seed) for cause in (*unseen, *drawn(rng, sorted(_SHOWN), 2))]
    place = f"hidden ward {seed}"
    made = [cause_case(patient, place) for patient in patients]
    made += [prescription_case(cause, seed) for cause in drawn(rng, CAUSES, 4)]
    ill = [patient for patient in patients if patient.cause != "softmax twice"]  # which may read 0.8 untreated
    made += [network_case(patient, place) for patient in rng.choice(ill, 3, replace=False)]
    numbers = [*rng.choice(range(6), 2, replace=False), *rng.choice(range(6, len(TREATMENTS)), 3, replace=False)]
    return made + [verdict_case(int(number), seed) for number in numbers]
