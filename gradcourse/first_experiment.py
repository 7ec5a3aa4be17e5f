"""The first result of the course: a 20-layer sigmoid network loses its gradient, in numbers and as a picture."""

from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from gradcourse.diagnosis import diagnose
from gradcourse.plots import plot_gradients
from gradcourse.theory import gradient_factor
from gradcourse.training import Config, run

CONFIG = Config(depth=20, width=64, activation="sigmoid", init="xavier", learning_rate=0.01, steps=220)
"""The experiment."""


def run_first_experiment(seed, picture):
    """Run the first experiment, print what it shows and save its picture.

    Args:
        seed: of the data, the weights and the batches.
        picture: path of the PNG to write; its folder must exist.
    """
    trace = run(replace(CONFIG, seed=seed))
    print("A sigmoid network of 20 layers on handwritten digits, Xavier weights: its gradient at the first step")
    print("  layer   RMS of dL/dh   norm of dL/dW")
    pairs = zip(trace.at_weights("delta"), trace.at_weights("weight_gradient"), strict=True)
    for number, (delta, weight_gradient) in enumerate(pairs, start=1):
        print(f"  {number:5d}   {delta:12.1e}   {weight_gradient:13.1e}")
    measured = trace.factor_per_layer("delta")
    print(f"measured factor per layer {measured:.4f}, theory {gradient_factor('sigmoid', 1.0) ** 0.5:.4f}")
    print(diagnose(trace))
    print(f"After {len(trace.steps)} steps it gets {trace.train_accuracy:.0%} of the digits right; guessing gets 10%.")
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    plot_gradients(trace, figure.add_subplot(), theory=True)
    figure.savefig(picture, dpi=150)
    print(f"Picture: {Path(picture).resolve()}")
