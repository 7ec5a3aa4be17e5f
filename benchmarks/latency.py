"""From a key press on a slider to the last pixel, in JupyterLab in a headless Chromium.

    python benchmarks/latency.py             each explorer, beside @interact with a new figure and ipympl
    python benchmarks/latency.py --presses N

Each contestant has a notebook of its own in a window of ordinary size, and its slider gets as many presses of an arrow
key. The clock starts with the browser's key event; the end is the first moment after a frame in which picture elements
(SVG, canvas, image) were seen to change for the last time, half a second without change being the proof. ipympl and
playwright come with the extras bench and test.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from browsing import browser_page, notebook_of, opened, run_all_cells  # noqa: E402

INTERACT = """
import numpy as np
from ipywidgets import IntSlider, interact
from matplotlib import pyplot as plt

def draw(frequency):
    x = np.linspace(0, 1, 200)
    ax = plt.figure().add_subplot()
    ax.plot(x, np.sin(frequency * x))
    plt.show()

interact(draw, frequency=IntSlider(20, 1, 100));
"""
IPYMPL = """
%matplotlib widget
import numpy as np
from ipywidgets import IntSlider
from matplotlib import pyplot as plt
from IPython.display import display
figure, ax = plt.subplots()
line, = ax.plot(np.linspace(0, 1, 200), np.sin(20 * np.linspace(0, 1, 200)))
slider = IntSlider(20, 1, 100, description="frequency")

def follow(change):
    line.set_ydata(np.sin(change["new"] * line.get_xdata()))
    figure.canvas.draw_idle()

slider.observe(follow, "value")
display(slider)
"""
EXPLORERS = {
    "02 matrix products": "matrix_products",
    "03 gradients": "gradients",
    "04 activation functions": "activation_functions",
    "05 phase diagram": "phase_diagram",
    "07 batchnorm": "batchnorm",
    "08 residual": "residual",
    "09 optimizer race": "optimizer_race",
}
WATCH = """
() => {
  const area = document.querySelector('.jp-Notebook [data-windowed-list-index="0"] .jp-OutputArea');
  const small = new OffscreenCanvas(96, 96).getContext("2d", {willReadFrequently: true});
  const seen = element => {
    if (element.tagName === "IMG") return element.src + element.complete;
    if (element.tagName !== "CANVAS") return element.outerHTML;
    small.clearRect(0, 0, 96, 96);
    if (element.width) small.drawImage(element, 0, 0, 96, 96);
    return small.getImageData(0, 0, 96, 96).data.join();
  };
  const shown = element => element.getClientRects().length > 0;  // an explorer's still is renewed behind the scene
  const look = () => [...area.querySelectorAll("svg[role=img], canvas, img")].filter(shown).map(seen).join("|");
  window.latency = new Promise(done => {
    document.addEventListener("keydown", event => {
      const start = event.timeStamp;
      let before = look(), last = null;
      const frame = () => {
        const now = look();
        const changed = now !== before;
        before = now;
        const channel = new MessageChannel();  // its message comes after the frame is painted
        channel.port1.onmessage = () => {
          if (changed) last = performance.now();
          if (performance.now() - (last ?? start + 2000) > 500) done(last === null ? null : last - start);
          else requestAnimationFrame(frame);
        };
        channel.port2.postMessage(0);
      };
      requestAnimationFrame(frame);
    }, {once: true, capture: true});
  });
}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--presses", type=int, default=40)
    presses = parser.parse_args().presses
    cells = {"@interact, new figure": INTERACT, "ipympl, set_ydata": IPYMPL}
    explorers = {name: f"import gradcourse as gc\ngc.explorer.{function}()" for name, function in EXPLORERS.items()}
    cells = explorers | cells
    with browser_page() as page:
        times = {name: measured(page, source, presses) for name, source in cells.items()}
    print(f"{len(next(iter(times.values())))} presses each; milliseconds from the key to the last pixel")
    print(f"  {'':28s} {'median':>7s} {'worst':>7s}")
    for name, taken in times.items():
        print(f"  {name:28s} {statistics.median(taken):7.0f} {max(taken):7.0f}")


def measured(page, source, presses):
    """Run a notebook of one cell and press on its first slider; milliseconds, the first two presses left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latency.ipynb"
        path.write_text(json.dumps(notebook_of(source)), encoding="utf-8")
        with opened(page, path, Path(folder) / "home"):
            run_all_cells(page, path)
            page.locator('.jp-Notebook [data-windowed-list-index="0"] .noUi-handle').first.focus()
            taken = [pressed(page, turn) for turn in range(presses + 2)]
    if None in taken:
        raise SystemExit(f"nothing changed after a key press: {source}")
    return taken[2:]


def pressed(page, turn):
    page.evaluate(WATCH)
    page.keyboard.press("ArrowLeft" if turn % 2 else "ArrowRight")
    return page.evaluate("window.latency")


if __name__ == "__main__":
    main()
