"""How often gc.diagnose is right: a confusion matrix over networks whose disease an independent measurement has named.

    python benchmarks/diagnosis.py                  the half of the networks that fitted nothing
    python benchmarks/diagnosis.py --fit            the limits that the other half gives, beside those in the package
    python benchmarks/diagnosis.py --random 100     networks drawn at random from the whole space of Configs
    python benchmarks/diagnosis.py --cache FOLDER   keep measurements and traces there, and take them from there

One thread, a few minutes. The halves are split by configuration. Borderline networks, whose measurement lies between
healthy and sick, count in no score.
"""

import argparse
import hashlib
import math
import pickle
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import labelled_nets as labels
import numpy as np
import torch
from labelled_nets import BORDERLINE, Measured, Net
from net_list import all_nets, random_nets

import gradcourse as gc
from gradcourse.diagnosis import rules
from gradcourse.diagnosis.signals import Signals, signals

DISEASES = (
    "healthy",
    "vanishing",
    "exploding",
    "saturated",
    "dead units",
    "update below precision",
    "over-clipped",
    "diverged",
)


@dataclass(frozen=True)
class Case:
    """A network that was measured, traced and diagnosed."""

    net: Net
    measured: Measured
    trace: gc.Trace
    signals: Signals
    label: str
    diagnosis: gc.Diagnosis


def cases(half, folder=None, seed=0):
    """Return the cases of one half of the networks."""
    return [case(net, seed, folder) for net in all_nets() if net.half == half]


def case(net, seed, folder=None):
    measured, trace = kept(folder, f"{net.name} {seed}", lambda: (labels.measure_net(net, seed), net.trace(seed)))
    dtype = getattr(torch, net.config.dtype) if net.config else net.dtype
    diagnosis = gc.diagnose(trace, dtype=dtype)
    return Case(net, measured, trace, signals(trace, torch.finfo(dtype).eps), labels.label(measured), diagnosis)


def kept(folder, name, make):
    """Return what `make` gives, from a file in the folder if there is one."""
    if folder is None:
        return make()
    path = Path(folder) / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.pickle"
    if path.exists():
        return pickle.loads(path.read_bytes())
    made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(made))
    return made


# ---- fitting


def fit(found):
    """Return the Limits that part the measured sick from the measured healthy best, each by itself."""
    by_depth = [(labels.by_depth(case.measured), case.signals.profile) for case in found]
    steady = [(_graded_depth(name), abs(profile.steady), profile) for name, profile in by_depth]
    decades = threshold([(sick, value) for sick, value, _ in steady])
    regularity = threshold([(s, p.regularity) for s, v, p in steady if decades <= v < math.inf])

    def limit(graded, value):
        return threshold([(graded(case.measured), value(case.signals)) for case in found])

    dead = [(labels.grade_dead(case.measured.dead), case.signals.dead) for case in found]
    dead += [(labels.grade_dead(case.measured.dead_later), case.signals.dead_later) for case in found]
    flat = [(labels.grade_flat(case.measured.saturated), case.signals.saturated) for case in found]
    flat += [(labels.grade_flat(case.measured.saturated_somewhere), case.signals.saturated_somewhere) for case in found]
    return rules.Limits(
        decades=decades,
        regularity=regularity,
        dead=threshold(dead),
        saturated=threshold(flat),
        kept=limit(lambda m: labels.grade_kept(m.kept), lambda s: s.kept),
        moved=limit(lambda m: labels.grade_lost(m.lost), lambda s: s.moved),
        rise=limit(lambda m: labels.grade_rise(m), lambda s: s.rise),
    )


def _graded_depth(name):
    return {"healthy": False, BORDERLINE: None}.get(name, True)


def threshold(graded):
    """Return the limit with the fewest errors, in the middle (of the logarithms) of the widest gap, to two digits.

    Args:
        graded: pairs of whether it is sick (None: neither) and the signal; sick ones may be the larger or the smaller.
    """
    sick = np.array([value for is_sick, value in graded if is_sick and not math.isnan(value)])
    well = np.array([value for is_sick, value in graded if is_sick is False and not math.isnan(value)])
    sick, well = (np.log(np.clip(values, 1e-12, 1e12)) for values in (sick, well))
    sign = 1.0 if np.median(sick) > (np.median(well) if len(well) else -math.inf) else -1.0
    sick, well = sign * sick, sign * well
    values = np.unique(np.concatenate([sick, well]))
    middles = 0.5 * (values[1:] + values[:-1])
    errors = np.array([(sick < middle).sum() + (well >= middle).sum() for middle in middles])
    best = np.flatnonzero(errors == errors.min())
    chosen = best[np.argmax(np.diff(values)[best])]
    return float(f"{math.exp(sign * middles[chosen]):.2g}")


# ---- scores


def matrix(found):
    """Return a Counter of (label, disease named)."""
    return Counter((case.label, case.diagnosis.disease) for case in found)


def print_matrix(counts):
    columns = [*DISEASES, "unsure"]
    print(f"\n{'labelled, down; diagnosed, across':32s}" + "".join(f"{name.split()[0][:10]:>11s}" for name in columns))
    for label in (*DISEASES, BORDERLINE):
        row = [counts[label, disease] for disease in columns]
        print(f"{label:32s}" + "".join(f"{count or '.':>11}" for count in row))


def scores(found):
    """Return the share that is right, the share of healthy networks that are called sick, and how many are unsure."""
    counted = [case for case in found if case.label != BORDERLINE]
    healthy = [case for case in counted if case.label == "healthy"]
    right = sum(case.diagnosis.disease == case.label for case in counted)
    alarms = sum(case.diagnosis.disease not in ("healthy", "unsure") for case in healthy)
    unsure = sum(case.diagnosis.disease == "unsure" for case in counted)
    return right / len(counted), alarms / len(healthy), unsure, len(counted), len(healthy)


def right_steps(found):
    """Return how many of the diseases that come in the course of a run are named with the right step, and those not."""
    coming = [c for c in found if c.label == c.diagnosis.disease and labels.steps_of(c.measured)]
    wrong = [c for c in coming if not _within(c.diagnosis.step, *labels.steps_of(c.measured))]
    return len(coming) - len(wrong), wrong


def _within(step, first, last):
    return first <= step <= last


def report(found):
    right, alarms, unsure, count, healthy = scores(found)
    print_matrix(matrix(found))
    print(f"\n{right:.1%} of {count} right; {alarms:.1%} of {healthy} healthy ones called sick; unsure of {unsure}")
    sure = [case.diagnosis.confidence for case in found if case.label == case.diagnosis.disease]
    print(f"mean confidence where right {np.mean(sure):.2f}", end="")
    wrong = [case for case in found if case.label not in (BORDERLINE, case.diagnosis.disease)]
    print(f", where wrong {np.mean([case.diagnosis.confidence for case in wrong]):.2f}" if wrong else "")
    for case in wrong:
        print(f"  {case.label} called {case.diagnosis.headline}: {case.net.name}")
    good, late = right_steps(found)
    print(f"step right in {good} of {good + len(late)} runs that fall ill on the way")
    for case in late:
        first, last = labels.steps_of(case.measured)
        print(f"  {case.label} at steps {first} to {last}, named {case.diagnosis.step}: {case.net.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the limits on the other half")
    parser.add_argument("--cache", metavar="FOLDER", help="keep measurements and traces there")
    parser.add_argument("--seed", type=int, default=0, help="of the networks that are diagnosed")
    parser.add_argument("--random", type=int, metavar="N", help="diagnose N networks drawn at random")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    if arguments.random:
        found = [case(net, arguments.seed, arguments.cache) for net in random_nets(arguments.random, arguments.seed)]
    else:
        found = cases("fit" if arguments.fit else "held out", arguments.cache, arguments.seed)
    if arguments.fit:
        for name, value in asdict(fit(found)).items():
            print(f"  {name:12s} fitted {value:<8g} in the package {getattr(rules.LIMITS, name):g}")
    report(found)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
