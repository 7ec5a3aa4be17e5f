"""What a learner waits for: `import gradcourse` over `import torch`, and the first run and plot after both.

    python benchmarks/imports.py

Each import is timed in a new process; the rows of a round follow each other.
"""

import argparse
import subprocess
import sys
import time

from side_by_side import print_table, ratios

TIMED = """
import time
began = time.perf_counter()
{code}
print(time.perf_counter() - began)
"""
FIRST = """
import torch
import gradcourse as gc
began = time.perf_counter()
trace = gc.run(gc.Config())
gc.plot_gradients(trace, theory=True)
"""


def seconds_of(code):
    done = subprocess.run([sys.executable, "-c", TIMED.format(code=code)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rows = {
        "import torch": "import torch",
        "import torch, again": "import torch",
        "import gradcourse": "import gradcourse",
        "import gradcourse, all of it": "import gradcourse as gc; gc.run; gc.theory; gc.diagnose",
    }
    work = {name: lambda code=code: seconds_of(code) for name, code in rows.items()}
    print_table("new process each time", ratios(work, options.rounds, clock=time.perf_counter))
    first = sorted(seconds_of(FIRST) for _ in range(options.rounds))
    print(f"\nfirst gc.run(gc.Config()) and its plot, after both imports: median {first[len(first) // 2]:.2f} s")
