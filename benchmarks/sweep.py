"""What a sweep gains: runs trained together over the same runs one after the other, with the peak memory beside it.

    python benchmarks/sweep.py           32 runs of a 20-layer MLP of width 64: sweep, loop over run, plain torch loop
    python benchmarks/sweep.py --growth  1 to 256 runs, as a table and a picture
    python benchmarks/sweep.py --phase   the time of phase diagrams of 12 x 12 runs, 200 steps each

Two threads. Times are wall-clock times, since threads are what a sweep gains from: another program on these cores
changes them. All that a sweep does counts: weights, data, every step's statistics, accuracies, reading the traces. The
plain loop makes the same weights and data and ends with the same two accuracies, but records nothing; it is shown with
one thread and with two. The "again" row shows how far the machine's noise reaches.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from side_by_side import print_table, ratios
from torch.nn.functional import cross_entropy

import gradcourse as gc
from gradcourse.models import one_thread
from gradcourse.training import accuracy_of, batches_of, build_model, load_data

BASE = gc.Config(depth=20, width=64, activation="tanh", learning_rate=0.01, steps=60)
THREADS = 2


def configs(runs):
    return {"seed": range(runs)}


def swept(runs, **changes):
    return lambda: gc.sweep(gc.Config(**{**vars(BASE), **changes}), **configs(runs))


def loop_over_run(runs):
    return lambda: [gc.run(config) for config in _listed(runs)]


def plain_loop(runs, threads):
    """Train as a learner would write it, without recording anything."""

    def train(config):
        model, split, batches = build_model(config), load_data(config), batches_of(config)
        optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate)
        for _ in range(config.steps):
            batch = next(batches)
            optimizer.zero_grad()
            cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
            optimizer.step()
        return accuracy_of(model, split.x_train, split.y_train), accuracy_of(model, split.x_test, split.y_test)

    def work():
        if threads == 1:
            with one_thread():
                return [train(config) for config in _listed(runs)]
        return [train(config) for config in _listed(runs)]

    return work


def _listed(runs):
    return [gc.Config(**{**vars(BASE), "seed": seed}) for seed in range(runs)]


def contestants(runs):
    return {
        "sweep": swept(runs),
        "sweep, again": swept(runs),
        "sweep, record_every=60": swept(runs, record_every=60),
        "loop over run": loop_over_run(runs),
        "plain torch loop, 1 thread": plain_loop(runs, 1),
        "plain torch loop, 2 threads": plain_loop(runs, 2),
    }


def compare(rounds, runs):
    print_table(
        f"{runs} runs of {BASE.steps} steps", ratios(contestants(runs), rounds, time.perf_counter), BASE.steps * runs
    )
    for name in contestants(1):
        print(f"  {name:34s} peak memory {peak(name, runs):7.0f} MB more than after the imports")


def peak(name, runs):
    """Return the MB that one contestant adds to a new process."""
    code = f"import sweep; sweep.torch.set_num_threads({THREADS}); print(sweep.added({name!r}, {runs}))"
    folder = __file__.rpartition("sweep.py")[0] or "."
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return float(done.stdout)


def added(name, runs):
    gc.run(gc.Config(depth=2, width=2, steps=1))  # what the first run loads is not the contestants'
    before = _most_memory()
    contestants(runs)[name]()
    return (_most_memory() - before) / 1024


def _most_memory():
    """Return the largest resident memory of this process so far, in kB; off Linux perhaps its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def growth(rounds, picture):
    """Print and draw milliseconds per step of one run, for more and more runs."""
    from matplotlib.figure import Figure

    names = ("sweep", "loop over run", "plain torch loop, 1 thread")
    lines = {name: [] for name in names}
    numbers = [2**power for power in range(9)]
    for runs in numbers:
        few = min(runs, 8)  # a loop takes as long per run with many as with few
        ways = contestants(few) | {"sweep": swept(runs)}
        result = ratios({name: ways[name] for name in names}, rounds, time.perf_counter)
        for name, (seconds, *_) in result.items():
            lines[name].append(1e3 * seconds / BASE.steps / (runs if name == "sweep" else few))
        row = {name: f"{values[-1]:.3f}" for name, values in lines.items()}
        print(runs, "runs, ms per step of one run:", row, f"peak +{peak('sweep', runs):.0f} MB", flush=True)
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    for (name, values), style in zip(lines.items(), ("o-", "s--", "^:"), strict=True):
        ax.plot(numbers, values, style, label=name)
    ax.set(xscale="log", xlabel="runs", ylabel="ms per step of one run", ylim=(0, None))
    ax.legend()
    figure.savefig(picture, dpi=120)
    print(f"\nPicture: {picture}")


def phase():
    """Time two phase diagrams."""
    spread = [0.25 * number for number in range(1, 13)]
    depths = [2 * number for number in range(1, 13)]
    widths = {"steps": 200, "activation": "tanh", "learning_rate": 0.01}
    grids = {
        "gain x depth": (gc.Config(**widths), {"gain": spread, "depth": depths}),
        "gain x bias_std, depth 20": (
            gc.Config(init="lecun", **widths),
            {"gain": spread, "bias_std": [0.05 * number for number in range(12)]},
        ),
    }
    for name, (base, axes) in grids.items():
        for every in (1, 200):
            began = time.perf_counter()
            result = gc.sweep(gc.Config(**{**vars(base), "record_every": every}), **axes)
            seconds = time.perf_counter() - began
            print(f"{name}, record_every={every}: {len(result)} runs in {seconds:.1f} s ({result.plan})", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--phase", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--picture", default="sweep_growth.png")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.phase:
        phase()
    elif options.growth:
        growth(options.rounds, options.picture)
    else:
        compare(options.rounds, options.runs)
