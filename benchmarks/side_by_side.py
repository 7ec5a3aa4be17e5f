"""Measure contestants side by side in one run: every round times each of them, and ratios are taken within a round."""

import statistics
import time


def ratios(contestants, rounds, clock=time.process_time):
    """Time each contestant once a round, in turn, and compare it with the first one of the same round.

    CPU time is the default clock: on a shared machine it says what the work costs, not who else is there.

    Args:
        contestants: name -> function without arguments, the reference first.
        rounds: how often; the first round, which warms up, is not counted.
        clock: seconds.

    Returns:
        name -> (median seconds, median ratio, smallest ratio, largest ratio).
    """
    seconds = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            began = clock()
            work()
            if number:
                seconds[name].append(clock() - began)
    reference = next(iter(seconds.values()))
    compared = {
        name: [own / other for own, other in zip(times, reference, strict=True)] for name, times in seconds.items()
    }
    return {
        name: (statistics.median(seconds[name]), statistics.median(values), min(values), max(values))
        for name, values in compared.items()
    }


def print_table(title, results, per=1, unit="ms"):
    """Print what `ratios` returned; `per` is how many steps one call does."""
    print(f"\n{title}")
    print(f"  {'':34s} {unit + ' per step':>12s} {'ratio':>7s}   smallest .. largest")
    for name, (seconds, ratio, low, high) in results.items():
        print(f"  {name:34s} {1e3 * seconds / per:12.3f} {ratio:7.3f}   {low:.3f} .. {high:.3f}")
