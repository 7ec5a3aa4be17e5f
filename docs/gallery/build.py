"""Builds the gallery, README.md and its pictures, from the lines below: ``python docs/gallery/build.py [folder]``."""

import io
import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image

import gradcourse as gc

HERE = Path(__file__).resolve().parent
COLOURS = 256  # of a picture's palette: enough for lines and heat maps, half of the bytes

HEAD = """# Gallery

Every plot of the package, with the lines that made it. All begin with `import gradcourse as gc`; `np` is NumPy. A plot
draws on the Axes that it is given, or on a new figure, and returns the Axes: `ax.figure.savefig("picture.png")`.
`gc.describe(ax)` is the alt text of each picture, which saved notebooks carry too.

Derived: change `docs/gallery/build.py` and run `python docs/gallery/build.py`.
"""

PICTURES = {
    "plot_gradients": (
        "The gradient of a deep sigmoid network vanishes along theory's line; ReLU with He weights keeps its own.",
        """
sigmoid = gc.run(gc.Config(depth=20, activation="sigmoid", steps=0))
relu = gc.run(gc.Config(depth=20, activation="relu", init="he", steps=0))
ax = gc.plot_gradients({"sigmoid": sigmoid, "ReLU": relu}, theory=True)
""",
    ),
    "plot_activations": (
        "The forward signal of a ReLU network shrinks by 1/√2 in every layer with Xavier weights.",
        """
xavier = gc.run(gc.Config(depth=20, activation="relu", init="xavier", steps=0))
he = gc.run(gc.Config(depth=20, activation="relu", init="he", steps=0))
ax = gc.plot_activations({"Xavier": xavier, "He": he})
""",
    ),
    "plot_saturation": (
        "Weights that are drawn too large saturate tanh, and kill units of ReLU where the biases are low.",
        """
tanh = gc.run(gc.Config(depth=20, activation="tanh", gain=3.0, steps=0))
relu = gc.run(gc.Config(depth=20, activation="relu", init="he", bias=-0.5, steps=0))
ax = gc.plot_saturation({"tanh, gain 3": tanh, "ReLU, bias -0.5": relu})
""",
    ),
    "plot_updates": (
        "How far one step moves each layer's weights: where the gradient vanishes SGD stands still, Adam does not.",
        """
base = {"depth": 15, "activation": "tanh", "gain": 0.5, "steps": 10}
runs = {"SGD": gc.run(gc.Config(**base)), "Adam": gc.run(gc.Config(**base, optimizer="adam", learning_rate=1e-3))}
ax = gc.plot_updates(runs, step=-1)
""",
    ),
    "plot_map": (
        "The gradient of a tanh network vanishes at first and grows, from the output side on, once the layers learn.",
        """
net = gc.Config(depth=12, activation="tanh", gain=0.7, learning_rate=0.1, steps=200, record_every=2)
trace = gc.run(net)
ax = gc.plot_map(trace, "delta")
""",
    ),
    "plot_histograms": (
        "The outputs of tanh narrow from layer to layer when the weights are drawn too small.",
        """
net = gc.mlp(12, 64, "tanh", gain=0.7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
batch = gc.data.digits(seed=0).x_train, gc.data.digits(seed=0).y_train
ax = gc.plot_histograms(net, batch, torch.nn.functional.cross_entropy)
""",
    ),
    "plot_loss": (
        "The same network at three learning rates: too small, just right where some steps are clipped, and too large.",
        """
net = {"depth": 10, "width": 32, "activation": "relu", "init": "he", "steps": 80}
runs = {f"rate {rate}": gc.run(gc.Config(**net, learning_rate=rate, clip_norm=2.0)) for rate in (0.01, 0.1)}
ax = gc.plot_loss(runs | {"rate 1, not clipped": gc.run(gc.Config(**net, learning_rate=1.0))})
""",
    ),
    "plot_singular_values": (
        "Orthogonal weights stretch all directions alike, Gaussian ones with the same mean square do not.",
        """
seed, x = torch.Generator().manual_seed(0), gc.data.digits(seed=0).x_train[0]
nets = {init: gc.mlp(20, 64, "tanh", init=init, generator=seed)[:-1] for init in ("orthogonal", "xavier")}
ax = gc.plot_singular_values(nets, x.float())
""",
    ),
    "plot_phase": (
        "Where the gradient of a tanh network vanishes (purple) and explodes (orange); the line is theory's edge.",
        """
base = gc.Config(depth=20, width=64, activation="tanh", init="lecun", steps=0)
runs = gc.sweep(base, bias_std=[0.05, 0.1, 0.2, 0.4, 0.8], gain=[0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8])
ax = gc.plot_phase(runs, theory=lambda bias_std: gc.theory.critical_weight_variance("tanh", bias_std**2) ** 0.5)
""",
    ),
    "plot_surface": (
        "Gradient descent in a long valley: a small rate creeps along the floor, a large one jumps between the walls.",
        """
curvature, start, t = np.array([1.0, 12.0]), np.array([4.0, 1.0]), np.arange(31)[:, None]
paths = {f"rate {rate}": start * (1 - rate * curvature) ** t for rate in (0.02, 0.16)}
ax = gc.plot_surface(lambda a, b: a**2 / 2 + 6 * b**2, paths)
""",
    ),
    "plot_cures": (
        "Which cure helps which disease, judged by all seeds: three vanishing gradients, and what is advised.",
        """
names = ("sigmoid, depth 10", "tanh, std .01", "dead ReLU")
runs = gc.clinic.matrix([0, 1], diseases={name: gc.clinic.DISEASES[name] for name in names}, steps=[150])
ax = gc.plot_cures(runs)
""",
    ),
    "compare": (
        "Any of these plots for several runs side by side, on the same axes and with the same colours.",
        """
net = {"depth": 12, "activation": "tanh", "steps": 60}
runs = {f"gain {gain}": gc.run(gc.Config(**net, gain=gain)) for gain in (0.5, 1.0, 2.0)}
axes = gc.compare(runs, plot=gc.plot_map, statistic="delta")
""",
    ),
}


def run(code):
    """Run the lines of a picture; return its Axes, one or several."""
    names = {"gc": gc, "np": np, "torch": torch}
    exec(code, names)  # the lines above, nothing else
    return names["axes"] if "axes" in names else names["ax"]


def section(name, caption, code, said):
    """Return the part of the page about one picture."""
    return f"## {name}\n\n{caption}\n\n```python\n{code.strip()}\n```\n\n![{said}]({name}.png)\n"


def save(axes, path):
    """Write a small PNG of the figure that the Axes are in."""
    figure = getattr(axes, "figure", None) or axes[0].figure
    figure.savefig(buffer := io.BytesIO(), dpi=100)
    Image.open(buffer).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    plt.close(figure)


def build(folder):
    """Write the page and its pictures into a folder."""
    parts = [HEAD]
    for name, (caption, code) in PICTURES.items():
        axes = run(code)
        save(axes, folder / f"{name}.png")
        parts.append(section(name, caption, code, gc.describe(axes)))
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    matplotlib.use("agg")
    torch.set_num_threads(1)
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
